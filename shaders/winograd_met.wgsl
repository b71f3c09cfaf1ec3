// met[co, ci]: a bit for each tap, whether x and dy meet under it (both are other than 0 at one place in one image) at one of
// these timesteps. GO_ON: or at an earlier one, as met says already; those are not searched again.
// Constants:
//   L  invocations of a workgroup
//   K  kernel size
// Loops: steps, h, w, nested(n).
struct Params { count: u32, cin: u32, n: u32, h: u32, w: u32, steps: u32, x_step: u32, dy_step: u32, words: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
//#map dy
@group(0) @binding(2) var<storage, read> dy: array<Stored_dy>;
@group(0) @binding(3) var<storage, read> x_active: array<u32>;    // as winograd_active leaves them
@group(0) @binding(4) var<storage, read> dy_active: array<u32>;
@group(0) @binding(5) var<storage, read_write> met: array<u32>;
//#include fold
//#include block
//#include meet

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * L + lane;           // co * cin + ci
  if (e >= p.count) { return; }
  let co = e / p.cin;
  let ci = e % p.cin;
  var known = 0u;
//#if GO_ON
  known = met[e];
  if (known == (1u << (K * K)) - 1u) { return; }
//#endif
  for (var left = taps_active(co, ci) & ~known; left != 0u; left &= left - 1u) {
    let tap = firstTrailingBit(left);
    if (meet(co, ci, tap)) { known |= 1u << tap; }
  }
  met[e] = known;
}
