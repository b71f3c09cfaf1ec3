// B channels per turn, as in tile_start.
  for (var first_r = 0u; first_r < R; first_r += B) {
//#for i in 0..B
//#for j in 0..NV
    {
      var sum = acc[$($i * NV + $j)];
//#for c in 1..TURNS
      sum = select(sum, acc[$(($c * B + $i) * NV + $j)], first_r == $($c * B));
//#end
      let r = first_r + $i;
      if (inside && co0 + r < p.cout && y0 + $j < rows) {
        y[(co0 + r) * plane + (y0 + $j) * line + spot] = as_stored(sum);
      }
    }
//#end
//#end
  }
