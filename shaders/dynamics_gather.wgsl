// Keeps the representations of the images that are asked for. A thread has one of them, a timestep and a feature.
// Loops: none.
struct Params { wanted: u32, features: u32, width: u32, step: u32 }
//#include dynamics_batch
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> x: array<f32>;             // [T] `step` words apart: [D][width]
@group(0) @binding(3) var<storage, read> numbers: array<u32>;       // [wanted] numbers of images in the stream
@group(0) @binding(4) var<storage, read_write> kept: array<f32>;    // [T][wanted][D]
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let d = group.x * 64u + lane;
  if (d >= p.features) { return; }
  let image = numbers[group.y] - batch.first;   // wraps below 0, then exceeds the images
  if (image < batch.images) {
    kept[(group.z * p.wanted + group.y) * p.features + d] = x[group.z * p.step + d * p.width + image];
  }
}
