//! Which variant serves which shape: the table of sensible choices, what was tuned or forced instead of it, and the list of
//! all variants for `check` and the tuner.

use super::conv::{self, ConvShape, Lanes, Parts, Source, Tile, WeightTile};
use super::winograd::Winograd;
use super::{Program, Site, Target, View};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The three convolution kernels that have variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvOp {
    /// Convolution: forward, and the gradients with respect to inputs that are convolutions themselves.
    Conv2d,
    /// Transposed convolution.
    ConvTranspose2d,
    /// Gradient with respect to the weight.
    Conv2dDWeight,
}

/// What a variant is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Key {
    /// The kernel.
    pub op: ConvOp,
    /// Its extents.
    pub shape: ConvShape,
    /// Timesteps that one launch adds up: weight gradients; else 1.
    pub steps: usize,
}

impl Key {
    /// Multiplications and additions of one launch, padding included.
    pub fn flops(&self) -> f64 {
        self.steps as f64 * self.shape.flops()
    }
}

impl ConvOp {
    /// All three.
    pub const ALL: [ConvOp; 3] = [ConvOp::Conv2d, ConvOp::ConvTranspose2d, ConvOp::Conv2dDWeight];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            ConvOp::Conv2d => "conv2d",
            ConvOp::ConvTranspose2d => "conv_transpose2d",
            ConvOp::Conv2dDWeight => "conv2d_d_weight",
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let ConvShape { n, cin, cout, in_h, in_w, k, stride, .. } = self.shape;
        write!(f, "{} {n}x{cin}->{cout} {in_h}x{in_w} k{k}", self.op.name())?;
        if stride > 1 {
            write!(f, " stride {stride}")?;
        }
        if self.steps > 1 { write!(f, " x{}", self.steps) } else { Ok(()) }
    }
}

/// A variant of one of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Variant {
    /// Of conv2d or conv_transpose2d; by Winograd's method, of a weight gradient too.
    Conv(Tile),
    /// Of a weight gradient.
    Weight(WeightTile),
}

impl Variant {
    /// Whether it is one of this kernel.
    pub fn serves(&self, op: ConvOp) -> bool {
        match self {
            Variant::Conv(tile) => op != ConvOp::Conv2dDWeight || tile.winograd > 0,
            Variant::Weight(_) => op == ConvOp::Conv2dDWeight,
        }
    }

    /// The launches of a weight gradient; see [`conv::conv2d_d_weight`].
    ///
    /// # Errors
    /// When naga refuses the variant; when it is none of a weight gradient in this shape.
    pub fn d_weight(
        &self,
        p: &mut Program,
        target: &Target,
        shape: &ConvShape,
        maps: (View, usize, View, usize, usize),
        dw: View,
        site: Site,
    ) -> Result<()> {
        match self {
            Variant::Weight(tile) => conv::conv2d_d_weight(p, target, tile, shape, maps, dw, site),
            Variant::Conv(tile) => {
                let none = || Error::Config(format!("{self} is no variant for the weight gradient of {shape:?}"));
                let parts = Parts::of(tile, shape, maps.4, target).ok_or_else(none)?;
                conv::conv2d_d_weight_transformed(p, target, (tile, &parts), shape, maps, dw, site)
            }
        }
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Variant::Conv(tile) => tile.fmt(f),
            Variant::Weight(tile) => tile.fmt(f),
        }
    }
}

/// Which variant serves which shape: what is forced, else what was tuned, else the table ([`tile`], [`weight_tile`]).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choices {
    /// Forced for all shapes of its kernels, by a test or a benchmark.
    pub forced: Option<Variant>,
    /// Tuned, by shape.
    pub tuned: BTreeMap<Key, Variant>,
}

impl Choices {
    /// The table alone.
    pub const TABLE: &'static Choices = &Choices { forced: None, tuned: BTreeMap::new() };

    /// One variant for all shapes of its kernels, the table for the others.
    pub fn force(variant: Variant) -> Choices {
        Choices { forced: Some(variant), tuned: BTreeMap::new() }
    }

    /// The variant for a shape.
    pub fn variant(&self, target: &Target, key: &Key) -> Variant {
        let forced = self.forced.filter(|variant| variant.serves(key.op));
        let chosen = forced.or_else(|| self.tuned.get(key).copied().filter(|variant| variant.serves(key.op)));
        let transformed = |tile: &Tile| Parts::of(tile, &key.shape, key.steps, target).is_some();
        let chosen = chosen.filter(|variant| match variant {
            Variant::Conv(tile) => key.op != ConvOp::Conv2dDWeight || transformed(tile),
            Variant::Weight(_) => true,
        });
        chosen.unwrap_or_else(|| match key.op {
            ConvOp::Conv2dDWeight => {
                let tile = winograd(target, &key.shape, Some(key.shape.cin)).filter(transformed);
                tile.map(Variant::Conv).unwrap_or_else(|| Variant::Weight(weight_tile(target, &key.shape, key.steps)))
            }
            ConvOp::Conv2d => {
                Variant::Conv(winograd(target, &key.shape, None).unwrap_or_else(|| tile(target, &key.shape)))
            }
            ConvOp::ConvTranspose2d => Variant::Conv(tile(target, &key.shape)),
        })
    }
}

/// A shape that a program computes: the variant that it was given, and in how many launches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Use {
    /// The variant.
    pub variant: Variant,
    /// Launches of one run.
    pub launches: usize,
}

/// All shapes that a program computes.
pub type Uses = BTreeMap<Key, Use>;

/// The largest power of two that is at most `limit` and at most the next power of two of `n`.
fn cover(n: usize, limit: usize) -> usize {
    n.next_power_of_two().min(limit)
}

/// SwiftShader (subgroups of 4): the time it takes to compile grows fast with the length of the text.
fn slow_compiler(target: &Target) -> bool {
    target.cpu && target.subgroup == 4
}

/// The tile for conv2d and conv_transpose2d by the direct method, and for matrix products.
///
/// On a CPU a workgroup is one subgroup, and loads are the limit: large register tiles of about 128 accumulators, weights
/// broadcast, images in pairs (a vector is cheaper to load than its elements). On a GPU the weights lie in workgroup memory
/// and smaller tiles keep enough groups in flight.
pub fn tile(target: &Target, shape: &ConvShape) -> Tile {
    let rows = if shape.stride == 2 { 2 } else { 4 };
    if slow_compiler(target) {
        return Tile {
            source: Source::Subgroup,
            lanes: target.subgroup as usize,
            r: 4,
            nv: cover(shape.out_h, 2),
            vec: 1,
            winograd: 0,
        };
    }
    if target.cpu && target.subgroup > 0 {
        let lanes = target.subgroup as usize;
        let r = match shape.k {
            1 if shape.cout > 16 => 32,
            3 if shape.cout > 16 && shape.out_h < 4 => 32, // too few rows for enough accumulators
            _ => 16,
        };
        let vec = match shape.k {
            1 if (shape.n * shape.out_w).is_multiple_of(4) => 4,
            _ if shape.n.is_multiple_of(2) => 2,
            _ => 1,
        };
        let nv = cover(shape.out_h, 128 / (r * vec)).min(if shape.stride == 2 { 2 } else { 8 });
        return Tile { source: Source::Subgroup, lanes, r, nv, vec, winograd: 0 };
    }
    if target.cpu {
        return Tile { source: Source::Uniform, lanes: 8, r: 8, nv: cover(shape.out_h, rows), vec: 1, winograd: 0 };
    }
    let (nv, vec) = if shape.n.is_multiple_of(4) && shape.out_h > 1 { (2, 4) } else { (cover(shape.out_h, rows), 1) };
    Tile { source: Source::Shared, lanes: 64, r: 8, nv, vec, winograd: 0 }
}

/// Winograd's method where it pays on a CPU: enough channels that the transforms do not matter, enough tiles to fill vectors.
/// Its matrix products have `columns`, or as many as there are tiles.
fn winograd(target: &Target, shape: &ConvShape, columns: Option<usize>) -> Option<Tile> {
    const CHANNELS: usize = 32;
    const TILES: usize = 16;
    let suits = target.cpu && target.subgroup > 0 && !slow_compiler(target);
    if !suits || shape.cin.min(shape.cout) < CHANNELS {
        return None;
    }
    let tile = |m| {
        let tiles = Winograd::new(m, shape)?.tiles();
        let columns = columns.unwrap_or(tiles);
        let vec = [4, 2].into_iter().find(|v| columns.is_multiple_of(*v) && columns >= 8 * v).unwrap_or(1);
        let lanes = target.subgroup as usize;
        let tile = Tile { source: Source::Subgroup, lanes, r: 32, nv: 1, vec, winograd: m };
        (tiles >= TILES && Winograd::of(&tile, shape, target).is_some()).then_some(tile)
    };
    // Tiles wider than the map are work for nothing.
    let large = if shape.out_h.min(shape.out_w) > 2 { tile(4) } else { None };
    large.or_else(|| tile(2))
}

/// Output and input channels of a weight gradient for kernel size `k`, with lanes along pixels and with lanes along channels.
/// The accumulators of all taps must fit into registers.
fn weight_sizes(k: usize) -> ((usize, usize), (usize, usize)) {
    match k {
        1 => ((8, 8), (4, 32)),
        3 => ((8, 1), (2, 8)),
        5 => ((4, 1), (1, 4)),
        _ => ((1, 1), (1, 2)),
    }
}

/// Rows and images per turn of a weight gradient with lanes along channels: four products per accumulator and turn, of images
/// if the batch allows, as a vector is cheaper to load than its elements; the rest of rows.
const TURNS: [(usize, usize); 3] = [(1, 4), (2, 2), (4, 1)];

/// The tile for weight gradients of `steps` timesteps.
///
/// Splits fill the machine, and bound the number of terms that one accumulator adds up in f32.
pub fn weight_tile(target: &Target, shape: &ConvShape, steps: usize) -> WeightTile {
    const MOST_TERMS: usize = 1 << 16;
    const MOST_PARTIAL_WORDS: usize = 1 << 24;
    let images = if shape.k == 1 { shape.n * shape.out_w } else { shape.n };
    let (pixels, channels) = weight_sizes(shape.k);
    let lanes = target.subgroup as usize;
    let tile = if slow_compiler(target) {
        let c = if shape.k <= 3 { 4 } else { 1 };
        WeightTile { along: Lanes::Channels, subgroup: true, lanes, r: 1, c, unroll: 1, vec: 1, splits: 1 }
    } else if target.cpu && target.subgroup > 0 {
        let (unroll, vec) = TURNS.into_iter().find(|t| images.is_multiple_of(t.1)).expect("1 divides everything");
        let (r, c) = channels;
        let unroll = unroll.min(shape.in_h.next_power_of_two());
        WeightTile { along: Lanes::Channels, subgroup: true, lanes, r, c, unroll, vec, splits: 1 }
    } else {
        let (r, c) = pixels;
        let lanes = if target.cpu { 8 } else { 64 };
        WeightTile { along: Lanes::Pixels, subgroup: false, lanes, r, c, unroll: 1, vec: 1, splits: 1 }
    };
    let channels = if tile.along == Lanes::Channels { tile.r * tile.lanes } else { tile.r };
    let groups = shape.cin.div_ceil(tile.c) * shape.cout.div_ceil(channels);
    let wanted: usize = if target.cpu { 8 } else { 512 };
    let terms = steps * shape.out_h * shape.out_w * shape.n;
    let most = (MOST_PARTIAL_WORDS / (shape.cin * shape.cout * shape.k * shape.k)).max(1);
    WeightTile { splits: wanted.div_ceil(groups).max(terms.div_ceil(MOST_TERMS)).min(most), ..tile }
}

/// Every variant of a kernel that this adapter can run, for kernel size `k`: what the table chooses anywhere, and others worth
/// measuring.
pub fn variants(target: &Target, op: ConvOp, k: usize) -> Vec<Variant> {
    let conv = tiles(target, k, op == ConvOp::ConvTranspose2d).into_iter().map(Variant::Conv);
    let weight = if op == ConvOp::Conv2dDWeight { weight_tiles(target, k) } else { Vec::new() };
    weight.into_iter().map(Variant::Weight).chain(conv.filter(|variant| variant.serves(op))).collect()
}

/// Every tile of conv2d or conv_transpose2d that this adapter can run: what [`tile`] chooses anywhere, and others worth
/// measuring. Large kernels get small tiles: their text is unrolled, and long texts compile slowly.
fn tiles(target: &Target, k: usize, transposed: bool) -> Vec<Tile> {
    let slow = slow_compiler(target);
    let mut list = Vec::new();
    let mut add = |source, lanes, shapes: &[(usize, usize, usize)]| {
        list.extend(shapes.iter().map(|&(r, nv, vec)| Tile { source, lanes, r, nv, vec, winograd: 0 }));
    };
    let all: &[_] = &[(8, 1, 1), (8, 2, 1), (8, 4, 1), (8, 2, 4)];
    let some = |wanted| match (slow, wanted) {
        (true, _) => &[(4, 2, 1)],
        (false, true) => all,
        (false, false) => &all[2..],
    };
    add(Source::Uniform, 8, some(target.cpu && target.subgroup == 0));
    if !transposed || !target.cpu {
        add(Source::Shared, 64, some(!target.cpu)); // the transposed convolution then loads its weights uniformly
    }
    if !target.cpu {
        add(Source::Uniform, 64, &[(4, 2, 1)]);
    }
    if target.subgroup > 0 {
        let chosen: &[_] = match k {
            _ if slow => &[(4, 1, 1), (4, 2, 1), (4, 2, 2)],
            1 => &[(16, 1, 1), (16, 2, 4), (32, 1, 2), (32, 1, 4), (32, 2, 4)],
            3 => &[(16, 1, 1), (16, 2, 2), (16, 4, 2), (16, 8, 1), (32, 1, 2), (32, 2, 2), (32, 4, 1)],
            _ => &[(16, 1, 2), (16, 4, 2), (16, 8, 1), (8, 4, 1)],
        };
        add(Source::Subgroup, target.subgroup as usize, chosen);
        if !target.cpu {
            add(Source::Subgroup, 64, &[(4, 2, 1)]);
        }
    }
    let products: Vec<Tile> = if transposed || k == 1 { Vec::new() } else { tiles(target, 1, false) };
    for winograd in [2, 4].into_iter().filter(|m| m + k <= 7) {
        list.extend(products.iter().map(|tile| Tile { winograd, ..*tile }));
    }
    list
}

/// Every weight-gradient tile that this adapter can run: what [`weight_tile`] chooses for this kernel size, and others worth
/// measuring.
fn weight_tiles(target: &Target, k: usize) -> Vec<WeightTile> {
    let slow = slow_compiler(target);
    let mut list = Vec::new();
    let mut add = |along, subgroup, lanes, (r, c), (unroll, vec)| {
        list.push(WeightTile { along, subgroup, lanes, r, c, unroll, vec, splits: 1 });
    };
    let (pixels, channels) = weight_sizes(k);
    let pixels = if slow { (2, 1) } else { pixels };
    add(Lanes::Pixels, false, 8, pixels, (1, 1));
    add(Lanes::Pixels, false, 64, pixels, (1, 1));
    add(Lanes::Channels, false, 64, (1, 2), (1, 1));
    add(Lanes::Channels, false, 64, (1, 2), (1, 4));
    if target.subgroup > 0 {
        let lanes = target.subgroup as usize;
        add(Lanes::Pixels, true, lanes, if k <= 3 { (2, 2) } else { (1, 1) }, (1, 1));
        if slow {
            add(Lanes::Channels, true, lanes, (1, if k <= 3 { 4 } else { 1 }), (1, 1));
        } else {
            TURNS.into_iter().for_each(|turn| add(Lanes::Channels, true, lanes, channels, turn));
        }
    }
    // Splitting adds a second launch.
    list.iter().flat_map(|&tile| [1, 3].map(|splits| WeightTile { splits, ..tile })).collect()
}
