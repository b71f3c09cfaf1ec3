// Of the sums of extra rows with representations, those of the rows asked for, each as one number.
// Loops: none.
struct Params { timesteps: u32, features: u32, extras: u32, stride: u32, chosen: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> high: array<f32>;        // [T][extras][stride]
@group(0) @binding(2) var<storage, read> low: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;        // [chosen]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;     // [T][chosen][D]
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * 64u + lane;
  if (e >= p.timesteps * p.chosen * p.features) { return; }
  let row = rows[e / p.features % p.chosen];
  let at = (e / p.features / p.chosen * p.extras + row) * p.stride + e % p.features;
  y[e] = high[at] + low[at];
}
