// met[co, ci]: bit ky * K + kx says whether x[ci] and dy[co] are both other than zero anywhere under that tap. A pair of
// channels is done as soon as all taps that the map is large enough for (`possible`) have met. marks[tile, slot]: a bit for
// each pixel that is not zero, row * N + column, of x's N x N (in two words, if need be) and of dy's M x M.
struct Params { cin: u32, count: u32, slots: u32, blocks: u32, possible: u32, first: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> marks: array<u32>;
@group(0) @binding(2) var<storage, read> blocks: array<u32>;
@group(0) @binding(3) var<storage, read_write> met: array<u32>;

@compute @workgroup_size(L)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let e = group.x * L + lane;                  // co * cin + ci
  if (e < p.count) {
    let x = e % p.cin;
    let dy = e / p.cin + WORDS * p.cin;
    var found = 0u;
    if (p.first == 0u) { found = met[e]; }     // what earlier timesteps have found
    for (var b = 0u; b < p.blocks && found != p.possible; b++) {
      let block = b * p.slots;
      var x_tiles = blocks[block + x];
//#if TALL
      x_tiles |= blocks[block + x + p.cin];
//#endif
      var tiles = x_tiles & blocks[block + dy];
      while (tiles != 0u && found != p.possible) {
        let column = (b * 32u + firstTrailingBit(tiles)) * p.slots;
        tiles &= tiles - 1u;
        let d = marks[column + dy];
        let top = marks[column + x];
//#for y in 0..LOW
//#for x in 0..K
        found |= select(0u, 1u << $($y * K + $x), ((top >> $($y * N + $x)) & d) != 0u);
//#end
//#end
//#if TALL
        let rest = marks[column + x + p.cin];  // from the second row on
//#for y in LOW..K
//#for x in 0..K
        found |= select(0u, 1u << $($y * K + $x), ((rest >> $($y * N - N + $x)) & d) != 0u);
//#end
//#end
//#endif
      }
    }
    met[e] = found;
  }
}
