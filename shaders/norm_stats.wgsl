// Mean and sum of squared deviations of a chunk of rows, per group and image, by Welford's update.
// Rows of group g: g * rows ... (g + 1) * rows of x [groups * rows][n]; chunk c takes `chunk` of them; each slot its own part.
// partial[part][0: mean, 1: M2][g][n], part = c * slots + slot.
// Constants: L, invocations of a workgroup.
// Loops: chunk / slots.
struct Params { n: u32, groups: u32, rows: u32, chunk: u32, lanes_n: u32, slots: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
@group(0) @binding(2) var<storage, read_write> partial: array<Images>;
//#include rows
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let at = place(group.x, lane, p.n, p.lanes_n, p.slots);
  if (!at.on) { return; }
  let end = min((group.y + 1u) * p.chunk, p.rows);
  var mean = Images(0.0);
  var m2 = Images(0.0);
  var count = 0.0;
  for (var row = group.y * p.chunk + at.slot; row < end; row += p.slots) {
    let value = load_x((group.z * p.rows + row) * p.n + at.image);
    count += 1.0;
    let d = value - mean;
    mean += d / count;
    m2 = fma(d, value - mean, m2);
  }
  let cell = (2u * (group.y * p.slots + at.slot) * p.groups + group.z) * p.n + at.image;
  partial[cell] = mean;
  partial[cell + p.groups * p.n] = m2;
}
