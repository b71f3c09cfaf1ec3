//! Launches of weight gradients by the direct method, and the sum of partial results.

use super::product::vector;
use super::shape::{ConvShape, Pairs};
use super::stage::Stage;
use super::tile::{Lanes, WeightTile};
use crate::Result;
use crate::kernels::grid::{Cover, cover};
use crate::kernels::loops::BLOCK;
use crate::kernels::{Param, Program, Settings, Site, Target, View};

/// Columns and images are the same to the weight gradient of a 1x1 kernel: all as images, of which vectors are made.
fn flat(shape: &ConvShape) -> ConvShape {
    if shape.k > 1 || shape.stride > 1 {
        return *shape;
    }
    ConvShape { n: shape.n * shape.in_w, in_w: 1, out_w: 1, ..*shape }
}

/// `dw[co, ci, ky, kx]` = sum over timesteps, pixels and images of dy times the shifted x. x and dy are those of
/// the pairs, which are those of the stage.
///
/// # Errors
/// When naga refuses the variant.
pub fn conv2d_d_weight(
    p: &mut Program,
    target: &Target,
    tile: &WeightTile,
    shape: &ConvShape,
    (Pairs { x, dy, steps }, stage): (Pairs, &mut Stage),
    dw: View,
    site: Site,
) -> Result<()> {
    let shape = &flat(shape);
    let k = shape.k;
    let settings = Settings::new()
        .set("K", k as u32)
        .set("L", tile.lanes as u32)
        .set("C", tile.c as u32)
        .set("STRIDE", shape.stride as u32)
        .set("COUNT", (tile.r * tile.c * k * k) as u32)
        .flag("SUBGROUP", tile.subgroup);
    let count = shape.cout * shape.cin * k * k;
    let vec = if tile.along == Lanes::Channels { vector(tile.vec, shape.n) } else { 1 };
    let columns = shape.out_w * shape.n / vec;
    let mut params: Vec<(&str, Param)> = vec![
        ("n", (shape.n / vec).into()),
        ("cin", shape.cin.into()),
        ("cout", shape.cout.into()),
        ("in_h", shape.in_h.into()),
        ("in_w", shape.in_w.into()),
        ("out_h", shape.out_h.into()),
        ("out_w", shape.out_w.into()),
        ("steps", steps.into()),
        ("x_step", (x.step / vec).into()),
        ("dy_step", (dy.step / vec).into()),
    ];
    let (kernel, splits, channels) = match tile.along {
        Lanes::Pixels => {
            let blocks = columns.div_ceil(tile.lanes);
            let splits = tile.splits.min(blocks);
            params.extend([("blocks", blocks.into()), ("splits", splits.into())]);
            let kept = k - shape.stride.min(k);
            let settings = settings
                .set("R", tile.r as u32)
                .set("NEW", (k - kept) as u32)
                .set("KEPT", kept as u32)
                .flag("WINDOW", kept > 0);
            (("conv2d_d_weight", settings.flag("LONG", blocks.div_ceil(splits) > BLOCK)), splits, tile.r)
        }
        Lanes::Channels => {
            let per_split = columns.div_ceil(tile.splits);
            params.push(("per_split", per_split.into()));
            // Rows of dy, relative to the row of x that they meet, run from -reach to reach.
            let reach = (k / 2).div_ceil(shape.stride);
            let settings = settings
                .set("NV", tile.r as u32)
                .set("VEC", vec as u32)
                .images(vec)
                .wide_images(tile.wide)
                .set("ABOVE", reach as u32)
                .set("U", tile.unroll as u32)
                .set("XROWS", (tile.unroll * shape.stride) as u32)
                .set("KEPT", 2 * reach as u32)
                .set("WINDOW", (2 * reach + tile.unroll) as u32)
                .set("TAPS", (k * k) as u32)
                .set("LOADS", tile.c.div_ceil(tile.lanes) as u32);
            let settings = settings.flag("LONG", per_split > BLOCK).flag("GO_ON", stage.goes_on());
            (("conv2d_d_weight_channels", settings), columns.div_ceil(per_split), tile.r * tile.lanes)
        }
    };
    let scratch = |p: &mut Program| p.scratch("d_weight", site.area, splits * count);
    let exchanged = tile.along == Lanes::Pixels && !stage.is_whole(); // lanes keep nothing that later ones could go on with
    let partial = match splits {
        _ if exchanged => scratch(p),
        1 => dw,
        _ => stage.place("partial", || scratch(p)),
    };
    let grid = [shape.cin.div_ceil(tile.c), shape.cout.div_ceil(channels), splits];
    p.add(target, kernel, &[("x", x.view), ("dy", dy.view), ("partial", partial)], &params, grid, site)?;
    if exchanged {
        let sum = match splits {
            1 => partial,
            _ => {
                let sum = p.scratch("d_weight", site.area, count);
                sum_partials(p, target, partial, count, splits, sum, site)?;
                sum
            }
        };
        let total = match stage.state.get("total") {
            None => sum,
            Some(&before) => {
                let total = if stage.is_last() { dw } else { p.scratch("d_weight", site.area, count) };
                add(p, target, [before, sum], count, total, site)?;
                total
            }
        };
        stage.state.insert("total", total);
        return Ok(());
    }
    if partial != dw && stage.is_last() {
        sum_partials(p, target, partial, count, splits, dw, site)?;
    }
    Ok(())
}

/// y = a + b, element by element.
///
/// # Errors
/// When naga refuses the variant.
pub(super) fn add(
    p: &mut Program,
    target: &Target,
    [a, b]: [View; 2],
    count: usize,
    y: View,
    site: Site,
) -> Result<()> {
    const LANES: usize = 64;
    let vec = vector(4, count);
    let Cover { groups, unroll } = cover(count / vec, LANES, if vec > 1 { 1 } else { 4 }, target);
    let settings = Settings::new().set("L", LANES as u32).set("UNROLL", unroll as u32).set("TERMS", 2).images(vec);
    let site = Site { label: &format!("{} sum", site.label), ..site };
    let operands = [("x0", a), ("x1", b), ("y", y)];
    p.add(target, ("add", settings), &operands, &[("count", (count / vec).into())], [groups, 1, 1], site)?;
    Ok(())
}

/// `y[i]` = sum over s of `partial[s, i]`.
///
/// # Errors
/// When naga refuses the variant.
pub fn sum_partials(
    p: &mut Program,
    target: &Target,
    partial: View,
    count: usize,
    parts: usize,
    y: View,
    site: Site,
) -> Result<()> {
    const LANES: usize = 64;
    let Cover { groups, unroll } = cover(count, LANES, if target.cpu { 4 } else { 1 }, target);
    let settings = Settings::new().set("L", LANES as u32).set("UNROLL", unroll as u32);
    let params: &[(&str, Param)] = &[("count", count.into()), ("parts", parts.into())];
    let site = Site { label: &format!("{} sum", site.label), ..site };
    p.add(target, ("sum_partials", settings), &[("partial", partial), ("y", y)], params, [groups, 1, 1], site)?;
    Ok(())
}
