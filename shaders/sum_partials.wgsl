// y[i] = sum over s of partial[s, i], in the order of s.
// Constants: L, invocations of a workgroup; UNROLL, elements that a lane serves, one after the other.
// Loops: UNROLL, nested(parts).
struct Params { count: u32, parts: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
//#include each
//#include block

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  for (var u = 0u; u < UNROLL; u++) {
    let i = element(group.x, lane, u);
    if (i < p.count) {
      var s = 0.0;
      for (var first = 0u; first < p.parts; first += BLOCK) {
        let end = min(first + BLOCK, p.parts);
        for (var part = first; part < end; part++) { s += partial[part * p.count + i]; }
      }
      y[i] = s;
    }
  }
}
