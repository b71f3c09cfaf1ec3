// The upper half of the sum over timesteps of Mc_tt = M_tt - S_t S_t' / n, row by row. A thread has one element.
// Loops: blocks.
struct Params { blocks: u32, features: u32, stride: u32, first: u32, images: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> high: array<f32>;        // [block][D][stride]
@group(0) @binding(2) var<storage, read> low: array<f32>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;        // [T][D]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;     // [D (D + 1) / 2]
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let j = group.x * 64u + lane;
  let i = group.y;
  if (j < i || j >= p.features) { return; }
  let to = i * p.features - i * (i + 1u) / 2u + j;
  var sum = 0.0;
  if (p.first > 0u) { sum = y[to]; }
  for (var b = 0u; b < p.blocks; b++) {
    let at = (b * p.features + i) * p.stride + j;
    let t = p.first + b;
    sum += (high[at] - sums[t * p.features + i] * sums[t * p.features + j] / p.images) + low[at];
  }
  y[to] = sum;
}
