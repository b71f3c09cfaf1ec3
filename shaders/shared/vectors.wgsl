// Neighbouring images of a map as one element, and their parts.
//#if VEC4
alias Images = vec4<f32>;
alias Truths = vec4<bool>;
fn image_of(v: Images, e: u32) -> f32 { return v[e]; }
fn total(v: Images) -> f32 { return (v.x + v.y) + (v.z + v.w); }
//#else
//#if VEC2
alias Images = vec2<f32>;
alias Truths = vec2<bool>;
fn image_of(v: Images, e: u32) -> f32 { return v[e]; }
fn total(v: Images) -> f32 { return v.x + v.y; }
//#else
alias Images = f32;
alias Truths = bool;
fn image_of(v: Images, e: u32) -> f32 { return v; }
fn total(v: Images) -> f32 { return v; }
//#endif
//#endif
// Neighbouring packed weights as one element, and their parts.
//#if WEIGHTS4
alias Weights = vec4<f32>;
fn weight_of(v: Weights, e: u32) -> f32 { return v[e]; }
//#else
//#if WEIGHTS2
alias Weights = vec2<f32>;
fn weight_of(v: Weights, e: u32) -> f32 { return v[e]; }
//#else
alias Weights = f32;
fn weight_of(v: Weights, e: u32) -> f32 { return v; }
//#endif
//#endif
//#include stored
