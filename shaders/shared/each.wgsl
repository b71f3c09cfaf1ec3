// Element `u` of the UNROLL elements that a lane of an elementwise kernel serves.
fn element(group: u32, lane: u32, u: u32) -> u32 { return (group * UNROLL + u) * L + lane; }
