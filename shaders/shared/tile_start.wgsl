// The accumulators of a register tile, R channels x NV rows from (co0, y0), start from the sum of base and bias.
// One channel per turn: loads and stores written out for all accumulators take CPU drivers seconds to compile.
// The tile lies at channel * plane + row * line + spot of a map; its rows end at `rows`.
  var acc: array<Images, R * NV>;
  if (p.has_base + p.has_bias != 0u) {
    for (var r = 0u; r < R; r++) {
      var b = 0.0;
      if (p.has_bias != 0u) { b = bias[min(co0 + r, p.cout - 1u)]; }
//#for j in 0..NV
      {
        var start = Images(b);
        if (p.has_base != 0u && inside && co0 + r < p.cout && y0 + $j < rows) {
          start += load_base((co0 + r) * plane + (y0 + $j) * line + spot);
        }
//#for c in 0..R
        acc[$($c * NV + $j)] = select(acc[$($c * NV + $j)], start, r == $c);
//#end
      }
//#end
    }
  }
