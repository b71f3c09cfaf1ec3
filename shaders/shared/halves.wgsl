// Two numbers as the halves of a word of 64 bits, the first the lower one.
fn halves(v: u64) -> vec2<f32> { return vec2<f32>(bitcast<f32>(u32(v)), bitcast<f32>(u32(v >> 32u))); }
fn joined(v: vec2<f32>) -> u64 { return u64(bitcast<u32>(v.x)) | (u64(bitcast<u32>(v.y)) << 32u); }
