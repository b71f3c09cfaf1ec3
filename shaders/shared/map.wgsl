// How the images of $map lie in its buffer: load_$map reads element i, stored_$map makes of one what is written there.
//#if HALF
alias Stored_$map = Halves;
//#if SINGLE
fn load_$map(i: u32) -> Images { return unpack2x16float($map[i / 2u])[i % 2u]; }
//#else
fn load_$map(i: u32) -> Images { return from_halves($map[i]); }
fn stored_$map(v: Images) -> Halves { return to_halves(v); }
//#endif
//#else
alias Stored_$map = StoredImages;
fn load_$map(i: u32) -> Images { return images($map[i]); }
fn stored_$map(v: Images) -> StoredImages { return stored(v); }
//#endif
