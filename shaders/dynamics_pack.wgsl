// y = x - shift, 0 beyond the images of the batch, in the three orders in which products take it: as a map for the decoders'
// scores, as rows of columns, and in panels of `r` features. And the extent of x. A thread has one t and d.
// Loops: width.
struct Params {
  timesteps: u32, features: u32, width: u32, step: u32,
  rows: u32,         // of the panels, for images
  stride: u32,       // words of a row of columns
  r: u32,            // features of a panel
  centred_step: u32, // words from one timestep's map to the next
}
//#include dynamics_batch
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> x: array<f32>;                 // [T] `step` words apart: [D][width]
@group(0) @binding(3) var<storage, read> shift: array<f32>;             // [T][D]
@group(0) @binding(4) var<storage, read_write> centred: array<f32>;     // [T] `centred_step` words apart: [D][width]
@group(0) @binding(5) var<storage, read_write> columns: array<f32>;     // [T][rows][stride]
@group(0) @binding(6) var<storage, read_write> panels: array<f32>;      // [T][panel][rows][r]
@group(0) @binding(7) var<storage, read_write> extent: array<vec2<f32>>;  // [T][D] least and largest x so far
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * 64u + lane;
  if (e >= p.timesteps * p.features) { return; }
  let t = e / p.features;
  let d = e % p.features;
  let place = t * p.step + d * p.width;
  let map = t * p.centred_step + d * p.width;
  let column = (t * p.rows + batch.filled) * p.stride + d;
  let panel = ((t * ((p.features + p.r - 1u) / p.r) + d / p.r) * p.rows + batch.filled) * p.r + d % p.r;
  let zero = shift[e];
  var range = extent[e];
  if (batch.fresh != 0u) { range = vec2<f32>(x[place]); }
  for (var i = 0u; i < p.width; i++) {
    var y = 0.0;
    if (i < batch.images) {
      let value = x[place + i];
      range = vec2<f32>(min(range.x, value), max(range.y, value));
      y = value - zero;
    }
    centred[map + i] = y;
    columns[column + i * p.stride] = y;
    panels[panel + i * p.r] = y;
  }
  extent[e] = range;
}
