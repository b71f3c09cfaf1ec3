//! Which variant serves which shape: the table of sensible choices, and the list of all variants for `check`.

use super::Target;
use super::conv::{ConvShape, Lanes, Source, Tile, WeightTile};

/// Variants forced by a test or a benchmark; `None` leaves the choice to the table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Choice {
    /// For conv2d and conv_transpose2d.
    pub tile: Option<Tile>,
    /// For weight gradients.
    pub weight: Option<WeightTile>,
}

/// The largest power of two that is at most `limit` and at most the next power of two of `n`.
fn cover(n: usize, limit: usize) -> usize {
    n.next_power_of_two().min(limit)
}

/// SwiftShader (subgroups of 4): the time it takes to compile grows fast with the length of the text.
fn slow_compiler(target: &Target) -> bool {
    target.cpu && target.subgroup == 4
}

/// The tile for conv2d and conv_transpose2d.
///
/// On a CPU a workgroup is one subgroup, and loads are the limit: large register tiles, weights broadcast. On a GPU the
/// weights lie in workgroup memory and smaller tiles keep enough groups in flight.
pub fn tile(target: &Target, shape: &ConvShape) -> Tile {
    let rows = if shape.stride == 2 { 2 } else { 4 };
    if slow_compiler(target) {
        return Tile { source: Source::Subgroup, lanes: target.subgroup as usize, r: 4, nv: cover(shape.out_h, 2) };
    }
    if target.cpu && target.subgroup > 0 {
        let r = if shape.k >= 5 { 8 } else { 16 };
        return Tile { source: Source::Subgroup, lanes: target.subgroup as usize, r, nv: cover(shape.out_h, rows) };
    }
    if target.cpu {
        return Tile { source: Source::Uniform, lanes: 8, r: 8, nv: cover(shape.out_h, rows) };
    }
    Tile { source: Source::Shared, lanes: 64, r: 8, nv: cover(shape.out_h, rows) }
}

/// The tile for weight gradients of `steps` timesteps.
///
/// Splits fill the machine, and bound the number of terms that one accumulator adds up in f32.
pub fn weight_tile(target: &Target, shape: &ConvShape, steps: usize) -> WeightTile {
    const MOST_TERMS: usize = 1 << 16;
    const MOST_PARTIAL_WORDS: usize = 1 << 24;
    let tile = if slow_compiler(target) {
        let c = if shape.k <= 3 { 4 } else { 1 };
        let lanes = target.subgroup as usize;
        WeightTile { along: Lanes::Channels, subgroup: true, lanes, r: 1, c, unroll: 1, splits: 1 }
    } else if target.cpu && target.subgroup > 0 {
        let (r, c, unroll) = match shape.k {
            1 => (4, 32, 1),
            3 => (2, 8, 2),
            5 => (1, 4, 2),
            _ => (1, 2, 1),
        };
        WeightTile { along: Lanes::Channels, subgroup: true, lanes: target.subgroup as usize, r, c, unroll, splits: 1 }
    } else {
        let (r, c) = match shape.k {
            1 => (8, 8),
            3 => (8, 1),
            5 => (4, 1),
            _ => (1, 1),
        };
        let lanes = if target.cpu { 8 } else { 64 };
        WeightTile { along: Lanes::Pixels, subgroup: false, lanes, r, c, unroll: 1, splits: 1 }
    };
    let channels = if tile.along == Lanes::Channels { tile.r * tile.lanes } else { tile.r };
    let groups = shape.cin.div_ceil(tile.c) * shape.cout.div_ceil(channels);
    let wanted: usize = if target.cpu { 8 } else { 512 };
    let terms = steps * shape.out_h * shape.out_w * shape.n;
    let most = (MOST_PARTIAL_WORDS / (shape.cin * shape.cout * shape.k * shape.k)).max(1);
    WeightTile { splits: wanted.div_ceil(groups).max(terms.div_ceil(MOST_TERMS)).min(most), ..tile }
}

/// Every conv2d tile that `check` runs on this adapter; `transposed`: those that conv_transpose2d knows.
pub fn tiles(target: &Target, transposed: bool) -> Vec<Tile> {
    let tile = |source, lanes, r, nv| Tile { source, lanes, r, nv };
    let mut list = vec![tile(Source::Uniform, 8, 8, 1), tile(Source::Uniform, 64, 8, 4)];
    if !transposed {
        list.extend([tile(Source::Shared, 64, 8, 4), tile(Source::Shared, 64, 16, 2)]);
    }
    if target.subgroup > 0 {
        let lanes = target.subgroup as usize;
        list.extend([tile(Source::Subgroup, lanes, 8, 1), tile(Source::Subgroup, 64, 16, 2)]);
    }
    // What the table chooses here.
    for (rows, k) in [(1, 1), (4, 3), (4, 5)] {
        let chosen = self::tile(target, &ConvShape::same(1, 1, 1, rows, rows, k));
        if !(list.contains(&chosen) || transposed && chosen.source == Source::Shared) {
            list.push(chosen);
        }
    }
    list
}

/// Every weight-gradient tile that `check` runs on this adapter.
pub fn weight_tiles(target: &Target, k: usize) -> Vec<WeightTile> {
    let mut list = Vec::new();
    let shapes: &[(usize, usize)] = match k {
        1 => &[(8, 8), (4, 4)],
        3 => &[(8, 1), (4, 2)],
        _ => &[(4, 1), (2, 1)],
    };
    for &(r, c) in shapes {
        for splits in [1, 3] {
            list.push(WeightTile { along: Lanes::Pixels, subgroup: false, lanes: 8, r, c, unroll: 1, splits });
            let across = WeightTile { along: Lanes::Channels, subgroup: false, lanes: 64, r: 1, c, unroll: 2, splits };
            list.push(across);
            if target.subgroup > 0 {
                let lanes = target.subgroup as usize;
                list.push(WeightTile { along: Lanes::Pixels, subgroup: true, lanes, r, c, unroll: 1, splits });
                list.push(WeightTile { lanes, subgroup: true, ..across });
            }
        }
    }
    list.push(WeightTile { along: Lanes::Pixels, subgroup: false, lanes: 64, r: 4, c: 1, unroll: 1, splits: 2 });
    list.push(WeightTile { splits: 2, ..weight_tile(target, &ConvShape::same(1, 1, 1, 4, 4, k), 1) });
    list
}
