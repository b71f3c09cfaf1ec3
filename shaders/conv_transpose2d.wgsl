// Transposed convolution, stride 2, padding K/2, output padding 1:
// y[co, yo, xo, n] = start + sum over ci, ky, kx with yo = 2 yi + ky - K/2, xo = 2 xi + kx - K/2
//                            of w[ci, co, ky, kx] * x[ci, yi, xi, n]
//
// Split by the parity (py, px) of (yo, xo): each of the four phases is a convolution with a quarter of the taps on the
// small map, so nothing is multiplied with inserted zeros. Lanes, registers and w as in conv2d.
struct Params { n: u32, cin: u32, cout: u32, in_h: u32, in_w: u32, has_base: u32, has_bias: u32 }
//#include vectors
//#include tile_bindings

@compute @workgroup_size(L)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
//#if SUBGROUP
  @builtin(subgroup_invocation_id) sub: u32,
//#endif
) {
  let pitch = p.in_w * p.n;
  let q = group.x * L + lane;
  let inside = q < pitch;
  let xc = q / p.n;
  let image = q - xc * p.n;
  let py = group.y & 1u;
  let px = (group.y >> 1u) & 1u;
  let y0 = (group.y >> 2u) * NV;
  let co0 = group.z * R;

  // Where the tile lies in y: rows 2 (y0 + j) + py, columns 2 xc + px.
  let rows = p.in_h;
  let line = 4u * pitch;
  let plane = p.in_h * line;
  let spot = py * 2u * pitch + (2u * xc + px) * p.n + image;
//#include tile_start

  for (var ci = 0u; ci < p.cin; ci++) {
    let in_plane = ci * p.in_h * pitch;
    for (var kx = (px + K / 2u) & 1u; kx < K; kx += 2u) {
      let xi = xc + (px + K / 2u - kx + 2u * K) / 2u - K;    // + 2K - 2K keeps the division exact; wraps below 0
      let column = xi * p.n + image;
      for (var ky = (py + K / 2u) & 1u; ky < K; ky += 2u) {
        let shift = (py + K / 2u - ky + 2u * K) / 2u - K;
        var v: array<Images, NV>;
//#for j in 0..NV
        {
          let yi = y0 + $ju + shift;
          let ok = inside && xi < p.in_w && yi < p.in_h;
          v[$j] = select(Images(0.0), x[select(0u, in_plane + yi * pitch + column, ok)], ok);
        }
//#end
        let first = (((group.z * p.cin + ci) * K + kx) * K + ky) * R;
//#if SUBGROUP
        var a: array<Weights, LOADS>;
        for (var i = 0u; i < LOADS; i++) { a[i] = w[first / WV + sub + i * S]; }
//#endif
//#for r in 0..R
        {
//#if SUBGROUP
          let f = Images(subgroupBroadcast(weight_of(a[$($r / (S * WV))], $($r % WV)), $($r / WV % S)u));
//#else
          let f = Images(w[first + $r]);
//#endif
//#for j in 0..NV
          acc[$($r * NV + $j)] = fma(f, v[$j], acc[$($r * NV + $j)]);
//#end
        }
//#end
      }
    }
  }

//#include tile_store
}
