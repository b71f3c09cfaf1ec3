// Of each row i of the blocks M_tu: the sum over j of Mc_ij^2 with Mc = M - S_t S_u' / n, S_ti sum over j of M_ij S_uj, and
// Mc_ii. A thread has one row; sums in blocks of 32.
// Loops: features / 32.
struct Params {
  blocks: u32, features: u32, stride: u32,
  first: u32,       // timestep of the first block's rows
  later: u32,       // timestep of its columns
  symmetric: u32,   // 1 for symmetric blocks, which have no numbers left of the diagonal
  images: f32,
}
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> high: array<f32>;            // [block][D][stride]
@group(0) @binding(2) var<storage, read> low: array<f32>;
@group(0) @binding(3) var<storage, read> row_sums: array<f32>;        // [T][D] S of the rows' network
@group(0) @binding(4) var<storage, read> column_sums: array<f32>;     // [T][D] S of the columns' network
@group(0) @binding(5) var<storage, read_write> y: array<f32>;         // [block][3][D]
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let i = group.x * 64u + lane;
  if (i >= p.features) { return; }
  let block_at = group.y * p.features * p.stride;
  let mine = row_sums[(p.first + group.y) * p.features + i];
  let columns = (p.later + group.y) * p.features;
  let mean = mine / p.images;
  var squares = 0.0;
  var bilinear = 0.0;
  for (var block = 0u; block < p.features; block += 32u) {
    var squares_part = 0.0;
    var bilinear_part = 0.0;
    for (var j = block; j < min(block + 32u, p.features); j++) {
      let other = column_sums[columns + j];
      let mirrored = p.symmetric != 0u && j < i;
      let at = block_at + select(i * p.stride + j, j * p.stride + i, mirrored);
      let centred = (high[at] - mean * other) + low[at];
      squares_part += centred * centred;
      bilinear_part += high[at] * other;
    }
    squares += squares_part;
    bilinear += bilinear_part;
  }
  let to = group.y * 3u * p.features + i;
  y[to] = squares;
  y[to + p.features] = bilinear * mine;
  let diagonal = block_at + i * p.stride + i;
  y[to + 2u * p.features] = (high[diagonal] - mean * column_sums[columns + i]) + low[diagonal];
}
