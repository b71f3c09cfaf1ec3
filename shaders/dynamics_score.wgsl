// What the decoders say of test images at one timestep, from their scores: whether the first arg-max is the label, the score of
// the label, the largest |score|, and how much the best score is above the second. A thread has one image, one timestep at which
// decoders were fitted, and one of the two kinds: ridge, class mean. The scores of class means lack -|y|^2 / D and
// 2 y (s - s') / D, s being the shift at the timestep of the fit and s' at this one, of which there is a row for each s.
// Loops: nested(classes).
struct Params {
  timesteps: u32, classes: u32, features: u32, width: u32,
  at: u32,        // the timestep that is tested
  rows: u32, r: u32,
  test_images: u32,
}
//#include dynamics_batch
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read> scores: array<f32>;          // [kind][T: fitted][K][width], then [T][width]
@group(0) @binding(3) var<storage, read> known: array<u32>;           // [K] whether the class occurs in training
@group(0) @binding(4) var<storage, read> labels: array<u32>;          // [width]
@group(0) @binding(5) var<storage, read> squares: array<f32>;         // |y|^2 in panels: [panel][rows][r], row = timestep
@group(0) @binding(6) var<storage, read_write> said: array<f32>;      // [3: correct, own, largest][kind][T: fitted][T][width]
@group(0) @binding(7) var<storage, read_write> gaps: array<f32>;      // [kind][T: fitted][T][test images]
//#include fold
//#include block

// The gap of an image with one class.
const ALONE: f32 = 3.0e38;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let i = group.x * 64u + lane;
  if (i >= batch.images) { return; }
  let fit = group.y;                     // kind * T + timestep
  let nearest = fit >= p.timesteps;
  var offset = 0.0;
  if (nearest) {
    offset = squares[(p.at / p.r * p.rows + batch.filled + i) * p.r + p.at % p.r] / f32(p.features);
    let shifts = 2u * p.timesteps * p.classes;
    offset += scores[(shifts + p.at) * p.width + i] - scores[(shifts + fit - p.timesteps) * p.width + i];
  }
  let label = labels[i];
  var class_now = 0xffffffffu;
  var best = -ALONE;
  var second = -ALONE;
  var own = 0.0;
  var largest = 0.0;
  for (var start = 0u; start < p.classes; start += BLOCK) {
    for (var k = start; k < min(start + BLOCK, p.classes); k++) {
      if (nearest && known[k] == 0u) { continue; }
      let score = scores[(fit * p.classes + k) * p.width + i] - offset;
      largest = max(largest, abs(score));
      if (k == label && known[k] != 0u) { own = score; }
      if (score > best) {
        second = best;
        best = score;
        class_now = k;
      } else {
        second = max(second, score);
      }
    }
  }
  var gap = ALONE;
  if (second > -ALONE) { gap = best - second; }
  let cell = fit * p.timesteps + p.at;
  let table = 2u * p.timesteps * p.timesteps;
  said[cell * p.width + i] = select(0.0, 1.0, class_now == label);
  said[(table + cell) * p.width + i] = own;
  said[(2u * table + cell) * p.width + i] = largest;
  gaps[cell * p.test_images + batch.tested + i] = gap;
}
