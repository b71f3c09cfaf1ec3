// dx[c, pixel, n] = dy[c, n] / pixels.
// Lanes run along images, in vectors.
// Constants: L, invocations of a workgroup.
// Loops: nested(pixels).
struct Params { n: u32, pixels: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> dy: array<Images>;
//#map dx
@group(0) @binding(2) var<storage, read_write> dx: array<Stored_dx>;
//#include fold
//#include block

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let image = group.x * L + lane;
  if (image >= p.n) { return; }
  let value = dy[group.y * p.n + image] / f32(p.pixels);
  for (var first = 0u; first < p.pixels; first += BLOCK) {
    let end = min(first + BLOCK, p.pixels);
    for (var pixel = first; pixel < end; pixel++) { dx[(group.y * p.pixels + pixel) * p.n + image] = stored_dx(value); }
  }
}
