//! The dynamics as the figures and tables read them: typed, and checked once so that nothing after this can be out of
//! bounds. Names are those of `report.json`; what each number means is said in `docs/report.md` and under its figure.

use serde::Deserialize;
use serde_json::Value;

use super::view::demand;
use crate::dynamics::Parameters;
use crate::{Error, Result};

/// A list of numbers, undefined ones `None`.
pub(crate) type Row = Vec<Option<f64>>;
/// Rows of numbers.
pub(crate) type Grid = Vec<Row>;

/// All measures; those that a report does not have are `None` and have no figure. T timesteps, N images, K classes.
#[derive(Debug, Deserialize)]
pub(super) struct Dynamics {
    pub timesteps: usize,
    pub samples: usize,
    pub classes: usize,
    pub margin: Option<Margin>,
    pub label_margin: Option<Sets>,
    pub relative_margin: Option<Sets>,
    pub entropy: Option<Certainty>,
    pub confidence: Option<Certainty>,
    pub calibration: Option<Calibration>,
    pub reaction: Option<Reaction>,
    pub solution: Option<Solution>,
    pub visits: Option<Visits>,
    pub path: Option<Paths>,
    pub rdm: Option<Metrics<Grid>>,
    pub class_rdm: Option<Metrics<Grid>>,
    pub rdm_time: Option<Metrics<Similarities>>,
    pub rdm_init: Option<Metrics<Similarities>>,
    pub cka: Option<Cka>,
    pub decoder: Option<Decoders>,
    pub pca: Option<Pca>,
    pub consistency: Option<Consistency>,
    pub contrasts: Option<Contrasts>,
    pub accuracy: Option<Accuracy>,
    /// What the measures were told.
    #[serde(skip)]
    pub parameters: Option<Parameters>,
}

/// Means `[T]` over all images, those right and wrong at that timestep, and the stable-correct ones in and not yet in
/// their zone.
#[derive(Debug, Deserialize)]
pub(super) struct Sets {
    pub all: Row,
    pub correct: Row,
    pub incorrect: Row,
    pub now: Row,
    pub later: Row,
}

impl Sets {
    /// The sets in order, with the words of tables.
    pub fn named(&self) -> [(&'static str, &Row); 5] {
        [
            ("all", &self.all),
            ("correct", &self.correct),
            ("incorrect", &self.incorrect),
            ("now", &self.now),
            ("later", &self.later),
        ]
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Margin {
    #[serde(flatten)]
    pub sets: Sets,
    /// Images whose margin is negative `[T]`.
    pub negative: Vec<u64>,
}

/// Means `[T]` over all images and those right and wrong at that timestep.
#[derive(Debug, Deserialize)]
pub(super) struct Certainty {
    pub all: Row,
    pub correct: Row,
    pub incorrect: Row,
}

impl Certainty {
    pub fn named(&self) -> [(&'static str, &Row); 3] {
        [("all", &self.all), ("correct", &self.correct), ("incorrect", &self.incorrect)]
    }
}

/// `[T][bins]`, bins of equal width from 0 to 1.
#[derive(Debug, Deserialize)]
pub(super) struct Calibration {
    pub count: Vec<Vec<u64>>,
    pub confidence: Grid,
    pub accuracy: Grid,
    /// Expected calibration error `[T]`.
    pub ece: Row,
}

/// By threshold of entropy.
#[derive(Debug, Deserialize)]
pub(super) struct Reaction {
    pub mean: Row,
    pub accuracy: Row,
    pub reached: Vec<u64>,
    /// `[thresholds][T]`
    pub histogram: Vec<Vec<u64>>,
    pub mean_correct: Row,
    pub mean_incorrect: Row,
    /// Reaction time of each image at one threshold `[N]`.
    pub image: Vec<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Solution {
    /// Of each image `[N]`, -1 = never.
    pub image: Vec<i64>,
    pub histogram: Vec<u64>,
    pub unsolved: u64,
    pub mean: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Visits {
    /// `[K][K]`, from row to column, the diagonal included.
    pub transitions: Vec<Vec<u64>>,
    /// `[T][K]`
    pub occupancy: Vec<Vec<u64>>,
    /// Images by number of switches, 0..T-1.
    pub switches: Vec<u64>,
    /// Images by number of zones, 1..T.
    pub zones: Vec<u64>,
    pub dwell: Dwell,
    pub label_zone: LabelZone,
}

#[derive(Debug, Deserialize)]
pub(super) struct Dwell {
    /// Runs by length, 1..T.
    pub histogram: Vec<u64>,
    pub mean: Option<f64>,
    pub mean_complete: Option<f64>,
    pub mean_label: Option<f64>,
    pub mean_other: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LabelZone {
    pub started: u64,
    /// `[T-1]`
    pub entered: Vec<u64>,
    /// `[T-1]`
    pub left: Vec<u64>,
    pub visited: u64,
    pub left_ever: u64,
    pub lost: u64,
    pub regained: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Paths {
    pub all: Path,
    pub stable_correct: Path,
    pub stable_incorrect: Path,
    pub unstable_correct: Path,
    pub unstable_incorrect: Path,
}

impl Paths {
    pub fn named(&self) -> [(&'static str, &Path); 5] {
        [
            ("all", &self.all),
            ("stable-correct", &self.stable_correct),
            ("stable-incorrect", &self.stable_incorrect),
            ("unstable-correct", &self.unstable_correct),
            ("unstable-incorrect", &self.unstable_incorrect),
        ]
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Path {
    pub n: u64,
    pub length: Option<f64>,
    pub displacement: Option<f64>,
    pub straightness: Option<f64>,
    /// Degrees.
    pub turning: Option<f64>,
    /// `[T-2]`
    pub turning_t: Row,
    /// `[T-1]`
    pub speed: Row,
    /// `[T]`
    pub to_final: Row,
}

/// One thing for each way of measuring how different two representations are.
#[derive(Debug, Deserialize)]
pub(super) struct Metrics<X> {
    pub euclidean: X,
    pub correlation: X,
    pub cosine: X,
}

impl<X> Metrics<X> {
    pub fn named(&self) -> [(&'static str, &X); 3] {
        [("euclidean", &self.euclidean), ("correlation", &self.correlation), ("cosine", &self.cosine)]
    }
}

/// `[T][T]` for each way of measuring how alike two dissimilarity matrices are.
#[derive(Debug, Deserialize)]
pub(super) struct Similarities {
    pub pearson: Grid,
    pub spearman: Grid,
    pub cosine: Grid,
    pub tau_a: Grid,
}

impl Similarities {
    pub fn named(&self) -> [(&'static str, &Grid); 4] {
        [("pearson", &self.pearson), ("spearman", &self.spearman), ("cosine", &self.cosine), ("tau_a", &self.tau_a)]
    }
}

/// `[T][T]`; `_init`: columns are timesteps of the untrained network.
#[derive(Debug, Deserialize)]
pub(super) struct Cka {
    pub biased: Grid,
    pub debiased: Grid,
    pub biased_init: Option<Grid>,
    pub debiased_init: Option<Grid>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Decoders {
    pub n_test: u64,
    pub ridge: Decoder,
    pub class_mean: Decoder,
}

/// `[T][T]`: row = fitted at, column = tested at.
#[derive(Debug, Deserialize)]
pub(super) struct Decoder {
    pub correct: Vec<Vec<u64>>,
    #[serde(rename = "unsafe")]
    pub near_ties: Vec<Vec<u64>>,
    pub score: Grid,
    pub weight_norm: Option<Row>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Pca {
    pub eigenvalues: Row,
    pub explained: Row,
    /// `[up to 3][D]`; none where the representations fill fewer dimensions.
    pub components: Vec<Option<Row>>,
    /// `[shown classes][T][up to 3]`
    pub class_mean: Vec<Grid>,
    pub participation: Option<f64>,
    /// `[T]`
    pub participation_t: Row,
}

impl Pca {
    /// D, as far as there is a component.
    pub fn features(&self) -> usize {
        self.components.iter().flatten().next().map_or(0, Vec::len)
    }
}

/// `[T][T]`
#[derive(Debug, Deserialize)]
pub(super) struct Consistency {
    pub same_class: Vec<Vec<u64>>,
    pub kappa: Grid,
    pub error_consistency: Grid,
    pub same_class_init: Option<Vec<Vec<u64>>>,
    pub kappa_init: Option<Grid>,
    pub error_consistency_init: Option<Grid>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Contrasts {
    pub norm: Contrast,
    pub cos_current: Contrast,
    pub margin: Contrast,
    pub cos_final: Contrast,
}

impl Contrasts {
    pub fn named(&self) -> [(&'static str, &Contrast); 4] {
        [
            ("norm", &self.norm),
            ("cos_current", &self.cos_current),
            ("margin", &self.margin),
            ("cos_final", &self.cos_final),
        ]
    }
}

/// First group minus second at each timestep `[T]`, with standard errors and intervals over images.
#[derive(Debug, Deserialize)]
pub(super) struct Contrast {
    pub n: Vec<[u64; 2]>,
    pub mean: Vec<[Option<f64>; 2]>,
    pub diff: Row,
    pub se: Row,
    pub df: Option<Row>,
    /// Hedges' g of two groups.
    pub g: Option<Row>,
    /// Effect size of the paired form.
    pub dz: Option<Row>,
    pub image_n: Option<Vec<u64>>,
    pub image_diff: Option<Row>,
    pub image_se: Option<Row>,
    pub boot_defined: Vec<u64>,
    pub boot_se: Row,
    pub boot_ci: Vec<[Option<f64>; 2]>,
    pub window: Window,
}

impl Contrast {
    /// The effect size, whichever form the contrast has.
    pub fn effect(&self) -> Option<&Row> {
        self.g.as_ref().or(self.dz.as_ref())
    }
}

/// The mean over the published window.
#[derive(Debug, Deserialize)]
pub(super) struct Window {
    pub steps: Vec<usize>,
    pub diff: Option<f64>,
    pub se: Option<f64>,
    pub replicates: Row,
    pub boot_se: Option<f64>,
    pub boot_ci: [Option<f64>; 2],
}

#[derive(Debug, Deserialize)]
pub(super) struct Accuracy {
    pub mean: Row,
    pub se: Row,
    pub boot_se: Row,
    pub boot_ci: Vec<[Option<f64>; 2]>,
}

impl Dynamics {
    /// Reads and checks the dynamics of a report.
    pub fn read(value: &Value, parameters: Option<&Parameters>) -> Result<Dynamics> {
        let mut dynamics: Dynamics = serde_path_to_error::deserialize(value)
            .map_err(|e| Error::Data(format!("dynamics: {}: {}", e.path(), e.inner())))?;
        dynamics.parameters = parameters.cloned();
        dynamics.check()?;
        Ok(dynamics)
    }

    fn check(&self) -> Result<()> {
        let (t, n, k) = (self.timesteps, self.samples, self.classes);
        at_least_one("timesteps", t)?;
        let steps = t - 1;
        let sets = |key: &str, sets: &Sets| -> Result<()> {
            sets.named().iter().try_for_each(|(set, row)| length(&format!("{key}.{set}"), row.len(), t))
        };
        if let Some(margin) = &self.margin {
            sets("margin", &margin.sets)?;
            length("margin.negative", margin.negative.len(), t)?;
        }
        for (key, found) in [("label_margin", &self.label_margin), ("relative_margin", &self.relative_margin)] {
            found.iter().try_for_each(|found| sets(key, found))?;
        }
        for (key, certainty) in [("entropy", &self.entropy), ("confidence", &self.confidence)] {
            for (set, row) in certainty.iter().flat_map(Certainty::named) {
                length(&format!("{key}.{set}"), row.len(), t)?;
            }
        }
        if let Some(c) = &self.calibration {
            let bins = c.count.first().map_or(0, Vec::len);
            at_least_one("calibration.count: bins", bins)?;
            rows("calibration.count", &c.count, t, bins)?;
            rows("calibration.confidence", &c.confidence, t, bins)?;
            rows("calibration.accuracy", &c.accuracy, t, bins)?;
            length("calibration.ece", c.ece.len(), t)?;
        }
        if let Some(r) = &self.reaction {
            let thresholds = self.parameters.as_ref().map_or(r.mean.len(), |p| p.thresholds.len());
            for (key, found) in [
                ("mean", r.mean.len()),
                ("accuracy", r.accuracy.len()),
                ("reached", r.reached.len()),
                ("mean_correct", r.mean_correct.len()),
                ("mean_incorrect", r.mean_incorrect.len()),
            ] {
                length(&format!("reaction.{key} (thresholds)"), found, thresholds)?;
            }
            rows("reaction.histogram", &r.histogram, thresholds, t)?;
            length("reaction.image", r.image.len(), n)?;
        }
        if let Some(s) = &self.solution {
            length("solution.image", s.image.len(), n)?;
            length("solution.histogram", s.histogram.len(), t)?;
        }
        if let Some(v) = &self.visits {
            rows("visits.transitions", &v.transitions, k, k)?;
            rows("visits.occupancy", &v.occupancy, t, k)?;
            length("visits.switches", v.switches.len(), t)?;
            length("visits.zones", v.zones.len(), t)?;
            length("visits.dwell.histogram", v.dwell.histogram.len(), t)?;
            length("visits.label_zone.entered", v.label_zone.entered.len(), steps)?;
            length("visits.label_zone.left", v.label_zone.left.len(), steps)?;
        }
        for (group, path) in self.path.iter().flat_map(Paths::named) {
            length(&format!("path.{group}.turning_t"), path.turning_t.len(), steps.saturating_sub(1))?;
            length(&format!("path.{group}.speed"), path.speed.len(), steps)?;
            length(&format!("path.{group}.to_final"), path.to_final.len(), t)?;
        }
        let pairs = |n: usize| n * n.saturating_sub(1) / 2;
        for (key, rdm, members) in [
            ("rdm", &self.rdm, self.parameters.as_ref().map(|p| p.rdm_images.len())),
            ("class_rdm", &self.class_rdm, self.parameters.as_ref().map(|p| p.shown_classes.len())),
        ] {
            for (metric, grid) in rdm.iter().flat_map(Metrics::named) {
                let found = grid.first().map_or(0, Vec::len);
                let members = members.unwrap_or_else(|| members_of(found));
                rows(&format!("{key}.{metric}"), grid, t, pairs(members))?;
            }
        }
        for (key, similar) in [("rdm_time", &self.rdm_time), ("rdm_init", &self.rdm_init)] {
            for (metric, similarities) in similar.iter().flat_map(Metrics::named) {
                for (name, grid) in similarities.named() {
                    rows(&format!("{key}.{metric}.{name}"), grid, t, t)?;
                }
            }
        }
        if let Some(c) = &self.cka {
            for (key, grid) in [
                ("biased", Some(&c.biased)),
                ("debiased", Some(&c.debiased)),
                ("biased_init", c.biased_init.as_ref()),
                ("debiased_init", c.debiased_init.as_ref()),
            ] {
                grid.iter().try_for_each(|grid| rows(&format!("cka.{key}"), grid, t, t))?;
            }
        }
        for (key, d) in self.decoder.iter().flat_map(|d| [("ridge", &d.ridge), ("class_mean", &d.class_mean)]) {
            rows(&format!("decoder.{key}.correct"), &d.correct, t, t)?;
            rows(&format!("decoder.{key}.unsafe"), &d.near_ties, t, t)?;
            rows(&format!("decoder.{key}.score"), &d.score, t, t)?;
            let norms = d.weight_norm.as_ref().map_or(t, Vec::len);
            length(&format!("decoder.{key}.weight_norm"), norms, t)?;
        }
        if let Some(p) = &self.pca {
            length("pca.explained", p.explained.len(), p.eigenvalues.len())?;
            length("pca.participation_t", p.participation_t.len(), t)?;
            let axes = p.components.len();
            let shown = self.parameters.as_ref().map_or(p.class_mean.len(), |p| p.shown_classes.len());
            length("pca.class_mean (shown classes)", p.class_mean.len(), shown)?;
            for class in &p.class_mean {
                let axes = class.first().map_or(axes, Vec::len);
                rows("pca.class_mean", class, t, axes)?;
            }
            for component in p.components.iter().flatten() {
                length("pca.components", component.len(), p.features())?;
            }
        }
        if let Some(c) = &self.consistency {
            rows("consistency.same_class", &c.same_class, t, t)?;
            let init = c.same_class_init.as_ref();
            init.iter().try_for_each(|grid| rows("consistency.same_class_init", grid, t, t))?;
            for (key, grid) in [
                ("kappa", Some(&c.kappa)),
                ("error_consistency", Some(&c.error_consistency)),
                ("kappa_init", c.kappa_init.as_ref()),
                ("error_consistency_init", c.error_consistency_init.as_ref()),
            ] {
                grid.iter().try_for_each(|grid| rows(&format!("consistency.{key}"), grid, t, t))?;
            }
        }
        for (key, c) in self.contrasts.iter().flat_map(Contrasts::named) {
            for (name, found) in [
                ("n", c.n.len()),
                ("mean", c.mean.len()),
                ("diff", c.diff.len()),
                ("se", c.se.len()),
                ("df", c.df.as_ref().map_or(t, Vec::len)),
                ("g", c.g.as_ref().map_or(t, Vec::len)),
                ("dz", c.dz.as_ref().map_or(t, Vec::len)),
                ("image_n", c.image_n.as_ref().map_or(t, Vec::len)),
                ("image_diff", c.image_diff.as_ref().map_or(t, Vec::len)),
                ("image_se", c.image_se.as_ref().map_or(t, Vec::len)),
                ("boot_defined", c.boot_defined.len()),
                ("boot_se", c.boot_se.len()),
                ("boot_ci", c.boot_ci.len()),
            ] {
                length(&format!("contrasts.{key}.{name}"), found, t)?;
            }
            for &step in &c.window.steps {
                let key = format!("dynamics: contrasts.{key}.window.steps");
                demand(step < t, &key, &format!("timesteps below {t}"), step)?;
            }
        }
        if let Some(a) = &self.accuracy {
            for (key, found) in
                [("mean", a.mean.len()), ("se", a.se.len()), ("boot_se", a.boot_se.len()), ("boot_ci", a.boot_ci.len())]
            {
                length(&format!("accuracy.{key}"), found, t)?;
            }
        }
        if let Some(p) = &self.parameters {
            for &class in &p.shown_classes {
                demand(class < k, "dynamics: parameters.shown_classes", &format!("classes below {k}"), class)?;
            }
            for &image in &p.rdm_images {
                demand(image < n, "dynamics: parameters.rdm_images", &format!("images below {n}"), image)?;
            }
            let (most, found) = (p.thresholds.len().max(1), p.image_threshold);
            demand(found < most, "dynamics: parameters.image_threshold", &format!("below {most} (thresholds)"), found)?;
        }
        Ok(())
    }

    /// Names of the measures that the report does not have.
    pub fn missing(&self) -> Vec<&'static str> {
        [
            ("margins", self.margin.is_none()),
            ("margins to the label's zone", self.label_margin.is_none()),
            ("relative margins", self.relative_margin.is_none()),
            ("entropy", self.entropy.is_none()),
            ("confidence", self.confidence.is_none()),
            ("calibration", self.calibration.is_none()),
            ("reaction times", self.reaction.is_none()),
            ("object solution times", self.solution.is_none()),
            ("visits of zones", self.visits.is_none()),
            ("path geometry", self.path.is_none()),
            ("dissimilarities of images", self.rdm.is_none()),
            ("dissimilarities of classes", self.class_rdm.is_none()),
            ("similarity of dissimilarity matrices over time", self.rdm_time.is_none()),
            ("CKA", self.cka.is_none()),
            ("decoders", self.decoder.is_none()),
            ("principal components", self.pca.is_none()),
            ("consistency of answers", self.consistency.is_none()),
            ("intervals of the contrasts", self.contrasts.is_none()),
        ]
        .into_iter()
        .filter_map(|(name, missing)| missing.then_some(name))
        .collect()
    }

    /// The classes whose mean representations are shown, as many as `count`.
    pub fn shown_classes(&self, count: usize) -> Vec<usize> {
        self.parameters.as_ref().map_or_else(|| (0..count).collect(), |p| p.shown_classes.clone())
    }

    /// The images whose dissimilarities are shown, as many as `count`.
    pub fn rdm_images(&self, count: usize) -> Vec<usize> {
        self.parameters.as_ref().map_or_else(|| (0..count).collect(), |p| p.rdm_images.clone())
    }
}

/// How many members have so many pairs.
pub(super) fn members_of(pairs: usize) -> usize {
    let mut n = 1;
    while n * (n - 1) / 2 < pairs {
        n += 1;
    }
    n
}

/// A condensed dissimilarity matrix as a square one, 0 on the diagonal.
pub(super) fn square(condensed: &[Option<f64>]) -> Grid {
    let n = members_of(condensed.len());
    let mut grid = vec![vec![Some(0.0); n]; n];
    let mut values = condensed.iter();
    for i in 0..n {
        for j in i + 1..n {
            let value = values.next().copied().flatten();
            (grid[i][j], grid[j][i]) = (value, value);
        }
    }
    grid
}

fn at_least_one(key: &str, found: usize) -> Result<()> {
    demand(found >= 1, &format!("dynamics: {key}"), "at least 1", found)
}

fn length(key: &str, found: usize, expected: usize) -> Result<()> {
    demand(found == expected, &format!("dynamics: {key}"), &format!("{expected} entries"), found)
}

fn rows<X>(key: &str, grid: &[Vec<X>], count: usize, width: usize) -> Result<()> {
    demand(grid.len() == count, &format!("dynamics: {key}"), &format!("{count} rows"), grid.len())?;
    let mut uneven = grid.iter().filter(|row| row.len() != width);
    uneven
        .next()
        .map_or(Ok(()), |row| demand(false, &format!("dynamics: {key}"), &format!("{width} columns"), row.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn condensed_and_square() {
        let grid = square(&[Some(1.0), None, Some(3.0)]);
        let expected = [[Some(0.0), Some(1.0), None], [Some(1.0), Some(0.0), Some(3.0)], [None, Some(3.0), Some(0.0)]];
        assert_eq!(grid, expected);
        assert_eq!(square(&[]), [[Some(0.0)]], "one member has no pairs");
        assert_eq!([0, 1, 3, 4950].map(members_of), [1, 2, 3, 100]);
    }
}
