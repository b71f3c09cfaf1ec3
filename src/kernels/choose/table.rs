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

/// Whether loads and stores of vectors go as words of 64 bits in kernels that pass over a map once: where the driver loads lane by
/// lane and knows such words. It was faster with Mesa 25 and 26, with AVX-512 and without (docs/performance.md).
pub fn wide_streams(target: &Target) -> bool {
    target.int64 && target.cpu && target.subgroup > 0 && !target.slow_compiler()
}

/// Whether convolutions and products load words of 64 bits too: not where the processor gathers, which made them slower.
fn wide_products(target: &Target) -> bool {
    wide_streams(target) && !target.gathers
}

/// Terms of the sum per turn of a matrix product with so many accumulators. Beyond 128, less of everything else may be in
/// flight; the compiler of Mesa 26 copes with it where loads are wide.
pub(super) fn terms(target: &Target, accumulators: usize, wide: bool) -> usize {
    let copes = wide && target.llvm().is_some_and(|version| version >= 19);
    if accumulators > 128 && !copes { 2 } else { 4 }
}

/// The tile for conv2d and conv_transpose2d by the direct method, and for matrix products.
///
/// On a CPU a workgroup is one subgroup, and loads are the limit: large register tiles of about 128 accumulators, weights
/// broadcast, images in pairs (a vector is cheaper to load than its elements). On a GPU the weights lie in workgroup memory
/// and smaller tiles keep enough groups in flight.
pub fn tile(target: &Target, op: ConvOp, shape: &ConvShape) -> Tile {
    let tile = direct(target, op, shape);
    let vectors = shape.k <= LARGE && tile.source == Source::Subgroup && vectors(&tile, shape.k, target);
    let wide = vectors && wide_products(target);
    if op != ConvOp::Conv2d || shape.k > 1 || shape.stride > 1 {
        return Tile { wide, ..tile };
    }
    // A matrix product: of twice the width where loads are wide or gathered, if that leaves enough for all cores.
    let columns = shape.out_h * shape.out_w * shape.n;
    let groups = columns / (2 * tile.lanes * tile.vec) * shape.cout.div_ceil(tile.r);
    let cheap = vectors && wide_streams(target);
    let nv = if cheap && tile.r * tile.nv * tile.vec == 128 && groups >= 16 { 2 * tile.nv } else { tile.nv };
    Tile { nv, terms: terms(target, tile.r * nv * tile.vec, wide), wide, ..tile }
}

/// Whether a variant with weights from subgroups loads any vectors: of images, or of weights, of which whole subgroups are
/// needed at a time.
pub(super) fn vectors(tile: &Tile, k: usize, target: &Target) -> bool {
    tile.vec > 1 || (tile.r * k).is_multiple_of(2 * target.subgroup as usize)
}

/// Its sizes and the source of the weights.
fn direct(target: &Target, op: ConvOp, shape: &ConvShape) -> Tile {
    // A transposed convolution works on the small map, one phase at a time.
    let (rows, columns, stride) = match op {
        ConvOp::ConvTranspose2d => (shape.in_h, shape.in_w, 1),
        _ => (shape.out_h, shape.out_w, shape.stride),
    };
    let (k, n) = (shape.k, shape.n);
    let of = |source, lanes, r, nv, vec| Tile { source, lanes, r, nv, vec, terms: 1, wide: false, winograd: None };
    let most_rows = if stride > 1 { 2 } else { 4 };
    if target.slow_compiler() {
        let (source, lanes) = match target.subgroup {
            0 => (Source::Uniform, 8),
            size => (Source::Subgroup, size as usize),
        };
        let (r, nv) = if k > LARGE { (2, 1) } else { (4, cover(rows, 2)) };
        return of(source, lanes, r, nv, 1);
    }
    if target.cpu && target.subgroup > 0 {
        let lanes = target.subgroup as usize;
        if k > LARGE {
            return of(Source::Subgroup, lanes, 8, cover(rows, 2), 1);
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
        return of(Source::Subgroup, lanes, r, nv, vec);
    }
    if target.cpu {
        let nv = cover(rows, if k > LARGE { 2 } else { most_rows });
        return of(Source::Uniform, 8, 8, nv, 1);
    }
    if k > STAGED {
        return of(Source::Uniform, 64, 4, cover(rows, 2), 1);
    }
    let (nv, vec) = if n.is_multiple_of(4) && rows > 1 { (2, 4) } else { (cover(rows, most_rows), 1) };
    of(Source::Shared, 64, 8, nv, vec)
}

/// The tile for the products of large matrices that statistics are made of. Where loads are the limit it is twice as wide as that
/// of networks, whose maps are often too small for it.
pub fn product_tile(target: &Target, columns: usize, cin: usize, cout: usize) -> Tile {
    let shape = ConvShape::same(1, cin, cout, 1, columns, 1);
    let tile = tile(target, ConvOp::Conv2d, &shape);
    let large = target.cpu && tile.source == Source::Subgroup && !target.slow_compiler();
    let nv = if large && columns >= 2 * tile.lanes * tile.vec { 2 } else { tile.nv };
    // Long sums of few images are no faster with wide loads by Mesa 25 on a processor with AVX-512.
    let wide = tile.wide && !(target.avx512 && target.llvm().is_some_and(|version| version < 19));
    Tile { nv, terms: terms(target, tile.r * nv * tile.vec, wide), wide, ..tile }
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
        let (r, nv, wide) = (32, 1, wide_products(target));
        let terms = terms(target, r * nv * vec, wide);
        let tile = Tile { source: Source::Subgroup, lanes, r, nv, vec, terms, wide, winograd: Some(outputs) };
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
        WeightTile { along: Lanes::Channels, subgroup: true, lanes, r: 1, c, unroll: 1, vec: 1, wide: false, splits: 1 }
    } else if target.cpu && target.subgroup > 0 {
        let (unroll, vec) =
            TURNS.into_iter().find(|(_, vec)| images.is_multiple_of(*vec)).expect("1 divides everything");
        // A large kernel's text is long enough with one product per accumulator; with a stride, a turn takes more rows of x.
        let (unroll, vec) = if shape.k > LARGE { (1, 1) } else { (unroll, vec) };
        let (r, c) = channels;
        let unroll = unroll.min(shape.in_h.next_power_of_two());
        let wide = vec > 1 && wide_products(target);
        WeightTile { along: Lanes::Channels, subgroup: true, lanes, r, c, unroll, vec, wide, splits: 1 }
    } else {
        let (r, c) = pixels;
        let lanes = if target.cpu { 8 } else { 64 };
        WeightTile { along: Lanes::Pixels, subgroup: false, lanes, r, c, unroll: 1, vec: 1, wide: false, splits: 1 }
    };
    let channels = if tile.along == Lanes::Channels { tile.r * tile.lanes } else { tile.r };
    let groups = shape.cin.div_ceil(tile.c) * shape.cout.div_ceil(channels);
    let wanted: usize = if target.cpu { 8 } else { 512 };
    let terms = steps * shape.out_h * shape.out_w * shape.n;
    let most = (MOST_PARTIAL_WORDS / (shape.cin * shape.cout * shape.k * shape.k)).max(1);
    WeightTile { splits: wanted.div_ceil(groups).max(terms.div_ceil(MOST_TERMS)).min(most), ..tile }
}
