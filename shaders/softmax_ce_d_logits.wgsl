// dz[k, n] = weight[n] * (softmax(z[., n])[k] - [k = label]), and 0 for the whole image where the clamp at 1e-10 holds the
// label's probability: it stops the gradient.
// Constants: L, invocations of a workgroup.
// Loops: nested(classes).
struct Params { n: u32, classes: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read_write> dz: array<f32>;
//#include block
//#include exponentials
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let image = unfolded(id).x * L + lane;
  if (image >= p.n) { return; }
  var most = z[image];
  for (var first = 0u; first < p.classes; first += BLOCK) {
    for (var k = first; k < min(first + BLOCK, p.classes); k++) { most = max(most, z[k * p.n + image]); }
  }
  let sum = sum_of_exponentials(image, most);
  let broken = (bitcast<u32>(sum) & 0x7f800000u) == 0x7f800000u;   // z holds +inf or NaN: all are NaN
  let label = labels[image];
  let flows = exp(z[label * p.n + image] - most) / sum >= 1e-10;
  for (var first = 0u; first < p.classes; first += BLOCK) {
    for (var k = first; k < min(first + BLOCK, p.classes); k++) {
      let probability = exp(z[k * p.n + image] - most) / sum;
      dz[k * p.n + image] = select(0.0, weight[image] * (probability - select(0.0, 1.0, k == label)), flows);
      if (broken) { dz[k * p.n + image] = sum; }
    }
  }
}
