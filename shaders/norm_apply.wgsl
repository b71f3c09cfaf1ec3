// y = (x - mean) * rstd * gamma + beta, rectified if RELU. gamma, beta: one per row (per element of [C, H, W]), or one per
// channel (CHANNEL: `pixels` rows share it).
// Constants: L, invocations of a workgroup.
// Loops: chunk / slots.
struct Params { n: u32, groups: u32, rows: u32, chunk: u32, lanes_n: u32, slots: u32, pixels: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
@group(0) @binding(2) var<storage, read> stats: array<Images>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
//#map y
@group(0) @binding(5) var<storage, read_write> y: array<Stored_y>;
//#include positive
//#include rows
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let at = place(group.x, lane, p.n, p.lanes_n, p.slots);
  if (!at.on) { return; }
  let mean = stats[group.z * p.n + at.image];
  let rstd = stats[(p.groups + group.z) * p.n + at.image];
  let end = min((group.y + 1u) * p.chunk, p.rows);
  for (var row = group.y * p.chunk + at.slot; row < end; row += p.slots) {
    let e = group.z * p.rows + row;
//#if CHANNEL
    let a = e / p.pixels;
//#else
    let a = e;
//#endif
    let value = fma((load_x(e * p.n + at.image) - mean) * rstd, Images(gamma[a]), Images(beta[a]));
//#if RELU
    y[e * p.n + at.image] = stored_y(select(Images(0.0), value, positive(value)));
//#else
    y[e * p.n + at.image] = stored_y(value);
//#endif
  }
}
