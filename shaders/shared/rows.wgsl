// Lanes of a group over [row][image]: `lanes_n` images side by side, `slots` rows at a time. A lane keeps its image, so
// that statistics per image need no exchange between lanes, and neighbours read neighbouring addresses.
struct Place { image: u32, slot: u32, on: bool }
fn place(block: u32, lane: u32, n: u32, lanes_n: u32, slots: u32) -> Place {
  let slot = lane / lanes_n;
  let image = block * lanes_n + lane - slot * lanes_n;
  return Place(image, slot, slot < slots && image < n);
}
