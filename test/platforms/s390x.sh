#!/usr/bin/env bash
# Sends through node:dgram on a big-endian machine: Node.js for s390x under qemu-user; x86-64 Debian, as root.
set -euo pipefail
cd "$(dirname "$0")"
. ./packages.sh
packages qemu-user-static libc6-s390x-cross libstdc++6-s390x-cross libgcc-s1-s390x-cross

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm install --silent --force --prefix "$work" --ignore-scripts node-linux-s390x@20
# With a timeout: what is lost is waited for.
QEMU_LD_PREFIX=/usr/s390x-linux-gnu RX_SENDMMSG_BACKEND=dgram \
  timeout 120 qemu-s390x-static "$work/node_modules/node-linux-s390x/bin/node" --no-warnings fallback.mjs
