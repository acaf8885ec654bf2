#!/usr/bin/env bash
# Runs the suites for other runtimes on Bun for musl, with koffi's own build for it; x86-64 Debian, as root. There is no Node.js for
# musl in the registry. musl's sendmmsg() is a loop over sendmsg(2), and one of the tests sees one system call by strace.
set -euo pipefail
cd "$(dirname "$0")"
. ./packages.sh
packages gcc strace musl musl-dev musl-tools
gcc=$(gcc -dumpversion)
packages "libgcc-${gcc%%.*}-dev" "libstdc++-${gcc%%.*}-pic"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
npm install --silent --force --prefix "$work" --ignore-scripts @oven/bun-linux-x64-musl@1.4

# The C++ library that Bun and koffi want, of Debian's parts. Its unwinder is in it, too.
parts=$(dirname "$(gcc -print-libgcc-file-name)")
musl-gcc -shared -nostdlib -fPIC -O1 -Wl,-soname,libstdc++.so.6 -o "$work/libstdc++.so.6" musl-shim.c \
  -Wl,--whole-archive "$parts/libstdc++_pic.a" "$parts/libgcc_eh.a" -Wl,--no-whole-archive "$parts/libgcc.a" \
  -L"/usr/lib/$(uname -m)-linux-musl" -lc
ln -s libstdc++.so.6 "$work/libgcc_s.so.1"

# Bun alone may see these libraries.
cat >"$work/bun" <<END
#!/bin/sh
LD_LIBRARY_PATH=$work exec $work/node_modules/@oven/bun-linux-x64-musl/bin/bun "\$@"
END
chmod +x "$work/bun"
cd ../..
NO_COLOR=1 RX_SENDMMSG_RUNTIMES=$work/bun node node_modules/vitest/vitest.mjs run --project=sendmmsg test/package/runtimes test/kernel/readiness --testNamePattern="on '?Bun" |
  tee "$work/log"
grep -q '^ *Tests .* passed' "$work/log" # and not all left out by the pattern
