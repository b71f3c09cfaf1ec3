// dw[co, ci, ky, kx] = (G^T u G)[ky, kx], where u[i * N + j, co, ci] is the sum over parts of the gradients with respect to
// the transformed weights: the adjoint of winograd_weight.
//
// Constants:
//   L  invocations of a workgroup
//   M  rows and columns of outputs of a tile
//   K  kernel size
//   N  rows and columns of a transformed tile: M + K - 1
struct Params { count: u32, parts: u32, part_step: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> dw: array<f32>;
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let e = group.x * L + lane;                  // co * cin + ci
  if (e < p.count) {
    var t: array<f32, K * N>;                  // G^T u
//#for c in 0..N
    {
//#for r in 0..N
      var u$r = 0.0;
//#end
      for (var part = 0u; part < p.parts; part++) {
        let at = part * p.part_step + e;
//#for r in 0..N
        u$r += partial[at + $($r * N + $c) * p.count];
//#end
      }
//#for r in 0..K
      t[$($r * N + $c)] = $sum{l: GT[$r] u$l};
//#end
    }
//#end
//#for r in 0..K
//#for c in 0..K
    dw[e * K * K + $($r * K + $c)] = $sum{l: GT[$c] t[$($r * N + $l)]};
//#end
//#end
  }
}
