// Sum over classes of exp(z - most), in blocks: a thousand small terms added one by one to a large one lose digits.
fn sum_of_exponentials(image: u32, most: f32) -> f32 {
  var sum = 0.0;
  for (var start = 0u; start < p.classes; start += BLOCK * 32u) {
    for (var first = start; first < min(start + BLOCK * 32u, p.classes); first += 32u) {
      var block = 0.0;
      for (var k = first; k < min(first + 32u, p.classes); k++) { block += exp(z[k * p.n + image] - most); }
      sum += block;
    }
  }
  return sum;
}
