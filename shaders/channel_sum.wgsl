// y[c] = sum over t and i of x[t * step + c * length + i]: bias gradients over time, pixels and images. One group a channel;
// lanes stride through it and, timestep by timestep, lane 0 adds their sums in order to the sum so far.
// GO_ON: which starts from what earlier timesteps left in y.
// Constants: L, invocations of a workgroup.
// Loops: steps, length / 1024 / L, 1024, L.
struct Params { length: u32, steps: u32, step: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
const BLOCK = 1024u;      // terms of a partial sum: bounds loops, and the growth of rounding
var<workgroup> tile: array<f32, L>;
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  var total = 0.0;
//#if GO_ON
  if (lane == 0u) { total = y[group.x]; }
//#endif
  for (var t = 0u; t < p.steps; t++) {
    var sum = 0.0;
    for (var start = 0u; start < p.length; start += L * BLOCK) {
      let end = min(start + L * BLOCK, p.length);
      var part = 0.0;
      for (var i = start + lane; i < end; i += L) { part += load_x(t * p.step + group.x * p.length + i); }
      sum += part;
    }
    tile[lane] = sum;
    workgroupBarrier();
    if (lane == 0u) {
      var here = 0.0;
      for (var l = 0u; l < L; l++) { here += tile[l]; }
      total += here;
    }
    workgroupBarrier();
  }
  if (lane == 0u) { y[group.x] = total; }
}
