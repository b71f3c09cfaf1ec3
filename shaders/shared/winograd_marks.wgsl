// Where a map is not zero, a bit for each pixel of a tile: bit row * N + column of a word, whatever M is. NaN is not zero, and
// neither is a number so small that a driver would flush it. Words of x and dy lie in one array [timestep][tile][slot], see
// src/kernels/meetings.rs.
//#if VEC2
alias Marks = vec2<u32>;
fn word_of(m: Marks, e: u32) -> u32 { return m[e]; }
//#else
alias Marks = u32;
fn word_of(m: Marks, e: u32) -> u32 { return m; }
//#endif
fn mark(x: Images) -> Marks { return min(bitcast<Marks>(x) << Marks(1u), Marks(1u)); }
