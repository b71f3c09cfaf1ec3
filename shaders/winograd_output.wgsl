// The tile (ty, tx) of M x M values of y = start + A^T m A, where m[i * N + j, c, tile] are the products of the transformed
// inputs and weights. start: the sum of a map like y (if p.has_base) and one value per channel (if p.has_bias).
//
// With EXACT: where all of x under the kernel is 0, y is its start; the products leave rounding noise there, which would open a
// rectification or move a weight that nothing should move. So a tile whose values differ much in size is doubted: x is searched
// under each value for one that is not 0, which is found at once unless all are 0.
//
// Constants:
//   L       invocations of a workgroup
//   UNROLL  elements that a lane serves, one after the other
//   M       rows and columns of outputs of a tile
//   K       kernel size
//   N       rows and columns of a transformed tile: M + K - 1
// Loops: UNROLL, cin, K * K, M * M.
struct Params {
  n: u32, h: u32, w: u32, row0: u32, tiles_y: u32, tiles_x: u32, channels: u32, count: u32, has_base: u32, has_bias: u32, cin: u32,
}
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> m: array<StoredImages>;
//#map y
@group(0) @binding(2) var<storage, read_write> y: array<Stored_y>;
//#map base
@group(0) @binding(3) var<storage, read> base: array<Stored_base>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
//#include each
//#if EXACT
//#map x
@group(0) @binding(5) var<storage, read> x: array<Stored_x>;
//#include doubt

// 1 where some x under the kernel around (yo, xo) is not 0, else 0; image by image.
fn touched(yo: u32, xo: u32, image: u32) -> Images {
  var seen = Images(0.0);
  for (var ci = 0u; ci < p.cin; ci++) {
    for (var tap = 0u; tap < K * K; tap++) {
      let yi = yo + tap / K - K / 2u;          // wraps below 0, then exceeds h
      let xi = xo + tap % K - K / 2u;
      if (yi >= p.h || xi >= p.w) { continue; }
      seen = select(seen, Images(1.0), load_x(((ci * p.h + yi) * p.w + xi) * p.n + image) != Images(0.0));
      if (total(seen) == total(Images(1.0))) { return seen; }
    }
  }
  return seen;
}
//#endif

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let e = element(group.x, lane, u);       // [channel][ty][tx][image]
    if (e < p.count) {
      let tiles = p.tiles_y * p.tiles_x * p.n;
      let channel = e / tiles;
      let tile = e - channel * tiles;
      let image = tile % p.n;
      let x0 = tile / p.n % p.tiles_x * M;
      let y0 = (p.row0 + tile / p.n / p.tiles_x) * M;
      let stride = p.channels * tiles;
      var t: array<Images, M * N>;             // A^T m
//#for c in 0..N
      {
//#for r in 0..N
        let m$r = images(m[e + $($r * N + $c) * stride]);
//#end
//#for r in 0..M
        t[$($r * N + $c)] = $sum{l: AT[$r] m$l};
//#end
      }
//#end
      var start = 0.0;
      if (p.has_bias != 0u) { start = bias[channel]; }
      let plane = channel * p.h * p.w * p.n + image;
//#for r in 0..M
//#for c in 0..M
      let v$r_$c = $sum{l: AT[$c] t[$($r * N + $l)]};
      if (y0 + $r < p.h && x0 + $c < p.w) {
        let spot = plane + ((y0 + $r) * p.w + x0 + $c) * p.n;
        var sum = Images(start);
        if (p.has_base != 0u) { sum += load_base(spot); }
        y[spot] = stored_y(sum + v$r_$c);
      }
//#end
//#end
//#if EXACT
      var least = Images(3.0e38);
      var most = Images(0.0);
//#for r in 0..M
//#for c in 0..M
      least = min(least, abs(v$r_$c));
      most = max(most, abs(v$r_$c));
//#end
//#end
      if (total(select(Images(0.0), Images(1.0), least < DOUBT * most)) > 0.0) {
        for (var i = 0u; i < M * M; i++) {
          let yo = y0 + i / M;
          let xo = x0 + i % M;
          if (yo >= p.h || xo >= p.w) { continue; }
          let seen = touched(yo, xo, image);
          let spot = plane + (yo * p.w + xo) * p.n;
          var sum = Images(start);
          if (p.has_base != 0u) { sum += load_base(spot); }
          var value = v0_0;
//#for r in 0..M
//#for c in 0..M
          value = select(value, v$r_$c, i == $($r * M + $c));
//#end
//#end
          y[spot] = stored_y(select(sum + value, sum, seen == Images(0.0)));
        }
      }
//#endif
    }
  }
}
