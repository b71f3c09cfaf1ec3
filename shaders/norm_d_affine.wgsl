// Per row, over all timesteps and images: d_gamma = sum of g h, d_beta = sum of g, with g = dy (0 where RELU and y = 0)
// and h = (x - mean) * rstd. Lanes run along rows. The sums of each timestep are added to those before it.
// GO_ON: they are added to what earlier timesteps left.
// Constants: L, invocations of a workgroup.
// Loops: steps, nested(n).
struct Params {
  n: u32, groups: u32, rows: u32, steps: u32, x_step: u32, stats_step: u32, y_step: u32, dy_step: u32,
}
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
@group(0) @binding(2) var<storage, read> stats: array<Images>;
//#map dy
@group(0) @binding(3) var<storage, read> dy: array<Stored_dy>;
//#if RELU
//#map y
@group(0) @binding(4) var<storage, read> y: array<Stored_y>;
//#endif
@group(0) @binding(5) var<storage, read_write> d_gamma: array<f32>;
@group(0) @binding(6) var<storage, read_write> d_beta: array<f32>;
//#include positive
//#include fold
//#include block

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * L + lane;
  if (e >= p.groups * p.rows) { return; }
  let cell = e / p.rows * p.n;
//#if GO_ON
  var gamma = d_gamma[e];
  var beta = d_beta[e];
//#else
  var gamma = 0.0;
  var beta = 0.0;
//#endif
  for (var t = 0u; t < p.steps; t++) {
    var sum = Images(0.0);
    var sum_h = Images(0.0);
    for (var first = 0u; first < p.n; first += BLOCK) {
    for (var image = first; image < min(first + BLOCK, p.n); image++) {
      let i = e * p.n + image;
      var g = load_dy(t * p.dy_step + i);
//#if RELU
      g = select(Images(0.0), g, positive(load_y(t * p.y_step + i)));
//#endif
      let s = t * p.stats_step + cell + image;
      sum += g;
      sum_h = fma(g, (load_x(t * p.x_step + i) - stats[s]) * stats[s + p.groups * p.n], sum_h);
    }
    }
    gamma += total(sum_h);
    beta += total(sum);
  }
  d_gamma[e] = gamma;
  d_beta[e] = beta;
}
