// packed[i * N + j, co / R, ci, co % R] = (G w G^T)[i, j], where w is the kernel at co * out_step + ci * in_step, 0 beyond
// cout; FLIP turns it by 180 degrees.
//
// Constants:
//   L  invocations of a workgroup
//   M  rows and columns of outputs of a tile
//   K  kernel size
//   N  rows and columns of a transformed tile: M + K - 1
//   R  output channels of a panel
// Loops: none.
struct Params { cin: u32, cout: u32, in_step: u32, out_step: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> w: array<f32>;
@group(0) @binding(2) var<storage, read_write> packed: array<f32>;
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let e = group.x * L + lane;
  if (e < p.cin * R) {
    let ci = e / R;
    let co = group.y * R + e % R;
    let exists = co < p.cout;
    let at = select(0u, co * p.out_step + ci * p.in_step, exists);
    var t: array<f32, N * K>;                  // G w
//#for c in 0..K
    {
//#for r in 0..K
//#if FLIP
      let w$r = select(0.0, w[at + $(K * K - 1 - $r * K - $c)], exists);
//#else
      let w$r = select(0.0, w[at + $($r * K + $c)], exists);
//#endif
//#end
//#for r in 0..N
      t[$($r * K + $c)] = $sum{l: G[$r] w$l};
//#end
    }
//#end
    let panels = (p.cout + R - 1u) / R;
    let first = group.y * p.cin * R + e;
//#for r in 0..N
//#for c in 0..N
    packed[first + $($r * N + $c) * panels * p.cin * R] = $sum{l: G[$c] t[$($r * K + $l)]};
//#end
//#end
  }
}
