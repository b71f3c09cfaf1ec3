// Two or four numbers as they lie in a buffer: as a vector, or with U64 as whole numbers of 64 bits. The bytes are the same;
// drivers that load a vector number by number and lane by lane need half as many loads.
//#if U64
alias Packed2 = u64;
alias Packed4 = vec2<u64>;
fn unpacked2(v: Packed2) -> vec2<f32> { return vec2<f32>(bitcast<f32>(u32(v)), bitcast<f32>(u32(v >> 32u))); }
fn unpacked4(v: Packed4) -> vec4<f32> { return vec4<f32>(unpacked2(v.x), unpacked2(v.y)); }
fn packed2(v: vec2<f32>) -> Packed2 { return u64(bitcast<u32>(v.x)) | (u64(bitcast<u32>(v.y)) << 32u); }
fn packed4(v: vec4<f32>) -> Packed4 { return vec2<u64>(packed2(v.xy), packed2(v.zw)); }
//#else
alias Packed2 = vec2<f32>;
alias Packed4 = vec4<f32>;
fn unpacked2(v: Packed2) -> vec2<f32> { return v; }
fn unpacked4(v: Packed4) -> vec4<f32> { return v; }
fn packed2(v: vec2<f32>) -> Packed2 { return v; }
fn packed4(v: vec4<f32>) -> Packed4 { return v; }
//#endif
