# Recipes for developers; `just` lists them. scripts/ holds the work, so that nothing depends on just.

set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list

# Everything that CI runs
test:
    scripts/test.sh

# Train a small network on the built-in pictures and write a report
demo *args:
    scripts/demo.sh {{ args }}

# Kernels against their twins on this machine's adapter
check *args:
    eval "$(scripts/setup.sh)"; cargo run --release -- check {{ args }}

# The same on every Vulkan driver found, and spirv-val
conformance *args:
    scripts/conformance.sh {{ args }}

# What a developer runs before a commit
lint:
    cargo fmt
    cargo clippy --release --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps

# Licences and sources of the dependencies (needs cargo-deny)
deny:
    cargo deny check bans licenses sources
