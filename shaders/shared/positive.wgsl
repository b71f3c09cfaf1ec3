// x > 0 by its bits: drivers that flush subnormal numbers to zero would call the smallest of them 0. True for NaN of either
// sign (0 * inf has the sign bit set on x86), so that a NaN is passed on and seen.
//#if VEC4
fn positive(x: vec4<f32>) -> vec4<bool> {
  return (bitcast<vec4<i32>>(x) > vec4<i32>(0)) | (bitcast<vec4<u32>>(x) > vec4<u32>(0xff800000u));
}
//#else
//#if VEC2
fn positive(x: vec2<f32>) -> vec2<bool> {
  return (bitcast<vec2<i32>>(x) > vec2<i32>(0)) | (bitcast<vec2<u32>>(x) > vec2<u32>(0xff800000u));
}
//#else
fn positive(x: f32) -> bool { return bitcast<i32>(x) > 0 || bitcast<u32>(x) > 0xff800000u; }
//#endif
//#endif
