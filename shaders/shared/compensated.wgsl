// Compensated sums: see Knuth's two-sum in shared/trajectory.wgsl, here for four numbers at a time too.
// `all_ones` is 0xffffffff, unknown to the compiler, which may otherwise reorder sums and turn the compensation into 0.
fn opaque(x: f32, all_ones: u32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & all_ones); }
fn opaque4(x: vec4<f32>, all_ones: u32) -> vec4<f32> {
  return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) & vec4<u32>(all_ones));
}
// A sum and what rounding has lost of it.
struct Sum { high: f32, low: f32 }
struct Sum4 { high: vec4<f32>, low: vec4<f32> }
fn sum_add(sum: Sum, x: f32, all_ones: u32) -> Sum {
  let total = opaque(sum.high + x, all_ones);
  let arrived = opaque(total - sum.high, all_ones);
  let from_sum = opaque(sum.high - opaque(total - arrived, all_ones), all_ones);
  let lost = opaque(from_sum + opaque(x - arrived, all_ones), all_ones) + sum.low;
  let result = opaque(total + lost, all_ones);
  return Sum(result, lost - opaque(result - total, all_ones));
}
fn sum_add4(sum: Sum4, x: vec4<f32>, all_ones: u32) -> Sum4 {
  let total = opaque4(sum.high + x, all_ones);
  let arrived = opaque4(total - sum.high, all_ones);
  let from_sum = opaque4(sum.high - opaque4(total - arrived, all_ones), all_ones);
  let lost = opaque4(from_sum + opaque4(x - arrived, all_ones), all_ones) + sum.low;
  let result = opaque4(total + lost, all_ones);
  return Sum4(result, lost - opaque4(result - total, all_ones));
}
