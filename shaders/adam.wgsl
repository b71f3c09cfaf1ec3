// One step of Adam (Kingma & Ba 2015) with bias correction, in place, as PyTorch computes it:
// m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, param -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps).
// hyper = [lr / (1 - b1^t), 1 - b1, 1 - b2, 1 / sqrt(1 - b2^t), eps, 1 / loss scale];
// g is the gradient over the loss scale. Where 1 / loss scale is 0, the step is skipped: everything stays as it is.
// Constants: L, invocations of a workgroup; UNROLL, elements that a lane serves, one after the other.
// Loops: UNROLL.
struct Params { count: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<f32>;
@group(0) @binding(3) var<storage, read_write> param: array<f32>;
@group(0) @binding(4) var<storage, read_write> m: array<f32>;
@group(0) @binding(5) var<storage, read_write> v: array<f32>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (hyper[5] == 0.0) { return; }
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
    if (i < p.count) {
      let g = grad[i] * hyper[5];
      let m1 = m[i] + (g - m[i]) * hyper[1];
      let v1 = v[i] + (g * g - v[i]) * hyper[2];
      m[i] = m1;
      v[i] = v1;
      param[i] -= hyper[0] * m1 / (sqrt(v1) * hyper[3] + hyper[4]);
    }
  }
}
