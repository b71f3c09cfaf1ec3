// y = gains[at] * x.
// Constants: L, invocations of a workgroup; UNROLL, elements that a lane serves, one after the other.
// Loops: UNROLL.
struct Params { count: u32, at: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<StoredImages>;
@group(0) @binding(2) var<storage, read> gains: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<StoredImages>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
    if (i < p.count) { y[i] = stored(gains[p.at] * images(x[i])); }
  }
}
