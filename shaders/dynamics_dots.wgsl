// Products of the sums of |y_t|^2 y_u with the sums of y_u, for all t of both networks and all u of one. A thread has one pair.
// Loops: features / 32.
struct Params { timesteps: u32, features: u32, extras: u32, stride: u32, squares: u32, images: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> high: array<f32>;        // [T: u][extras][stride]
@group(0) @binding(2) var<storage, read> low: array<f32>;
@group(0) @binding(3) var<storage, read> sums: array<f32>;        // [T: u][D]
@group(0) @binding(4) var<storage, read_write> y: array<f32>;     // [T: u][squares], divided by n
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * 64u + lane;
  if (e >= p.timesteps * p.squares) { return; }
  let u = e / p.squares;
  let at = (u * p.extras + e % p.squares) * p.stride;
  var sum = 0.0;
  for (var block = 0u; block < p.features; block += 32u) {
    var part = 0.0;
    for (var d = block; d < min(block + 32u, p.features); d++) {
      part += (high[at + d] + low[at + d]) * (sums[u * p.features + d] / p.images);
    }
    sum += part;
  }
  y[e] = sum;
}
