// packed[co / R, ci, kx, ky, co % R] = w[co * out_step + ci * in_step + ky * K + kx], 0 beyond cout; FLIP turns the kernel
// by 180 degrees. One group packs one (co / R, ci).
//
// Constants:
//   L  invocations of a workgroup
//   K  kernel size
//   R  output channels of a panel
// Loops: K * K * R / L.
struct Params { cin: u32, cout: u32, in_step: u32, out_step: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> packed: array<f32>;
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let ci = group.x;
  for (var e = lane; e < K * K * R; e += L) {
    let co = group.y * R + e % R;
    let ky = e / R % K;
    let kx = e / R / K;
//#if FLIP
    let tap = (K - 1u - ky) * K + K - 1u - kx;
//#else
    let tap = ky * K + kx;
//#endif
    var value = 0.0;
    if (co < p.cout) { value = w[co * p.out_step + ci * p.in_step + tap]; }
    packed[(group.y * p.cin + ci) * K * K * R + e] = value;
  }
}
