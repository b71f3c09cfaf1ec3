// y[at + g] = the sum of the squares of the L * TERMS elements of x from g * L * TERMS on, or of those that are left: one group
// each; lanes stride through them and lane 0 adds their sums in order.
// Constants: L, invocations of a workgroup; TERMS, elements of a lane.
// Loops: TERMS, L.
struct Params { count: u32, at: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
var<workgroup> tile: array<f32, L>;
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  var sum = 0.0;
  for (var t = 0u; t < TERMS; t++) {
    let i = (group.x * TERMS + t) * L + lane;
    if (i < p.count) { sum += x[i] * x[i]; }
  }
  tile[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    var total = 0.0;
    for (var l = 0u; l < L; l++) { total += tile[l]; }
    y[p.at + group.x] = total;
  }
}
