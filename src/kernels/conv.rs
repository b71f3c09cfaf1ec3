//! Convolutions: conv2d (stride 1, and stride 2 as the input gradient of the transposed convolution), transposed
//! convolution, weight gradients. Linear layers are 1x1 convolutions on 1x1 maps; a matrix product is a 1x1
//! convolution whose pixels and images are the columns.

use super::winograd::{self, Winograd};
use super::{Kernel, Param, Program, Settings, Site, Target, View};
use crate::Result;

/// A convolution from `x` [cin, in_h, in_w, n] to `y` [cout, out_h, out_w, n] with a k x k kernel, padding k / 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ConvShape {
    /// Images.
    pub n: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Kernel size, odd.
    pub k: usize,
    /// Stride, 1 or 2.
    pub stride: usize,
}

impl ConvShape {
    /// The same map size in and out, stride 1.
    pub fn same(n: usize, cin: usize, cout: usize, h: usize, w: usize, k: usize) -> Self {
        ConvShape { n, cin, cout, in_h: h, in_w: w, out_h: h, out_w: w, k, stride: 1 }
    }

    /// Multiplications and additions of the forward pass, padding included.
    pub fn flops(&self) -> f64 {
        2.0 * (self.n * self.cin * self.cout * self.out_h * self.out_w * self.k * self.k) as f64
    }
}

/// Where a kernel takes the weights from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// One load brings as many weights as a subgroup has lanes; each is broadcast. Needs a fixed subgroup size.
    Subgroup,
    /// The group stages weights in workgroup memory.
    Shared,
    /// All lanes load the same address.
    Uniform,
}

/// A variant of conv2d or conv_transpose2d.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Tile {
    /// Operand source of the weights.
    pub source: Source,
    /// Invocations of a workgroup; lanes run along (column, image).
    pub lanes: usize,
    /// Output channels per invocation.
    pub r: usize,
    /// Output rows per invocation.
    pub nv: usize,
    /// Neighbouring images per invocation, read and written as one vector: 1, 2 or 4. A batch that this does not divide is
    /// computed one image per invocation.
    pub vec: usize,
    /// If above 1, Winograd's method with tiles of so many rows and columns of outputs; the other members are then those of
    /// its matrix products. A shape that it does not fit (see [`Winograd::new`]) is computed directly.
    #[serde(default, skip_serializing_if = "none")]
    pub winograd: usize,
}

fn none(winograd: &usize) -> bool {
    *winograd == 0
}

/// ` f4` for Winograd's method with tiles of 4 x 4.
fn winograd_label(m: usize) -> String {
    if m > 1 { format!(" f{m}") } else { String::new() }
}

impl std::fmt::Display for Tile {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let source = match self.source {
            Source::Subgroup => "subgroup",
            Source::Shared => "shared",
            Source::Uniform => "uniform",
        };
        write!(f, "{source} l{} r{} nv{} v{}{}", self.lanes, self.r, self.nv, self.vec, winograd_label(self.winograd))
    }
}

/// Along what the lanes of a weight gradient run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lanes {
    /// Pixels and images: conv2d_d_weight.
    Pixels,
    /// Output channels: conv2d_d_weight_channels.
    Channels,
}

/// A variant of the weight gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct WeightTile {
    /// Along what the lanes run.
    pub along: Lanes,
    /// Whether subgroup operations are used (sums at the end; broadcasts of x). A workgroup is then one subgroup.
    pub subgroup: bool,
    /// Invocations of a workgroup.
    pub lanes: usize,
    /// Output channels per invocation.
    pub r: usize,
    /// Input channels per invocation.
    pub c: usize,
    /// Rows of x per turn of the loop (only with lanes along channels).
    pub unroll: usize,
    /// Neighbouring images per turn of the loop, read as one vector: 1, 2 or 4 (only with lanes along channels). A batch
    /// that this does not divide is taken image by image.
    pub vec: usize,
    /// Groups that share the columns; their partial sums are added in a second launch.
    pub splits: usize,
}

impl std::fmt::Display for WeightTile {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let WeightTile { lanes, r, c, unroll, vec, splits, .. } = self;
        let along = match self.along {
            Lanes::Pixels => "pixels",
            Lanes::Channels => "channels",
        };
        let subgroup = if self.subgroup { " subgroup" } else { "" };
        write!(f, "{along}{subgroup} l{lanes} r{r} c{c} u{unroll} v{vec} s{splits}")
    }
}

/// What the accumulators start from: the sum of what is present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// A map like the output.
    pub base: Option<View>,
    /// One value per output channel.
    pub bias: Option<View>,
}

impl Start {
    /// What the kernels are told of it.
    pub(super) fn params(&self) -> [(&'static str, Param); 2] {
        let has = |view: Option<View>| u32::from(view.is_some()).into();
        [("has_base", has(self.base)), ("has_bias", has(self.bias))]
    }

    /// Its bindings. What is absent is bound to something that the kernel only reads, and not read from there.
    pub(super) fn operands(&self, read: View) -> [(&'static str, View); 2] {
        [("base", self.base.unwrap_or(read)), ("bias", self.bias.unwrap_or(read))]
    }
}

/// How the weights of a convolution lie in the parameter: `w[co * out_step + ci * in_step + ky * k + kx]`, turned by
/// 180 degrees if `flip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightOrder {
    /// Distance between output channels.
    pub out_step: usize,
    /// Distance between input channels.
    pub in_step: usize,
    /// Whether taps run backwards.
    pub flip: bool,
}

/// How a weight is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packing {
    /// The weight.
    w: View,
    /// How it lies there.
    order: WeightOrder,
    /// Output channels of a panel.
    r: usize,
    /// Winograd's tile, for which it is transformed, if it is.
    m: Option<usize>,
}

/// Packs a weight in panels of `r` output channels, transformed for a cut if there is one; once for all launches of the
/// program that want it so.
fn pack(
    p: &mut Program,
    shape: &ConvShape,
    (r, cut): (usize, Option<&Winograd>),
    w: View,
    order: WeightOrder,
    site: Site,
) -> Result<View> {
    let packing = Packing { w, order, r, m: cut.map(|cut| cut.m) };
    if let Some(packed) = p.packed.get(&packing) {
        return Ok(*packed);
    }
    let ConvShape { cin, cout, k, .. } = *shape;
    let panels = cout.div_ceil(r);
    let for_panels = |settings: Settings| settings.set("R", r as u32).flag("FLIP", order.flip);
    let (kernel, taps, grid) = match cut {
        Some(cut) => {
            let kernel = Kernel::new("winograd_weight", &for_panels(cut.settings()))?;
            (kernel, cut.positions(), [(cin * r).div_ceil(winograd::LANES), panels, 1])
        }
        None => {
            let settings = for_panels(Settings::new().set("K", k as u32).set("L", 64));
            (Kernel::new("pack_weight", &settings)?, k * k, [cin, panels, 1])
        }
    };
    let packed = p.scratch("packed", site.area, panels * r * cin * taps + winograd::MARGIN);
    let params: &[(&str, Param)] = &[
        ("cin", cin.into()),
        ("cout", cout.into()),
        ("in_step", order.in_step.into()),
        ("out_step", order.out_step.into()),
    ];
    let label = format!("{} pack", site.label);
    p.launch(&kernel, &[("w", w), ("packed", packed)], params, grid, Site { label: &label, ..site }).packs_weight =
        true;
    p.packed.insert(packing, packed);
    Ok(packed)
}

/// Images in a vector that a batch of `n` allows.
fn vector(vec: usize, n: usize) -> usize {
    if n.is_multiple_of(vec) { vec } else { 1 }
}

/// `together` weights are needed at a time and lie one after the other.
fn tile_settings(tile: &Tile, vec: usize, together: usize, target: &Target) -> Settings {
    let settings = Settings::new()
        .set("L", tile.lanes as u32)
        .set("NV", tile.nv as u32)
        .set("R", tile.r as u32)
        .images(vec)
        .flag("SUBGROUP", tile.source == Source::Subgroup)
        .flag("SHARED", tile.source == Source::Shared);
    if tile.source != Source::Subgroup {
        return settings;
    }
    // Weights come as vectors where whole subgroups of them are needed at a time.
    let lanes = target.subgroup as usize;
    let wide = [4, 2].into_iter().find(|wide| together.is_multiple_of(wide * lanes)).unwrap_or(1);
    let loads = together.div_ceil(wide * lanes) as u32;
    settings
        .set("S", target.subgroup)
        .set("WV", wide as u32)
        .set("LOADS", loads)
        .flag("WIDE2", wide == 2)
        .flag("WIDE4", wide == 4)
}

/// Bindings of the kernels with a register tile.
fn operands(x: View, w: View, start: Start, y: View) -> Vec<(&'static str, View)> {
    [vec![("x", x), ("w", w), ("y", y)], start.operands(x).to_vec()].concat()
}

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
        let transformed = pack(p, shape, (tile.r, Some(&cut)), w, order, site)?;
        let v = winograd::input(p, &cut, (x, shape.cin), site)?;
        let m = p.scratch("products", site.area, cut.words(shape.cout));
        let (columns, batch) = (cut.tiles(), cut.positions());
        let matrices = Matrices { columns, batch, cin: shape.cin, cout: shape.cout };
        product(p, target, tile, &matrices, (v, transformed, Start::default(), m), site)?;
        return winograd::output(p, &cut, shape.cout, (m, start, y), site);
    }
    let packed = pack(p, shape, (tile.r, None), w, order, site)?;
    if shape.k == 1 && shape.stride == 1 {
        let columns = shape.out_h * shape.out_w * shape.n;
        let matrices = Matrices { columns, batch: 1, cin: shape.cin, cout: shape.cout };
        return product(p, target, tile, &matrices, (x, packed, start, y), site);
    }
    let vec = vector(tile.vec, shape.n);
    let mut settings = tile_settings(tile, vec, shape.k * tile.r, target)
        .set("K", shape.k as u32)
        .set("STRIDE", shape.stride as u32)
        .set("ROWS", ((tile.nv - 1) * shape.stride + shape.k) as u32);
    if tile.source == Source::Shared {
        let per_channel = shape.k * shape.k * tile.r;
        settings = settings.set("CT", (2048 / per_channel).clamp(1, 16) as u32);
    }
    let kernel = Kernel::new("conv2d", &settings)?;
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
    p.launch(&kernel, &operands(x, packed, start, y), &params, grid, site);
    Ok(())
}

/// Extents of products of matrices: `batch` times cout x cin by cin x columns.
struct Matrices {
    columns: usize,
    batch: usize,
    cin: usize,
    cout: usize,
}

/// y = start + the products of the packed weights w with x.
fn product(
    p: &mut Program,
    target: &Target,
    tile: &Tile,
    of: &Matrices,
    (x, w, start, y): (View, View, Start, View),
    site: Site,
) -> Result<()> {
    let vec = vector(tile.vec, of.columns);
    // Beyond 128 accumulators, less of everything else is in flight.
    let together = if tile.r * tile.nv * vec > 128 { 2 } else { 4 };
    let mut settings = tile_settings(tile, vec, tile.r, target).set("CU", together);
    if tile.source == Source::Shared {
        settings = settings.set("CT", 16);
    }
    let kernel = Kernel::new("product", &settings)?;
    let columns = of.columns / vec;
    let mut params: Vec<(&str, Param)> =
        vec![("columns", columns.into()), ("cin", of.cin.into()), ("cout", of.cout.into())];
    params.extend(start.params());
    let grid = [columns.div_ceil(tile.lanes * tile.nv), of.cout.div_ceil(tile.r), of.batch];
    p.launch(&kernel, &operands(x, w, start, y), &params, grid, site);
    Ok(())
}

/// y = start + transposed convolution of x with w: stride 2, output padding 1. `shape` gives the small map as input;
/// the output has twice its rows and columns.
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
    let packed = pack(p, shape, (tile.r, None), w, order, site)?;
    let vec = vector(tile.vec, shape.n);
    let settings = tile_settings(tile, vec, tile.r, target).set("K", shape.k as u32);
    let kernel = Kernel::new("conv_transpose2d", &settings)?;
    let mut params: Vec<(&str, Param)> = vec![
        ("n", (shape.n / vec).into()),
        ("cin", shape.cin.into()),
        ("cout", shape.cout.into()),
        ("in_h", shape.in_h.into()),
        ("in_w", shape.in_w.into()),
    ];
    params.extend(start.params());
    let columns = (shape.in_w * shape.n / vec).div_ceil(tile.lanes);
    let grid = [columns, 4 * shape.in_h.div_ceil(tile.nv), shape.cout.div_ceil(tile.r)];
    p.launch(&kernel, &operands(x, packed, start, y), &params, grid, site);
    Ok(())
}

/// Columns and images are the same to the weight gradient of a 1x1 kernel: all as images, of which vectors are made.
fn flat(shape: &ConvShape) -> ConvShape {
    if shape.k > 1 || shape.stride > 1 {
        return *shape;
    }
    ConvShape { n: shape.n * shape.in_w, in_w: 1, out_w: 1, ..*shape }
}

/// `dw[co, ci, ky, kx]` = sum over timesteps, pixels and images of dy times the shifted x. `x` and `dy` hold `steps`
/// maps, `x_step` and `dy_step` words apart.
///
/// # Errors
/// When naga refuses the variant.
pub fn conv2d_d_weight(
    p: &mut Program,
    target: &Target,
    tile: &WeightTile,
    shape: &ConvShape,
    (x, x_step, dy, dy_step, steps): (View, usize, View, usize, usize),
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
        ("x_step", (x_step / vec).into()),
        ("dy_step", (dy_step / vec).into()),
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
            (Kernel::new("conv2d_d_weight", &settings)?, splits, tile.r)
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
                .set("ABOVE", reach as u32)
                .set("U", tile.unroll as u32)
                .set("XROWS", (tile.unroll * shape.stride) as u32)
                .set("KEPT", 2 * reach as u32)
                .set("WINDOW", (2 * reach + tile.unroll) as u32)
                .set("TAPS", (k * k) as u32)
                .set("LOADS", tile.c.div_ceil(tile.lanes) as u32);
            (Kernel::new("conv2d_d_weight_channels", &settings)?, columns.div_ceil(per_split), tile.r * tile.lanes)
        }
    };
    let partial = if splits == 1 { dw } else { p.scratch("d_weight", site.area, splits * count) };
    let grid = [shape.cin.div_ceil(tile.c), shape.cout.div_ceil(channels), splits];
    p.launch(&kernel, &[("x", x), ("dy", dy), ("partial", partial)], &params, grid, site);
    if partial != dw {
        sum_partials(p, target, partial, count, splits, dw, site)?;
    }
    Ok(())
}

/// How a weight gradient by Winograd's method goes through the timesteps: some at a time, each time with sums of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    cut: Winograd,
    /// Timesteps of a part; the last may have fewer.
    each: usize,
    /// How many.
    count: usize,
    /// Words of the sums of a part.
    words: usize,
}

impl Parts {
    /// The parts for a variant, if Winograd's method suits the shape and the sums do not take too much memory.
    pub fn of(tile: &Tile, shape: &ConvShape, steps: usize, target: &Target) -> Option<Parts> {
        /// Most words of the transformed maps of a part, if it has more than one timestep.
        const MAPS: usize = 4 << 20;
        /// Most words of the sums of all parts, if there is more than one.
        const SUMS: usize = 1 << 24;
        /// Most terms of one sum: some lavapipe versions stop loops beyond 30,000 turns, and a turn takes two at least.
        const TERMS: usize = 32_768;
        let cut = Winograd::of(tile, shape, target)?;
        let most = (MAPS / cut.words(shape.cin.max(shape.cout))).min(TERMS / cut.tiles());
        let each = steps.div_ceil(steps.div_ceil(most.clamp(1, steps))); // parts of one length, about
        let count = steps.div_ceil(each);
        let words = (cut.positions() * shape.cin * shape.cout).next_multiple_of(64);
        let fits = cut.tiles() <= TERMS && (count == 1 || count * words <= SUMS);
        fits.then_some(Parts { cut, each, count, words })
    }
}

/// [`conv2d_d_weight`] by Winograd's method: a matrix product of the transformed maps, summed over tiles, for each transformed
/// position.
///
/// # Errors
/// When naga refuses the variant.
pub fn conv2d_d_weight_transformed(
    p: &mut Program,
    target: &Target,
    (tile, parts): (&Tile, &Parts),
    shape: &ConvShape,
    (x, x_step, dy, dy_step, steps): (View, usize, View, usize, usize),
    dw: View,
    site: Site,
) -> Result<()> {
    let (ConvShape { cin, cout, .. }, cut) = (*shape, &parts.cut);
    let partial = p.scratch("d_transformed", site.area, parts.count * parts.words);
    for (part, first) in (0..steps).step_by(parts.each).enumerate() {
        let count = parts.each.min(steps - first);
        let from = |view: View, step: usize| {
            let skipped = 4 * (first * step) as u64;
            View { offset: view.offset + skipped, bytes: view.bytes - skipped, ..view }
        };
        let v =
            winograd::panels(p, cut, ("winograd_input", ["x", "v"]), (from(x, x_step), cin, x_step, count), cin, site)?;
        let d = winograd::panels(
            p,
            cut,
            ("winograd_d_output", ["dy", "d"]),
            (from(dy, dy_step), cout, dy_step, count),
            tile.r,
            site,
        )?;
        let (skipped, bytes) = (4 * (part * parts.words) as u64, 4 * parts.words as u64);
        let sums = View { offset: partial.offset + skipped, bytes, ..partial };
        let matrices = Matrices { columns: cin, batch: cut.positions(), cin: count * cut.tiles(), cout };
        product(p, target, tile, &matrices, (v, d, Start::default(), sums), site)?;
    }
    winograd::d_weight(p, cut, cin * cout, (partial, parts.count, parts.words, dw), site)
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
    let (lanes, unroll) = if target.cpu { (64, 4) } else { (64, 1) };
    let kernel = Kernel::new("sum_partials", &Settings::new().set("L", lanes).set("UNROLL", unroll))?;
    let params: &[(&str, Param)] = &[("count", count.into()), ("parts", parts.into())];
    let grid = [count.div_ceil((lanes * unroll) as usize), 1, 1];
    let label = format!("{} sum", site.label);
    p.launch(&kernel, &[("partial", partial), ("y", y)], params, grid, Site { label: &label, ..site });
    Ok(())
}
