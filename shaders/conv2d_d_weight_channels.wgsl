// The same gradient as conv2d_d_weight, with lanes along output channels: each lane keeps NV of them, L apart, for C input
// channels x K x K taps. A group walks down the rows of x: every value of x, broadcast, meets the rows of dy that it
// contributes to, which wait in a window of registers. Nothing is exchanged between lanes at the end.
// SUBGROUP: one load brings x of as many input channels as there are lanes, each is broadcast; else uniform loads.
struct Params {
  n: u32, cin: u32, cout: u32, in_h: u32, in_w: u32, out_h: u32, out_w: u32,
  steps: u32, x_step: u32, dy_step: u32, per_split: u32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(L)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
//#if SUBGROUP
  @builtin(subgroup_invocation_id) lane: u32,
//#else
  @builtin(local_invocation_index) lane: u32,
//#endif
) {
  let ci0 = group.x * C;
  let co0 = group.y * NV * L;
  let columns = p.out_w * p.n;
  let pitch = p.in_w * p.n;
  let plane = p.in_h * pitch;
  let out_plane = p.out_h * columns;
//#for j in 0..NV
  let out$j = min(co0 + $ju * L + lane, p.cout - 1u) * out_plane;
//#end
//#if SUBGROUP
//#for i in 0..LOADS
  let in$i = min(ci0 + $iu * L + lane, p.cin - 1u) * plane;
//#end
//#else
//#for i in 0..C
  let in$i = min(ci0 + $iu, p.cin - 1u) * plane;
//#end
//#endif
  var acc: array<f32, COUNT>;          // [j][c][ky][kx]

  let end = min((group.z + 1u) * p.per_split, columns);
  for (var t = 0u; t < p.steps; t++) {
    for (var q = group.z * p.per_split; q < end; q++) {
      let xo = q / p.n;
      let image = q - xo * p.n;
      let dy_at = t * p.dy_step + q;
      // window[o * NV + j] = dy of row m + o - ABOVE, where m counts steps of STRIDE rows of x; U steps at a time, so that
      // an accumulator takes part in several products before it is written back.
      var window: array<f32, WINDOW * NV>;
//#for o in 0..KEPT
      { let yo = $ou - ABOVE; let ok = yo < p.out_h;         // what the first U steps find; wraps, then exceeds out_h
//#for j in 0..NV
        window[($o + U) * NV + $j] = select(0.0, dy[out$j + dy_at + select(0u, yo, ok) * columns], ok);
//#end
      }
//#end
      for (var m = 0u; m * STRIDE < p.in_h; m += U) {
//#for o in 0..KEPT
//#for j in 0..NV
        window[$o * NV + $j] = window[($o + U) * NV + $j];
//#end
//#end
//#for o in KEPT..WINDOW
        { let yo = m + $ou - ABOVE; let ok = yo < p.out_h;
//#for j in 0..NV
          window[$o * NV + $j] = select(0.0, dy[out$j + dy_at + select(0u, yo, ok) * columns], ok);
//#end
        }
//#end
//#for u in 0..U
//#for s in 0..STRIDE
//#for h in 0..K
        {
          let yi = (m + $uu) * STRIDE + $su;
          let xi = xo * STRIDE + $hu - K / 2u;               // wraps below 0, then exceeds in_w
          let ok = xi < p.in_w && yi < p.in_h;
          let spot = t * p.x_step + select(0u, yi * pitch + xi * p.n, ok) + image;
//#if SUBGROUP
          var a: array<f32, LOADS>;
//#for i in 0..LOADS
          a[$i] = select(0.0, x[in$i + spot], ok);
//#end
//#endif
//#for c in 0..C
          {
//#if SUBGROUP
            let v = subgroupBroadcast(a[$c / L], $c % L);
//#else
            let v = select(0.0, x[in$c + spot], ok);
//#endif
//#for k in 0..K
            if (($su + K / 2u + $ku) % STRIDE == 0u) {           // the row of dy that meets this row of x through tap k
//#for j in 0..NV
              acc[(($j * C + $c) * K + $k) * K + $h] = fma(window[(($su + K / 2u + STRIDE * K - $ku) / STRIDE - K + ABOVE + $uu) * NV + $j], v, acc[(($j * C + $c) * K + $k) * K + $h]);
//#end
            }
//#end
          }
//#end
        }
//#end
//#end
//#end
      }
    }
  }

//#for j in 0..NV
  if (co0 + $j * L + lane < p.cout) {
    let first = ((group.z * p.cout + co0 + $j * L + lane) * p.cin + ci0) * K * K;
//#for c in 0..C
    if (ci0 + $c < p.cin) {
//#for e in 0..TAPS
      partial[first + $c * K * K + $e] = acc[($j * C + $c) * K * K + $e];
//#end
    }
//#end
  }
//#end
}
