// y[co, yo, xo, n] = start + sum over ci, ky, kx of w[co, ci, ky, kx] * x[ci, STRIDE yo + ky - K/2, STRIDE xo + kx - K/2, n]
//
// Maps are [channel][row][column][image], image innermost. Lanes run along (column, image) of a row; each lane keeps R
// output channels x NV output rows in registers, so one loaded row of x serves up to K taps and R channels.
// w is packed by pack_weight: [co / R][ci][kx][ky][co % R].
// Operand source of w: SUBGROUP (one load, broadcast from lanes), SHARED (workgroup memory), else uniform loads.
// start: the sum of a map like y (if p.has_base) and one value per channel (if p.has_bias).
//
// Constants:
//   L       invocations of a workgroup, along (column, image) of y
//   K       kernel size
//   STRIDE  stride
//   R       output channels of a lane
//   NV      rows of y of a lane
//   ROWS    rows of x that a lane holds at a time
//   STEP    how far apart rows of x for neighbouring rows of y are among those: STRIDE, or K if that is less
//   CT      input channels whose weights are staged at a time (SHARED)
//   S       subgroup size (SUBGROUP, as are the next two)
//   WV      packed weights that are loaded as one vector
//   LOADS   loads of a lane that bring the weights of one turn
//   LONG    flag: more input channels than one loop may take
// Loops: long(cin), K, R, CT * K * K * R / L.
struct Params {
  n: u32, cin: u32, cout: u32, in_h: u32, in_w: u32, out_h: u32, out_w: u32, has_base: u32, has_bias: u32,
}
//#include vectors
//#include tile_bindings
const TAPS = K * R;                    // packed weights of one (ci, kx)
//#if SHARED
var<workgroup> tile: array<f32, 2 * CT * K * TAPS>;   // two halves: one is filled while lanes that are late still read the other
//#endif
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
  let columns = p.out_w * p.n;
  let q = group.x * L + lane;
  let inside = q < columns;
  let xo = q / p.n;
  let image = q - xo * p.n;
  let y0 = group.y * NV;
  let co0 = group.z * R;
  let pitch = p.in_w * p.n;

  // Where the rows start in a plane, and whether they exist.
  var row: array<u32, ROWS>;
  var has: array<bool, ROWS>;
//#for j in 0..ROWS
  {
    let yi = y0 * STRIDE + $($j / STEP * STRIDE + $j % STEP)u - K / 2u;    // wraps below 0, then exceeds in_h
    has[$j] = yi < p.in_h;
    row[$j] = yi * pitch + image;
  }
//#end

  // Where the tile lies in y.
  let rows = p.out_h;
  let plane = p.out_h * columns;
  let line = columns;
  let spot = q;
//#include tile_start

  let weights = group.z * p.cin * K * TAPS;
  // All products of an accumulator stand next to each other: it should be read and written once for several products.
//#if LONG
  for (var block = 0u; block < p.cin; block += BLOCK) {
  for (var ci = block; ci < min(block + BLOCK, p.cin); ci++) {
//#else
  for (var ci = 0u; ci < p.cin; ci++) {
//#endif
//#if SHARED
    let half = ci / CT % 2u * CT * K * TAPS;
    if (ci % CT == 0u) {
      let count = min(CT, p.cin - ci) * K * TAPS;
      for (var e = lane; e < count; e += L) { tile[half + e] = w[weights + ci * K * TAPS + e]; }
      workgroupBarrier();
    }
//#endif
    for (var kx = 0u; kx < K; kx++) {
      let xi = xo * STRIDE + kx - K / 2u;     // wraps below 0, then exceeds in_w
      let exists = inside && xi < p.in_w;
      let column = ci * p.in_h * pitch + xi * p.n;
//#for j in 0..ROWS
      let ok$j = exists && has[$j];
      let v$j = select(Images(0.0), load_x(select(0u, column + row[$j], ok$j)), ok$j);
//#end
//#if SHARED
      let first = half + (ci % CT * K + kx) * TAPS;
//#else
      let first = weights + (ci * K + kx) * TAPS;
//#endif
//#if SUBGROUP
      var a: array<Weights, LOADS>;
      for (var i = 0u; i < LOADS; i++) { a[i] = weights_from(w[first / WV + sub + i * S]); }
//#endif
//#for r in 0..R
//#for k in 0..K
      {
//#if SUBGROUP
        let f = Images(subgroupBroadcast(weight_of(a[$(($k * R + $r) / (S * WV))], $(($k * R + $r) % WV)), $(($k * R + $r) / WV % S)u));
//#else
//#if SHARED
        let f = Images(tile[first + $($k * R + $r)]);
//#else
        let f = Images(w[first + $($k * R + $r)]);
//#endif
//#endif
//#for j in 0..NV
        acc[$($r * NV + $j)] = fma(f, v$($j * STEP + $k), acc[$($r * NV + $j)]);
//#end
      }
//#end
//#end
    }
  }
//#if LONG
  }
//#endif

//#include tile_store
}
