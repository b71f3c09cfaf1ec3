//! What was published, what was found here, and whether the published finding holds here.

use super::published::{self, Comparison};
use super::svg::{number, short};
use super::view::{Pair, View};

/// Whether a published finding holds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Holds,
    Fails,
    /// A number that the claim needs does not exist.
    Undefined,
}

impl Verdict {
    fn of(holds: Option<bool>) -> Verdict {
        match holds {
            Some(true) => Verdict::Holds,
            Some(false) => Verdict::Fails,
            None => Verdict::Undefined,
        }
    }

    /// As words, so that it does not depend on colour.
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::Fails => "does not hold",
            Verdict::Undefined => "undefined",
        }
    }

    /// The CSS class of the page's template.
    pub fn class(self) -> &'static str {
        match self {
            Verdict::Holds => "holds",
            Verdict::Fails => "fails",
            Verdict::Undefined => "undefined",
        }
    }
}

/// One published finding beside its counterpart here.
pub(super) struct Claim {
    pub finding: String,
    pub published: String,
    pub here: String,
    pub verdict: Verdict,
    /// Why the number here is undefined, or what else must be known.
    pub note: Option<String>,
}

/// One of the three contrasts of the twelve-cell claim.
pub(super) struct Contrast {
    pub title: &'static str,
    /// "The first value exceeds the second" in words.
    pub finding: &'static str,
    /// The two groups, in the order of the values.
    pub groups: [&'static str; 2],
    /// Published values of the four networks.
    pub published: [[f64; 2]; 4],
    /// Means over the window here.
    pub here: Pair,
    pub by_timestep: Vec<Pair>,
    pub decimals: usize,
}

/// The three contrasts in the order of the paper.
pub(super) fn contrasts(view: &View) -> [Contrast; 3] {
    let here = [
        (view.mean_norm_now_later, &view.norm_now_later),
        (view.mean_cos_current_now_later, &view.cos_current_now_later),
        (view.mean_cos_final_own_other, &view.cos_final_own_other),
    ];
    std::array::from_fn(|i| {
        let kind = &published::CONTRASTS[i];
        Contrast {
            title: kind.title,
            finding: kind.finding,
            groups: kind.groups,
            published: published::NETWORKS.each_ref().map(kind.of),
            here: here[i].0,
            by_timestep: here[i].1.clone(),
            decimals: kind.decimals,
        }
    })
}

impl Contrast {
    /// The claim "the first value exceeds the second".
    pub fn claim(&self, view: &View, comparison: &Comparison) -> Claim {
        let published = self.published[comparison.index];
        let verdict = self.verdict();
        let defined = self.by_timestep.iter().filter_map(|[a, b]| a.zip(*b));
        let (higher, both) = defined.fold((0, 0), |(h, n), (a, b)| (h + usize::from(a > b), n + 1));
        let note = match verdict {
            Verdict::Undefined => undefined(view),
            _ => format!("Timestep by timestep, the first is higher at {higher} of the {both} at which both exist."),
        };
        Claim {
            finding: self.finding.into(),
            published: format!("{} ({})", pair(published.map(Some), self.decimals), comparison.network().name),
            here: pair(self.here, self.decimals),
            verdict,
            note: Some(note),
        }
    }

    /// Whether the first mean exceeds the second here.
    pub fn verdict(&self) -> Verdict {
        Verdict::of(self.here[0].zip(self.here[1]).map(|(a, b)| a > b))
    }
}

/// Why the means of the contrasts do not exist.
pub(super) fn undefined(view: &View) -> String {
    why_undefined(view.timesteps, view.counts.stable_correct, view.timesteps_analyse)
}

/// The same, of a network with so many timesteps, stable-correct images and timesteps that are averaged.
pub(crate) fn why_undefined(timesteps: usize, stable_correct: u64, window: Option<usize>) -> String {
    if timesteps < 2 {
        return "Undefined: with a single timestep no image changes class, so none can be called stable.".into();
    }
    if stable_correct == 0 {
        return "Undefined: no image is stable-correct, and the contrasts are over stable-correct images.".into();
    }
    match window {
        None => {
            "Undefined: no stable-correct image is right from t\u{a0}=\u{a0}0 on, and the window of timesteps that is \
                 averaged is set by that number."
                .into()
        }
        Some(window) => format!(
            "Undefined: at no timestep of the averaged window (t\u{a0}<\u{a0}{window}) do both groups have a value; one of them is \
             empty, or all its values are undefined."
        ),
    }
}

/// Accuracy rises with recurrence.
pub(super) fn accuracy(view: &View) -> Claim {
    let (best, at) = published::BEST_ACCURACY;
    let here = view.max_accuracy.zip(view.t_max_accuracy);
    let first = view.accuracy[0];
    let note = match view.timesteps {
        1 => Some("Undefined: there is a single timestep.".into()),
        _ => Some(format!("{READING} The height depends on the data.")),
    };
    Claim {
        finding: "Accuracy is best after the first timestep".into(),
        published: format!("{} at t\u{a0}=\u{a0}{at} (L additive)", percent(Some(best))),
        here: here.map_or(UNDEFINED.into(), |(best, at)| format!("{} at t\u{a0}=\u{a0}{at}", percent(Some(best)))),
        verdict: Verdict::of(here.zip(first).map(|((best, _), first)| best > first).filter(|_| view.timesteps > 1)),
        note,
    }
}

/// Most images are stable, and most stable-correct ones are right at once.
pub(super) fn groups(view: &View) -> [Claim; 2] {
    let counts = &view.counts;
    let stable = counts.stable_correct + counts.stable_incorrect;
    let classified = stable + counts.unstable_correct + counts.unstable_incorrect;
    let share = (classified > 0).then(|| stable as f64 / classified as f64);
    let total = view.stable_correct();
    let at_once = (total > 0).then(|| view.t_stable_histogram[0] as f64 / total as f64);
    let published_total: u64 = published::HISTOGRAM.iter().sum();
    [
        Claim {
            finding: "Most images have a stable trajectory".into(),
            published: format!("{} (L additive)", percent(Some(published::GROUPS[0] + published::GROUPS[1]))),
            here: percent(share),
            verdict: Verdict::of(share.map(|s| s > 0.5)),
            note: Some(if share.is_some() { READING.into() } else { undefined(view) }),
        },
        Claim {
            finding: "Most stable-correct images are right from the first timestep on".into(),
            published: format!(
                "{} (L additive)",
                percent(Some(published::HISTOGRAM[0] as f64 / published_total as f64))
            ),
            here: percent(at_once),
            verdict: Verdict::of(at_once.map(|s| s > 0.5)),
            note: Some(if at_once.is_some() { READING } else { "Undefined: no image is stable-correct." }.into()),
        },
    ]
}

/// The change per step falls with time and does not depend on when the class was settled.
pub(super) fn change(view: &View) -> [Claim; 2] {
    let mean = view.mean_change(&view.change_by_t_stable);
    let ends = mean.first().copied().flatten().zip(mean.last().copied().flatten()).filter(|_| mean.len() > 1);
    let spread = change_spread(view);
    let fall = mean.iter().flatten().copied().fold(None, |r: Option<(f64, f64)>, v| match r {
        None => Some((v, v)),
        Some((lo, hi)) => Some((lo.min(v), hi.max(v))),
    });
    let over_time = fall.map(|(lo, hi)| hi - lo).filter(|_| mean.len() > 1);
    [
        Claim {
            finding: "The change per step falls from the first step to the last".into(),
            published: "falls with time (no number given)".into(),
            here: ends.map_or(UNDEFINED.into(), |(first, last)| {
                format!("{} \u{2192} {}", significant(Some(first)), significant(Some(last)))
            }),
            verdict: Verdict::of(ends.map(|(first, last)| last < first)),
            note: Some(match ends {
                Some(_) => "Means over all stable-correct images.".into(),
                None if view.stable_correct() == 0 => "Undefined: no image is stable-correct.".into(),
                None => "Undefined: it takes at least two steps with stable-correct images.".into(),
            }),
        },
        Claim {
            finding: "It is the same whatever t_stable is: groups differ less than timesteps do".into(),
            published: "the same (no number given)".into(),
            here: spread.zip(over_time).map_or(UNDEFINED.into(), |(s, r)| {
                format!("{} between groups, {} over time", significant(Some(s)), significant(Some(r)))
            }),
            verdict: Verdict::of(spread.zip(over_time).map(|(s, r)| s < r)),
            note: Some(match spread {
                Some(_) => {
                    "Our measure. Between groups: standard deviation across t_stable, images weighing equally, averaged over steps. \
                            Over time: range of the mean."
                        .into()
                }
                None => "Undefined: it takes at least two groups of t_stable.".into(),
            }),
        },
    ]
}

/// Standard deviation between the groups of t_stable (weighted by images), averaged over steps; `None` with fewer
/// than two groups.
fn change_spread(view: &View) -> Option<f64> {
    let groups = view.t_stable_histogram.iter().filter(|n| **n > 0).count();
    let mean = view.mean_change(&view.change_by_t_stable);
    if groups < 2 || mean.is_empty() {
        return None;
    }
    let total = view.stable_correct() as f64;
    let mut sum = 0.0;
    for (t, mean) in mean.iter().enumerate() {
        let mut variance = 0.0;
        for (row, &n) in view.change_by_t_stable.iter().zip(&view.t_stable_histogram).filter(|(_, n)| **n > 0) {
            variance += n as f64 / total * (row[t]? - (*mean)?).powi(2);
        }
        sum += variance.sqrt();
    }
    Some(sum / mean.len() as f64)
}

/// What the claims beside the twelve cells rest on.
const READING: &str = "A reading of the published numbers, not a sentence of the paper.";

/// What is shown for a number that does not exist.
pub(super) const UNDEFINED: &str = "undefined";

/// A fraction as a percentage with one decimal.
pub(crate) fn percent(v: Option<f64>) -> String {
    v.map_or(UNDEFINED.into(), |v| format!("{}\u{a0}%", number(100.0 * v, 1)))
}

/// A number with four significant digits.
pub(super) fn significant(v: Option<f64>) -> String {
    v.map_or(UNDEFINED.into(), short)
}

/// Decimals that give the largest of some numbers four significant digits, for a column or table.
pub(super) fn common_decimals(values: impl IntoIterator<Item = Option<f64>>) -> usize {
    let largest = values.into_iter().flatten().map(f64::abs).filter(|v| v.is_finite()).fold(0.0, f64::max);
    if largest > 0.0 { (3.0 - largest.log10().floor()).clamp(0.0, 9.0) as usize } else { 1 }
}

/// A number with a fixed number of decimals.
pub(crate) fn fixed(v: Option<f64>, decimals: usize) -> String {
    v.map_or(UNDEFINED.into(), |v| number(v, decimals))
}

/// `first / second`, with as many more decimals as it takes to tell unequal values apart (at most six more).
pub(crate) fn pair(values: Pair, decimals: usize) -> String {
    let [a, b] = values;
    if a.is_none() && b.is_none() {
        return UNDEFINED.into();
    }
    let digits = (decimals..decimals + 6).find(|d| a == b || fixed(a, *d) != fixed(b, *d)).unwrap_or(decimals + 6);
    format!("{} / {}", fixed(a, digits), fixed(b, digits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_show_their_difference() {
        assert_eq!(pair([Some(8.04), Some(7.45)], 2), "8.04 / 7.45");
        assert_eq!(pair([Some(0.10004), Some(0.10001)], 3), "0.10004 / 0.10001");
        assert_eq!(pair([Some(0.1), None], 3), "0.100 / undefined");
        assert_eq!(pair([None, None], 3), "undefined");
    }

    #[test]
    fn a_tie_does_not_exceed() {
        let contrast = Contrast {
            title: "",
            finding: "",
            groups: ["", ""],
            published: [[1.0, 0.0]; 4],
            here: [Some(0.5), Some(0.5)],
            by_timestep: vec![],
            decimals: 3,
        };
        assert_eq!(contrast.verdict(), Verdict::Fails);
    }

    #[test]
    fn significant_digits() {
        assert_eq!(significant(Some(1.2638951)), "1.264");
        assert_eq!(significant(Some(-0.000123456)), "\u{2212}0.0001235");
        assert_eq!(significant(Some(12345.6)), "12346");
    }
}
