// What a register tile reads, as it lies in storage. On drivers that load word by word, for which a word of 64 bits costs what one
// of 32 does, vectors are bound as such words (U64): the same bytes, in half as many loads.
//#if U64
fn both(v: u64) -> vec2<f32> { return vec2<f32>(bitcast<f32>(u32(v)), bitcast<f32>(u32(v >> 32u))); }
//#if VEC4
alias StoredImages = vec2<u64>;
fn as_images(v: StoredImages) -> Images { return Images(both(v.x), both(v.y)); }
//#else
//#if VEC2
alias StoredImages = u64;
fn as_images(v: StoredImages) -> Images { return both(v); }
//#else
alias StoredImages = f32;
fn as_images(v: StoredImages) -> Images { return v; }
//#endif
//#endif
//#if WIDE4
alias StoredWeights = vec2<u64>;
fn as_weights(v: StoredWeights) -> Weights { return Weights(both(v.x), both(v.y)); }
//#else
//#if WIDE2
alias StoredWeights = u64;
fn as_weights(v: StoredWeights) -> Weights { return both(v); }
//#else
alias StoredWeights = f32;
fn as_weights(v: StoredWeights) -> Weights { return v; }
//#endif
//#endif
//#else
alias StoredImages = Images;
alias StoredWeights = Weights;
fn as_images(v: StoredImages) -> Images { return v; }
fn as_weights(v: StoredWeights) -> Weights { return v; }
//#endif
