// Squared distances between vectors, of pairs i < j row by row. A thread has one pair; sums in blocks of 32.
// Loops: features / 32.
struct Params { count: u32, features: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;           // [T][count][D]
@group(0) @binding(2) var<storage, read_write> y: array<f32>;     // [T][count (count - 1) / 2]
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let j = group.x * 64u + lane;
  let i = group.y;
  if (j <= i || j >= p.count) { return; }
  let a = (group.z * p.count + i) * p.features;
  let b = (group.z * p.count + j) * p.features;
  var sum = 0.0;
  for (var block = 0u; block < p.features; block += 32u) {
    var part = 0.0;
    for (var d = block; d < min(block + 32u, p.features); d++) {
      let difference = x[a + d] - x[b + d];
      part += difference * difference;
    }
    sum += part;
  }
  let pairs = p.count * (p.count - 1u) / 2u;
  y[group.z * pairs + i * p.count - i * (i + 1u) / 2u + j - i - 1u] = sum;
}
