// dx = rstd * (g - mean(g) - h * mean(g h)), with g = dy * gamma (0 where RELU and y = 0) and h = (x - mean) * rstd. gamma, rows,
// chunks and slots as in norm.wgsl.
//
// Two phases, each a launch of its own with the sum over parts between them or, with WHOLE, all of it within a workgroup, which
// then serves all rows of its images, in few chunks; sums have the same order either way.
//   SUMS    sums of g and of g h over the rows of each part; and row_sums[row][n], over the images of a
//           vector, what gamma and beta are to blame for: of dy (0 where RELU and y = 0), and of its product with h
//   APPLY   dx, from sums[0: of g, 1: of g h][group][n] over all parts
// Constants: L, invocations of a workgroup; CHUNKS, chunks at most (WHOLE).
// Loops: chunk / slots, nested(chunks), slots.
struct Params { n: u32, groups: u32, rows: u32, chunk: u32, chunks: u32, lanes_n: u32, slots: u32, pixels: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(2) var<storage, read> x: array<StoredImages>;
@group(0) @binding(3) var<storage, read> stats: array<StoredImages>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read> dy: array<StoredImages>;
//#if RELU
@group(0) @binding(6) var<storage, read> y: array<StoredImages>;
//#endif
//#include parts
//#if SUMS
@group(0) @binding(9) var<storage, read_write> row_sums: array<Pair>;
//#endif
//#if APPLY
//#if !WHOLE
@group(0) @binding(7) var<storage, read> sums: array<StoredImages>;
//#endif
@group(0) @binding(8) var<storage, read_write> dx: array<StoredImages>;
//#endif
//#include positive
//#include rows
//#include fold
//#include pair

// Where y lets errors through.
fn passed(i: u32) -> Truths {
//#if RELU
  return positive(images(y[i]));
//#else
  return Images(0.0) == Images(0.0);
//#endif
}

fn gamma_of(e: u32) -> f32 {
//#if CHANNEL
  return gamma[e / p.pixels];
//#else
  return gamma[e];
//#endif
}

//#if SUMS
fn leave_sums(group: u32, chunk: u32, at: Place, mean: Images, rstd: Images) {
  var sum = Images(0.0);
  var sum_h = Images(0.0);
  let end = min((chunk + 1u) * p.chunk, p.rows);
  for (var row = chunk * p.chunk + at.slot; row < end; row += p.slots) {
    let e = group * p.rows + row;
    let i = e * p.n + at.image;
    let error = images(dy[i]);
    let h = (images(x[i]) - mean) * rstd;
    let on = passed(i);
    let g = select(Images(0.0), error * gamma_of(e), on);
    let d_y = select(Images(0.0), error, on);
    sum += g;
    sum_h = fma(g, h, sum_h);
    row_sums[i] = pair(total(d_y), total(d_y * h));
  }
  leave(chunk * p.slots + at.slot, group, at.image, sum, sum_h);
}
//#endif

//#if APPLY
fn apply(group: u32, chunk: u32, at: Place, mean: Images, rstd: Images, mean_g: Images, mean_gh: Images) {
  let end = min((chunk + 1u) * p.chunk, p.rows);
  for (var row = chunk * p.chunk + at.slot; row < end; row += p.slots) {
    let e = group * p.rows + row;
    let i = e * p.n + at.image;
    let h = (images(x[i]) - mean) * rstd;
    let g = select(Images(0.0), images(dy[i]) * gamma_of(e), passed(i));
    dx[i] = stored(rstd * (g - mean_g - h * mean_gh));
  }
}
//#endif

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let at = place(group.x, lane, p.n, p.lanes_n, p.slots);
  let cell = group.z * p.n + at.image;
  let cells = p.groups * p.n;
  var mean = Images(0.0);
  var rstd = Images(0.0);
  if (at.on) {
    mean = images(stats[cell]);
    rstd = images(stats[cell + cells]);
  }
//#if WHOLE
  if (at.on) {
    for (var chunk = 0u; chunk < p.chunks; chunk++) { leave_sums(group.z, chunk, at, mean, rstd); }
  }
  workgroupBarrier();
  if (at.on) {
    var sum = Images(0.0);
    var sum_h = Images(0.0);
    for (var chunk = 0u; chunk < p.chunks; chunk++) {
      for (var slot = 0u; slot < p.slots; slot++) {
        sum += left(chunk * p.slots + slot, group.z, at.image);
        sum_h += left_second(chunk * p.slots + slot, group.z, at.image);
      }
    }
    let mean_g = sum / f32(p.rows);
    let mean_gh = sum_h / f32(p.rows);
    for (var chunk = 0u; chunk < p.chunks; chunk++) {
      apply(group.z, chunk, at, mean, rstd, mean_g, mean_gh);
    }
  }
//#else
//#if SUMS
  if (at.on) { leave_sums(group.z, group.y, at, mean, rstd); }
//#else
  if (at.on) {
    let mean_g = images(sums[cell]) / f32(p.rows);
    let mean_gh = images(sums[cell + cells]) / f32(p.rows);
    apply(group.z, group.y, at, mean, rstd, mean_g, mean_gh);
  }
//#endif
//#endif
}
