// y = (x - mean) * rstd * gamma + beta, rectified if RELU. gamma, beta: one per row (per element of [C, H, W]), or one per
// channel (CHANNEL: `pixels` rows share it). Rows of group g: g * rows ... (g + 1) * rows of x [groups * rows][n].
//
// Three phases, each a launch of its own or, with WHOLE, one after the other within a workgroup, which then serves all rows of
// its images, in few chunks; sums have the same order either way. Chunk c takes `chunk` rows; each slot of it leaves a part of its own.
//   MEASURE  mean and sum of squared deviations of each part, c * slots + slot, by Welford's update
//   MERGE    stats[0][g][n] = mean, stats[1][g][n] = 1 / sqrt(variance + eps), of all parts (Chan, Golub & LeVeque)
//   APPLY    y
// Constants: L, invocations of a workgroup; CHUNKS, chunks at most (WHOLE).
// Loops: chunk / slots, nested(chunks), slots.
struct Params {
  n: u32, groups: u32, rows: u32, chunk: u32, chunks: u32, lanes_n: u32, slots: u32, pixels: u32, eps: f32,
}
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#include parts
//#if MERGE
@group(0) @binding(2) var<storage, read_write> stats: array<StoredImages>;
//#else
//#if APPLY
@group(0) @binding(2) var<storage, read> stats: array<StoredImages>;
//#endif
//#endif
//#if MEASURE
@group(0) @binding(3) var<storage, read> x: array<StoredImages>;
//#else
//#if APPLY
@group(0) @binding(3) var<storage, read> x: array<StoredImages>;
//#endif
//#endif
//#if APPLY
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> beta: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<StoredImages>;
//#endif
//#include positive
//#include rows
//#include block
//#include fold

struct Statistics { mean: Images, rstd: Images }

//#if MEASURE
fn measure(g: u32, chunk: u32, at: Place) {
  var mean = Images(0.0);
  var m2 = Images(0.0);
  var count = 0.0;
  let end = min((chunk + 1u) * p.chunk, p.rows);
  for (var row = chunk * p.chunk + at.slot; row < end; row += p.slots) {
    let value = images(x[(g * p.rows + row) * p.n + at.image]);
    count += 1.0;
    let d = value - mean;
    mean += d / count;
    m2 = fma(d, value - mean, m2);
  }
  leave(chunk * p.slots + at.slot, g, at.image, mean, m2);
}
//#endif

//#if MERGE
fn merge(g: u32, at: Place) -> Statistics {
  var mean = Images(0.0);
  var m2 = Images(0.0);
  var count = 0.0;
  for (var first = 0u; first < p.chunks; first += BLOCK) {
  for (var c = first; c < min(first + BLOCK, p.chunks); c++) {
    let length = min(p.chunk, p.rows - c * p.chunk);
    for (var slot = 0u; slot < min(p.slots, length); slot++) {
      let part = c * p.slots + slot;
      let many = f32((length - slot + p.slots - 1u) / p.slots);
      let d = left(part, g, at.image) - mean;
      let total = count + many;
      mean += d * (many / total);
      m2 += left_second(part, g, at.image) + d * d * (count * many / total);
      count = total;
    }
  }
  }
  let found = Statistics(mean, 1.0 / sqrt(m2 / count + p.eps));
  if (at.slot == 0u) {
    stats[g * p.n + at.image] = stored(found.mean);
    stats[(p.groups + g) * p.n + at.image] = stored(found.rstd);
  }
  return found;
}
//#endif

//#if APPLY
fn apply(g: u32, chunk: u32, at: Place, found: Statistics) {
  let end = min((chunk + 1u) * p.chunk, p.rows);
  for (var row = chunk * p.chunk + at.slot; row < end; row += p.slots) {
    let e = g * p.rows + row;
    let i = e * p.n + at.image;
//#if CHANNEL
    let a = e / p.pixels;
//#else
    let a = e;
//#endif
    let value = fma((images(x[i]) - found.mean) * found.rstd, Images(gamma[a]), Images(beta[a]));
//#if RELU
    y[i] = stored(select(Images(0.0), value, positive(value)));
//#else
    y[i] = stored(value);
//#endif
  }
}
//#endif

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let at = place(group.x, lane, p.n, p.lanes_n, p.slots);
//#if WHOLE
  if (at.on) {
    for (var chunk = 0u; chunk < p.chunks; chunk++) { measure(group.z, chunk, at); }
  }
  workgroupBarrier();
  if (at.on) {
    let found = merge(group.z, at);
    for (var chunk = 0u; chunk < p.chunks; chunk++) { apply(group.z, chunk, at, found); }
  }
//#else
//#if MEASURE
  if (at.on) { measure(group.z, group.y, at); }
//#endif
//#if MERGE
  if (at.on && at.slot == 0u) { _ = merge(group.z, at); }
//#endif
//#if APPLY
  if (at.on) {
    let cell = group.z * p.n + at.image;
    apply(group.z, group.y, at, Statistics(images(stats[cell]), images(stats[cell + p.groups * p.n])));
  }
//#endif
//#endif
}
