// One step of Adam (Kingma & Ba 2015) with bias correction, in place, as PyTorch computes it:
// m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, param -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps).
// hyper = [lr / (1 - b1^t), 1 - b1, 1 - b2, 1 / sqrt(1 - b2^t), eps, 1 / loss scale];
// g is the gradient over the loss scale. Where 1 / loss scale is 0, the step is skipped: everything stays as it is.
// Constants: L, invocations of a workgroup; UNROLL, elements that a lane serves, one after the other.
// Loops: UNROLL.
struct Params { count: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> hyper: array<f32>;
@group(0) @binding(2) var<storage, read> grad: array<StoredImages>;
@group(0) @binding(3) var<storage, read_write> param: array<StoredImages>;
@group(0) @binding(4) var<storage, read_write> m: array<StoredImages>;
@group(0) @binding(5) var<storage, read_write> v: array<StoredImages>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (hyper[5] == 0.0) { return; }
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
    if (i < p.count) {
      let g = images(grad[i]) * hyper[5];
      let m0 = images(m[i]);
      let v0 = images(v[i]);
      let m1 = m0 + (g - m0) * hyper[1];
      let v1 = v0 + (g * g - v0) * hyper[2];
      m[i] = stored(m1);
      v[i] = stored(v1);
      param[i] = stored(images(param[i]) - hyper[0] * m1 / (sqrt(v1) * hyper[3] + hyper[4]));
    }
  }
}
