// Whether any feature varies, by timestep: 1 where its least and largest value differ, 2 where they are not those of the first
// timestep, 3 for both. A thread has one timestep.
// Loops: nested(features).
struct Params { timesteps: u32, features: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> extent: array<vec2<f32>>;    // [T][D] least and largest value
@group(0) @binding(2) var<storage, read_write> varies: array<u32>;    // [T]
//#include fold
//#include block

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let t = unfolded(id).x * 64u + lane;
  if (t >= p.timesteps) { return; }
  var found = 0u;
  for (var start = 0u; start < p.features; start += BLOCK) {
    for (var d = start; d < min(start + BLOCK, p.features); d++) {
      let here = extent[t * p.features + d];
      if (here.x != here.y) { found |= 1u; }
      if (any(here != extent[d])) { found |= 2u; }
    }
  }
  varies[t] = found;
}
