//! Matrix products with a register tile, and what the other kernels with such a tile share with them.

use super::shape::Start;
use super::tile::{Source, Tile};
use crate::Result;
use crate::kernels::loops::BLOCK;
use crate::kernels::{Param, Program, Settings, Site, Target, View};

/// Images in a vector that a batch of `n` allows.
pub(super) fn vector(vec: usize, n: usize) -> usize {
    if n.is_multiple_of(vec) { vec } else { 1 }
}

/// The same where `y` is written: pairs at least where it is of halves, which cannot be written one by one.
pub(super) fn vector_of(vec: usize, n: usize, y: View) -> usize {
    vector(vec, n).max(if y.half { 2 } else { 1 })
}

/// `together` weights are needed at a time and lie one after the other.
pub(super) fn tile_settings(tile: &Tile, vec: usize, together: usize, target: &Target) -> Settings {
    let settings = Settings::new()
        .set("L", tile.lanes as u32)
        .set("NV", tile.nv as u32)
        .set("R", tile.r as u32)
        .images(vec)
        .wide_images(tile.wide)
        .flag("SUBGROUP", tile.source == Source::Subgroup)
        .flag("SHARED", tile.source == Source::Shared);
    if tile.source != Source::Subgroup {
        return settings;
    }
    // Weights come as vectors where whole subgroups of them are needed at a time.
    let lanes = target.subgroup as usize;
    let vector = [4, 2].into_iter().find(|vector| together.is_multiple_of(vector * lanes)).unwrap_or(1);
    let loads = together.div_ceil(vector * lanes) as u32;
    settings
        .set("S", target.subgroup)
        .set("WV", vector as u32)
        .set("LOADS", loads)
        .flag("WEIGHTS2", vector == 2)
        .flag("WEIGHTS4", vector == 4)
        .flag("WIDE_WEIGHTS", tile.wide && vector > 1)
}

/// Bindings of the kernels with a register tile.
pub(super) fn operands(x: View, w: View, start: Start, y: View) -> Vec<(&'static str, View)> {
    [vec![("x", x), ("w", w), ("y", y)], start.operands(x).to_vec()].concat()
}

/// Extents of products of matrices: `batch` times cout x cin by cin x columns.
#[derive(Clone, Copy, Debug)]
pub struct Matrices {
    /// Columns of x and y.
    pub columns: usize,
    /// How many products there are.
    pub batch: usize,
    /// Rows of x: terms of each sum.
    pub cin: usize,
    /// Rows of y.
    pub cout: usize,
    /// Whether y is symmetric, so that what lies left of the diagonal is not asked for: little of it is computed then.
    pub symmetric: bool,
    /// Whether x lies in panels of as many columns as a workgroup computes, which are read from one end to the other.
    pub panels: bool,
}

/// Columns that a workgroup computes of a matrix of so many.
pub(super) fn panel_width(tile: &Tile, columns: usize) -> usize {
    tile.nv * tile.lanes * vector(tile.vec, columns)
}

/// y = start + the products of the packed weights w \[batch\]\[cout / r\]\[cin\]\[r\] (r: the tile's) with x \[batch\]\[cin\]\[columns\],
/// or \[batch\]\[columns / width\]\[cin\]\[width\] in panels; y is \[batch\]\[cout\]\[columns\].
///
/// # Errors
/// When naga refuses the variant.
pub fn product(
    p: &mut Program,
    target: &Target,
    tile: &Tile,
    of: &Matrices,
    (x, w, start, y): (View, View, Start, View),
    site: Site,
) -> Result<()> {
    let vec = vector_of(tile.vec, of.columns, y);
    let mut settings = tile_settings(tile, vec, tile.r, target).set("CU", tile.terms as u32);
    if tile.source == Source::Shared {
        settings = settings.set("CT", 16);
    }
    let mut settings = settings.flag("LONG", of.cin > BLOCK * tile.terms).flag("PANELS", of.panels);
    if of.symmetric {
        settings = settings.set("VEC", vec as u32).flag("UPPER", true);
    }
    let columns = of.columns / vec;
    let mut params: Vec<(&str, Param)> =
        vec![("columns", columns.into()), ("cin", of.cin.into()), ("cout", of.cout.into())];
    params.extend(start.params());
    let grid = [of.cout.div_ceil(tile.r), columns.div_ceil(tile.lanes * tile.nv), of.batch];
    p.add(target, ("product", settings), &operands(x, w, start, y), &params, grid, site)?;
    Ok(())
}
