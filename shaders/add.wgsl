// y = x0 + x1 + ... + x(TERMS - 1), in this order.
//
// Constants:
//   L       invocations of a workgroup
//   UNROLL  elements that a lane serves, one after the other
//   TERMS   maps that are added
// Loops: UNROLL.
struct Params { count: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#for k in 0..TERMS
//#map x$k
@group(0) @binding(1$k) var<storage, read> x$k: array<Stored_x$k>;
//#end
//#map y
@group(0) @binding(1) var<storage, read_write> y: array<Stored_y>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
    if (i < p.count) {
      var s = Images(0.0);
//#for k in 0..TERMS
      s += load_x$k(i);
//#end
      y[i] = stored_y(s);
    }
  }
}
