// y[b, co, q] = start + sum over ci of w[b, co, ci] * x[b, ci, q]: a matrix product for each b. With one b it is the
// convolution with a 1x1 kernel, q being all pixels and images; Winograd's method has one b per transformed position, and
// in its weight gradient the sum goes over tiles, and q over input channels.
//
// Each lane keeps R output channels x NV columns q, L apart. w is packed: [b][co / R][ci][co % R]. So is x with PANELS:
// [b][q / (NV L)][ci][q % (NV L)], what lies beyond the last column being of no account.
// Operand source of w: SUBGROUP (one load, broadcast from lanes), SHARED (workgroup memory), else uniform loads.
// start: the sum of a map like y (if p.has_base) and one value per channel (if p.has_bias).
//
// Constants:
//   L      invocations of a workgroup, along q
//   R      output channels of a lane
//   NV     columns q of a lane, L apart
//   CU     terms of the sum per turn of the loop
//   CT     terms whose weights are staged at a time (SHARED)
//   S      subgroup size (SUBGROUP, as are the next two)
//   WV     packed weights that are loaded as one vector
//   LOADS  loads of a lane that bring the weights of one term
//   LONG   flag: more terms than one loop may take
//   VEC    images of a vector (UPPER)
//   PANELS flag: x lies in panels as wide as the tile
//   UPPER  flag: of symmetric results, only tiles that reach the diagonal or lie above it are computed
// Loops: long(cin / CU), R, CT * R / L.
struct Params { columns: u32, cin: u32, cout: u32, has_base: u32, has_bias: u32 }
//#include vectors
//#include tile_bindings
//#if SHARED
var<workgroup> tile: array<f32, 2 * CT * R>;   // two halves: one is filled while lanes that are late still read the other
//#endif
//#include fold
//#include block

@compute @workgroup_size(L)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
//#if SUBGROUP
  @builtin(subgroup_invocation_id) sub: u32,
//#endif
) {
  let group = unfolded(id);
  let q = group.y * NV * L + lane;
  let inside = q < p.columns;
  let co0 = group.x * R;
//#if UPPER
  if ((group.y + 1u) * NV * L * VEC <= co0) { return; }
//#endif
//#if PANELS
  let pitch = NV * L;
  let panel = (group.z * ((p.columns + pitch - 1u) / pitch) + group.y) * p.cin * pitch + lane;
//#for j in 0..NV
  let column$j = panel + $ju * L;
//#end
//#else
  let pitch = p.columns;
  // A lane beyond the last column computes that one again.
//#for j in 0..NV
  let column$j = group.z * p.cin * p.columns + min(q + $ju * L, p.columns - 1u);
//#end
//#endif

  // Where the tile lies in y.
  let y0 = 0u;
  let rows = (p.columns - min(q, p.columns) + L - 1u) / L;   // those of its NV columns that exist
  let plane = p.columns;
  let line = L;
  let spot = group.z * p.cout * p.columns + q;
//#include tile_start

  let weights = (group.z * ((p.cout + R - 1u) / R) + group.x) * p.cin * R;
  // CU input channels per turn, and all products of an accumulator next to each other: it should be read and written once
  // for several products.
//#if LONG
  for (var block = 0u; block < p.cin; block += BLOCK * CU) {
  for (var first_ci = block; first_ci < min(block + BLOCK * CU, p.cin); first_ci += CU) {
//#else
  for (var first_ci = 0u; first_ci < p.cin; first_ci += CU) {
//#endif
//#if SHARED
    let half = first_ci / CT % 2u * CT * R;
    if (first_ci % CT == 0u) {
      let count = min(CT, p.cin - first_ci) * R;
      for (var e = lane; e < count; e += L) { tile[half + e] = w[weights + first_ci * R + e]; }
      workgroupBarrier();
    }
//#endif
//#for u in 0..CU
    let real$u = first_ci + $u < p.cin;
    let ci$u = min(first_ci + $u, p.cin - 1u);
//#for j in 0..NV
    let v$u_$j = select(Images(0.0), load_x(ci$u * pitch + column$j), real$u);
//#end
//#if SHARED
    let first$u = half + ci$u % CT * R;
//#else
    let first$u = weights + ci$u * R;
//#endif
//#if SUBGROUP
//#for i in 0..LOADS
    let a$u_$i = weights_from(w[first$u / WV + sub + $($i * S)]);
//#end
//#endif
//#end
//#for r in 0..R
    {
//#for u in 0..CU
//#if SUBGROUP
      let f$u = Images(subgroupBroadcast(weight_of(a$u_$($r / (S * WV)), $($r % WV)), $($r / WV % S)u));
//#else
//#if SHARED
      let f$u = Images(tile[first$u + $r]);
//#else
      let f$u = Images(w[first$u + $r]);
//#endif
//#endif
//#end
//#for j in 0..NV
//#for u in 0..CU
      acc[$($r * NV + $j)] = fma(f$u, v$u_$j, acc[$($r * NV + $j)]);
//#end
//#end
    }
//#end
  }
//#if LONG
  }
//#endif

//#include tile_store
}
