// Adds the products of one filling of the panels to the totals, which are two f32 each. They are blocks of `rows` x `columns`;
// what lies left of their diagonal is not asked for: see `product`.
// Loops: none.
struct Params { count: u32, rows: u32, columns: u32, all_ones: u32 }
//#include compensated
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> high: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> low: array<vec4<f32>>;
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * 64u + lane;
  if (e >= p.count) { return; }
  if (p.rows > 1u && 4u * e % p.columns + 3u < 4u * e / p.columns % p.rows) { return; }
  let sum = sum_add4(Sum4(high[e], low[e]), partial[e], p.all_ones);
  high[e] = sum.high;
  low[e] = sum.low;
}
