// dx = base (0 without BASE) + dy at the first maximum of each 2x2 window in scan order (0,0), (0,1), (1,0), (1,1);
// a NaN is the largest.
// Constants: L, invocations of a workgroup.
// Loops: in_h / 2.
struct Params { n: u32, in_h: u32, in_w: u32, out_h: u32, out_w: u32 }
//#include vectors
@group(0) @binding(0) var<uniform> p: Params;
//#map x
@group(0) @binding(1) var<storage, read> x: array<Stored_x>;
//#map dy
@group(0) @binding(2) var<storage, read> dy: array<Stored_dy>;
//#map dx
@group(0) @binding(3) var<storage, read_write> dx: array<Stored_dx>;
//#if BASE
//#map base
@group(0) @binding(4) var<storage, read> base: array<Stored_base>;
//#endif

fn put(i: u32, value: Images) {
//#if BASE
  dx[i] = stored_dx(load_base(i) + value);
//#else
  dx[i] = stored_dx(value);
//#endif
}
//#include fold
//#include exceeds

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let group = unfolded(id);
  let q = group.x * L + lane;
  let xo = q / p.n;
  if (2u * xo >= p.in_w) { return; }
  let pitch = p.in_w * p.n;
  let left = group.y * p.in_h * pitch + q + xo * p.n;
  let pair = 2u * xo + 1u < p.in_w;                      // whether the window has a second column
  for (var yo = 0u; 2u * yo < p.in_h; yo++) {
    let i = left + 2u * yo * pitch;
    if (xo < p.out_w && yo < p.out_h) {
      let a = load_x(i);
      let b = load_x(i + p.n);
      let c = load_x(i + pitch);
      let d = load_x(i + pitch + p.n);
      let g = load_dy((group.y * p.out_h + yo) * p.out_w * p.n + q);
      let right = exceeds(b, a);                         // of the upper pair
      let right_below = exceeds(d, c);
      let below = exceeds(select(c, d, right_below), select(a, b, right));
      put(i, select(Images(0.0), g, !below & !right));
      put(i + p.n, select(Images(0.0), g, !below & right));
      put(i + pitch, select(Images(0.0), g, below & !right_below));
      put(i + pitch + p.n, select(Images(0.0), g, below & right_below));
    } else {                                             // an odd last row or column took no part
      put(i, Images(0.0));
      if (pair) { put(i + p.n, Images(0.0)); }
      if (2u * yo + 1u < p.in_h) {
        put(i + pitch, Images(0.0));
        if (pair) { put(i + pitch + p.n, Images(0.0)); }
      }
    }
  }
}
