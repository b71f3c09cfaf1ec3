// d[i * N + j, c, tile] = (A dy A^T)[i, j], where dy are the M x M gradients of the tile (ty, tx), 0 beyond the edge: the
// adjoint of winograd_output, for the weight gradient. In the order of winograd_panels.
//
// Constants:
//   L       invocations of a workgroup
//   UNROLL  elements that a lane serves, one after the other
//   M       rows and columns of outputs of a tile
//   K       kernel size
//   N       rows and columns of a transformed tile: M + K - 1
//   VEC     images of an element
// Loops: UNROLL.
struct Params {
  n: u32, h: u32, w: u32, row0: u32, tiles_y: u32, tiles_x: u32, channels: u32, count: u32, steps: u32, step: u32, width: u32,
}
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map dy
@group(0) @binding(1) var<storage, read> dy: array<Stored_dy>;
@group(0) @binding(2) var<storage, read_write> d: array<f32>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let e = element(group.x, lane, u);
    if (e < p.count) {
      let tiles = p.tiles_y * p.tiles_x * p.n;
//#include winograd_panels
      let plane = group.y * p.step + channel * p.h * p.w * p.n + image;
      let x0 = tile / p.n % p.tiles_x * M;
      let y0 = (p.row0 + tile / p.n / p.tiles_x) * M;
      var t: array<Images, M * N>;             // dy A^T
//#for r in 0..M
      {
//#for c in 0..M
        let ok$c = y0 + $r < p.h && x0 + $c < p.w;
        let g$c = select(Images(0.0), load_dy(select(0u, plane + ((y0 + $r) * p.w + x0 + $c) * p.n, ok$c)), ok$c);
//#end
//#for c in 0..N
        t[$($r * N + $c)] = $sum{l: A[$c] g$l};
//#end
      }
//#end
//#for r in 0..N
//#for c in 0..N
      {
        let value = $sum{l: A[$r] t[$($l * N + $c)]};
//#for e in 0..VEC
        d[at + $($r * N + $c) * stride + $e * p.width] = image_of(value, $e);
//#end
      }
//#end
//#end
    }
  }
}
