// Sums over images of the product of two extra rows: |y_t|^2 |y_u|^2, |y_t|^2, the number of images, of all and of each class.
// The first row is one of the squares or 1; the second any. A thread has one pair.
// Loops: rows.
struct Params { first: u32, second: u32, rows: u32, r: u32, all_ones: u32 }
//#include compensated
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> panels: array<f32>;                // [panel][rows][r]
@group(0) @binding(2) var<storage, read_write> sums: array<vec2<f32>>;      // [first][second], compensated
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * 64u + lane;
  if (e >= p.first * p.second) { return; }
  let a = e / p.second;
  let b = e % p.second;
  let at_a = a / p.r * p.rows * p.r + a % p.r;
  let at_b = b / p.r * p.rows * p.r + b % p.r;
  var partial = 0.0;
  for (var row = 0u; row < p.rows; row++) { partial += panels[at_a + row * p.r] * panels[at_b + row * p.r]; }
  let sum = sum_add(Sum(sums[e].x, sums[e].y), partial, p.all_ones);
  sums[e] = vec2<f32>(sum.high, sum.low);
}
