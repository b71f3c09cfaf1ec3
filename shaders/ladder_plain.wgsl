// The plainest convolution, first rung of docs/kernels.md: an invocation for each output, maps as PyTorch has them.
//   y[n, co, yo, xo] = sum over ci, ky, kx of w[co, ci, ky, kx] * x[n, ci, yo + ky - k/2, xo + kx - k/2]
// No network runs it: `recurve bench ladder` measures what the steps from here to the other kernels bring.
//
// Constants:
//   L  invocations of a workgroup
// Loops: cin, k.
struct Params { cin: u32, cout: u32, h: u32, w: u32, k: u32, count: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
//#include fold

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = unfolded(id).x * L + lane;
  if (i >= p.count) { return; }
  let xo = i % p.w;
  let yo = i / p.w % p.h;
  let co = i / (p.w * p.h) % p.cout;
  let n = i / (p.w * p.h * p.cout);
  var sum = 0.0;
  for (var ci = 0u; ci < p.cin; ci++) {
    for (var ky = 0u; ky < p.k; ky++) {
      for (var kx = 0u; kx < p.k; kx++) {
        let yi = yo + ky - p.k / 2u;    // wraps below 0, then exceeds p.h
        let xi = xo + kx - p.k / 2u;
        if (yi < p.h && xi < p.w) {
          sum += w[((co * p.cin + ci) * p.k + ky) * p.k + kx] * x[((n * p.cin + ci) * p.h + yi) * p.w + xi];
        }
      }
    }
  }
  y[i] = sum;
}
