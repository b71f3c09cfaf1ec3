// Where activity and error meet; expects x, dy, x_active, dy_active and the sizes of winograd_d_weight.

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
        let both = (load_x(at_x + image) != Images(0.0)) & (load_dy(at_dy + image) != Images(0.0));
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
