//! Where activity and error meet: which taps of a weight gradient have a product to sum at all.
//!
//! A weight gradient is a sum of products x dy. Where x or dy is 0 in every one of them it is exactly 0, and so it is by plain
//! loops; by Winograd's method, whose sums go over transformed maps, what should cancel leaves rounding errors of about 1e-9.
//! Adam divides by the gradient's own size, so that it makes whole steps of them. Therefore the transforms of x and dy leave a
//! bit for every pixel that is not 0; for each pair of channels tiles are searched until every tap has met (the first few,
//! where activity is usual); and `winograd_d_weight` writes 0 for the taps that never do.
//!
//! In the same way an output has nothing to sum where no channel has a value under it. What rounding leaves there opens a
//! ReLU, or reaches weights as an error; [`live`] finds such outputs, and `winograd_output` leaves them what they start from.

use super::conv::Site;
use super::winograd::{LANES, Winograd, each_tile};
use super::{Kernel, Param, Program, View};
use crate::Result;

/// A bit for each output of a tile: whether x is other than 0 anywhere under it. A word for each tile and image.
pub(super) fn live(p: &mut Program, cut: &Winograd, (x, cin): (View, usize), site: Site) -> Result<View> {
    let live = p.scratch("live", site.area, cut.tiles());
    each_tile(p, "winograd_live", false, cut, (1, 1), &[("x", x), ("live", live)], &[("cin", cin.into())], site)?;
    Ok(live)
}

/// The bits of the maps of some timesteps: `slots` words for each tile and image, [x's first word of each input channel,
/// x's second word if it has one, dy's word of each output channel].
pub(super) struct Marks {
    words: View,
    cin: usize,
    cout: usize,
    /// Tiles of all images and timesteps.
    columns: usize,
    /// Words that hold the N x N pixels of x under a tile.
    x_words: usize,
}

impl Marks {
    /// Words for `steps` maps of x and dy, which [`super::winograd::panels`] fills.
    pub(super) fn new(p: &mut Program, cut: &Winograd, (cin, cout): (usize, usize), steps: usize, area: &str) -> Marks {
        let x_words = if cut.tall() { 2 } else { 1 };
        let columns = steps * cut.tiles();
        let words = p.scratch("marks", area, columns * (x_words * cin + cout));
        Marks { words, cin, cout, columns, x_words }
    }

    fn slots(&self) -> usize {
        self.x_words * self.cin + self.cout
    }

    /// The words, how many there are for each tile, and the first of them: of x, or of dy.
    pub(super) fn part(&self, of_dy: bool) -> (View, usize, usize) {
        (self.words, self.slots(), if of_dy { self.x_words * self.cin } else { 0 })
    }

    /// Notes in `met` [cout, cin] which taps meet in these timesteps, beside what it holds already unless these are the `first`.
    pub(super) fn meet(&self, p: &mut Program, cut: &Winograd, (met, first): (View, bool), site: Site) -> Result<()> {
        let (slots, count) = (self.slots(), self.columns.div_ceil(32));
        let label = format!("{} meetings", site.label);
        let blocks = p.scratch("blocks", site.area, count * slots);
        let kernel = Kernel::new("winograd_blocks", &super::Settings::new().set("L", LANES as u32))?;
        let params: &[(&str, Param)] = &[("columns", self.columns.into()), ("slots", slots.into())];
        let operands = [("marks", self.words), ("blocks", blocks)];
        p.launch(&kernel, &operands, params, [slots.div_ceil(LANES), count, 1], &label, site.area);

        // Rows of taps whose pixels x's first word holds.
        let n = cut.m + cut.k - 1;
        let low = if cut.tall() { 32 / n - cut.m + 1 } else { cut.k };
        let settings = cut.settings().set("WORDS", self.x_words as u32).set("LOW", low as u32);
        let kernel = Kernel::new("winograd_meetings", &settings)?;
        let pairs = self.cin * self.cout;
        let params: &[(&str, Param)] = &[
            ("cin", self.cin.into()),
            ("count", pairs.into()),
            ("slots", slots.into()),
            ("blocks", count.into()),
            ("possible", possible(cut).into()),
            ("first", u32::from(first).into()),
        ];
        let operands = [("marks", self.words), ("blocks", blocks), ("met", met)];
        p.launch(&kernel, &operands, params, [pairs.div_ceil(LANES), 1, 1], &label, site.area);
        Ok(())
    }
}

/// Bits ky * k + kx of the taps that have both their pixels on the map anywhere.
fn possible(cut: &Winograd) -> u32 {
    let reaches = |tap: usize, length: usize| tap.abs_diff(cut.k / 2) < length;
    let taps = (0..cut.k * cut.k).filter(|i| reaches(i / cut.k, cut.h) && reaches(i % cut.k, cut.w));
    taps.fold(0, |bits, i| bits | 1 << i)
}
