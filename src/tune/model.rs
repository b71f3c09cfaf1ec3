//! The cost model: which variants are worth measuring for a shape, the most promising first. It only orders and prunes;
//! what is chosen is what was measured.

use crate::kernels::Target;
use crate::kernels::choose::{ConvOp, Key, Variant, variants, weight_tile};
use crate::kernels::conv::{ConvShape, Lanes, Parts, Source, Tile, WeightTile, Winograd};
use std::collections::HashSet;

/// Most candidates per shape beside the present choice.
const MOST: usize = 6;
/// Candidates that the model takes to be this much slower than the present choice are not tried.
const HOPELESS: f64 = 2.0;

/// What things cost, in multiply-adds of one lane. A CPU driver pays dearly for loads and runs few groups at a time; a GPU
/// hides loads behind many groups.
struct Costs {
    /// Load of a value of a map or weight, consecutive over lanes.
    load: f64,
    /// Load of one value for all lanes.
    uniform: f64,
    /// Load from workgroup memory.
    shared: f64,
    /// Broadcast from one lane to all.
    broadcast: f64,
    /// Start of a group, per lane.
    start: f64,
    /// Accumulators that fit into registers.
    registers: f64,
    /// Lanes that keep the machine busy.
    busy: f64,
}

fn costs(target: &Target) -> Costs {
    if target.cpu {
        let (load, uniform, shared, broadcast) = (20.0, 30.0, 100.0, 3.0);
        Costs { load, uniform, shared, broadcast, start: 300.0, registers: 128.0, busy: 64.0 }
    } else {
        let (load, uniform, shared, broadcast) = (8.0, 2.0, 1.5, 1.5);
        Costs { load, uniform, shared, broadcast, start: 20.0, registers: 64.0, busy: 32_768.0 }
    }
}

/// The estimated time of one launch, in multiply-adds: comparable between variants of one shape on one adapter only.
pub fn cost(target: &Target, key: &Key, variant: &Variant) -> f64 {
    match variant {
        Variant::Conv(tile) => conv_cost(target, key, tile),
        Variant::Weight(tile) => weight_cost(target, key, tile),
    }
}

/// Time of `lanes` lanes that do `work` each, where `groups` groups of them are spread over the machine and each lane keeps
/// `accumulators`.
fn spread(c: &Costs, lanes: f64, work: f64, accumulators: usize) -> f64 {
    let spilled = if accumulators as f64 > c.registers { accumulators as f64 / c.registers } else { 1.0 };
    lanes.max(c.busy) * (work * spilled + c.start)
}

/// Neighbouring images that a variant can read as one vector. To a 1x1 kernel columns are images.
fn images(s: &ConvShape) -> usize {
    if s.k == 1 && s.stride == 1 { s.n * s.in_w } else { s.n }
}

/// Loading a vector costs less than loading its elements; as words of 64 bits, again.
fn vector_load(vec: usize, wide: bool) -> f64 {
    let words = if wide && vec > 1 { 0.6 } else { 1.0 };
    words * (1.0 + vec as f64) / 2.0
}

/// What a weight costs that a lane takes from its source.
fn weight_source(target: &Target, c: &Costs, source: Source) -> f64 {
    match source {
        Source::Subgroup => c.broadcast + c.load / f64::from(target.subgroup.max(1)),
        Source::Shared => c.shared,
        Source::Uniform => c.uniform,
    }
}

/// Products of matrices: `batch` times rows x terms by terms x columns.
struct Products {
    batch: usize,
    rows: usize,
    columns: usize,
    terms: usize,
}

/// The matrix products that a variant computes, if it does, and what a lane loads and stores in transforms beside them.
fn products(target: &Target, key: &Key, tile: &Tile) -> Option<(Products, f64)> {
    let s = &key.shape;
    let cut = Winograd::of(tile, s, target);
    let whole = key.op != ConvOp::Conv2dDWeight || Parts::of(tile, s, key.steps, target).is_some();
    let Some(cut) = cut.filter(|_| whole) else {
        let columns = s.n * s.out_h * s.out_w;
        let product = key.op == ConvOp::Conv2d && s.k == 1 && s.stride == 1;
        return product.then_some((Products { batch: 1, rows: s.cout, columns, terms: s.cin }, 0.0));
    };
    let tiles = key.steps * cut.tiles();
    let moved = (tiles * (s.cin + s.cout)) as f64 * (cut.positions() + cut.positions() / 2) as f64;
    let weights = (s.cin * s.cout * cut.positions()) as f64;
    Some(match key.op {
        ConvOp::Conv2dDWeight => {
            (Products { batch: cut.positions(), rows: s.cout, columns: s.cin, terms: tiles }, moved + weights)
        }
        _ => (Products { batch: cut.positions(), rows: s.cout, columns: tiles, terms: s.cin }, moved),
    })
}

fn product_cost(target: &Target, tile: &Tile, of: &Products, moved: f64) -> f64 {
    let c = costs(target);
    let vec = if of.columns.is_multiple_of(tile.vec) { tile.vec } else { 1 };
    let (r, nv) = (tile.r as f64, tile.nv as f64);
    let groups = of.batch * (of.columns / vec).div_ceil(tile.lanes * tile.nv) * of.rows.div_ceil(tile.r);
    let loads = nv * vector_load(vec, tile.wide) * c.load;
    // An accumulator that takes part in few products per turn is mostly read and written.
    let products = r * nv * vec as f64 * (1.0 + 1.0 / tile.terms as f64);
    let turn = products + loads + r * weight_source(target, &c, tile.source);
    let accumulators = tile.r * tile.nv * vec;
    spread(&c, (groups * tile.lanes) as f64, of.terms as f64 * turn, accumulators) + moved * c.load
}

fn conv_cost(target: &Target, key: &Key, tile: &Tile) -> f64 {
    if let Some((of, moved)) = products(target, key, tile) {
        return product_cost(target, tile, &of, moved);
    }
    let (c, s) = (costs(target), &key.shape);
    let vec = if images(s).is_multiple_of(tile.vec) { tile.vec } else { 1 };
    let (k, r, nv, v) = (s.k as f64, tile.r as f64, tile.nv as f64, vec as f64);
    // Each phase of a transposed convolution has its share of the taps.
    let (phases, taps, columns, rows, stride) = match key.op {
        ConvOp::ConvTranspose2d => {
            let phases = s.stride * s.stride;
            (phases, k * k / phases as f64, s.in_w * s.n, s.in_h, 1)
        }
        _ => (1, k * k, s.out_w * s.n, s.out_h, s.stride),
    };
    let groups = (columns / vec).div_ceil(tile.lanes) * phases * rows.div_ceil(tile.nv) * s.cout.div_ceil(tile.r);
    let loads = taps / k * ((nv - 1.0) * stride as f64 + k) * vector_load(vec, tile.wide);
    let weights = taps * r;
    let turn = weights * nv * v + loads * c.load + weights * weight_source(target, &c, tile.source);
    spread(&c, (groups * tile.lanes) as f64, s.cin as f64 * turn, tile.r * tile.nv * vec)
}

fn weight_cost(target: &Target, key: &Key, tile: &WeightTile) -> f64 {
    let (costs, s) = (costs(target), &key.shape);
    let (k, r, c, lanes) = (s.k as f64, tile.r as f64, tile.c as f64, tile.lanes as f64);
    let vec = if tile.along == Lanes::Channels && images(s).is_multiple_of(tile.vec) { tile.vec } else { 1 };
    let columns = s.out_w * s.n / vec;
    let outputs = (tile.r * tile.c * s.k * s.k) as f64;
    let blocks = if tile.along == Lanes::Pixels { columns.div_ceil(tile.lanes) } else { columns };
    let splits = tile.splits.min(blocks);
    let groups = (weight_groups(s, tile) * splits) as f64;
    let columns_of_group = columns.div_ceil(splits) as f64;
    let (turns, turn) = match tile.along {
        Lanes::Pixels => {
            let rows = k.min(s.stride as f64); // rows of x that are new
            let turns = key.steps as f64 * s.out_h as f64 * (columns_of_group / lanes).ceil();
            (turns, outputs + (c * k * rows + r) * costs.load)
        }
        Lanes::Channels => {
            let load = vector_load(vec, tile.wide);
            let x = if tile.subgroup {
                vec as f64 * costs.broadcast + load * costs.load / lanes
            } else {
                load * costs.uniform
            };
            // An accumulator that takes part in few products per turn is mostly written back.
            let products = outputs * vec as f64 * (1.0 + 1.0 / (vec * tile.unroll) as f64) / s.stride as f64;
            let turns = key.steps as f64 * s.in_h as f64 * columns_of_group;
            (turns, products + r * load * costs.load + c * k * x)
        }
    };
    // Lanes along pixels exchange their sums at the end.
    let end = if tile.along == Lanes::Channels {
        outputs
    } else if tile.subgroup {
        outputs * 10.0 * costs.broadcast
    } else {
        outputs * (costs.shared + costs.load)
    };
    let partial = if splits > 1 { (weight_count(key) * splits) as f64 * costs.load } else { 0.0 };
    spread(&costs, groups * lanes, turns * turn + end, tile.r * tile.c * s.k * s.k) + partial
}

/// Values of the weight.
fn weight_count(key: &Key) -> usize {
    key.shape.cout * key.shape.cin * key.shape.k * key.shape.k
}

/// Groups of one split.
fn weight_groups(s: &ConvShape, tile: &WeightTile) -> usize {
    let channels = if tile.along == Lanes::Channels { tile.r * tile.lanes } else { tile.r };
    s.cin.div_ceil(tile.c) * s.cout.div_ceil(channels)
}

/// The variants worth measuring for a shape beside the present one, the most promising first.
pub fn candidates(target: &Target, key: &Key, present: &Variant) -> Vec<Variant> {
    // A batch that its vectors do not divide makes a variant the same as one without; so does a tile wider than the map.
    let divides = |vec: usize| images(&key.shape).is_multiple_of(vec);
    let rows = if key.op == ConvOp::ConvTranspose2d { key.shape.in_h } else { key.shape.out_h };
    let fits = |tile: &Tile| match products(target, key, tile) {
        Some((of, _)) => of.columns.is_multiple_of(tile.vec) && tile.lanes * tile.vec * (tile.nv - 1) < of.columns,
        None => tile.winograd.is_none() && tile.nv < 2 * rows && divides(tile.vec),
    };
    let direct = weight_tile(target, &key.shape, key.steps);
    let own = (key.op == ConvOp::Conv2dDWeight).then_some(Variant::Weight(direct));
    let mut list: Vec<Variant> = Vec::new();
    for variant in variants(target, key.op, key.shape.k, key.shape.stride).into_iter().chain(own) {
        match variant {
            Variant::Conv(tile) if fits(&tile) => list.push(variant),
            Variant::Weight(tile) if divides(tile.vec) => {
                let split = splits(key, &direct, &tile);
                list.extend(split.map(|splits| Variant::Weight(WeightTile { splits, ..tile })));
            }
            _ => {}
        }
    }
    let limit = HOPELESS * cost(target, key, present);
    let mut seen = HashSet::from([*present]);
    list.retain(|v| cost(target, key, v) <= limit && seen.insert(*v));
    list.sort_by(|a, b| cost(target, key, a).total_cmp(&cost(target, key, b)));
    list.truncate(MOST);
    list
}

/// Splits for `tile`: as many groups as the table's choice has, half, or twice as many; but never more terms per f32 sum, nor
/// more partial sums than 64 MiB (or than now).
fn splits(key: &Key, present: &WeightTile, tile: &WeightTile) -> [usize; 3] {
    let s = &key.shape;
    let same = (present.splits * weight_groups(s, present)).div_ceil(weight_groups(s, tile));
    let least = (key.steps * s.out_h * s.out_w * s.n).div_ceil(1 << 16).min(present.splits);
    let most = splits_that_fit(key, present);
    [same, same.div_ceil(2), 2 * same].map(|n| n.clamp(least, most))
}

/// Most splits whose partial sums take 64 MiB, or no more than those of the table's choice.
fn splits_that_fit(key: &Key, present: &WeightTile) -> usize {
    ((1 << 24) / weight_count(key)).max(present.splits)
}

/// Most splits that a variant of this weight gradient may have.
pub fn most_splits(target: &Target, key: &Key) -> usize {
    splits_that_fit(key, &weight_tile(target, &key.shape, key.steps))
}

/// Estimated seconds until a driver has compiled a kernel text of so many bytes, before anything was measured.
pub fn compile_seconds(target: &Target, bytes: usize) -> f64 {
    let kilobytes = bytes as f64 / 1024.0;
    if target.cpu { 0.02 * kilobytes } else { 0.005 * kilobytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::choose::Choices;

    fn target(cpu: bool, subgroup: u32) -> Target {
        Target { cpu, subgroup, ..Target::minimum() }
    }

    fn keys() -> Vec<Key> {
        let mut list = Vec::new();
        for k in [1, 3, 5, 7] {
            let same = ConvShape::same(32, 16, 32, 16, 16, k);
            list.extend([(ConvOp::Conv2d, same, 1), (ConvOp::Conv2dDWeight, same, 5)]);
            for stride in [2, 4] {
                let strided = ConvShape::strided(32, 16, 32, [16, 16], k, stride);
                let transposed = ConvShape::transposed(32, 16, 32, [16, 16], k, stride);
                list.extend([(ConvOp::Conv2d, strided, 1), (ConvOp::ConvTranspose2d, transposed, 1)]);
                list.push((ConvOp::Conv2dDWeight, strided, 5));
            }
        }
        list.into_iter().map(|(op, shape, steps)| Key { op, shape, steps, half: false }).collect()
    }

    #[test]
    fn candidates_are_few_distinct_ordered_and_others_than_the_present() {
        for target in [target(true, 8), target(true, 4), target(true, 0), target(false, 32), target(false, 0)] {
            for key in keys() {
                let present = Choices::TABLE.variant(&target, &key);
                let list = candidates(&target, &key, &present);
                assert!(list.len() <= MOST && !list.contains(&present), "{key}: {list:?}");
                assert!(list.iter().all(|v| v.serves(key.op)), "{key}: {list:?}");
                let costs: Vec<f64> = list.iter().map(|v| cost(&target, &key, v)).collect();
                assert!(costs.is_sorted() && costs.iter().all(|c| c.is_finite() && *c > 0.0), "{key}: {costs:?}");
                for (i, v) in list.iter().enumerate() {
                    assert!(!list[..i].contains(v), "{key}: {v} twice");
                    if let (Variant::Weight(v), Variant::Weight(present)) = (v, present) {
                        assert!(v.splits >= 1 && v.splits <= present.splits.max((1 << 24) / weight_count(&key)));
                    }
                }
            }
        }
    }

    #[test]
    fn more_work_costs_more() {
        for target in [target(true, 8), target(false, 32)] {
            for key in keys() {
                let variant = Choices::TABLE.variant(&target, &key);
                let large = Key { shape: ConvShape { n: 64 * key.shape.n, ..key.shape }, ..key };
                let (large, small) = (cost(&target, &large, &variant), cost(&target, &key, &variant));
                assert!(large > if target.cpu { 8.0 * small } else { small }, "{key}: {small:e}, 64 times: {large:e}");
            }
        }
    }

    #[test]
    fn a_cpu_wants_broadcasts_and_large_tiles_where_loads_are_dear() {
        let key = Key { op: ConvOp::Conv2d, shape: ConvShape::same(16, 64, 128, 32, 32, 3), steps: 1, half: false };
        let tile = |source, r, nv| {
            Variant::Conv(Tile { source, lanes: 8, r, nv, vec: 1, terms: 1, wide: false, winograd: None })
        };
        let cost = |source, r, nv| cost(&target(true, 8), &key, &tile(source, r, nv));
        assert!(cost(Source::Subgroup, 16, 4) < cost(Source::Subgroup, 8, 1));
        assert!(cost(Source::Subgroup, 16, 4) < cost(Source::Shared, 16, 4));
        assert!(cost(Source::Subgroup, 16, 4) < cost(Source::Uniform, 16, 4));
    }
}
