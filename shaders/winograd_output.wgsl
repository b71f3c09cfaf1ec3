// The tile (ty, tx) of M x M values of y = start + A^T m A, where m[i * N + j, c, tile] are the products of the transformed
// inputs and weights. start: the sum of a map like y (if p.has_base) and one value per channel (if p.has_bias).
//
// Constants:
//   L       invocations of a workgroup
//   UNROLL  elements that a lane serves, one after the other
//   M       rows and columns of outputs of a tile
//   K       kernel size
//   N       rows and columns of a transformed tile: M + K - 1
struct Params { n: u32, h: u32, w: u32, tiles_y: u32, tiles_x: u32, channels: u32, count: u32, has_base: u32, has_bias: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> m: array<Images>;
@group(0) @binding(2) var<storage, read_write> y: array<Images>;
@group(0) @binding(3) var<storage, read> base: array<Images>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
//#include each

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
      let y0 = tile / p.n / p.tiles_x * M;
      let stride = p.channels * tiles;
      var t: array<Images, M * N>;             // A^T m
//#for c in 0..N
      {
//#for r in 0..N
        let m$r = m[e + $($r * N + $c) * stride];
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
      if (y0 + $r < p.h && x0 + $c < p.w) {
        let spot = plane + ((y0 + $r) * p.w + x0 + $c) * p.n;
        var sum = Images(start);
        if (p.has_base != 0u) { sum += base[spot]; }
        y[spot] = sum + ($sum{l: AT[$c] t[$($r * N + $l)]});
      }
//#end
//#end
    }
  }
}
