//! The table: the sensible choice for every shape on every kind of adapter.

use super::key::ConvOp;
use crate::kernels::Target;
use crate::kernels::conv::{ConvShape, Lanes, Outputs, Source, Tile, WeightTile, Winograd};

/// The largest power of two that is at most `limit` and at most the next power of two of `n`.
fn cover(n: usize, limit: usize) -> usize {
    n.next_power_of_two().min(limit)
}

/// Kernels with more rows than these get small tiles: the text grows with the kernel, as all taps are written out.
pub(super) const LARGE: usize = 7;
/// Rows of the largest kernel of which workgroup memory holds the weights of one input channel twice.
pub(super) const STAGED: usize = 15;

/// The tile for conv2d and conv_transpose2d by the direct method, and for matrix products.
///
/// On a CPU a workgroup is one subgroup, and loads are the limit: large register tiles of about 128 accumulators, weights
/// broadcast, images in pairs (a vector is cheaper to load than its elements). On a GPU the weights lie in workgroup memory
/// and smaller tiles keep enough groups in flight.
pub fn tile(target: &Target, op: ConvOp, shape: &ConvShape) -> Tile {
    // A transposed convolution works on the small map, one phase at a time.
    let (rows, columns, stride) = match op {
        ConvOp::ConvTranspose2d => (shape.in_h, shape.in_w, 1),
        _ => (shape.out_h, shape.out_w, shape.stride),
    };
    let (k, n, winograd) = (shape.k, shape.n, None);
    let most_rows = if stride > 1 { 2 } else { 4 };
    if target.slow_compiler() {
        let (source, lanes) = match target.subgroup {
            0 => (Source::Uniform, 8),
            size => (Source::Subgroup, size as usize),
        };
        let (r, nv) = if k > LARGE { (2, 1) } else { (4, cover(rows, 2)) };
        return Tile { source, lanes, r, nv, vec: 1, winograd };
    }
    if target.cpu && target.subgroup > 0 {
        let lanes = target.subgroup as usize;
        if k > LARGE {
            return Tile { source: Source::Subgroup, lanes, r: 8, nv: cover(rows, 2), vec: 1, winograd };
        }
        let r = match k {
            1 if shape.cout > 16 => 32,
            3 if shape.cout > 16 && rows < 4 => 32, // too few rows for enough accumulators
            _ => 16,
        };
        let vec = match k {
            1 if (n * columns).is_multiple_of(4) => 4,
            _ if n.is_multiple_of(2) => 2,
            _ => 1,
        };
        let nv = cover(rows, 128 / (r * vec)).min(if stride > 1 { 2 } else { 8 });
        return Tile { source: Source::Subgroup, lanes, r, nv, vec, winograd };
    }
    if target.cpu {
        let nv = cover(rows, if k > LARGE { 2 } else { most_rows });
        return Tile { source: Source::Uniform, lanes: 8, r: 8, nv, vec: 1, winograd };
    }
    if k > STAGED {
        return Tile { source: Source::Uniform, lanes: 64, r: 4, nv: cover(rows, 2), vec: 1, winograd };
    }
    let (nv, vec) = if n.is_multiple_of(4) && rows > 1 { (2, 4) } else { (cover(rows, most_rows), 1) };
    Tile { source: Source::Shared, lanes: 64, r: 8, nv, vec, winograd }
}

/// The tile for the products of large matrices that statistics are made of. Where loads are the limit it is twice as wide as that
/// of networks, whose maps are often too small for it.
pub fn product_tile(target: &Target, columns: usize, cin: usize, cout: usize) -> Tile {
    let shape = ConvShape::same(1, cin, cout, 1, columns, 1);
    let tile = tile(target, ConvOp::Conv2d, &shape);
    let wide = target.cpu && tile.source == Source::Subgroup && !target.slow_compiler();
    let nv = if wide && columns >= 2 * tile.lanes * tile.vec { 2 } else { tile.nv };
    Tile { nv, ..tile }
}

/// Winograd's method where it pays on a CPU: enough channels that the transforms do not matter, enough tiles to fill vectors.
/// Its matrix products have `columns`, or as many as there are tiles.
pub(super) fn winograd(target: &Target, shape: &ConvShape, columns: Option<usize>) -> Option<Tile> {
    const CHANNELS: usize = 32;
    const TILES: usize = 16;
    let suits = target.cpu && target.subgroup > 0 && !target.slow_compiler();
    if !suits || shape.cin.min(shape.cout) < CHANNELS {
        return None;
    }
    let tile = |outputs| {
        let tiles = Winograd::new(outputs, shape)?.tiles();
        let columns = columns.unwrap_or(tiles);
        let vec = [4, 2].into_iter().find(|v| columns.is_multiple_of(*v) && columns >= 8 * v).unwrap_or(1);
        let lanes = target.subgroup as usize;
        let tile = Tile { source: Source::Subgroup, lanes, r: 32, nv: 1, vec, winograd: Some(outputs) };
        (tiles >= TILES && Winograd::of(&tile, shape, target).is_some()).then_some(tile)
    };
    // Tiles wider than the map are work for nothing.
    let large = if shape.out_h.min(shape.out_w) > 2 { tile(Outputs::Four) } else { None };
    large.or_else(|| tile(Outputs::Two))
}

/// Output and input channels of a weight gradient for kernel size `k`, with lanes along pixels and with lanes along channels.
/// The accumulators of all taps must fit into registers.
pub(super) fn weight_sizes(k: usize) -> ((usize, usize), (usize, usize)) {
    match k {
        1 => ((8, 8), (4, 32)),
        3 => ((8, 1), (2, 8)),
        5 => ((4, 1), (1, 4)),
        7 => ((1, 1), (1, 2)),
        _ => ((1, 1), (1, 1)),
    }
}

/// Rows and images per turn of a weight gradient with lanes along channels: four products per accumulator and turn, of images
/// if the batch allows, as a vector is cheaper to load than its elements; the rest of rows.
pub(super) const TURNS: [(usize, usize); 3] = [(1, 4), (2, 2), (4, 1)];

/// The tile for weight gradients of `steps` timesteps.
///
/// Splits fill the machine, and bound the number of terms that one accumulator adds up in f32.
pub fn weight_tile(target: &Target, shape: &ConvShape, steps: usize) -> WeightTile {
    const MOST_TERMS: usize = 1 << 16;
    const MOST_PARTIAL_WORDS: usize = 1 << 24;
    let images = if shape.k == 1 { shape.n * shape.out_w } else { shape.n };
    let (pixels, channels) = weight_sizes(shape.k);
    let lanes = target.subgroup as usize;
    let tile = if target.slow_compiler() {
        let c = if shape.k <= 3 { 4 } else { 1 };
        WeightTile { along: Lanes::Channels, subgroup: true, lanes, r: 1, c, unroll: 1, vec: 1, splits: 1 }
    } else if target.cpu && target.subgroup > 0 {
        let (unroll, vec) =
            TURNS.into_iter().find(|(_, vec)| images.is_multiple_of(*vec)).expect("1 divides everything");
        // A large kernel's text is long enough with one product per accumulator; with a stride, a turn takes more rows of x.
        let (unroll, vec) = if shape.k > LARGE { (1, 1) } else { (unroll, vec) };
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
