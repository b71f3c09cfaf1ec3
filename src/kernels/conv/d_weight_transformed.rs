//! Launches of weight gradients by Winograd's method.

use super::d_weight::add;
use super::product::{Matrices, panel_width, product};
use super::shape::{ConvShape, Pairs, Series, Start};
use super::stage::Stage;
use super::tile::Tile;
use super::winograd::{self, Winograd};
use crate::Result;
use crate::kernels::{Program, Site, Target, View};

/// How a weight gradient by Winograd's method goes through the timesteps: some at a time, each time with sums of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    cut: Winograd,
    /// Timesteps of a part; the last may have fewer.
    each: usize,
    /// How many parts there are.
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

/// [`super::conv2d_d_weight`] by Winograd's method: a matrix product of the transformed maps, summed over tiles, for each transformed
/// position.
///
/// # Errors
/// When naga refuses the variant.
pub fn conv2d_d_weight_transformed(
    p: &mut Program,
    target: &Target,
    (tile, parts): (&Tile, &Parts),
    shape: &ConvShape,
    (pairs, stage): (Pairs, &mut Stage),
    dw: View,
    site: Site,
) -> Result<()> {
    let (ConvShape { cin, cout, .. }, cut) = (*shape, &parts.cut);
    // The sums of all parts, which are added up at the end; where maps are stored in half precision, and take little beside them, each
    // is added as soon as it is there.
    let apart = stage.is_whole() && !pairs.x.view.half;
    let apart = apart.then(|| p.scratch("d_transformed", site.area, parts.count * parts.words));
    let mut first = 0; // of those that come now
    while first < pairs.steps {
        let (part, done) = ((stage.before + first) / parts.each, (stage.before + first) % parts.each);
        let count = (parts.each - done).min(pairs.steps - first);
        let from = |of: Series| Series { view: of.view.part(first * of.step, None), ..of };
        let width = panel_width(tile, cin);
        let v =
            winograd::panels(p, target, cut, ("winograd_input", ["x", "v"]), (from(pairs.x), cin, count), width, site)?;
        let d = winograd::panels(
            p,
            target,
            cut,
            ("winograd_d_output", ["dy", "d"]),
            (from(pairs.dy), cout, count),
            tile.r,
            site,
        )?;
        let sums = match apart {
            Some(partial) => partial.part(part * parts.words, Some(parts.words)),
            None => p.scratch("d_transformed", site.area, parts.words),
        };
        let base = (done > 0).then(|| stage.state["part"]);
        let (columns, batch, terms) = (cin, cut.positions(), count * cut.tiles());
        let matrices = Matrices { columns, batch, cin: terms, cout, symmetric: false, panels: true };
        product(p, target, tile, &matrices, (v, d, Start { base, ..Start::default() }, sums), site)?;
        first += count;
        if apart.is_some() {
            continue;
        }
        stage.state.insert("part", sums);
        let ends = done + count == parts.each || stage.before + first == stage.of;
        if ends {
            let total = match stage.state.get("total") {
                None => sums,
                Some(&before) => {
                    let total = p.scratch("d_transformed", site.area, parts.words);
                    add(p, target, [before, sums], cut.positions() * cin * cout, total, site)?;
                    total
                }
            };
            stage.state.insert("total", total);
        }
    }
    if stage.is_whole() {
        let sums = match apart {
            Some(partial) => winograd::Sums { partial, parts: parts.count, part_step: parts.words },
            None => winograd::Sums { partial: stage.state["total"], parts: 1, part_step: parts.words },
        };
        let active = winograd::active(p, target, cut, (cin, cout), &pairs, site)?;
        return winograd::d_weight(
            p,
            target,
            cut,
            (cin, cout),
            (sums, winograd::Search::Now(&pairs, active)),
            dw,
            site,
        );
    }
    let active = winograd::active(p, target, cut, (cin, cout), &pairs, site)?;
    let met = stage.place("met", || p.scratch("met", site.area, cin * cout));
    winograd::met(p, target, cut, (cin, cout), (&pairs, active), (met, stage.goes_on()), site)?;
    if !stage.is_last() {
        return Ok(());
    }
    let sums = winograd::Sums { partial: stage.state["total"], parts: 1, part_step: parts.words };
    winograd::d_weight(p, target, cut, (cin, cout), (sums, winograd::Search::Done(met)), dw, site)
}
