  for (var r = 0u; r < R; r++) {
//#for j in 0..NV
    {
      var sum = acc[$j];
//#for c in 1..R
      sum = select(sum, acc[$($c * NV + $j)], r == $c);
//#end
      if (inside && co0 + r < p.cout && y0 + $j < rows) { y[(co0 + r) * plane + (y0 + $j) * line + spot] = stored_y(sum); }
    }
//#end
  }
