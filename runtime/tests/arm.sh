#!/bin/sh
# The tests of the kernels for ARM, on any Linux machine: compiled for it and run under qemu, once for each kind of core, so that
# each instruction set is the best one once. Some minutes for each core after some for the compiler.
#
# Debian: dpkg --add-architecture arm64 && apt-get update &&
#         apt-get install rustc-web libstd-rust-web-dev:arm64 qemu-user gcc-aarch64-linux-gnu
# Elsewhere rustup target add aarch64-unknown-linux-gnu takes the place of the first two.
#
# With --if-possible it is no failure that something is missing: one line says so.
set -eu
target=aarch64-unknown-linux-gnu
missing=
for program in qemu-aarch64 aarch64-linux-gnu-gcc; do
    command -v "$program" > /dev/null || missing="$missing $program"
done
if [ -e /usr/lib/rustlib/$target ]; then
    export RUSTC=/usr/bin/rustc
elif ! [ -e "$(rustc --print sysroot)/lib/rustlib/$target" ]; then
    missing="$missing rust-std-for-$target"
fi
if [ -n "$missing" ]; then
    echo "the kernels for ARM are not tested: missing:$missing; the head of runtime/tests/arm.sh says what to install"
    [ "${1:-}" = --if-possible ] && exit 0
    exit 1
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
# The loader and the C library have to be of one version, and Debian may have two for ARM: without the library's path the loader of
# the cross compiler would take that of the arm64 packages, and the first thread would never start.
root=/usr/aarch64-linux-gnu
for core in cortex-a72 neoverse-n1 max; do
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $core -L $root -E LD_LIBRARY_PATH=$root/lib"
    cargo test --release --target $target --target-dir "${CARGO_TARGET_DIR:-target}/arm" -p tristill-runtime --lib -- kernel layer largest
done
