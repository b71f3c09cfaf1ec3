// v[c, i * N + j, tile] = (B^T d B)[i, j], where d is the N x N of x from (M ty - K / 2, M tx - K / 2) on under the tile of
// M x M outputs (ty, tx), 0 beyond the edge. Tiles are counted [timestep][ty][tx][image].
// Lavin and Gray, arXiv 1509.09308, section 4; the matrices are in src/kernels/winograd.rs.
struct Params { n: u32, h: u32, w: u32, tiles_y: u32, tiles_x: u32, count: u32, steps: u32, x_step: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Images>;
@group(0) @binding(2) var<storage, read_write> v: array<Images>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let step = group.y;
  for (var u = 0u; u < UNROLL; u++) {
    let e = element(group.x, lane, u);       // [channel][ty][tx][image]
    if (e < p.count) {
      let tiles = p.tiles_y * p.tiles_x * p.n;
      let channel = e / tiles;
      let tile = e - channel * tiles;
      let image = tile % p.n;
      let x0 = tile / p.n % p.tiles_x * M - K / 2u;    // wraps below 0, then exceeds w
      let y0 = tile / p.n / p.tiles_x * M - K / 2u;
      let plane = step * p.x_step + channel * p.h * p.w * p.n + image;
      var t: array<Images, N * N>;             // d B
//#for r in 0..N
      {
        let yi = y0 + $r;
//#for c in 0..N
        let ok$c = yi < p.h && x0 + $c < p.w;
        let d$c = select(Images(0.0), x[select(0u, plane + (yi * p.w + x0 + $c) * p.n, ok$c)], ok$c);
//#end
//#for c in 0..N
        t[$($r * N + $c)] = $sum{l: BT[$c] d$l};
//#end
      }
//#end
      let at = (channel * N * N * p.steps + step) * tiles + tile;
//#for r in 0..N
//#for c in 0..N
      v[at + $($r * N + $c) * p.steps * tiles] = $sum{l: BT[$r] t[$($l * N + $c)]};
//#end
//#end
    }
  }
}
