// dx = dy where y > 0, else 0 (the derivative at 0 is 0).
// Constants: L, invocations of a workgroup; UNROLL, elements that a lane serves, one after the other.
// Loops: UNROLL.
struct Params { count: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map y
@group(0) @binding(1) var<storage, read> y: array<Stored_y>;
//#map dy
@group(0) @binding(2) var<storage, read> dy: array<Stored_dy>;
//#map dx
@group(0) @binding(3) var<storage, read_write> dx: array<Stored_dx>;
//#include positive
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
    if (i < p.count) {
      dx[i] = stored_dx(select(Images(0.0), load_dy(i), positive(load_y(i))));
    }
  }
}
