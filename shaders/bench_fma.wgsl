// A ceiling: CHAINS independent chains acc = a * acc + b per lane, in registers. UNROLL links per turn of the loop, so that
// an accumulator takes part in several multiply-adds before it is written back. The sum is written, so that nothing can be
// left out; with a = b = 1 it is exact: the sum over chains c of i % 16 + c + turns * UNROLL.
//
// Constants:
//   L       invocations of a workgroup
//   CHAINS  independent chains of a lane
//   UNROLL  links of a chain per turn of the loop
// Loops: turns.
struct Params { turns: u32, a: f32, b: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let i = group.x * L + lane;
  let a = p.a;
  let b = p.b;
//#for c in 0..CHAINS
  var acc$c = f32(i % 16u + $cu);
//#end
  for (var t = 0u; t < p.turns; t++) {
//#for u in 0..UNROLL
//#for c in 0..CHAINS
    acc$c = fma(a, acc$c, b);
//#end
//#end
  }
  var s = 0.0;
//#for c in 0..CHAINS
  s += acc$c;
//#end
  y[i] = s;
}
