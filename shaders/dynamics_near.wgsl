// How many test images have two best scores that are nearly the same: within 1e-4 of the largest |score| over all of them, or of
// another number. A thread has one kind, timestep of the fit, and timestep of the test.
// Loops: nested(test_images).
struct Params { cells: u32, timesteps: u32, test_images: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> gaps: array<f32>;         // [cell][test images]
@group(0) @binding(2) var<storage, read> tally: array<vec4<f32>>;  // [cell] w: largest |score|
@group(0) @binding(3) var<storage, read> sizes: array<f32>;        // [kind][T: fitted] the other number
@group(0) @binding(4) var<storage, read_write> near: array<u32>;   // [cell]
//#include fold
//#include block

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let cell = unfolded(id).x * 64u + lane;
  if (cell >= p.cells) { return; }
  let limit = 1e-4 * max(tally[cell].w, sizes[cell / p.timesteps]);
  var count = 0u;
  for (var start = 0u; start < p.test_images; start += BLOCK) {
    for (var i = start; i < min(start + BLOCK, p.test_images); i++) {
      count += select(0u, 1u, gaps[cell * p.test_images + i] <= limit);
    }
  }
  near[cell] = count;
}
