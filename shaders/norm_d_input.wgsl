// dx = rstd * (g - mean(g) - h * mean(g h)), with g = dy * gamma (0 where RELU and y = 0) and h = (x - mean) * rstd;
// sums[0][group][n] = sum of g, sums[1][group][n] = sum of g h.
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
@group(0) @binding(6) var<storage, read> sums: array<Images>;
//#map dx
@group(0) @binding(7) var<storage, read_write> dx: array<Stored_dx>;
//#include positive
//#include rows
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let at = place(group.x, lane, p.n, p.lanes_n, p.slots);
  if (!at.on) { return; }
  let cell = group.z * p.n + at.image;
  let mean = stats[cell];
  let rstd = stats[p.groups * p.n + cell];
  let mean_g = sums[cell] / f32(p.rows);
  let mean_gh = sums[p.groups * p.n + cell] / f32(p.rows);
  let end = min((group.y + 1u) * p.chunk, p.rows);
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
    let h = (load_x(i) - mean) * rstd;
    dx[i] = stored_dx(rstd * (g - mean_g - h * mean_gh));
  }
}
