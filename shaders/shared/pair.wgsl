// Two numbers as one element of a buffer, in one word where vectors of images are stored in words.
//#if WIDE_IMAGES
alias Pair = u64;
fn pair(a: f32, b: f32) -> Pair { return joined(vec2<f32>(a, b)); }
//#else
alias Pair = vec2<f32>;
fn pair(a: f32, b: f32) -> Pair { return vec2<f32>(a, b); }
//#endif
