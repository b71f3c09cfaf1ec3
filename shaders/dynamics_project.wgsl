// Sums of few numbers of a map: y[d, n] = scale * sum_e sign_e x[place_e, n] with the `entries` terms of feature d. A thread has
// one image and d.
// Loops: nested(entries).
struct Params { width: u32, entries: u32, scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // [numbers of the map][width]
@group(0) @binding(2) var<storage, read> terms: array<u32>;        // [D][entries] twice the place, and 1 more where the sign is minus
@group(0) @binding(3) var<storage, read_write> y: array<f32>;      // [D][width]
//#include fold
//#include block

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let image = group.x * 64u + lane;
  if (image >= p.width) { return; }
  var sum = 0.0;
  for (var start = 0u; start < p.entries; start += BLOCK) {
    for (var e = start; e < min(start + BLOCK, p.entries); e++) {
      let term = terms[group.y * p.entries + e];
      let value = x[(term >> 1u) * p.width + image];
      sum += select(value, -value, (term & 1u) == 1u);
    }
  }
  y[group.y * p.width + image] = p.scale * sum;
}
