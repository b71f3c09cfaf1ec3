// y = [norm, factor]: norm = sqrt(sum of squares) / loss scale, factor = min(1, limit / (norm + 1e-6)), as
// torch.nn.utils.clip_grad_norm_ has it; NaN where the norm is. One group: lanes stride through the partial sums and lane 0 adds
// theirs in order.
// hyper: as in adam, of which the last number, 1 / loss scale, counts.
// Constants: L, invocations of a workgroup.
// Loops: nested(parts / L), L.
struct Params { parts: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
@group(0) @binding(2) var<storage, read> limit: array<f32>;
@group(0) @binding(3) var<storage, read> squares: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
var<workgroup> tile: array<f32, L>;
//#include block

@compute @workgroup_size(L)
fn main(@builtin(local_invocation_index) lane: u32) {
  var sum = 0.0;
  for (var first = lane; first < p.parts; first += BLOCK * L) {
    let end = min(first + BLOCK * L, p.parts);
    for (var i = first; i < end; i += L) { sum += squares[i]; }
  }
  tile[lane] = sum;
  workgroupBarrier();
  if (lane == 0u) {
    var total = 0.0;
    for (var l = 0u; l < L; l++) { total += tile[l]; }
    let norm = sqrt(total) * hyper[5];
    let factor = limit[0] / (norm + 1e-6);
    y[0] = norm;
    y[1] = select(factor, 1.0, factor > 1.0);
  }
}
