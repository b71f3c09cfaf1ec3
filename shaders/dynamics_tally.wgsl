// Sums over test images of what the decoders say. A thread has one kind, timestep of the fit, and timestep of the test.
// Loops: width.
struct Params { cells: u32, width: u32, all_ones: u32 }
//#include compensated
//#include dynamics_batch
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> said: array<f32>;             // [3: correct, own, largest][cell][width]
@group(0) @binding(3) var<storage, read_write> tally: array<vec4<f32>>;  // [cell] correct, own (two numbers), largest
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let cell = unfolded(id).x * 64u + lane;
  if (cell >= p.cells) { return; }
  var now = tally[cell];
  var own = Sum(now.y, now.z);
  for (var i = 0u; i < batch.images; i++) {
    now.x += said[cell * p.width + i];
    own = sum_add(own, said[(p.cells + cell) * p.width + i], p.all_ones);
    now.w = max(now.w, said[(2u * p.cells + cell) * p.width + i]);
  }
  tally[cell] = vec4<f32>(now.x, own.high, own.low, now.w);
}
