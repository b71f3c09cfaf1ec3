// The upper half, diagonal included, of symmetric blocks, row by row: what the host needs of them.
// Loops: none.
struct Params { blocks: u32, features: u32, stride: u32, first: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> high: array<f32>;        // [block][D][stride]
@group(0) @binding(2) var<storage, read> low: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;     // [block][D (D + 1) / 2], from block `first` on
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let j = group.x * 64u + lane;
  let i = group.y;
  if (j < i || j >= p.features) { return; }
  let at = (group.z * p.features + i) * p.stride + j;
  let half = p.features * (p.features + 1u) / 2u;
  y[(p.first + group.z) * half + i * p.features - i * (i + 1u) / 2u + j] = high[at] + low[at];
}
