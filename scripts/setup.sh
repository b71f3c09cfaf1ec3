#!/usr/bin/env bash
# Sets up what recurve needs and this machine lacks: a linker for Rust and a Vulkan adapter. Nothing is changed where an
# adapter answers; macOS (Metal) and Windows (DX12) need nothing. Messages go to stderr, the variables to set to stdout:
#
#   eval "$(scripts/setup.sh)"
#
# Linux without an adapter gets Mesa's lavapipe, Vulkan on the CPU: the distribution's own package, except on Debian 12,
# whose Mesa 22.3 is slow and has computed a wrong training loss. There the newer one of Debian's backports is unpacked
# into the user's data folder (it outlives `cargo clean` and serves every clone) and chosen by VK_DRIVER_FILES. It comes
# from the mirrors that apt uses already, checked with the keys that apt trusts already; apt's own sources stay as they
# are. Later calls download nothing.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null; }

# ---- Rust ----------------------------------------------------------------------------------------------------------
if ! has cargo && [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]; then
  PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
  printf 'export PATH=%q\n' "$PATH"
fi
has cargo || die "cargo is missing: install Rust with rustup first"
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
found=$(cargo --version | cut -d' ' -f2)
[ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] ||
  die "Rust $wanted or newer is needed, cargo is $found: 'rustup update stable' (a distribution's own Rust is often too old)"

[ "$(uname -s)" = Linux ] || exit 0

# ---- the distribution's packages -----------------------------------------------------------------------------------
if has apt-get; then
  linker=(gcc libc6-dev) vulkan=(libvulkan1 mesa-vulkan-drivers)
  add=(apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends)
elif has dnf; then linker=(gcc) vulkan=(vulkan-loader mesa-vulkan-drivers) add=(dnf -y install)
elif has pacman; then linker=(gcc) vulkan=(vulkan-icd-loader vulkan-swrast) add=(pacman -S --needed --noconfirm)
elif has zypper; then linker=(gcc) vulkan=(libvulkan1 libvulkan_lvp) add=(zypper --non-interactive install)
elif has apk; then linker=(gcc musl-dev) vulkan=(vulkan-loader mesa-vulkan-swrast) add=(apk add)
else linker=("a C compiler (cc)") vulkan=("a Vulkan loader" "Mesa's lavapipe") add=(); fi

mkdir -p "$root/target"
find "$root/target" -maxdepth 1 -name 'setup.*' -mmin +60 -exec rm -rf {} + # left by a call that was killed
work=$(mktemp -d "$root/target/setup.XXXXXX") # programs must be able to run there, as cargo's own do
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

# as_root COMMAND...: with sudo when not root; what the command says is shown only if it fails.
as_root() {
  set -- env DEBIAN_FRONTEND=noninteractive "$@"
  [ "$(id -u)" = 0 ] || set -- sudo "$@"
  "$@" </dev/null >"$work/log" 2>&1 || { tail -n 15 "$work/log" >&2; return 1; }
}

# install WHY PACKAGE...
install() {
  local why=$1; shift
  [ ${#add[@]} -gt 0 ] || { say "$why: no package manager known here; please install: $*"; return 1; }
  [ "$(id -u)" = 0 ] || has sudo || { say "$why, and here is neither root nor sudo. Ask an administrator for: ${add[*]} $*"; return 1; }
  say "$why: installing $*"
  if has apt-get && ! as_root apt-get -qq update; then say "not all of apt's package lists could be refreshed; going on with those there are"; fi
  as_root "${add[@]}" "$@" && return
  if grep -q 'dpkg --configure -a' "$work/log"; then
    say "an earlier installation was interrupted: finishing it"
    as_root dpkg --configure -a && as_root "${add[@]}" "$@" && return
  fi
  say "that failed (its last lines are above). As an administrator: ${add[*]} $*"
  return 1
}

has cc || install "Rust needs a linker and there is no 'cc'" "${linker[@]}" || exit 1

# ---- Vulkan --------------------------------------------------------------------------------------------------------
cc -o "$work/adapters" "$root/scripts/vulkan_adapters.c" -ldl
adapters() { { timeout 60 "$work/adapters"; } 2>/dev/null; } # lists those that answer; fails if none does
# finish: names what answers and ends here.
finish() { say "Vulkan: $(adapters | awk -F'\t' '{ print $2 ", " $3 }' | paste -sd';')"; exit 0; }
# good: a GPU answers, or software newer than Mesa 23.
good() { local found; found=$(adapters) && grep -qvE $'^cpu\t.*\tMesa (1[0-9]|2[0-3])\\.' <<<"$found"; }
# finish_with_old: the same after a warning.
finish_with_old() { say "going on with an old Mesa: results may be wrong (run 'recurve check') and training is slow"; finish; }

if [ -z "${XDG_RUNTIME_DIR:-}" ]; then # Mesa and the Wayland library complain without it
  export XDG_RUNTIME_DIR=${TMPDIR:-/tmp}
  printf 'export XDG_RUNTIME_DIR=%q\n' "$XDG_RUNTIME_DIR"
fi

chosen=${VK_DRIVER_FILES:-${VK_ICD_FILENAMES:-}}
if [ -n "$chosen" ]; then # the user's choice, whatever it is
  adapters >/dev/null || die "no Vulkan adapter answers with VK_DRIVER_FILES or VK_ICD_FILENAMES = $chosen: correct or unset it"
  finish
fi
if good; then finish; fi

if [[ $(cat /etc/debian_version 2>/dev/null) != 12* ]]; then
  if ! adapters >/dev/null; then
    install "no Vulkan adapter answers" "${vulkan[@]}" || exit 1
    adapters >/dev/null || die "still no Vulkan adapter answers after installing ${vulkan[*]}"
  fi
  if good; then finish; else finish_with_old; fi
fi

# ---- Debian 12: lavapipe from its backports ------------------------------------------------------------------------
lavapipe=${XDG_DATA_HOME:-$HOME/.local/share}/recurve/vulkan/lavapipe-bookworm-$(dpkg --print-architecture)
choose_lavapipe() {
  export VK_DRIVER_FILES=$lavapipe/lvp_icd.json
  printf 'export VK_DRIVER_FILES=%q\n' "$VK_DRIVER_FILES"
  finish
}
answers() { VK_DRIVER_FILES=$1/lvp_icd.json adapters >/dev/null; }
if answers "$lavapipe"; then choose_lavapipe; fi

# failed WHY: no newer driver to be had.
failed() {
  say "$1"
  if adapters >/dev/null; then finish_with_old; fi
  die "no Vulkan driver could be set up. Run this again when that is mended, or set VK_DRIVER_FILES to the .json file of a driver of your own"
}

# backports_sources DIR: the system's apt sources of Debian 12, in either format, turned into sources of its backports
# with the same mirrors, options and keys.
backports_sources() {
  local file
  for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ ! -e "$file" ] || sed -nE 's/^[[:space:]]*deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+)[[:space:]]+(bookworm|oldstable)(-backports)?([[:space:]]+[^#]*)?[[:space:]]main([[:space:]].*)?$/deb \1\2 bookworm-backports main/p' "$file"
  done | sort -u >"$1/debian.list"
  for file in /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$file" ] || awk '
      function stanza() {
        if (types ~ / deb / && suites ~ / (bookworm|oldstable)(-backports)? / && components ~ / main / && enabled !~ /no|false|off|0/)
          printf "Types: deb\nSuites: bookworm-backports\nComponents: main\n%s\n", kept
        types = suites = components = enabled = kept = ""
      }
      /^#/ { next }
      /^[ \t\r]*$/ { stanza(); next }
      { words = $0 }
      /^[^ \t]/ { field = tolower($0); sub(/:.*/, "", field); sub(/^[^:]*:/, "", words) }
      { gsub(/[ \t]+/, " ", words); words = words " " }
      field == "types" { types = types words; next }
      field == "suites" { suites = suites words; next }
      field == "components" { components = components words; next }
      field == "enabled" { enabled = tolower(words); next }
      { kept = kept $0 "\n" }
      END { stanza() }' "$file"
  done >"$1/debian.sources"
  [ -s "$1/debian.list" ] || [ -s "$1/debian.sources" ]
}

say "fetching Mesa's lavapipe from Debian 12's backports, about 12 MB"
mkdir -p "$work"/{sources,lists/partial,cache/archives/partial,unpacked,new}
backports_sources "$work/sources" || failed "apt's sources name no mirror of Debian 12 (suite bookworm, component main)"
apt=(apt-get -qq -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$work/sources" -o "Dir::State::Lists=$work/lists"
  -o "Dir::Cache=$work/cache" -o Acquire::Languages=none -o "APT::Sandbox::User=$(id -un)")
"${apt[@]}" update >"$work/log" 2>&1 || true # of several mirrors one is enough
(cd "$work" && "${apt[@]}" -t bookworm-backports download mesa-vulkan-drivers) >>"$work/log" 2>&1 ||
  { tail -n 15 "$work/log" >&2; failed "apt could not fetch mesa-vulkan-drivers from bookworm-backports (its last lines are above)"; }
package=$(echo "$work"/mesa-vulkan-drivers_*.deb)

# The libraries it needs come from Debian 12 itself (python3 serves a layer that is not used here).
missing=()
for name in $(dpkg-deb -f "$package" Depends | sed 's/([^)]*)//g; s/|[^,]*//g; s/:any//g; s/,/ /g'); do
  [ "$name" = python3 ] || [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
done
[ ${#missing[@]} = 0 ] || install "lavapipe needs libraries" "${missing[@]}" || failed "lavapipe's libraries are missing"

dpkg -x "$package" "$work/unpacked"
cp "$work"/unpacked/usr/lib/*/libvulkan_lvp.so "$work/unpacked/usr/share/doc/mesa-vulkan-drivers/copyright" "$work/new"
sed 's#"library_path": *"[^"]*"#"library_path": "./libvulkan_lvp.so"#' "$work"/unpacked/usr/share/vulkan/icd.d/lvp_icd*.json >"$work/new/lvp_icd.json"
answers "$work/new" || failed "the driver was fetched but does not answer: $(ldd "$work/new/libvulkan_lvp.so" | grep 'not found' | paste -sd,)"

# The .json comes last: without it, or with half of it, the driver does not answer and the next call starts afresh.
rm -rf "$lavapipe"
mkdir -p "$lavapipe"
cp "$work"/new/{libvulkan_lvp.so,copyright} "$lavapipe"
cp "$work/new/lvp_icd.json" "$lavapipe"
say "it is in $lavapipe"
choose_lavapipe
