// Maps in half precision, two neighbouring images to a word. Single images can be read, but only pairs be written.
//
// A number is rounded to one of f16 before it is packed: to the nearest, of two to the even one, and what that takes beyond
// 65,504 becomes infinite, as IEEE 754 has it. What packing itself does with other numbers differs from driver to driver; only
// below 2^-14, where numbers of f16 are 2^-24 apart, it is left to that.
fn rounded(v: f32) -> f32 {
  let bits = bitcast<u32>(v);
  let size = bits & 0x7fffffffu;
  let nearest = (size + 0xfffu + ((size >> 13u) & 1u)) & 0xffffe000u;
  let finite = select(nearest, 0x7f800000u, nearest >= 0x47800000u);   // 65,536
  return bitcast<f32>(select(finite, size, size > 0x7f800000u) | (bits & 0x80000000u));
}
//#if VEC4
alias Halves = vec2<u32>;
fn from_halves(v: Halves) -> Images { return vec4<f32>(unpack2x16float(v.x), unpack2x16float(v.y)); }
fn to_halves(v: Images) -> Halves {
  let low = vec2<f32>(rounded(v.x), rounded(v.y));
  return vec2<u32>(pack2x16float(low), pack2x16float(vec2<f32>(rounded(v.z), rounded(v.w))));
}
//#else
alias Halves = u32;
//#if VEC2
fn from_halves(v: Halves) -> Images { return unpack2x16float(v); }
fn to_halves(v: Images) -> Halves { return pack2x16float(vec2<f32>(rounded(v.x), rounded(v.y))); }
//#endif
//#endif
