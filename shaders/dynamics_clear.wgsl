// Makes the rows of panels 0 that no batch has filled. A thread has one panel and one of its `r` columns.
// Loops: rows.
struct Params { panels: u32, rows: u32, r: u32 }
//#include dynamics_batch
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> batch: Batch;
@group(0) @binding(2) var<storage, read_write> panels: array<f32>;  // [panel][rows][r]
//#include fold

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = unfolded(id).x * 64u + lane;
  if (e >= p.panels * p.r) { return; }
  for (var row = batch.filled; row < p.rows; row++) {
    panels[(e / p.r * p.rows + row) * p.r + e % p.r] = 0.0;
  }
}
