// dw[co, ci, ky, kx] = (G^T u G)[ky, kx], where u[i * N + j, co, ci] is the sum over parts of the gradients with respect to
// the transformed weights: the adjoint of winograd_weight.
//
// Where activity and error never meet under a tap, dw is 0; the transformed sum leaves rounding noise there, which an optimiser
// that divides by the gradient's own size would turn into a step. So a value that is small beside the sums it comes from is
// doubted: x and dy are searched for a pair that meets, which is found at once unless the value is 0.
//
// MET: the timesteps came one after the other, and winograd_met has searched each of them.
// Constants:
//   L  invocations of a workgroup
//   M  rows and columns of outputs of a tile
//   K  kernel size
//   N  rows and columns of a transformed tile: M + K - 1
// Loops: parts, steps, h, w, nested(n).
struct Params {
  count: u32, parts: u32, part_step: u32, cin: u32, n: u32, h: u32, w: u32, steps: u32, x_step: u32, dy_step: u32,
  words: u32,
}
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
//#if MET
@group(0) @binding(2) var<storage, read> met: array<u32>;         // as winograd_met leaves it
//#else
//#map x
@group(0) @binding(2) var<storage, read> x: array<Stored_x>;
//#map dy
@group(0) @binding(3) var<storage, read> dy: array<Stored_dy>;
@group(0) @binding(4) var<storage, read> x_active: array<u32>;    // as winograd_active leaves them
@group(0) @binding(5) var<storage, read> dy_active: array<u32>;
//#endif
@group(0) @binding(6) var<storage, read_write> dw: array<f32>;
//#include fold
//#include block
//#include doubt

//#if !MET
//#include meet
//#endif

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let e = group.x * L + lane;                  // co * cin + ci
  if (e < p.count) {
    var t: array<f32, K * N>;                  // G^T u
    var size = 0.0;                            // of the largest u
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
//#for r in 0..N
      size = max(size, abs(u$r));
//#end
//#for r in 0..K
      t[$($r * N + $c)] = $sum{l: GT[$r] u$l};
//#end
    }
//#end
    var doubted = 0u;                          // a bit for each tap
//#for r in 0..K
//#for c in 0..K
    let v$r_$c = $sum{l: GT[$c] t[$($r * N + $l)]};
    dw[e * K * K + $($r * K + $c)] = v$r_$c;
    doubted |= select(0u, 1u << $($r * K + $c)u, v$r_$c != 0.0 && abs(v$r_$c) < DOUBT * size);
//#end
//#end
//#if MET
    for (doubted &= ~met[e]; doubted != 0u; doubted &= doubted - 1u) {
      dw[e * K * K + firstTrailingBit(doubted)] = 0.0;
    }
//#else
    if (doubted != 0u) {
      let co = e / p.cin;
      let ci = e % p.cin;
      let taps = taps_active(co, ci);
      for (; doubted != 0u; doubted &= doubted - 1u) {
        let tap = firstTrailingBit(doubted);
        if (((taps >> tap) & 1u) == 0u || !meet(co, ci, tap)) { dw[e * K * K + tap] = 0.0; }
      }
    }
//#endif
  }
}
