// dw[co, ci, ky, kx] = (G^T u G)[ky, kx], where u[i * N + j, co, ci] is the sum over parts of the gradients with respect to
// the transformed weights: the adjoint of winograd_weight.
//
// Where activity and error never meet under a tap, dw is 0; the transformed sum leaves rounding noise there, which an optimiser
// that divides by the gradient's own size would turn into a step. So a value that is small beside the sums it comes from is
// doubted: x and dy are searched for a pair that meets, which is found at once unless the value is 0.
//
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
@group(0) @binding(2) var<storage, read> x: array<StoredImages>;
@group(0) @binding(3) var<storage, read> dy: array<StoredImages>;
@group(0) @binding(4) var<storage, read> x_active: array<u32>;    // as winograd_active leaves them
@group(0) @binding(5) var<storage, read> dy_active: array<u32>;
@group(0) @binding(6) var<storage, read_write> dw: array<f32>;
//#include fold
//#include block
//#include doubt

// The taps under which places lie where dy[co] and x[ci] are both active, each at some time in some image.
fn taps_active(co: u32, ci: u32) -> u32 {
  var taps = 0u;
  for (var yo = 0u; yo < p.h; yo++) {
    for (var word = 0u; word < p.words; word++) {
      let d = dy_active[(co * p.h + yo) * p.words + word];
      if (d == 0u) { continue; }
      for (var ky = 0u; ky < K; ky++) {
        let yi = yo + ky - K / 2u;             // wraps below 0, then exceeds h
        if (yi >= p.h) { continue; }
        let row = (ci * p.h + yi) * p.words;
        let here = x_active[row + word];
        var before = 0u;
        var next = 0u;
        if (word > 0u) { before = x_active[row + word - 1u]; }
        if (word + 1u < p.words) { next = x_active[row + word + 1u]; }
        for (var kx = 0u; kx < K; kx++) {
          // x moved so that each place stands where the place of dy does that it meets.
          var moved = here;
          if (kx > K / 2u) { moved = (here >> (kx - K / 2u)) | (next << (32u - (kx - K / 2u))); }
          if (kx < K / 2u) { moved = (here << (K / 2u - kx)) | (before >> (32u - (K / 2u - kx))); }
          taps |= select(0u, 1u << (ky * K + kx), (d & moved) != 0u);
        }
      }
    }
  }
  return taps;
}

// Whether dy[co] at (yo, xo) and x[ci] at (yi, xi) are other than 0 in the same image at the same timestep.
fn meet_at(co: u32, ci: u32, yo: u32, xo: u32, yi: u32, xi: u32) -> bool {
  for (var t = 0u; t < p.steps; t++) {
    let at_x = t * p.x_step + ((ci * p.h + yi) * p.w + xi) * p.n;
    let at_dy = t * p.dy_step + ((co * p.h + yo) * p.w + xo) * p.n;
    for (var first = 0u; first < p.n; first += BLOCK) {
      for (var image = first; image < min(first + BLOCK, p.n); image++) {
        let both = (images(x[at_x + image]) != Images(0.0)) & (images(dy[at_dy + image]) != Images(0.0));
        if (total(select(Images(0.0), Images(1.0), both)) > 0.0) { return true; }
      }
    }
  }
  return false;
}

// Whether they meet anywhere under a tap.
fn meet(co: u32, ci: u32, tap: u32) -> bool {
  for (var yo = 0u; yo < p.h; yo++) {
    let yi = yo + tap / K - K / 2u;
    for (var xo = 0u; xo < p.w; xo++) {
      let xi = xo + tap % K - K / 2u;
      if (yi >= p.h || xi >= p.w) { continue; }
      let d = dy_active[(co * p.h + yo) * p.words + xo / 32u] >> (xo % 32u);
      let e = x_active[(ci * p.h + yi) * p.words + xi / 32u] >> (xi % 32u);
      if ((d & e & 1u) != 0u && meet_at(co, ci, yo, xo, yi, xi)) { return true; }
    }
  }
  return false;
}

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
    if (doubted != 0u) {
      let co = e / p.cin;
      let ci = e % p.cin;
      let taps = taps_active(co, ci);
      for (; doubted != 0u; doubted &= doubted - 1u) {
        let tap = firstTrailingBit(doubted);
        if (((taps >> tap) & 1u) == 0u || !meet(co, ci, tap)) { dw[e * K * K + tap] = 0.0; }
      }
    }
  }
}
