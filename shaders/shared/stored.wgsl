// How elements lie in a buffer: what is loaded is taken apart by `images` or `weights_from`, what is stored is put together
// by `stored`. With WIDE_IMAGES and WIDE_WEIGHTS two neighbours are one word of 64 bits: drivers that load lane by lane then
// load half as often. The bytes are the same. `u64` is naga's own, not standard WGSL: no browser knows it.
//#if WIDE_IMAGES
//#include halves
//#if VEC4
alias StoredImages = vec2<u64>;
fn images(v: StoredImages) -> Images { return vec4<f32>(halves(v.x), halves(v.y)); }
fn stored(v: Images) -> StoredImages { return vec2<u64>(joined(v.xy), joined(v.zw)); }
//#else
alias StoredImages = u64;
fn images(v: StoredImages) -> Images { return halves(v); }
fn stored(v: Images) -> StoredImages { return joined(v); }
//#endif
//#else
alias StoredImages = Images;
fn images(v: StoredImages) -> Images { return v; }
fn stored(v: Images) -> StoredImages { return v; }
//#endif
//#if WIDE_WEIGHTS
//#if !WIDE_IMAGES
//#include halves
//#endif
//#if WEIGHTS4
alias StoredWeights = vec2<u64>;
fn weights_from(v: StoredWeights) -> Weights { return vec4<f32>(halves(v.x), halves(v.y)); }
//#else
alias StoredWeights = u64;
fn weights_from(v: StoredWeights) -> Weights { return halves(v); }
//#endif
//#else
alias StoredWeights = Weights;
fn weights_from(v: StoredWeights) -> Weights { return v; }
//#endif
//#if HALVES
//#include half
//#endif
