// With g = dy * gamma (0 where RELU and y = 0) and h = (x - mean) * rstd, the two sums that norm_d_input needs:
// partial[part][0][group][n] = sum of g, partial[part][1][group][n] = sum of g h, over the rows of the part.
// Constants: L, invocations of a workgroup.
// Loops: chunk / slots.
struct Params { n: u32, groups: u32, rows: u32, chunk: u32, lanes_n: u32, slots: u32, pixels: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
@group(0) @binding(2) var<storage, read> stats: array<Images>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
//#map dy
@group(0) @binding(4) var<storage, read> dy: array<Stored_dy>;
//#if RELU
//#map y
@group(0) @binding(5) var<storage, read> y: array<Stored_y>;
//#endif
@group(0) @binding(6) var<storage, read_write> partial: array<Images>;
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
  var sum = Images(0.0);
  var sum_h = Images(0.0);
  for (var row = group.y * p.chunk + at.slot; row < end; row += p.slots) {
    let e = group.z * p.rows + row;
    let i = e * p.n + at.image;
//#if CHANNEL
    let a = e / p.pixels;
//#else
    let a = e;
//#endif
    var g = load_dy(i) * gamma[a];
//#if RELU
    g = select(Images(0.0), g, positive(load_y(i)));
//#endif
    sum += g;
    sum_h = fma(g, (load_x(i) - mean) * rstd, sum_h);
  }
  let cell = (2u * (group.y * p.slots + at.slot) * p.groups + group.z) * p.n + at.image;
  partial[cell] = sum;
  partial[cell + p.groups * p.n] = sum_h;
}
