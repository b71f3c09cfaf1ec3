// The same gradient as conv2d_d_weight, with lanes along output channels: each lane keeps NV of them, L apart, for C input
// channels x K x K taps. A group walks down the rows of x: every value of x, broadcast, meets the rows of dy that it
// contributes to, which wait in a window of registers. Nothing is exchanged between lanes at the end.
// SUBGROUP: one load brings x of as many input channels as there are lanes, each is broadcast; else uniform loads.
//
// Constants:
//   L       invocations of a workgroup, along output channels; with SUBGROUP the subgroup size
//   K       kernel size
//   STRIDE  stride
//   NV      output channels of a lane, L apart
//   C       input channels of a lane
//   COUNT   accumulators of a lane: NV C K K
//   TAPS    K K
//   VEC     images that are taken at a time
//   U       rows of y per turn of the loop
//   XROWS   rows of x that go with them: U STRIDE
//   ABOVE   rows of dy above the present one that a row of x can meet: K/2 / STRIDE, rounded up
//   WINDOW  rows of dy that wait in registers: 2 ABOVE + U
//   KEPT    those of them that the next turn needs again: 2 ABOVE
//   LOADS   loads of a lane that bring x of C channels (SUBGROUP)
//   LONG    flag: more columns than one loop may take
//   GO_ON   flag: the sums start from what earlier timesteps left in `partial`
// Loops: steps, long(per_split), in_h / XROWS, C.
struct Params {
  n: u32, cin: u32, cout: u32, in_h: u32, in_w: u32, out_h: u32, out_w: u32,
  steps: u32, x_step: u32, dy_step: u32, per_split: u32,
}
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
//#map dy
@group(0) @binding(2) var<storage, read> dy: array<Stored_dy>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;
//#include fold
//#include block

@compute @workgroup_size(L)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
//#if SUBGROUP
  @builtin(subgroup_invocation_id) lane: u32,
//#else
  @builtin(local_invocation_index) lane: u32,
//#endif
) {
  let group = unfolded(id);
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
//#if GO_ON
  // One input channel per turn, as where they are stored.
  for (var c = 0u; c < C; c++) {
//#for j in 0..NV
    if (co0 + $j * L + lane < p.cout && ci0 + c < p.cin) {
      let first = (((group.z * p.cout + co0 + $j * L + lane) * p.cin) + ci0 + c) * K * K;
//#for e in 0..TAPS
      {
        let sum = partial[first + $e];
//#for i in 0..C
        acc[$(($j * C + $i) * K * K + $e)] = select(acc[$(($j * C + $i) * K * K + $e)], sum, c == $i);
//#end
      }
//#end
    }
//#end
  }
//#endif

  let end = min((group.z + 1u) * p.per_split, columns);
  for (var t = 0u; t < p.steps; t++) {
//#if LONG
    for (var first = group.z * p.per_split; first < end; first += BLOCK) {
    for (var q = first; q < min(first + BLOCK, end); q++) {
//#else
    for (var q = group.z * p.per_split; q < end; q++) {
//#endif
      let xo = q / p.n;
      let image = q - xo * p.n;
      let dy_at = t * p.dy_step + q;
      // window[o * NV + j] = dy of row m + o - ABOVE, where m counts steps of STRIDE rows of x; U steps at a time, so that
      // an accumulator takes part in several products before it is written back.
      var window: array<Images, WINDOW * NV>;
//#for o in 0..KEPT
      { let yo = $ou - ABOVE; let ok = yo < p.out_h;         // what the first U steps find; wraps, then exceeds out_h
//#for j in 0..NV
        window[$(($o + U) * NV + $j)] = select(Images(0.0), load_dy(out$j + dy_at + select(0u, yo, ok) * columns), ok);
//#end
      }
//#end
      for (var m = 0u; m * STRIDE < p.in_h; m += U) {
//#for o in 0..KEPT
//#for j in 0..NV
        window[$($o * NV + $j)] = window[$(($o + U) * NV + $j)];
//#end
//#end
//#for o in KEPT..WINDOW
        { let yo = m + $ou - ABOVE; let ok = yo < p.out_h;
//#for j in 0..NV
          window[$($o * NV + $j)] = select(Images(0.0), load_dy(out$j + dy_at + select(0u, yo, ok) * columns), ok);
//#end
        }
//#end
//#for o in 0..WINDOW
//#for j in 0..NV
//#for e in 0..VEC
        let d$($o * NV + $j)_$e = image_of(window[$($o * NV + $j)], $e);
//#end
//#end
//#end
//#for h in 0..K
        {
          let xi = xo * STRIDE + $hu - K / 2u;                 // wraps below 0, then exceeds in_w
//#if SUBGROUP
          var a: array<Images, XROWS * LOADS>;
//#endif
//#for u in 0..XROWS
          let ok$u = xi < p.in_w && m * STRIDE + $u < p.in_h;
          let spot$u = t * p.x_step + select(0u, (m * STRIDE + $u) * pitch + xi * p.n, ok$u) + image;
//#if SUBGROUP
//#for i in 0..LOADS
          a[$($u * LOADS + $i)] = select(Images(0.0), load_x(in$i + spot$u), ok$u);
//#end
//#endif
//#end
//#for c in 0..C
          {
//#for u in 0..XROWS
//#if !SUBGROUP
            let b$u = select(Images(0.0), load_x(in$c + spot$u), ok$u);
//#endif
//#for e in 0..VEC
//#if SUBGROUP
            let v$u_$e = subgroupBroadcast(image_of(a[$($u * LOADS + $c / L)], $e), $($c % L)u);
//#else
            let v$u_$e = image_of(b$u, $e);
//#endif
//#end
//#end
//#for k in 0..K
//#for j in 0..NV
//#for i in 0..U
            // Row u = (k - K/2) mod STRIDE + i STRIDE of x meets row (u + K/2 - k) / STRIDE of dy through tap k.
//#for e in 0..VEC
            acc[$((($j * C + $c) * K + $k) * K + $h)] = fma(d$(((($k + STRIDE * K - K / 2) % STRIDE + $i * STRIDE + K / 2 + STRIDE * K - $k) / STRIDE + ABOVE - K) * NV + $j)_$e, v$(($k + STRIDE * K - K / 2) % STRIDE + $i * STRIDE)_$e, acc[$((($j * C + $c) * K + $k) * K + $h)]);
//#end
//#end
//#end
//#end
          }
//#end
        }
//#end
      }
    }
//#if LONG
    }
//#endif
  }

  // One input channel per turn: stores written out for all accumulators take CPU drivers seconds to compile.
  for (var c = 0u; c < C; c++) {
//#for j in 0..NV
    if (co0 + $j * L + lane < p.cout && ci0 + c < p.cin) {
      let first = (((group.z * p.cout + co0 + $j * L + lane) * p.cin) + ci0 + c) * K * K;
//#for e in 0..TAPS
      {
        var sum = acc[$($j * C * K * K + $e)];
//#for i in 1..C
        sum = select(sum, acc[$(($j * C + $i) * K * K + $e)], c == $i);
//#end
        partial[first + $e] = sum;
      }
//#end
    }
//#end
  }
}
