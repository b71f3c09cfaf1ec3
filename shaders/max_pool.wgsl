// y[c, yo, xo, n] = max of x[c, 2 yo + (0, 1), 2 xo + (0, 1), n]; an odd last row or column is dropped. A NaN is the largest.
// Constants: L, invocations of a workgroup.
// Loops: in_h / 2.
struct Params { n: u32, in_h: u32, in_w: u32, out_h: u32, out_w: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
//#map y
@group(0) @binding(2) var<storage, read_write> y: array<Stored_y>;
//#include fold
//#include exceeds

fn larger(a: Images, b: Images) -> Images { return select(a, b, exceeds(b, a)); }

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let q = group.x * L + lane;
  let columns = p.out_w * p.n;
  if (q >= columns) { return; }
  let pitch = p.in_w * p.n;
  let xo = q / p.n;
  let left = group.y * p.in_h * pitch + q + xo * p.n;    // column 2 xo of the same image
  for (var yo = 0u; yo < p.out_h; yo++) {
    let i = left + 2u * yo * pitch;
    let top = larger(load_x(i), load_x(i + p.n));
    let bottom = larger(load_x(i + pitch), load_x(i + pitch + p.n));
    y[(group.y * p.out_h + yo) * columns + q] = stored_y(larger(top, bottom));
  }
}
