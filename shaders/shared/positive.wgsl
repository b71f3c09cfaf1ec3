// x > 0 by its bits: drivers that flush subnormal numbers to zero would call the smallest of them 0. True for NaN of either
// sign (0 * inf has the sign bit set on x86), so that a NaN is passed on and seen.
fn positive(x: f32) -> bool { return bitcast<i32>(x) > 0 || bitcast<u32>(x) > 0xff800000u; }
