// Per row, over all timesteps and images: d_gamma = sum of dy h, d_beta = sum of dy, from what norm_d_input leaves of each
// vector of images, row_sums[row][n] = (sum of dy, sum of dy h). Lanes run along rows. The sums of each timestep are added to
// those before it.
// GO_ON: they are added to what earlier timesteps left.
// Constants: L, invocations of a workgroup.
// Loops: steps, nested(n).
struct Params { n: u32, rows: u32, steps: u32, step: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> row_sums: array<StoredImages>;    // pairs
@group(0) @binding(2) var<storage, read_write> d_gamma: array<f32>;
@group(0) @binding(3) var<storage, read_write> d_beta: array<f32>;
//#include fold
//#include block

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * L + lane;
  if (e >= p.rows) { return; }
  var both = Images(0.0);
//#if GO_ON
  both = Images(d_beta[e], d_gamma[e]);
//#endif
  for (var t = 0u; t < p.steps; t++) {
    var sums = Images(0.0);
    for (var first = 0u; first < p.n; first += BLOCK) {
      for (var image = first; image < min(first + BLOCK, p.n); image++) {
        sums += images(row_sums[t * p.step + e * p.n + image]);
      }
    }
    both += sums;
  }
  d_beta[e] = both.x;
  d_gamma[e] = both.y;
}
