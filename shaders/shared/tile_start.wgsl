// The accumulators of a register tile, R channels x NV rows from (co0, y0), start from the sum of base and bias.
// B channels per turn: loads and stores written out for all accumulators take CPU drivers seconds to compile, and with one channel
// per turn as many selections as a short sum has products.
// The tile lies at channel * plane + row * line + spot of a map; its rows end at `rows`.
  var acc: array<Images, R * NV>;
  if (p.has_base + p.has_bias != 0u) {
    for (var first_r = 0u; first_r < R; first_r += B) {
//#for i in 0..B
      {
        let r = first_r + $i;
        var b = 0.0;
        if (p.has_bias != 0u) { b = bias[min(co0 + r, p.cout - 1u)]; }
//#for j in 0..NV
        var start$j = Images(b);
        if (p.has_base != 0u && inside && co0 + r < p.cout && y0 + $j < rows) {
          start$j += as_images(base[(co0 + r) * plane + (y0 + $j) * line + spot]);
        }
//#for c in 0..TURNS
        acc[$(($c * B + $i) * NV + $j)] = select(acc[$(($c * B + $i) * NV + $j)], start$j, first_r == $($c * B));
//#end
//#end
      }
//#end
    }
  }
