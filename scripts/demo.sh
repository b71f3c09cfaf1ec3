#!/usr/bin/env bash
# Trains a small network on the built-in pictures, analyses its trajectories and prints where the report lies.
# Arguments go to `recurve demo`.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
variables=$("$root/scripts/setup.sh")
eval "$variables"
cargo build --release --locked --manifest-path "$root/Cargo.toml"
exec "${CARGO_TARGET_DIR:-$root/target}/release/recurve" demo "$@"
