// What each part of the rows leaves: two sums for each group g and image, partial[part][0, 1][g][n]; with WHOLE in memory of the
// workgroup that serves them all. The flags LEAVES and TAKES say what a variant does with it.
//#if WHOLE
var<workgroup> partial: array<Images, 2 * CHUNKS * L>;
fn place_of(part: u32, second: u32, g: u32, image: u32) -> u32 {
  return (2u * part + second) * p.lanes_n + image % p.lanes_n;
}
fn leave(part: u32, g: u32, image: u32, first: Images, second: Images) {
  partial[place_of(part, 0u, g, image)] = first;
  partial[place_of(part, 1u, g, image)] = second;
}
fn left(part: u32, g: u32, image: u32) -> Images { return partial[place_of(part, 0u, g, image)]; }
fn left_second(part: u32, g: u32, image: u32) -> Images { return partial[place_of(part, 1u, g, image)]; }
//#else
fn place_of(part: u32, second: u32, g: u32, image: u32) -> u32 {
  return ((2u * part + second) * p.groups + g) * p.n + image;
}
//#if LEAVES
@group(0) @binding(1) var<storage, read_write> partial: array<StoredImages>;
fn leave(part: u32, g: u32, image: u32, first: Images, second: Images) {
  partial[place_of(part, 0u, g, image)] = stored(first);
  partial[place_of(part, 1u, g, image)] = stored(second);
}
//#endif
//#if TAKES
@group(0) @binding(1) var<storage, read> partial: array<StoredImages>;
fn left(part: u32, g: u32, image: u32) -> Images { return images(partial[place_of(part, 0u, g, image)]); }
fn left_second(part: u32, g: u32, image: u32) -> Images { return images(partial[place_of(part, 1u, g, image)]); }
//#endif
//#endif
