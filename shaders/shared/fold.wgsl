// The workgroup that a kernel asked for. Where its grid is longer in one dimension than an adapter allows (FOLDED), the GROUPS
// workgroups of a grid GRID_X wide and GRID_Y high are counted through and lie in rows of WIDTH; what is too many at the end
// repeats the last one.
fn unfolded(id: vec3<u32>) -> vec3<u32> {
//#if FOLDED
  let i = min(id.y * WIDTH + id.x, GROUPS - 1u);
  return vec3<u32>(i % GRID_X, i / GRID_X % GRID_Y, i / (GRID_X * GRID_Y));
//#else
  return id;
//#endif
}
