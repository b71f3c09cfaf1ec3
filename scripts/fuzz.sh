#!/usr/bin/env bash
# Coverage-guided fuzzing of the readers: scripts/fuzz.sh [TARGET...], all targets without one; tests/fuzz/README.md.
# RUNS inputs each (10,000,000), one process at a time, in turns of at most TURN seconds (600), until each target has had so many.
# What was done is counted in tests/fuzz/campaign/, so an interrupted campaign goes on; ROUNDS=1 ends after one turn of each.
# A target that has found something waits until its files in tests/fuzz/artifacts/ are dealt with and removed.
# The last lines say of each target: inputs, inputs a second, coverage, files of its corpus, slowest input, memory, findings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../tests/fuzz"
all=(config protocol choices metrics npy safetensors checkpoint pickle npz pth hdf5 pictures names)
targets=("${@:-${all[@]}}") runs=${RUNS:-10000000} turn=${TURN:-600} rounds=${ROUNDS:-1000000}

command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is not installed: cargo install cargo-fuzz --locked" >&2; exit 1; }
cargo +nightly fuzz build --fuzz-dir . --sanitizer none --debug-assertions --codegen-units 16
programs=$PWD/target/$(rustc -vV | awk '/^host/ { print $2 }')/release
if [ ! -d corpus/names ]; then # sound files to begin with
  (cd .. && RECURVE_SEEDS=$PWD/fuzz/corpus RECURVE_MUTANTS=1 cargo test --release --test hostile changed)
fi
mkdir -p campaign

longest() { case $1 in config | protocol | choices | metrics | names) echo 4096 ;; hdf5) echo 65536 ;; *) echo 16384 ;; esac; }
# done_of TARGET: inputs so far.
done_of() { awk '{ n += $1 } END { print n + 0 }' "campaign/$1" 2>/dev/null || echo 0; }
# turn_of TARGET: runs it once and appends a line to its count: inputs, seconds, coverage, files, slowest input (s), memory (MB).
turn_of() {
  local target=$1 began=$SECONDS log=campaign/$1.log
  mkdir -p "corpus/$target" "artifacts/$target"
  nice -n 19 "$programs/$target" "corpus/$target" -artifact_prefix="artifacts/$target/" -runs=$((runs - $(done_of "$target"))) \
    -max_total_time="$turn" -max_len="$(longest "$target")" -rss_limit_mb=2048 -malloc_limit_mb=1500 -timeout=100 \
    -print_final_stats=1 >"$log" 2>&1 &
  local process=$!
  trap 'stopped=1; kill -INT '$process' || true' INT TERM HUP
  until wait $process || ! kill -0 $process 2>/dev/null; do :; done
  trap - INT TERM HUP
  rm -rf "/dev/shm/recurve-$target-$process"
  awk -v seconds=$((SECONDS - began)) '
    / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") cov = $(i + 1); else if ($i == "corp:") files = $(i + 1) }
    /^stat::number_of_executed_units/ { n = $2 } /^stat::slowest_unit_time_sec/ { slow = $2 } /^stat::peak_rss_mb/ { mb = $2 }
    END { sub("/.*", "", files); print n + 0, seconds, cov + 0, files + 0, slow + 0, mb + 0 }' "$log" >>"campaign/$target"
}
report() {
  awk -v target="$1" -v found="$(find "artifacts/$1" -type f 2>/dev/null | wc -l)" '
    { n += $1; s += $2; if ($3 > cov) cov = $3; if ($4 > files) files = $4; if ($5 > slow) slow = $5; if ($6 > mb) mb = $6 }
    END { printf "%-12s %10d inputs %7.0f/s  coverage %6d  corpus %5d  slowest %3d s  %5d MB  %d findings\n",
          target, n, n / (s ? s : 1), cov, files, slow, mb, found }' "campaign/$1" 2>/dev/null || echo "$1: nothing done"
}

stopped=
for ((round = 0; round < rounds; round++)); do
  left=
  for target in "${targets[@]}"; do
    [ -n "$stopped" ] && break 2
    [ "$(done_of "$target")" -ge "$runs" ] && continue
    [ -n "$(find "artifacts/$target" -type f 2>/dev/null)" ] && continue
    left=1; turn_of "$target"; report "$target"
  done
  [ -n "$left" ] || break
done
echo "== all turns so far"
for target in "${targets[@]}"; do report "$target"; done
