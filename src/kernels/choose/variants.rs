//! The list of all variants that an adapter can run: for `check` and the tuner.

use super::key::{ConvOp, Variant};
use super::table::{LARGE, STAGED, TURNS, terms, vectors, weight_sizes, wide_streams};
use crate::kernels::Target;
use crate::kernels::conv::{Lanes, Outputs, Source, Tile, WeightTile};

/// Every variant of a kernel that this adapter can run, for kernel size `k` and a stride: what the table chooses anywhere, and
/// others worth measuring.
pub fn variants(target: &Target, op: ConvOp, k: usize, stride: usize) -> Vec<Variant> {
    let conv = tiles(target, op, k, stride).into_iter().map(Variant::Conv);
    let weight = if op == ConvOp::Conv2dDWeight { weight_tiles(target, k) } else { Vec::new() };
    weight.into_iter().map(Variant::Weight).chain(conv.filter(|variant| variant.serves(op))).collect()
}

/// Every tile of conv2d or conv_transpose2d that this adapter can run: what the table chooses anywhere, and others worth
/// measuring. Large kernels get small tiles: their text is unrolled, and long texts compile slowly.
fn tiles(target: &Target, op: ConvOp, k: usize, stride: usize) -> Vec<Tile> {
    let transposed = op == ConvOp::ConvTranspose2d;
    let slow = target.slow_compiler();
    let mut list = Vec::new();
    let mut add = |source, lanes, shapes: &[(usize, usize, usize)]| {
        let of = |&(r, nv, vec)| Tile { source, lanes, r, nv, vec, terms: 1, wide: false, winograd: None };
        list.extend(shapes.iter().map(of));
    };
    if k > LARGE {
        let (lanes, subgroup) = (if target.cpu { 8 } else { 64 }, target.subgroup as usize);
        match (slow, subgroup) {
            (true, 0) => add(Source::Uniform, lanes, &[(2, 1, 1)]),
            (true, _) => add(Source::Subgroup, subgroup, &[(2, 1, 1)]),
            _ => add(Source::Uniform, lanes, &[(4, 1, 1), (4, 2, 1), (8, 1, 1), (8, 2, 1)]),
        }
        if subgroup > 0 && !slow {
            add(Source::Subgroup, subgroup, &[(8, 1, 1), (8, 2, 1)]);
        }
        if !target.cpu && k <= STAGED {
            add(Source::Shared, lanes, &[(8, 1, 1), (8, 2, 1), (8, 4, 1), (8, 2, 4)]);
        }
        return list;
    }
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
    // Rows of x lie in registers: as many more as the stride says.
    list.retain(|tile| transposed || tile.nv * stride <= 16);
    if !transposed && k == 1 && stride == 1 {
        list.iter_mut().for_each(|tile| tile.terms = terms(target, tile.r * tile.nv * tile.vec, false));
    }
    if wide_streams(target) {
        let some = list.iter().filter(|tile| tile.source == Source::Subgroup && vectors(tile, k, target));
        let mut wide: Vec<Tile> = some.map(|tile| Tile { wide: true, ..*tile }).collect();
        // With few accumulators 4 terms a turn are best, with many 2 or 4, by the driver.
        wide.extend(wide.clone().into_iter().filter(|tile| tile.terms == 2).map(|tile| Tile { terms: 4, ..tile }));
        list.extend(wide);
    }
    if transposed || k == 1 || stride > 1 {
        return list;
    }
    let products = tiles(target, ConvOp::Conv2d, 1, 1);
    for outputs in Outputs::ALL.into_iter().filter(|outputs| outputs.side() + k <= 7) {
        list.extend(products.iter().map(|tile| Tile { winograd: Some(outputs), ..*tile }));
    }
    list
}

/// Every weight-gradient tile that this adapter can run: what [`weight_tile`] chooses for this kernel size, and others worth
/// measuring.
fn weight_tiles(target: &Target, k: usize) -> Vec<WeightTile> {
    let slow = target.slow_compiler();
    let mut list = Vec::new();
    let mut add = |along, subgroup, lanes, (r, c), (unroll, vec)| {
        let tile = WeightTile { along, subgroup, lanes, r, c, unroll, vec, wide: false, splits: 1 };
        list.push(tile);
        if subgroup && vec > 1 && wide_streams(target) {
            list.push(WeightTile { wide: true, ..tile });
        }
    };
    let (pixels, channels) = weight_sizes(k);
    let pixels = if slow && k <= LARGE { (2, 1) } else { pixels };
    add(Lanes::Pixels, false, 8, pixels, (1, 1));
    add(Lanes::Pixels, false, 64, pixels, (1, 1));
    add(Lanes::Channels, false, 64, (1, if k > LARGE { 1 } else { 2 }), (1, 1));
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
    if k > LARGE {
        list.retain(|tile| tile.r * tile.c == 1 && tile.unroll * tile.vec == 1);
    }
    // Splitting adds a second launch.
    list.iter().flat_map(|&tile| [1, 3].map(|splits| WeightTile { splits, ..tile })).collect()
}
