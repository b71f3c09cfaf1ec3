// x[c, pixel, n] = table[c, byte c of the pixel of picture n]: pictures as the host has them, [n][pixel][3] bytes, four to
// a word. The table holds the host's bits: (byte / 255 - mean) / std in f32.
// A lane serves one picture, or where x is of halves, which lie in pairs, two (VEC2); p.n counts what lanes serve.
// Constants: L, invocations of a workgroup.
// Loops: none.
struct Params { n: u32, pixels: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> pictures: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
//#map x
@group(0) @binding(3) var<storage, read_write> x: array<Stored_x>;
//#include fold

fn byte(i: u32) -> u32 { return (pictures[i / 4u] >> (i % 4u * 8u)) & 255u; }
fn value(c: u32, pixel: u32, image: u32) -> f32 { return table[c * 256u + byte((image * p.pixels + pixel) * 3u + c)]; }

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let image = group.x * L + lane;
  let pixel = group.y;
  if (image >= p.n || pixel >= p.pixels) { return; }
  for (var c = 0u; c < 3u; c++) {
//#if VEC2
    let both = Images(value(c, pixel, 2u * image), value(c, pixel, 2u * image + 1u));
    x[(c * p.pixels + pixel) * p.n + image] = stored_x(both);
//#else
    x[(c * p.pixels + pixel) * p.n + image] = stored_x(value(c, pixel, image));
//#endif
  }
}
