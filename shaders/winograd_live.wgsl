// live[tile]: bit r * M + c says whether x is other than zero anywhere under the output (r, c) of the tile, in any channel;
// set for outputs beyond the edge. Channels are searched until every pixel has been, so that few are read where activity is
// usual. Tiles and their N x N pixels as in winograd_input.
struct Params { n: u32, h: u32, w: u32, tiles_y: u32, tiles_x: u32, channels: u32, count: u32, cin: u32 }
//#include vectors
//#include winograd_marks
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<Images>;
@group(0) @binding(2) var<storage, read_write> live: array<Marks>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let tile = element(group.x, lane, u);
    if (tile < p.count) {
      let image = tile % p.n;
      let x0 = tile / p.n % p.tiles_x * M - K / 2u;    // wraps below 0, then exceeds w
      let y0 = tile / p.n / p.tiles_x * M - K / 2u;
      const ROW = (1u << N) - 1u;
      var columns = 0u;                        // those on the map
//#for c in 0..N
      columns |= select(0u, 1u << $c, x0 + $c < p.w);
//#end
      var seen: array<Marks, N>;               // what lies beyond the edge counts as seen, so that it is not waited for
//#for r in 0..N
      seen[$r] = Marks(select(ROW, ROW & ~columns, y0 + $r < p.h));
//#end
      var all_seen = Marks(0u);
      for (var channel = 0u; channel < p.cin && any_below(all_seen, ROW); channel++) {
        let plane = channel * p.h * p.w * p.n + image;
        all_seen = Marks(ROW);
//#for r in 0..N
        {
          let row = select(0u, plane + (y0 + $r) * p.w * p.n, y0 + $r < p.h);
//#for c in 0..N
          seen[$r] |= mark(x[row + select(0u, (x0 + $c) * p.n, x0 + $c < p.w)]) << Marks($c);
//#end
          all_seen &= seen[$r];
        }
//#end
      }
//#for r in 0..N
      {
        let row = seen[$r] & Marks(select(0u, columns, y0 + $r < p.h));
        var reached = row;                     // bit c: any of the columns c to c + K - 1
//#for k in 1..K
        reached |= row >> Marks($k);
//#end
        seen[$r] = reached;
      }
//#end
      var word = Marks(0u);
//#for r in 0..M
      {
        var reached = seen[$r];
//#for k in 1..K
        reached |= seen[$($r + $k)];
//#end
        let beyond = select(ROW, ~(columns >> (K / 2u)), y0 + K / 2u + $r < p.h);
        word |= ((reached | Marks(beyond)) & Marks((1u << M) - 1u)) << Marks($($r * M));
      }
//#end
      live[tile] = word;
    }
  }
}
