# Every command there is. `just` lists them.
_list:
    @just --list

# The main job: from traces to a packed, scored student in minutes, with no data from outside
quickstart:
    cargo run --release -- distill configs/quickstart.toml

# A harder range, and the same student in full precision for comparison
proof:
    cargo run --release -- distill configs/proof.toml
    cargo run --release -- distill configs/proof.toml --set model.quant=none --run checkpoints/proof-full
    cargo run --release -- compare checkpoints/proof checkpoints/proof-full

# Real traces: GSM8K and R1; the folder of the downloads is TRISTILL_DATA
gsm8k:
    cargo run --release -- distill configs/gsm8k.toml

# From full precision over sub-norms to ternary in one run of stages
recipe:
    cargo run --release -- distill configs/recipe.toml

# What each part of the recipe brings: a teacher, students of a tenth of its size, three seeds each; one to two hours, and goes on where it was stopped
study-recipe:
    cargo build --release
    python3 benches/study_recipe.py

# What CI runs
ci:
    .ci/run

fmt:
    cargo fmt --all

lint:
    cargo clippy --release --workspace --all-targets -- -D warnings

test:
    cargo test --release --workspace

# The crates that change most, without burn and polars
test-light:
    cargo test --release -p tristill-model -p tristill-task -p tristill-runtime

# The kernels for ARM, compiled for it and run under qemu; the script says what it needs
test-arm:
    runtime/tests/arm.sh

# The same training on wgpu and ndarray as on the CPU, on the adapter that is there; a software Vulkan will do (Debian's
# mesa-vulkan-drivers). A target folder of its own, because burn is compiled anew, without optimisation: a quarter of an hour on two cores.
test-wgpu target="target/wgpu":
    TRISTILL_TEST_DEVICE=wgpu CARGO_PROFILE_DEV_OPT_LEVEL=0 CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_DEBUG_ASSERTIONS=false \
        CARGO_PROFILE_DEV_OVERFLOW_CHECKS=false CARGO_INCREMENTAL=0 CARGO_TARGET_DIR={{target}} \
        cargo test -p tristill-trainer --features wgpu,ndarray --test devices -- --nocapture --test-threads 1

# The kernels' tests and the damaged files under AddressSanitizer, which the stable compiler brings
test-asan:
    RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --release --target x86_64-unknown-linux-gnu --target-dir target/asan \
        -p tristill-runtime --lib --test damaged_files

# Bytes that libFuzzer makes as GGUF files, under AddressSanitizer; needs cargo-fuzz and a nightly compiler
fuzz seconds="900":
    cargo run --manifest-path runtime/fuzz/Cargo.toml --target-dir target/fuzz --bin seeds -- target/fuzz/corpus
    cargo +nightly fuzz run --fuzz-dir runtime/fuzz --target-dir target/fuzz gguf target/fuzz/corpus -- \
        -max_len=200000 -malloc_limit_mb=64 -timeout=20 -max_total_time={{seconds}}

# Stock llama.cpp on a packed student; needs Python with PyPI's llama-cpp-python, gguf and numpy
check-llama-cpp student="checkpoints/proof/student.gguf":
    python3 benches/llama_cpp_agreement.py {{student}}

# The trace door beside the same steps in Python; needs PyPI's datasets, tokenizers and datasketch, TRISTILL_DATA, and 25 GB of disk
bench-ingest work="/tmp/bench-ingest":
    cargo build --release
    python3 benches/ingest.py --work {{work}}
