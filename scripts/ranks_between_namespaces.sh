#!/usr/bin/env bash
# Trains on two ranks that reach each other only through a network: each in a network namespace of its own, joined by a virtual
# cable. What they end with must be what one rank ends with, to rounding.
# Needs root, iproute2, Open MPI, and a program built with `cargo build --release --features mpi`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=${RECURVE:-$PWD/target/release/recurve}
[ "$(id -u)" = 0 ] || { echo "network namespaces need root" >&2; exit 1; }
"$program" train --help >/dev/null
a=recurve-a-$$ b=recurve-b-$$ work=$(mktemp -d)
trap 'ip netns del "$a" 2>/dev/null || true; ip netns del "$b" 2>/dev/null || true; rm -rf "$work"' EXIT

ip netns add "$a"
ip netns add "$b"
ip link add left netns "$a" type veth peer name right netns "$b"
ip -n "$a" addr add 10.77.0.1/24 dev left
ip -n "$b" addr add 10.77.0.2/24 dev right
for end in "$a left" "$b right"; do
  read -r space device <<<"$end"
  ip -n "$space" link set lo up
  ip -n "$space" link set "$device" up
done

# Stands for ssh: the second address is the second namespace, with a host name of its own.
cat >"$work/agent" <<AGENT
#!/usr/bin/env bash
shift
exec ip netns exec $b unshare --uts bash -c "hostname recurve-b; \$*"
AGENT
chmod +x "$work/agent"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
common=(train --data glyphs --preset tiny --seed 1 --no-tune --batch 16 --steps 6)
"$program" "${common[@]}" --out "$work/one" >/dev/null
bytes() { ip netns exec "$a" cat /sys/class/net/left/statistics/tx_bytes; }
before=$(bytes)
ip netns exec "$a" unshare --uts bash -c 'hostname recurve-a; exec "$@"' - \
  mpirun -n 2 --host 10.77.0.1:1,10.77.0.2:1 --mca plm_rsh_agent "$work/agent" \
  --mca btl tcp,self --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 \
  -x XDG_RUNTIME_DIR -x VK_DRIVER_FILES "$program" "${common[@]}" --out "$work/two" 2>&1 | grep -E 'ranks|error' || true
sent=$(($(bytes) - before))
echo "rank 0 has sent $sent bytes through the cable"
[ -e "$work/two/checkpoints/00000006.safetensors" ] || { echo "the two ranks did not end" >&2; exit 1; }
[ "$sent" -gt 1000000 ] || { echo "gradients did not pass through the cable" >&2; exit 1; }
losses() { grep '"event":"epoch"' "$1/metrics.jsonl" | grep -oE '"loss":\[[^]]*\]' | tail -1; }
echo "losses on the evaluation split, at each timestep, on one rank and on two:"
paste <(losses "$work/one" | grep -oE '[0-9.]+') <(losses "$work/two" | grep -oE '[0-9.]+') |
  awk '{ print; d = $1 - $2; if (d < 0) d = -d; if (!(d <= 0.001 * $1)) bad = 1; n++ } END { exit bad || n == 0 }' ||
  { echo "they differ" >&2; exit 1; }
