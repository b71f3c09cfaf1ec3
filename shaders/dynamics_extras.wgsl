// The rows that are multiplied with representations besides themselves, in panels of `r` rows, 0 beyond the images of the
// batch: |y|^2 of each network and timestep, 1, and 1 for the images of each class. A thread has one row and image.
// Loops: features / 32.
struct Params {
  timesteps: u32, features: u32, width: u32, classes: u32,
  networks: u32,
  rows: u32, r: u32,
  step: u32,        // words from one timestep's map to the next, of the network
  other_step: u32,  // of the untrained one
}
//#include dynamics_batch
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> y: array<f32>;              // [T][D][width]
@group(0) @binding(3) var<storage, read> other: array<f32>;          // the same of the untrained network
@group(0) @binding(4) var<storage, read> labels: array<u32>;         // [width]
@group(0) @binding(5) var<storage, read_write> panels: array<f32>;   // [panel][rows][r]
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let i = group.x * 64u + lane;
  let row = group.y;
  if (i >= p.width) { return; }
  let squares = p.networks * p.timesteps;
  var value = 0.0;
  if (i < batch.images) {
    if (row < squares) {
      let t = row % p.timesteps;
      for (var block = 0u; block < p.features; block += 32u) {
        var part = 0.0;
        for (var d = block; d < min(block + 32u, p.features); d++) {
          var v = 0.0;
          if (row < p.timesteps) {
            v = y[t * p.step + d * p.width + i];
          } else {
            v = other[t * p.other_step + d * p.width + i];
          }
          part += v * v;
        }
        value += part;
      }
    } else if (row == squares || labels[i] == row - squares - 1u) {
      value = 1.0;
    }
  }
  panels[(row / p.r * p.rows + batch.filled + i) * p.r + row % p.r] = value;
}
