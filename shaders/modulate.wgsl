// y = b * (1 + s): multiplicative interaction of the bottom-up drive b with the recurrent drive s.
// Constants: L, invocations of a workgroup; UNROLL, elements that a lane serves, one after the other.
// Loops: UNROLL.
struct Params { count: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map b
@group(0) @binding(1) var<storage, read> b: array<Stored_b>;
//#map s
@group(0) @binding(2) var<storage, read> s: array<Stored_s>;
//#map y
@group(0) @binding(3) var<storage, read_write> y: array<Stored_y>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
    if (i < p.count) {
      y[i] = stored_y(load_b(i) * (1.0 + load_s(i)));
    }
  }
}
