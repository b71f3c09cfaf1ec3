// v[i * N + j, c, tile] = (B^T d B)[i, j], where d is the N x N of x from (M ty - K / 2, M tx - K / 2) on under the tile of
// M x M outputs (ty, tx), 0 beyond the edge. Tiles are counted [ty][tx][image], ty from row0 on, and lie in panels of `width` for the matrix
// product: [i * N + j][tile / width][c][tile % width].
// PANELS: the other order that the weight gradient takes, see winograd_panels.
// Lavin and Gray, arXiv 1509.09308, section 4; the matrices are in src/kernels/interpolation.rs.
//
// Constants:
//   L       invocations of a workgroup
//   UNROLL  elements that a lane serves, one after the other
//   M       rows and columns of outputs of a tile
//   K       kernel size
//   N       rows and columns of a transformed tile: M + K - 1
//   VEC     images of an element (PANELS)
// Loops: UNROLL.
struct Params {
  n: u32, h: u32, w: u32, row0: u32, tiles_y: u32, tiles_x: u32, channels: u32, count: u32, width: u32,
//#if PANELS
  steps: u32, step: u32,
//#endif
}
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
//#if PANELS
@group(0) @binding(2) var<storage, read_write> v: array<f32>;
//#else
@group(0) @binding(2) var<storage, read_write> v: array<StoredImages>;
//#endif
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let e = element(group.x, lane, u);
    if (e < p.count) {
      let tiles = p.tiles_y * p.tiles_x * p.n;
//#if PANELS
//#include winograd_panels
      let plane = group.y * p.step + channel * p.h * p.w * p.n + image;
//#else
      let channel = e / tiles;
      let tile = e - channel * tiles;
      let image = tile % p.n;
      let plane = channel * p.h * p.w * p.n + image;
      let at = (tile / p.width * p.channels + channel) * p.width + tile % p.width;
      let stride = (tiles + p.width - 1u) / p.width * p.width * p.channels;
//#endif
      let x0 = tile / p.n % p.tiles_x * M - K / 2u;    // wraps below 0, then exceeds w
      let y0 = (p.row0 + tile / p.n / p.tiles_x) * M - K / 2u;
      var t: array<Images, N * N>;             // d B
//#for r in 0..N
      {
//#for c in 0..N
        let ok$c = y0 + $r < p.h && x0 + $c < p.w;
        let d$c = select(Images(0.0), load_x(select(0u, plane + ((y0 + $r) * p.w + x0 + $c) * p.n, ok$c)), ok$c);
//#end
//#for c in 0..N
        t[$($r * N + $c)] = $sum{l: BT[$c] d$l};
//#end
      }
//#end
//#for r in 0..N
//#for c in 0..N
      {
        let value = $sum{l: BT[$r] t[$($l * N + $c)]};
//#if PANELS
//#for e in 0..VEC
        v[at + $($r * N + $c) * stride + $e * p.width] = image_of(value, $e);
//#end
//#else
        v[at + $($r * N + $c) * stride] = stored(value);
//#endif
      }
//#end
//#end
    }
  }
}
