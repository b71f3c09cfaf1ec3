//! Launches of conv2d and the transposed convolution.

use super::pack::pack;
use super::product::{Matrices, operands, panel_width, product, tile_settings, vector_of};
use super::shape::{ConvShape, Start};
use super::tile::{Source, Tile};
use super::winograd::{self, Winograd};
use crate::Result;
use crate::kernels::loops::BLOCK;
use crate::kernels::packing::WeightOrder;
use crate::kernels::{Param, Program, Site, Target, View};

/// y = start + conv2d(x, w): by Winograd's method, as a matrix product where the kernel is 1x1, else directly.
///
/// # Errors
/// When naga refuses the variant.
pub fn conv2d(
    p: &mut Program,
    target: &Target,
    tile: &Tile,
    shape: &ConvShape,
    (x, w, order, start, y): (View, View, WeightOrder, Start, View),
    site: Site,
) -> Result<()> {
    if let Some(cut) = Winograd::of(tile, shape, target) {
        let transformed = pack(p, target, shape, (tile.r, Some(&cut)), w, order, site)?;
        for cut in cut.pieces(shape.cin.max(shape.cout), y.half) {
            let v = winograd::input(p, target, &cut, (x, shape.cin), panel_width(tile, cut.tiles()), site)?;
            let m = p.scratch("products", site.area, cut.words(shape.cout));
            let (columns, batch) = (cut.tiles(), cut.positions());
            let matrices =
                Matrices { columns, batch, cin: shape.cin, cout: shape.cout, symmetric: false, panels: true };
            product(p, target, tile, &matrices, (v, transformed, Start::default(), m), site)?;
            winograd::output(p, target, &cut, shape.cout, (m, (x, shape.cin), start, y), site)?;
        }
        return Ok(());
    }
    let packed = pack(p, target, shape, (tile.r, None), w, order, site)?;
    if shape.k == 1 && shape.stride == 1 {
        let columns = shape.out_h * shape.out_w * shape.n;
        let (batch, symmetric, panels) = (1, false, false);
        let matrices = Matrices { columns, batch, cin: shape.cin, cout: shape.cout, symmetric, panels };
        return product(p, target, tile, &matrices, (x, packed, start, y), site);
    }
    let vec = vector_of(tile.vec, shape.n, y);
    // Rows of x that meet one row of y, and how far apart those of neighbouring rows of y are among the rows that are loaded.
    let (k, stride) = (shape.k, shape.stride);
    let step = stride.min(k);
    let mut settings = tile_settings(tile, vec, k * tile.r, target)
        .set("K", k as u32)
        .set("STRIDE", stride as u32)
        .set("STEP", step as u32)
        .set("ROWS", ((tile.nv - 1) * step + k) as u32)
        .flag("LONG", shape.cin > BLOCK);
    if tile.source == Source::Shared {
        settings = settings.set("CT", (2048 / (k * k * tile.r)).clamp(1, 16) as u32);
    }
    let mut params: Vec<(&str, Param)> = vec![
        ("n", (shape.n / vec).into()),
        ("cin", shape.cin.into()),
        ("cout", shape.cout.into()),
        ("in_h", shape.in_h.into()),
        ("in_w", shape.in_w.into()),
        ("out_h", shape.out_h.into()),
        ("out_w", shape.out_w.into()),
    ];
    params.extend(start.params());
    let columns = (shape.out_w * shape.n / vec).div_ceil(tile.lanes);
    let grid = [columns, shape.out_h.div_ceil(tile.nv), shape.cout.div_ceil(tile.r)];
    p.add(target, ("conv2d", settings), &operands(x, packed, start, y), &params, grid, site)?;
    Ok(())
}

/// y = start + transposed convolution of x with w: padding k / 2, and the output has exactly `stride` times the rows and
/// columns of the input. Where the kernel is smaller than the stride, some of them get the start alone.
///
/// # Errors
/// When naga refuses the variant.
pub fn conv_transpose2d(
    p: &mut Program,
    target: &Target,
    tile: &Tile,
    shape: &ConvShape,
    (x, w, order, start, y): (View, View, WeightOrder, Start, View),
    site: Site,
) -> Result<()> {
    let packed = pack(p, target, shape, (tile.r, None), w, order, site)?;
    let vec = vector_of(tile.vec, shape.n, y);
    let settings = tile_settings(tile, vec, tile.r, target)
        .set("K", shape.k as u32)
        .set("STRIDE", shape.stride as u32)
        .flag("LONG", shape.cin > BLOCK);
    let mut params: Vec<(&str, Param)> = vec![
        ("n", (shape.n / vec).into()),
        ("cin", shape.cin.into()),
        ("cout", shape.cout.into()),
        ("in_h", shape.in_h.into()),
        ("in_w", shape.in_w.into()),
    ];
    params.extend(start.params());
    let columns = (shape.in_w * shape.n / vec).div_ceil(tile.lanes);
    let phases = shape.stride * shape.stride;
    let grid = [columns, phases * shape.in_h.div_ceil(tile.nv), shape.cout.div_ceil(tile.r)];
    p.add(target, ("conv_transpose2d", settings), &operands(x, packed, start, y), &params, grid, site)?;
    Ok(())
}
