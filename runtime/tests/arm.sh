#!/bin/sh
# The tests of the kernels for ARM, on any Linux machine: compiled for it and run under qemu, once for each kind of core, so that
# each instruction set is the best one once.
#
# Debian: dpkg --add-architecture arm64 && apt-get update &&
#         apt-get install rustc-web libstd-rust-web-dev:arm64 qemu-user gcc-aarch64-linux-gnu
# Elsewhere rustup target add aarch64-unknown-linux-gnu takes the place of the first two.
set -eu
if [ -e /usr/lib/rustlib/aarch64-unknown-linux-gnu ]; then
    export RUSTC=/usr/bin/rustc
fi
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
for core in cortex-a72 neoverse-n1 max; do
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -cpu $core -L /usr/aarch64-linux-gnu"
    cargo test --release --target aarch64-unknown-linux-gnu --target-dir target/arm -p tristill-runtime --lib -- kernel layer
done
