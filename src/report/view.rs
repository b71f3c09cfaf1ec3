//! The statistics as the figures read them: typed, and checked once so that nothing after this can be out of bounds.

use serde::Deserialize;

use super::Report;
use super::disturbance::Disturbance;
use crate::{Error, Result};

/// A pair of group means: first group, second group. `None` where a group is empty or the mean undefined.
pub(super) type Pair = [Option<f64>; 2];

/// The part of the statistics that is shown. T timesteps, K classes; lengths are checked by [`View::read`].
#[derive(Debug, Deserialize)]
pub(super) struct View {
    pub samples: u64,
    pub timesteps: usize,
    /// Fraction correct `[T]`.
    pub accuracy: Vec<Option<f64>>,
    /// Of the untrained network, if one was given `[T]`.
    #[serde(default)]
    pub accuracy_init: Option<Vec<Option<f64>>>,
    /// First timestep of the best accuracy.
    #[serde(default)]
    pub t_max_accuracy: Option<usize>,
    #[serde(default)]
    pub max_accuracy: Option<f64>,
    pub counts: Counts,
    /// Stable-correct images by t_stable `[T]`.
    pub t_stable_histogram: Vec<u64>,
    /// The contrasts are averaged over t < this.
    pub timesteps_analyse: Option<usize>,
    /// `[T-1][T-1]`: row = t_stable, column = step t -> t+1.
    pub change_by_t_stable: Vec<Vec<Option<f64>>>,
    #[serde(default)]
    pub change_by_t_stable_init: Option<Vec<Vec<Option<f64>>>>,
    pub norm_now_later: Vec<Pair>,
    pub cos_current_now_later: Vec<Pair>,
    pub cos_final_own_other: Vec<Pair>,
    pub mean_norm_now_later: Pair,
    pub mean_cos_current_now_later: Pair,
    pub mean_cos_final_own_other: Pair,
    /// (1 - cosine) / 2 between readout vectors `[K][K]`.
    #[serde(default)]
    pub readout_distance: Vec<Vec<Option<f64>>>,
    /// Ward's tree in scipy's form `[K-1][4]`: cluster, cluster, height, size.
    #[serde(default)]
    pub readout_linkage: Vec<[f64; 4]>,
    /// Order of the classes in the tree `[K]`.
    #[serde(default)]
    pub readout_leaves: Vec<usize>,
    /// All-zero representations, whose cosines are undefined.
    #[serde(default)]
    pub silent_representations: u64,
    /// What a protocol changed, if there was one.
    #[serde(skip)]
    pub disturbance: Option<Disturbance>,
    /// Names of the K classes.
    #[serde(skip)]
    pub classes: Vec<String>,
}

/// How many images fall in each stability group.
#[derive(Debug, Deserialize)]
pub(super) struct Counts {
    pub stable_correct: u64,
    pub stable_incorrect: u64,
    pub unstable_correct: u64,
    pub unstable_incorrect: u64,
}

impl View {
    /// Reads and checks the statistics of a report.
    pub fn read(report: &Report) -> Result<View> {
        let mut view: View = serde_path_to_error::deserialize(&report.statistics)
            .map_err(|e| Error::Data(format!("trajectory statistics: {}: {}", e.path(), e.inner())))?;
        view.check()?;
        let read = |value| Disturbance::read(value, view.timesteps, view.samples as usize);
        view.disturbance = report.disturbance.as_ref().filter(|value| !value.is_null()).map(read).transpose()?;
        let (given, k) = (report.meta.classes.len(), view.readout_leaves.len());
        view.classes = match (given, k) {
            (0, _) => (0..k).map(|i| format!("class {i}")).collect(),
            (_, 0) => report.meta.classes.clone(),
            _ if given == k => report.meta.classes.clone(),
            _ => {
                return Err(Error::Data(format!(
                    "report: {given} class names for a readout of {k} classes; give one name a class, or none"
                )));
            }
        };
        Ok(view)
    }

    fn check(&self) -> Result<()> {
        let (t, k) = (self.timesteps, self.readout_leaves.len());
        expect(t >= 1, "timesteps", "at least 1", t)?;
        let steps = t - 1;
        for (key, found) in [
            ("accuracy", self.accuracy.len()),
            ("accuracy_init", self.accuracy_init.as_ref().map_or(t, Vec::len)),
            ("t_stable_histogram", self.t_stable_histogram.len()),
            ("norm_now_later", self.norm_now_later.len()),
            ("cos_current_now_later", self.cos_current_now_later.len()),
            ("cos_final_own_other", self.cos_final_own_other.len()),
        ] {
            expect(found == t, key, &format!("{t} entries (timesteps)"), found)?;
        }
        for (key, rows) in [
            ("change_by_t_stable", Some(&self.change_by_t_stable)),
            ("change_by_t_stable_init", self.change_by_t_stable_init.as_ref()),
        ] {
            let Some(rows) = rows else { continue };
            expect(rows.len() == steps, key, &format!("{steps} rows (timesteps - 1)"), rows.len())?;
            for row in rows {
                expect(row.len() == steps, key, &format!("{steps} columns (timesteps - 1)"), row.len())?;
            }
        }
        if let Some(best) = self.t_max_accuracy {
            expect(best < t, "t_max_accuracy", &format!("below {t} (timesteps)"), best)?;
        }
        expect(
            self.readout_distance.len() == k,
            "readout_distance",
            &format!("{k} rows"),
            self.readout_distance.len(),
        )?;
        for row in &self.readout_distance {
            expect(row.len() == k, "readout_distance", &format!("{k} columns"), row.len())?;
        }
        let merges = k.saturating_sub(1);
        let found = self.readout_linkage.len();
        expect(found == merges, "readout_linkage", &format!("{merges} rows (classes - 1)"), found)?;
        let mut seen = vec![false; k];
        for &leaf in &self.readout_leaves {
            let fresh = leaf < k && !std::mem::replace(&mut seen[leaf], true);
            expect(fresh, "readout_leaves", &format!("each of 0..{k} once"), leaf)?;
        }
        let mut joined = vec![false; k + found];
        for (row, merge) in self.readout_linkage.iter().enumerate() {
            for &child in &merge[..2] {
                let fits = child >= 0.0 && child.fract() == 0.0 && (child as usize) < k + row;
                let fresh = fits && !std::mem::replace(&mut joined[child as usize], true);
                expect(fresh, "readout_linkage", "clusters made before and not yet joined", child)?;
            }
        }
        Ok(())
    }

    /// Number of classes (0 if unknown).
    pub fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// Stable-correct images with a defined t_stable.
    pub fn stable_correct(&self) -> u64 {
        self.t_stable_histogram.iter().sum()
    }

    /// Mean change per step over all stable-correct images `[T-1]`: the rows weighted by their counts.
    pub fn mean_change(&self, rows: &[Vec<Option<f64>>]) -> Vec<Option<f64>> {
        (0..self.timesteps - 1)
            .map(|t| {
                let terms = rows.iter().zip(&self.t_stable_histogram).filter(|(_, n)| **n > 0);
                let (sum, weight) = terms.fold((Some(0.0), 0u64), |(sum, weight), (row, &n)| {
                    (sum.zip(row[t]).map(|(s, v)| s + n as f64 * v), weight + n)
                });
                sum.filter(|_| weight > 0).map(|s| s / weight as f64)
            })
            .collect()
    }

    /// Cosine between readout vectors of classes i and j.
    pub fn similarity(&self, i: usize, j: usize) -> Option<f64> {
        self.readout_distance[i][j].map(|d| 1.0 - 2.0 * d)
    }
}

fn expect(holds: bool, key: &str, expected: &str, found: impl std::fmt::Display) -> Result<()> {
    demand(holds, &format!("trajectory statistics: {key}"), expected, found)
}

/// An error that names the place, unless the condition holds.
pub(super) fn demand(holds: bool, place: &str, expected: &str, found: impl std::fmt::Display) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Data(format!("{place}: expected {expected}, found {found}")))
}
