// Sums of lines of numbers, as two f32 each. A thread has one line.
// Loops: nested(length).
struct Params { lines: u32, length: u32, first: u32, all_ones: u32 }
//#include compensated
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;                // [line][length]
@group(0) @binding(2) var<storage, read_write> y: array<vec2<f32>>;    // [line], from line `first` on
//#include fold
//#include block

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * 64u + lane;
  if (e >= p.lines) { return; }
  var sum = Sum(0.0, 0.0);
  for (var start = 0u; start < p.length; start += BLOCK) {
    for (var i = start; i < min(start + BLOCK, p.length); i++) { sum = sum_add(sum, x[e * p.length + i], p.all_ones); }
  }
  y[p.first + e] = vec2<f32>(sum.high, sum.low);
}
