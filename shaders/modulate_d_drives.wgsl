// Gradients of y = b * (1 + s): db = dy * (1 + s), ds = dy * b.
// Constants: L, invocations of a workgroup; UNROLL, elements that a lane serves, one after the other.
// Loops: UNROLL.
struct Params { count: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map b
@group(0) @binding(1) var<storage, read> b: array<Stored_b>;
//#map s
@group(0) @binding(2) var<storage, read> s: array<Stored_s>;
//#map dy
@group(0) @binding(3) var<storage, read> dy: array<Stored_dy>;
//#map db
@group(0) @binding(4) var<storage, read_write> db: array<Stored_db>;
//#map ds
@group(0) @binding(5) var<storage, read_write> ds: array<Stored_ds>;
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
    if (i < p.count) {
      let d = load_dy(i);
      db[i] = stored_db(d * (1.0 + load_s(i)));
      ds[i] = stored_ds(d * load_b(i));
    }
  }
}
