// Whether `b`, which stands behind `a`, is the larger of the two: the first of equal numbers stays, and a NaN, seen by its bits,
// is larger than any number, so that it is passed on.
//#if VEC4
fn exceeds(b: vec4<f32>, a: vec4<f32>) -> vec4<bool> {
  let nan_a = (bitcast<vec4<u32>>(a) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
  let nan_b = (bitcast<vec4<u32>>(b) & vec4<u32>(0x7fffffffu)) > vec4<u32>(0x7f800000u);
  return ((b > a) | nan_b) & !nan_a;
}
//#else
//#if VEC2
fn exceeds(b: vec2<f32>, a: vec2<f32>) -> vec2<bool> {
  let nan_a = (bitcast<vec2<u32>>(a) & vec2<u32>(0x7fffffffu)) > vec2<u32>(0x7f800000u);
  let nan_b = (bitcast<vec2<u32>>(b) & vec2<u32>(0x7fffffffu)) > vec2<u32>(0x7f800000u);
  return ((b > a) | nan_b) & !nan_a;
}
//#else
fn exceeds(b: f32, a: f32) -> bool {
  let nan_a = (bitcast<u32>(a) & 0x7fffffffu) > 0x7f800000u;
  let nan_b = (bitcast<u32>(b) & 0x7fffffffu) > 0x7f800000u;
  return (b > a || nan_b) && !nan_a;
}
//#endif
//#endif
