// y[co, yo, xo, n] = start + sum over ci, ky, kx of w[co, ci, ky, kx] * x[ci, STRIDE yo + ky - K/2, STRIDE xo + kx - K/2, n]
//
// Maps are [channel][row][column][image], image innermost. Lanes run along (column, image) of a row; each lane keeps R
// output channels x NV output rows in registers, so one loaded row of x serves up to K taps and R channels.
// w is packed by pack_weight: [co / R][ci][kx][ky][co % R].
// Operand source of w: SUBGROUP (one load, broadcast from lanes), SHARED (workgroup memory), else uniform loads.
// start: the sum of a map like y (BASE) and one value per channel (BIAS), where present.
struct Params { n: u32, cin: u32, cout: u32, in_h: u32, in_w: u32, out_h: u32, out_w: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#if BASE
@group(0) @binding(4) var<storage, read> base: array<f32>;
//#endif
//#if BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;
//#endif
const TAPS = K * R;                    // packed weights of one (ci, kx)
//#if SUBGROUP
const LOADS = (TAPS + S - 1u) / S;
//#endif
//#if SHARED
var<workgroup> tile: array<f32, CT * K * TAPS>;
//#endif

@compute @workgroup_size(L)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
//#if SUBGROUP
  @builtin(subgroup_invocation_id) sub: u32,
//#endif
) {
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
  has[$j] = y0 * STRIDE + $ju >= K / 2u && y0 * STRIDE + $ju - K / 2u < p.in_h;
  row[$j] = (y0 * STRIDE + $ju - K / 2u) * pitch + image;
//#end

  var acc: array<f32, R * NV>;
//#if BASE
//#for r in 0..R
//#for j in 0..NV
  if (inside && co0 + $r < p.cout && y0 + $j < p.out_h) {
    acc[$r * NV + $j] = base[((co0 + $r) * p.out_h + y0 + $j) * columns + q];
  }
//#end
//#end
//#endif
//#if BIAS
//#for r in 0..R
  {
    let b = bias[min(co0 + $r, p.cout - 1u)];
//#for j in 0..NV
    acc[$r * NV + $j] += b;
//#end
  }
//#end
//#endif

  let weights = group.z * p.cin * K * TAPS;
  // CU input channels per turn: with few taps, an accumulator should still take part in several products per turn.
  for (var first_ci = 0u; first_ci < p.cin; first_ci += CU) {
//#if SHARED
    if (first_ci % CT == 0u) {
      workgroupBarrier();
      let count = min(CT, p.cin - first_ci) * K * TAPS;
      for (var e = lane; e < count; e += L) { tile[e] = w[weights + first_ci * K * TAPS + e]; }
      workgroupBarrier();
    }
//#endif
//#for u in 0..CU
    {
//#if SEVERAL
    let ci = min(first_ci + $u, p.cin - 1u);
    let real = inside && first_ci + $u < p.cin;
//#else
    let ci = first_ci;
    let real = inside;
//#endif
    let plane = ci * p.in_h * pitch;
    for (var kx = 0u; kx < K; kx++) {
      let xi = xo * STRIDE + kx - K / 2u;     // wraps below 0, then exceeds in_w
      let column = xi * p.n;
      let exists = real && xi < p.in_w;
      var v: array<f32, ROWS>;
//#for j in 0..ROWS
      { let ok = exists && has[$j]; v[$j] = select(0.0, x[select(0u, plane + row[$j] + column, ok)], ok); }
//#end
//#if SUBGROUP
      var a: array<f32, LOADS>;
      let first = weights + (ci * K + kx) * TAPS + sub;
      for (var i = 0u; i < LOADS; i++) { a[i] = w[first + i * S]; }
//#else
//#if SHARED
      let first = (ci % CT * K + kx) * TAPS;
//#else
      let first = weights + (ci * K + kx) * TAPS;
//#endif
//#endif
//#for k in 0..K
//#for r in 0..R
      {
//#if SUBGROUP
        let f = subgroupBroadcast(a[($k * R + $r) / S], ($k * R + $r) % S);
//#else
//#if SHARED
        let f = tile[first + $k * R + $r];
//#else
        let f = w[first + $k * R + $r];
//#endif
//#endif
//#for j in 0..NV
        acc[$r * NV + $j] = fma(f, v[$j * STRIDE + $k], acc[$r * NV + $j]);
//#end
      }
//#end
//#end
    }
    }
//#end
  }

//#for r in 0..R
//#for j in 0..NV
  if (inside && co0 + $r < p.cout && y0 + $j < p.out_h) {
    y[((co0 + $r) * p.out_h + y0 + $j) * columns + q] = acc[$r * NV + $j];
  }
//#end
//#end
}
