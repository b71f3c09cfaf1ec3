// Merges the parts of norm_stats (Chan, Golub & LeVeque): stats[0][g][n] = mean, stats[1][g][n] = 1 / sqrt(variance + eps).
// Constants: L, invocations of a workgroup.
// Loops: nested(chunks), slots.
struct Params { n: u32, groups: u32, rows: u32, chunk: u32, chunks: u32, slots: u32, eps: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<f32>;
@group(0) @binding(2) var<storage, read_write> stats: array<f32>;
//#include fold
//#include block

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let cells = p.groups * p.n;
  let i = unfolded(id).x * L + lane;
  if (i >= cells) { return; }
  var mean = 0.0;
  var m2 = 0.0;
  var count = 0.0;
  for (var first = 0u; first < p.chunks; first += BLOCK) {
  for (var c = first; c < min(first + BLOCK, p.chunks); c++) {
    let length = min(p.chunk, p.rows - c * p.chunk);
    for (var slot = 0u; slot < min(p.slots, length); slot++) {
      let cell = 2u * (c * p.slots + slot) * cells + i;
      let many = f32((length - slot + p.slots - 1u) / p.slots);
      let d = partial[cell] - mean;
      let total = count + many;
      mean += d * (many / total);
      m2 += partial[cell + cells] + d * d * (count * many / total);
      count = total;
    }
  }
  }
  stats[i] = mean;
  stats[cells + i] = 1.0 / sqrt(m2 / count + p.eps);
}
