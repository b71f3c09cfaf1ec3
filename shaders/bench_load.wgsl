// A ceiling: streams from and to memory, UNROLL elements per lane; an element is a number, or four (VEC4).
// SUM: y[lane] = scale * the sum of its elements of x. SCALE (neither flag): y = scale * x. TRIAD: y = x + scale * z.
// The grid covers the arrays exactly.
// Constants: L, invocations of a workgroup; UNROLL, elements of a lane.
// Loops: UNROLL.
struct Params { scale: f32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<StoredImages>;
@group(0) @binding(2) var<storage, read_write> y: array<StoredImages>;
//#if TRIAD
@group(0) @binding(3) var<storage, read> z: array<StoredImages>;
//#endif
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
//#if SUM
  var s = as_images(x[element(group.x, lane, 0u)]);
  for (var u = 1u; u < UNROLL; u++) { s += as_images(x[element(group.x, lane, u)]); }
  y[group.x * L + lane] = as_stored(p.scale * s);
//#else
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
//#if TRIAD
    y[i] = as_stored(as_images(x[i]) + p.scale * as_images(z[i]));
//#else
    y[i] = as_stored(p.scale * as_images(x[i]));
//#endif
  }
//#endif
}
