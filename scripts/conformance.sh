#!/usr/bin/env bash
# Checks every kernel on every Vulkan driver found here, one after the other, validates all SPIR-V, and compiles all WGSL with
# Tint, Chromium's compiler.
#   scripts/conformance.sh [DRIVER.json ...]     drivers to add to those found
# Found are those of the standard folders, the one that setup.sh fetched, and SwiftShader, which comes with Chromium
# (Debian's package chromium). lavapipe runs twice: as it is, and with subgroups of 4. spirv-val is in spirv-tools.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
variables=$("$root/scripts/setup.sh")
eval "$variables"
cargo build --release --locked --manifest-path "$root/Cargo.toml"
recurve=${CARGO_TARGET_DIR:-$root/target}/release/recurve
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

# check NAME [VARIABLE=VALUE ...]: runs `recurve check` under these variables and adds up what it counts.
check() {
  local name=$1 last; shift
  if ! env "$@" "$recurve" devices --json 2>/dev/null | grep -q '"name"'; then
    echo "-    $name: no adapter answers"
    return
  fi
  env "$@" "$recurve" check >"$work/log" 2>&1 || true
  last=$(tail -n 1 "$work/log")
  if [[ $last =~ ^([0-9]+)\ passed,\ 0\ failed$ && ${BASH_REMATCH[1]} -gt 0 ]]; then
    echo "ok   $name: $last"
    passed=$((passed + 1))
  else
    echo "FAIL $name:"
    sed 's/^/     /' "$work/log"
    failed=$((failed + 1))
  fi
}

for icd in "$@" "${VK_DRIVER_FILES:-}" {/etc,/usr/local/share,/usr/share,"${XDG_DATA_HOME:-$HOME/.local/share}"}/vulkan/icd.d/*.json \
  "${XDG_DATA_HOME:-$HOME/.local/share}"/recurve/vulkan/*/lvp_icd.json /usr/lib/chromium*/vk_swiftshader_icd.json /opt/google/chrome/vk_swiftshader_icd.json; do
  [ -e "$icd" ] || continue
  grep -qxF "$icd" "$work/done" 2>/dev/null && continue
  echo "$icd" >>"$work/done"
  check "$icd" VK_DRIVER_FILES="$icd" VK_ICD_FILENAMES="$icd"
  if grep -q libvulkan_lvp "$icd"; then check "$icd, subgroups of 4" VK_DRIVER_FILES="$icd" VK_ICD_FILENAMES="$icd" LP_NATIVE_VECTOR_WIDTH=128; fi
done
[ -e "$work/done" ] || check "default adapter" # Metal, DX12

if command -v spirv-val >/dev/null; then
  "$recurve" shaders --dump "$work/spirv" --to spirv >/dev/null
  while read -r file; do
    if spirv-val --target-env vulkan1.1 "$file" >"$work/log" 2>&1; then
      passed=$((passed + 1))
    else
      echo "FAIL spirv-val ${file##*/}: $(head -n 1 "$work/log")"
      failed=$((failed + 1))
    fi
  done < <(find "$work/spirv" -type f)
  echo "     spirv-val read $(find "$work/spirv" -type f | wc -l) kernels"
else
  echo "-    spirv-val is not installed (package spirv-tools): SPIR-V was not validated"
fi

tint=${TINT_MODULES:-$root/node_modules}
if command -v node >/dev/null && [ -d "$tint/webgpu" ]; then
  "$recurve" shaders --dump "$work/wgsl" >/dev/null
  if NODE_PATH="$tint" node "$root/scripts/tint_check.mjs" "$work/wgsl" >"$work/log" 2>/dev/null; then
    echo "ok   Tint: $(tail -n 1 "$work/log")"
    passed=$((passed + 1))
  else
    echo "FAIL Tint:"
    sed 's/^/     /' "$work/log"
    failed=$((failed + 1))
  fi
else
  echo "-    Tint: no node module webgpu (npm install webgpu here, or TINT_MODULES=DIR/node_modules): not compiled with it"
fi

echo "$passed passed, $failed failed"
[ $failed = 0 ] && [ $passed -gt 0 ]
