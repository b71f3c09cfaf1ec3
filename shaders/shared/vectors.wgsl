//#include packed
// Neighbouring images of a map as one element, as it lies in a buffer (`StoredImages`) and in registers, and its parts.
//#if VEC4
alias Images = vec4<f32>;
alias StoredImages = Packed4;
fn as_images(v: StoredImages) -> Images { return unpacked4(v); }
fn as_stored(v: Images) -> StoredImages { return packed4(v); }
fn image_of(v: Images, e: u32) -> f32 { return v[e]; }
fn total(v: Images) -> f32 { return (v.x + v.y) + (v.z + v.w); }
//#else
//#if VEC2
alias Images = vec2<f32>;
alias StoredImages = Packed2;
fn as_images(v: StoredImages) -> Images { return unpacked2(v); }
fn as_stored(v: Images) -> StoredImages { return packed2(v); }
fn image_of(v: Images, e: u32) -> f32 { return v[e]; }
fn total(v: Images) -> f32 { return v.x + v.y; }
//#else
alias Images = f32;
alias StoredImages = f32;
fn as_images(v: StoredImages) -> Images { return v; }
fn as_stored(v: Images) -> StoredImages { return v; }
fn image_of(v: Images, e: u32) -> f32 { return v; }
fn total(v: Images) -> f32 { return v; }
//#endif
//#endif
// Neighbouring packed weights as one element, likewise.
//#if WIDE4
alias Weights = vec4<f32>;
alias StoredWeights = Packed4;
fn as_weights(v: StoredWeights) -> Weights { return unpacked4(v); }
fn weight_of(v: Weights, e: u32) -> f32 { return v[e]; }
//#else
//#if WIDE2
alias Weights = vec2<f32>;
alias StoredWeights = Packed2;
fn as_weights(v: StoredWeights) -> Weights { return unpacked2(v); }
fn weight_of(v: Weights, e: u32) -> f32 { return v[e]; }
//#else
alias Weights = f32;
alias StoredWeights = f32;
fn as_weights(v: StoredWeights) -> Weights { return v; }
fn weight_of(v: Weights, e: u32) -> f32 { return v; }
//#endif
//#endif
