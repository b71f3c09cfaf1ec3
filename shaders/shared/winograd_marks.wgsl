// Where maps are not zero: a word of bits for each image of a vector. NaN is not zero, and neither is a number so small that a
// driver would flush it.
//#if VEC2
alias Marks = vec2<u32>;
fn word_of(m: Marks, e: u32) -> u32 { return m[e]; }
fn any_below(m: Marks, full: u32) -> bool { return any(m != Marks(full)); }
//#else
alias Marks = u32;
fn word_of(m: Marks, e: u32) -> u32 { return m; }
fn any_below(m: Marks, full: u32) -> bool { return m != full; }
//#endif
fn mark(x: Images) -> Marks { return min(bitcast<Marks>(x) << Marks(1u), Marks(1u)); }
