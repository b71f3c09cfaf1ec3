// blocks[b, slot]: bit i says whether marks[32 b + i, slot] has a bit set, so that winograd_meetings can pass over tiles where
// a channel is all zero. Counted over `columns` tiles of all images and timesteps.
struct Params { columns: u32, slots: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> marks: array<u32>;
@group(0) @binding(2) var<storage, read_write> blocks: array<u32>;

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let slot = group.x * L + lane;
  if (slot < p.slots) {
    let first = group.y * 32u;
    let count = min(32u, p.columns - first);
    var word = 0u;
    for (var i = 0u; i < count; i++) { word |= min(marks[(first + i) * p.slots + slot], 1u) << i; }
    blocks[group.y * p.slots + slot] = word;
  }
}
