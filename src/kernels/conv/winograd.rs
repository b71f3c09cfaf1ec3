//! Winograd's method as launches: a map cut into tiles, and the transforms of its tiles and weights. The matrices are those
//! of `interpolation.rs`.

use super::product::panel_width;
use super::shape::{ConvShape, Pairs, Series, Start};
use super::tile::{Outputs, Tile};
use crate::Result;
use crate::kernels::grid::{Cover, cover};
use crate::kernels::interpolation::POINTS;
use crate::kernels::packing::Transform;
use crate::kernels::{Kernel, Param, Program, Settings, Site, Target, View};
use std::sync::Arc;

/// A convolution cut into tiles of outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winograd {
    /// Rows and columns of outputs of a tile.
    m: usize,
    /// Kernel size.
    k: usize,
    /// Tiles in a column of the map.
    tiles_y: usize,
    /// Tiles in a row of the map.
    tiles_x: usize,
    /// Images.
    n: usize,
    /// Rows of the map.
    h: usize,
    /// Columns of the map.
    w: usize,
    /// Whether the transforms load and store vectors as words of 64 bits.
    wide: bool,
}

impl Winograd {
    /// The cut into tiles of so many outputs, if there is one: stride 1, and no more points than are well conditioned.
    pub fn new(outputs: Outputs, shape: &ConvShape) -> Option<Winograd> {
        let m = outputs.side();
        let fits = shape.k > 1 && shape.stride == 1 && m + shape.k <= POINTS.len() + 2;
        let (tiles_y, tiles_x) = (shape.out_h.div_ceil(m), shape.out_w.div_ceil(m));
        let (n, h, w) = (shape.n, shape.out_h, shape.out_w);
        fits.then_some(Winograd { m, k: shape.k, tiles_y, tiles_x, n, h, w, wide: false })
    }

    /// Outputs in a row of a tile.
    pub(super) fn side(&self) -> usize {
        self.m
    }

    /// Transformed positions of a tile.
    pub fn positions(&self) -> usize {
        (self.m + self.k - 1).pow(2)
    }

    /// Tiles of all images.
    pub fn tiles(&self) -> usize {
        self.tiles_y * self.tiles_x * self.n
    }

    /// Images per lane of the transforms: with 4, CPU drivers take twice as long to compile and save a few per cent.
    fn vector(&self) -> usize {
        if self.n.is_multiple_of(2) { 2 } else { 1 }
    }

    pub(super) fn settings(&self) -> Settings {
        let n = self.m + self.k - 1;
        Settings::new().set("L", LANES as u32).set("M", self.m as u32).set("N", n as u32).set("K", self.k as u32)
    }

    /// Words of a transformed map.
    pub fn words(&self, channels: usize) -> usize {
        channels * self.positions() * self.tiles()
    }

    /// The cut that a variant asks for, if there is one and bindings can cover the transformed maps and weights.
    pub fn of(tile: &Tile, shape: &ConvShape, target: &Target) -> Option<Winograd> {
        let cut = Winograd { wide: tile.wide, ..Winograd::new(tile.winograd?, shape)? };
        // Panels are filled up: of channels, and of tiles.
        let (cin, cout) = (shape.cin.next_multiple_of(64), shape.cout.next_multiple_of(64));
        let filled = cut.positions() * cin * cut.tiles().next_multiple_of(panel_width(tile, cut.tiles()));
        let most = cut.words(cin).max(cut.words(cout)).max(filled).max(cut.positions() * cin * cout) + MARGIN;
        (4 * most as u64 <= target.max_binding).then_some(cut)
    }
}

/// Words behind packed operands: whole subgroups may load past the end.
pub(super) const MARGIN: usize = 64;
/// Invocations of a workgroup.
pub(super) const LANES: usize = 64;

/// Flag of kernels that write the operands of the weight gradient.
const PANELS: &str = "PANELS";

/// Launches a kernel over (channel, tile) of `steps` maps, a vector of images at a time.
fn each_tile(
    p: &mut Program,
    target: &Target,
    (name, flag): (&'static str, Option<&'static str>),
    cut: &Winograd,
    (channels, steps): (usize, usize),
    operands: &[(&'static str, View)],
    more: &[(&'static str, Param)],
    site: Site,
) -> Result<()> {
    let vec = cut.vector();
    let count = channels * cut.tiles() / vec;
    let Cover { groups, unroll } = cover(count, LANES, 1, target);
    let settings = cut.settings().set("UNROLL", unroll as u32).images(vec).wide_images(cut.wide);
    let settings = match flag {
        Some(PANELS) => settings.set("VEC", vec as u32).flag(PANELS, true),
        Some(flag) => settings.flag(flag, true),
        None => settings,
    };
    let mut params: Vec<(&str, Param)> = vec![
        ("n", (cut.n / vec).into()),
        ("h", cut.h.into()),
        ("w", cut.w.into()),
        ("tiles_y", cut.tiles_y.into()),
        ("tiles_x", cut.tiles_x.into()),
        ("channels", channels.into()),
        ("count", count.into()),
    ];
    params.extend(more);
    p.add(target, (name, settings), operands, &params, [groups, steps, 1], site)?;
    Ok(())
}

/// B^T x B of all tiles: [positions, tiles / width, channels, width]; once for all launches of the program that want it so, as
/// the two input gradients of a sum of convolutions do.
pub(super) fn input(
    p: &mut Program,
    target: &Target,
    cut: &Winograd,
    (x, channels): (View, usize),
    width: usize,
    site: Site,
) -> Result<View> {
    let transform = Transform { x, extents: [channels, cut.h, cut.w, cut.n], tile: [cut.m, cut.k], width };
    if let Some(v) = p.transformed(&transform) {
        return Ok(v);
    }
    let words = cut.positions() * channels * cut.tiles().next_multiple_of(width);
    let v = p.scratch("transformed", site.area, words);
    p.has_transformed(transform, v);
    let more = [("width", (width / cut.vector()).into())];
    each_tile(p, target, ("winograd_input", None), cut, (channels, 1), &[("x", x), ("v", v)], &more, site)?;
    Ok(v)
}

/// y = start + A^T m A, where m are the products [positions, channels, tiles] of what x was transformed to.
pub(super) fn output(
    p: &mut Program,
    target: &Target,
    cut: &Winograd,
    channels: usize,
    (m, (x, cin), start, y): (View, (View, usize), Start, View),
    site: Site,
) -> Result<()> {
    let mut operands = [vec![("m", m), ("y", y)], start.operands(m).to_vec()].concat();
    operands.extend(start.exact.then_some(("x", x)));
    let more = [&start.params()[..], &[("cin", cin.into())]].concat();
    each_tile(
        p,
        target,
        ("winograd_output", start.exact.then_some("EXACT")),
        cut,
        (channels, 1),
        &operands,
        &more,
        site,
    )
}

/// The operands of the weight gradient: B^T x B (`winograd_input`) or A dy A^T (`winograd_d_output`) of all tiles of `steps`
/// maps, as [positions, channels / width, steps, tiles, width].
pub(super) fn panels(
    p: &mut Program,
    target: &Target,
    cut: &Winograd,
    (name, [read, written]): (&'static str, [&'static str; 2]),
    (map, channels, steps): (Series, usize, usize),
    width: usize,
    site: Site,
) -> Result<View> {
    let result = p.scratch("panels", site.area, steps * cut.words(channels.next_multiple_of(width)) + MARGIN);
    let more = [("steps", steps.into()), ("step", (map.step / cut.vector()).into()), ("width", width.into())];
    each_tile(
        p,
        target,
        (name, Some(PANELS)),
        cut,
        (channels, steps),
        &[(read, map.view), (written, result)],
        &more,
        site,
    )?;
    Ok(result)
}

/// The sums of the products of a weight gradient in `parts` parts [positions, cout, cin], `part_step` words apart.
pub(super) struct Sums {
    pub(super) partial: View,
    pub(super) parts: usize,
    pub(super) part_step: usize,
}

/// Where `x` and `dy` are other than 0 at some timestep in some image: a bit for each place.
#[derive(Clone, Copy)]
pub(super) struct Active {
    x: View,
    dy: View,
}

/// How it is known where activity and error meet.
pub(super) enum Search<'a> {
    /// They are searched where the result is doubted.
    Now(&'a Pairs, Active),
    /// Every timestep has been searched, see [`met`].
    Done(View),
}

/// Words of a row of bits.
fn words(cut: &Winograd) -> usize {
    cut.w.div_ceil(32)
}

/// Images that a lane of the search takes at a time.
fn searched(cut: &Winograd) -> usize {
    [4, 2].into_iter().find(|v| cut.n.is_multiple_of(*v)).unwrap_or(1)
}

/// Where the operands of a weight gradient are active.
pub(super) fn active(
    p: &mut Program,
    target: &Target,
    cut: &Winograd,
    (cin, cout): (usize, usize),
    pairs: &Pairs,
    site: Site,
) -> Result<Active> {
    let (vec, words) = (searched(cut), words(cut));
    let mut active = |map: Series, channels: usize| -> Result<View> {
        let count = channels * cut.h * words;
        let result = p.scratch("active", site.area, count);
        let params: &[(&str, Param)] = &[
            ("n", (cut.n / vec).into()),
            ("h", cut.h.into()),
            ("w", cut.w.into()),
            ("words", words.into()),
            ("steps", pairs.steps.into()),
            ("step", (map.step / vec).into()),
            ("count", count.into()),
        ];
        let settings = Settings::new().set("L", LANES as u32).images(vec).wide_images(cut.wide);
        let grid = [count.div_ceil(LANES), 1, 1];
        p.add(target, ("winograd_active", settings), &[("map", map.view), ("active_at", result)], params, grid, site)?;
        Ok(result)
    };
    Ok(Active { x: active(pairs.x, cin)?, dy: active(pairs.dy, cout)? })
}

/// Sizes and distances of the maps that are searched, if any are.
fn search_params(cut: &Winograd, pairs: Option<&Pairs>) -> [(&'static str, Param); 7] {
    let vec = searched(cut);
    let [steps, x_step, dy_step] = pairs.map_or([0; 3], |pairs| [pairs.steps, pairs.x.step / vec, pairs.dy.step / vec]);
    [
        ("n", (cut.n / vec).into()),
        ("h", cut.h.into()),
        ("w", cut.w.into()),
        ("steps", steps.into()),
        ("x_step", x_step.into()),
        ("dy_step", dy_step.into()),
        ("words", words(cut).into()),
    ]
}

/// Maps and bits that are searched.
fn search_operands(pairs: &Pairs, active: Active) -> [(&'static str, View); 4] {
    [("x", pairs.x.view), ("dy", pairs.dy.view), ("x_active", active.x), ("dy_active", active.dy)]
}

/// Notes in `met` [cout, cin] under which taps activity and error meet at these timesteps, beside what it says already if it
/// `goes_on`.
pub(super) fn met(
    p: &mut Program,
    target: &Target,
    cut: &Winograd,
    (cin, cout): (usize, usize),
    (pairs, active): (&Pairs, Active),
    (met, goes_on): (View, bool),
    site: Site,
) -> Result<()> {
    let count = [("count", (cin * cout).into()), ("cin", cin.into())];
    let params = [&count[..], &search_params(cut, Some(pairs))].concat();
    let operands = [&search_operands(pairs, active)[..], &[("met", met)]].concat();
    let grid = [(cin * cout).div_ceil(LANES), 1, 1];
    let site = Site { label: &format!("{} met", site.label), ..site };
    p.add(target, met_kernel(cut.k, searched(cut), cut.wide, goes_on), &operands, &params, grid, site)?;
    Ok(())
}

fn met_kernel(k: usize, images: usize, wide: bool, goes_on: bool) -> (&'static str, Settings) {
    let settings = Settings::new().set("L", LANES as u32).set("K", k as u32).images(images).wide_images(wide);
    ("winograd_met", settings.flag("GO_ON", goes_on))
}

/// The variants of the kernel that notes where activity and error meet, which only plans within a bound of memory have.
///
/// # Errors
/// A variant that naga refuses.
pub fn met_variants(target: &Target) -> Result<Vec<Arc<Kernel>>> {
    let wide = target.cpu && target.int64;
    let of = |k| [1, 2, 4].into_iter().flat_map(move |images| [false, true].map(|on| met_kernel(k, images, wide, on)));
    [3, 5].into_iter().flat_map(of).map(|(name, settings)| Kernel::new(name, &settings)).collect()
}

/// dw = G^T u G, where u is the sum of the parts.
pub(super) fn d_weight(
    p: &mut Program,
    target: &Target,
    cut: &Winograd,
    (cin, cout): (usize, usize),
    (sums, search): (Sums, Search),
    dw: View,
    site: Site,
) -> Result<()> {
    let mut params: Vec<(&str, Param)> = vec![
        ("count", (cin * cout).into()),
        ("parts", sums.parts.into()),
        ("part_step", sums.part_step.into()),
        ("cin", cin.into()),
    ];
    let mut operands = vec![("partial", sums.partial), ("dw", dw)];
    let mut settings = cut.settings();
    match search {
        Search::Now(pairs, active) => {
            params.extend(search_params(cut, Some(pairs)));
            operands.extend(search_operands(pairs, active));
            settings = settings.images(searched(cut)).wide_images(cut.wide);
        }
        Search::Done(met) => {
            params.extend(search_params(cut, None));
            operands.push(("met", met));
            settings = settings.flag("MET", true);
        }
    }
    let site = Site { label: &format!("{} sum", site.label), ..site };
    let grid = [(cin * cout).div_ceil(LANES), 1, 1];
    p.add(target, ("winograd_d_weight", settings), &operands, &params, grid, site)?;
    Ok(())
}
