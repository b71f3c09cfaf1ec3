// shift[t, d] = the mean of x over the images of the first batch: about the mean of all, so that sums of what differs from it
// keep their digits. A thread has one t and d.
// Loops: width.
struct Params { timesteps: u32, features: u32, width: u32, step: u32 }
//#include dynamics_batch
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> x: array<f32>;            // [T] `step` words apart: [D][width]
@group(0) @binding(3) var<storage, read_write> shift: array<f32>;  // [T][D]
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * 64u + lane;
  if (e >= p.timesteps * p.features) { return; }
  let at = e / p.features * p.step + e % p.features * p.width;
  var sum = 0.0;
  for (var i = 0u; i < batch.images; i++) { sum += x[at + i]; }
  shift[e] = sum / f32(batch.images);
}
