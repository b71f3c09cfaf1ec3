#!/usr/bin/env bash
# Every check of the project; fails if one does. The last line says how many ran.
# All parts use the release profile, so that the dependencies are compiled once to run and once to be checked.
# Where the folder ../shared lies beside the project, its golden files are checked too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
variables=$(scripts/setup.sh)
eval "$variables"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

start=$SECONDS passed=0 failed=0 ignored=0 broken=()

# run NAME COMMAND...: shows its output, keeps it in $log; its exit status is that of the command.
run() {
  local name=$1 began=$SECONDS status=0; shift
  echo "== $name: $*"
  "$@" 2>&1 | tee "$log" || status=$?
  echo "== $name: $([ $status = 0 ] && echo passed || echo FAILED) after $((SECONDS - began)) s"
  return $status
}
# one NAME COMMAND...: a command that is one check.
one() { if run "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) broken+=("$1"); fi; }
# many NAME COMMAND...: a command that counts its checks itself: the lines "test result: ..." of cargo, or a last line
# "N passed, M failed". No check at all, or a command that fails though none of its checks did, is a failed check.
many() {
  local status=0 p f i
  run "$@" || status=1
  read -r p f i < <(awk '
    function count(word, n) { for (n = 2; n <= NF; n++) if ($n ~ "^" word) return $(n - 1); return 0 }
    /^test result:/ { cargo = 1; p += count("passed"); f += count("failed"); i += count("ignored") }
    /^[0-9]+ passed, [0-9]+ failed/ { last_p = count("passed"); last_f = count("failed") }
    END { if (cargo) print p, f, i; else print last_p + 0, last_f + 0, 0 }' "$log")
  if [ "$f" = 0 ] && { [ $status != 0 ] || [ "$p" = 0 ]; }; then f=1; fi
  passed=$((passed + p)) failed=$((failed + f)) ignored=$((ignored + i))
  [ "$f" = 0 ] || broken+=("$1")
}

for part in fmt clippy; do # a minimal Rust lacks them
  if ! cargo "$part" --version >/dev/null 2>&1 && command -v rustup >/dev/null; then
    echo "== cargo $part is missing: rustup component add ${part/fmt/rustfmt}"
    rustup component add "${part/fmt/rustfmt}" || true # if it stays missing, its check fails below
  fi
done

one format cargo fmt --check
one lints cargo clippy --release --locked --all-targets -- -D warnings
one documentation env RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps
many tests cargo test --release --locked --no-fail-fast
if cargo deny --version >/dev/null 2>&1; then
  one "licences and sources" cargo deny --locked check bans licenses sources
else
  echo "== cargo-deny is not installed (cargo install cargo-deny): its check was not run; tests/licences.rs has held licences and sources against deny.toml"
fi
many kernels cargo run --release --locked --quiet -- check
for golden in golden golden-arch golden-faults golden-dynamics golden-augment; do
  if [ -d ../shared/$golden ]; then
    many $golden cargo run --release --locked --quiet -- check --goldens ../shared/$golden --repeat 2
  else
    echo "== $golden: the folder ../shared/$golden is not there; its files were not checked and are not counted"
  fi
done
if [ -d ../shared/golden ] && [ -d ../shared/golden-arch ] && [ -d ../shared/golden-dynamics ] && [ -d ../shared/golden-augment ]; then # tests that are marked as ignored for want of these files
  before=$((passed + failed))
  many "tests with golden files" cargo test --release --locked --no-fail-fast golden_files -- --ignored
  ignored=$((ignored - (passed + failed - before)))
fi

seconds=$((SECONDS - start))
[ ${#broken[@]} = 0 ] || echo "failed: ${broken[*]}"
[ $ignored = 0 ] || echo "marked as ignored and not run: $ignored"
echo "$((passed + failed)) checks ran in $((seconds / 60)) min $((seconds % 60)) s: $passed passed, $failed failed"
[ $failed = 0 ]
