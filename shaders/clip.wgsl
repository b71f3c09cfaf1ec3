// grad *= norm[1], in place: the factor that gradient_norm gives.
// Constants: L, invocations of a workgroup; UNROLL, elements that a lane serves, one after the other.
// Loops: UNROLL.
struct Params { count: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> grad: array<StoredImages>;
@group(0) @binding(2) var<storage, read> norm: array<f32>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
    if (i < p.count) { grad[i] = stored(norm[1] * images(grad[i])); }
  }
}
