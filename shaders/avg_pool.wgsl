// Global average pool: y[c, n] = mean over pixels of x[c, pixel, n].
// Lanes run along images, in vectors.
// Constants: L, invocations of a workgroup.
// Loops: nested(pixels).
struct Params { n: u32, pixels: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
@group(0) @binding(2) var<storage, read_write> y: array<Images>;
//#include fold
//#include block

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let image = group.x * L + lane;
  if (image >= p.n) { return; }
  var sum = Images(0.0);
  for (var first = 0u; first < p.pixels; first += BLOCK) {
    let end = min(first + BLOCK, p.pixels);
    for (var pixel = first; pixel < end; pixel++) { sum += load_x((group.y * p.pixels + pixel) * p.n + image); }
  }
  y[group.y * p.n + image] = sum / f32(p.pixels);
}
