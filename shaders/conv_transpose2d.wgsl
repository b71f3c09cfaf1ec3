// Transposed convolution, padding K/2, the output STRIDE times as high and wide as the input:
// y[co, yo, xo, n] = start + sum over ci, ky, kx with yo = STRIDE yi + ky - K/2, xo = STRIDE xi + kx - K/2
//                            of w[ci, co, ky, kx] * x[ci, yi, xi, n]
//
// Split by the remainders (py, px) of (yo, xo): each of the STRIDE x STRIDE phases is a convolution with its share of the taps
// on the small map, so nothing is multiplied with inserted zeros. Where K is below STRIDE, phases without taps keep the start.
// Lanes, registers and w as in conv2d.
//
// Constants:
//   L       invocations of a workgroup, along (column, image) of x
//   K       kernel size
//   STRIDE  stride
//   R       output channels of a lane
//   NV      rows of x of a lane
//   S       subgroup size (SUBGROUP, as are the next two)
//   WV      packed weights that are loaded as one vector
//   LOADS   loads of a lane that bring the weights of one tap
//   LONG    flag: more input channels than one loop may take
// Loops: long(cin), K, R.
struct Params { n: u32, cin: u32, cout: u32, in_h: u32, in_w: u32, has_base: u32, has_bias: u32 }
//#include vectors
//#include tile_bindings
//#include fold
//#include block

@compute @workgroup_size(L)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
//#if SUBGROUP
  @builtin(subgroup_invocation_id) sub: u32,
//#endif
) {
  let group = unfolded(id);
  let pitch = p.in_w * p.n;
  let q = group.x * L + lane;
  let inside = q < pitch;
  let xc = q / p.n;
  let image = q - xc * p.n;
  let py = group.y % STRIDE;
  let px = group.y / STRIDE % STRIDE;
  let y0 = group.y / (STRIDE * STRIDE) * NV;
  let co0 = group.z * R;

  // Where the tile lies in y: rows STRIDE (y0 + j) + py, columns STRIDE xc + px.
  let rows = p.in_h;
  let line = STRIDE * STRIDE * pitch;
  let plane = p.in_h * line;
  let spot = py * STRIDE * pitch + (STRIDE * xc + px) * p.n + image;
//#include tile_start

//#if LONG
  for (var block = 0u; block < p.cin; block += BLOCK) {
  for (var ci = block; ci < min(block + BLOCK, p.cin); ci++) {
//#else
  for (var ci = 0u; ci < p.cin; ci++) {
//#endif
    let in_plane = ci * p.in_h * pitch;
    for (var kx = (px + K / 2u) % STRIDE; kx < K; kx += STRIDE) {
      let xi = xc + (px + K / 2u - kx + STRIDE * K) / STRIDE - K;    // never divides below 0; wraps, then exceeds in_w
      let column = xi * p.n + image;
      for (var ky = (py + K / 2u) % STRIDE; ky < K; ky += STRIDE) {
        let shift = (py + K / 2u - ky + STRIDE * K) / STRIDE - K;
        var v: array<Images, NV>;
//#for j in 0..NV
        {
          let yi = y0 + $ju + shift;
          let ok = inside && xi < p.in_w && yi < p.in_h;
          v[$j] = select(Images(0.0), load_x(select(0u, in_plane + yi * pitch + column, ok)), ok);
        }
//#end
        let first = (((group.z * p.cin + ci) * K + kx) * K + ky) * R;
//#if SUBGROUP
        var a: array<Weights, LOADS>;
        for (var i = 0u; i < LOADS; i++) { a[i] = weights_from(w[first / WV + sub + i * S]); }
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
//#if LONG
  }
//#endif

//#include tile_store
}
