// active[channel, row, word]: bit i says whether the map is anywhere other than 0 in column 32 word + i, at some timestep in
// some image. An active place is mostly found at once.
// Images are read in vectors.
//
// Constants:
//   L       invocations of a workgroup
// Loops: steps, nested(n), 32.
struct Params { n: u32, h: u32, w: u32, words: u32, steps: u32, step: u32, count: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map map
@group(0) @binding(1) var<storage, read> map: array<Stored_map>;
@group(0) @binding(2) var<storage, read_write> active_at: array<u32>;
//#include block
//#include fold

fn anywhere(pixel: u32) -> bool {
  for (var t = 0u; t < p.steps; t++) {
    let at = t * p.step + pixel * p.n;
    for (var first = 0u; first < p.n; first += BLOCK) {
      for (var image = first; image < min(first + BLOCK, p.n); image++) {
        if (total(select(Images(0.0), Images(1.0), load_map(at + image) != Images(0.0))) > 0.0) { return true; }
      }
    }
  }
  return false;
}

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * L + lane;           // (channel * h + row) * words + word
  if (e >= p.count) { return; }
  let row = e / p.words;
  let first = e % p.words * 32u;
  var bits = 0u;
  for (var xo = first; xo < min(first + 32u, p.w); xo++) {
    bits |= select(0u, 1u << (xo - first), anywhere(row * p.w + xo));
  }
  active_at[e] = bits;
}
