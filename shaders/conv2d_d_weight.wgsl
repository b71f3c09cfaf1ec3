// partial[z, co, ci, ky, kx] = sum over t, yo and this group's columns of
//                              dy[t, co, yo, xo, n] * x[t, ci, STRIDE yo + ky - K/2, STRIDE xo + kx - K/2, n]
//
// The gradients of a weight that all timesteps share, in one reduction over time, rows, columns and images. Lanes run
// along (column, image); a group walks down the rows with a window of K rows of x in registers, and keeps
// R output x C input channels x K x K taps. Group z takes the column blocks z, z + splits, ...; sum_partials adds up.
//
// Constants:
//   L       invocations of a workgroup, along (column, image) of y
//   K       kernel size
//   STRIDE  stride
//   R       output channels of a lane
//   C       input channels of a lane
//   COUNT   accumulators of a lane: R C K K
//   KEPT    rows of the window of K rows of x that the next row of y needs again
//   NEW     rows of the window that each row of y brings: K - KEPT
//   WINDOW  flag: there are rows to keep
//   LONG    flag: more blocks of columns than one loop may take
// Loops: steps, long(blocks / splits), out_h, COUNT, L.
struct Params {
  n: u32, cin: u32, cout: u32, in_h: u32, in_w: u32, out_h: u32, out_w: u32,
  steps: u32, x_step: u32, dy_step: u32, blocks: u32, splits: u32,
}
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
//#map dy
@group(0) @binding(2) var<storage, read> dy: array<Stored_dy>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;
//#if !SUBGROUP
const BATCH = min(COUNT, 4096u / L);     // sums exchanged through workgroup memory at a time
var<workgroup> tile: array<f32, BATCH * L>;
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
  let ci0 = group.x * C;
  let co0 = group.y * R;
  let columns = p.out_w * p.n;
  let pitch = p.in_w * p.n;
  let plane = p.in_h * pitch;
  let out_plane = p.out_h * columns;
  var acc: array<f32, COUNT>;

  for (var t = 0u; t < p.steps; t++) {
//#if LONG
    for (var first = group.z; first < p.blocks; first += BLOCK * p.splits) {
    for (var b = first; b < min(first + BLOCK * p.splits, p.blocks); b += p.splits) {
//#else
    for (var b = group.z; b < p.blocks; b += p.splits) {
//#endif
      let q = b * L + lane;
      let inside = q < columns;
      let xo = q / p.n;
      let image = q - xo * p.n;
      let dy_at = t * p.dy_step + co0 * out_plane + q;
      let x_at = t * p.x_step + ci0 * plane + image;

      var window: array<f32, C * K * K>;   // [c][kx][ky]
//#if WINDOW
//#for c in 0..C
//#for h in 0..K
//#for k in STRIDE..K
      {
        let xi = xo * STRIDE + $hu - K / 2u;
        let yi = $ku - K / 2u - STRIDE;    // the row above the first: wraps, then exceeds in_h
        let ok = inside && xi < p.in_w && yi < p.in_h && ci0 + $c < p.cin;
        window[$(($c * K + $h) * K + $k)] = select(0.0, load_x(select(0u, x_at + $cu * plane + yi * pitch + xi * p.n, ok)), ok);
      }
//#end
//#end
//#end
//#endif
      for (var yo = 0u; yo < p.out_h; yo++) {
//#for c in 0..C
//#for h in 0..K
        {
          let xi = xo * STRIDE + $hu - K / 2u;
          let has = inside && xi < p.in_w && ci0 + $c < p.cin;
          let column = x_at + $cu * plane + xi * p.n;
//#if WINDOW
//#for k in 0..KEPT
          window[$(($c * K + $h) * K + $k)] = window[$(($c * K + $h) * K + $k + STRIDE)];
//#end
//#endif
//#for k in 0..NEW
          {
            let yi = yo * STRIDE + KEPT + $ku - K / 2u;
            let ok = has && yi < p.in_h;
            window[$(($c * K + $h) * K + KEPT + $k)] = select(0.0, load_x(select(0u, column + yi * pitch, ok)), ok);
          }
//#end
        }
//#end
//#end
//#for r in 0..R
        {
          let ok = inside && co0 + $r < p.cout;
          let d = select(0.0, load_dy(select(0u, dy_at + $ru * out_plane + yo * columns, ok)), ok);
//#for c in 0..C
//#for k in 0..K
//#for h in 0..K
          acc[$((($r * C + $c) * K + $k) * K + $h)] = fma(d, window[$(($c * K + $h) * K + $k)], acc[$((($r * C + $c) * K + $k) * K + $h)]);
//#end
//#end
//#end
        }
//#end
      }
    }
//#if LONG
    }
//#endif
  }

  let first = group.z * p.cout * p.cin * K * K;
//#if SUBGROUP
//#for r in 0..R
//#for c in 0..C
  if (co0 + $r < p.cout && ci0 + $c < p.cin) {
//#for k in 0..K
//#for h in 0..K
    {
      let s = subgroupAdd(acc[$((($r * C + $c) * K + $k) * K + $h)]);
      if (sub == 0u) { partial[first + (((co0 + $r) * p.cin + ci0 + $c) * K + $k) * K + $h] = s; }
    }
//#end
//#end
  }
//#end
//#end
//#else
//#for e in 0..COUNT
  tile[$e % BATCH * L + lane] = acc[$e];
  if ($eu % BATCH == BATCH - 1u || $eu + 1u == COUNT) { flush($eu / BATCH * BATCH, $eu % BATCH + 1u, lane, first, co0, ci0); }
//#end
//#endif
}
//#if !SUBGROUP

// Sums `many` accumulators of all lanes, e0 the first of them, and writes them out.
fn flush(e0: u32, many: u32, lane: u32, first: u32, co0: u32, ci0: u32) {
  workgroupBarrier();
  for (var e = lane; e < many; e += L) {
    var s = 0.0;
    for (var l = 0u; l < L; l++) { s += tile[e * L + l]; }
    let tap = (e0 + e) % (K * K);
    let c = (e0 + e) / (K * K) % C;
    let r = (e0 + e) / (K * K * C);
    if (co0 + r < p.cout && ci0 + c < p.cin) { partial[first + ((co0 + r) * p.cin + ci0 + c) * K * K + tap] = s; }
  }
  workgroupBarrier();
}
//#endif
