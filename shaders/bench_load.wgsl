// A ceiling: streams from and to memory, UNROLL elements per lane; an element is a number, or four (VECTOR).
// SUM: y[lane] = scale * the sum of its elements of x. SCALE (neither flag): y = scale * x. TRIAD: y = x + scale * z.
// The grid covers the arrays exactly.
// Constants: L, invocations of a workgroup; UNROLL, elements of a lane.
// Loops: UNROLL.
struct Params { scale: f32 }
@group(0) @binding(0) var<uniform> p: Params;
//#if VECTOR
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
//#else
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
//#endif
//#if TRIAD
//#if VECTOR
@group(0) @binding(3) var<storage, read> z: array<vec4<f32>>;
//#else
@group(0) @binding(3) var<storage, read> z: array<f32>;
//#endif
//#endif
//#include each

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
//#if SUM
  var s = x[element(group.x, lane, 0u)];
  for (var u = 1u; u < UNROLL; u++) { s += x[element(group.x, lane, u)]; }
  y[group.x * L + lane] = p.scale * s;
//#else
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
//#if TRIAD
    y[i] = x[i] + p.scale * z[i];
//#else
    y[i] = p.scale * x[i];
//#endif
  }
//#endif
}
