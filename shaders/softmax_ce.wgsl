// logprob[k, n] = log(clamp(softmax(z[., n])[k], 1e-10, 1)); score[0][n] = -logprob[label]; score[1][n] = 1 if the first
// maximum of z is the label, else 0. Where z is not finite, all are NaN: the clamp would hide it. One lane an image.
// Constants: L, invocations of a workgroup.
// Loops: nested(classes).
struct Params { n: u32, classes: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> logprob: array<f32>;
@group(0) @binding(4) var<storage, read_write> score: array<f32>;
//#include block
//#include exponentials
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let image = unfolded(id).x * L + lane;
  if (image >= p.n) { return; }
  var most = z[image];
  var best = 0u;
  for (var first = 0u; first < p.classes; first += BLOCK) {
    for (var k = first; k < min(first + BLOCK, p.classes); k++) {
      let value = z[k * p.n + image];
      if (value > most) { most = value; best = k; }
    }
  }
  let sum = sum_of_exponentials(image, most);
  let broken = (bitcast<u32>(sum) & 0x7f800000u) == 0x7f800000u;   // z holds +inf or NaN
  let label = labels[image];
  var loss = 0.0;
  for (var first = 0u; first < p.classes; first += BLOCK) {
    for (var k = first; k < min(first + BLOCK, p.classes); k++) {
      // log p without the rounding of p itself; the clamp is applied to the logarithm, which is monotone.
      let value = select(clamp(z[k * p.n + image] - most - log(sum), LOG_FLOOR, 0.0), sum, broken);
      logprob[k * p.n + image] = value;
      if (k == label) { loss = -value; }
    }
  }
  score[image] = loss;
  score[p.n + image] = select(0.0, 1.0, best == label);
}
const LOG_FLOOR = -23.025850929940457;   // log(1e-10)
