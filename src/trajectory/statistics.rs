//! The result of an analysis. Names and meanings are those of `analysis_*.json` in the project's golden data and of the
//! `report.json` that scripts read; what is undefined is `None`, `null` in JSON.

use serde::{Deserialize, Serialize};

use super::definitions::{self, Group, Trajectory};
use super::readout::Readout;
use crate::Result;

/// All trajectory statistics of one network over one set of samples. T timesteps, N samples, K classes.
///
/// Source: Thorat, Doerig and Kietzmann 2023 (arXiv 2308.12435) and the notebook published with it. The rules behind
/// "stable", "correct" and `timesteps_analyse` stand in [`definitions`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// N, the number of samples.
    pub samples: u64,
    /// T, the number of timesteps.
    pub timesteps: usize,

    /// \[T\] Fraction of samples whose class at t is the label.
    pub accuracy: Vec<f64>,
    /// \[T\] The same for the untrained network; none where its activity is not known.
    pub accuracy_init: Option<Vec<f64>>,
    /// First step of the highest accuracy.
    pub t_max_accuracy: usize,
    /// Accuracy at that step.
    pub max_accuracy: f64,

    /// \[N\] Number of each sample's group: 0 stable-correct, 1 stable-incorrect, 2 unstable-correct,
    /// 3 unstable-incorrect, -1 none (T = 1).
    pub group: Vec<i32>,
    /// Indices of the stable-correct samples, ascending.
    pub stable_correct_ids: Vec<u32>,
    /// Indices of the stable-incorrect samples, ascending.
    pub stable_incorrect_ids: Vec<u32>,
    /// Indices of the unstable-correct samples, ascending.
    pub unstable_correct_ids: Vec<u32>,
    /// Indices of the unstable-incorrect samples, ascending.
    pub unstable_incorrect_ids: Vec<u32>,
    /// Sizes of the groups.
    pub counts: Counts,

    /// \[N\] Step from which a stable sample keeps its class, else -1.
    pub t_stable: Vec<i32>,
    /// `t_stable` of the stable-correct samples, in the order of their ids.
    pub t_stable_correct: Vec<i32>,
    /// `t_stable` of the stable-incorrect samples, in the order of their ids.
    pub t_stable_incorrect: Vec<i32>,
    /// Class in which the stable-incorrect samples end, in the order of their ids.
    pub label_stable_incorrect: Vec<u32>,
    /// First step at which the label is the class, for the unstable-correct samples in the order of their ids.
    pub t_unstable_correct: Vec<u32>,
    /// \[T\] Number of stable-correct samples by `t_stable`.
    pub t_stable_histogram: Vec<u64>,
    /// Number of first steps over which the means `mean_*` are taken.
    pub timesteps_analyse: Option<usize>,

    /// \[T-1\]\[T-1\] Row g, column t: mean norm of r(t+1) - r(t) over the stable-correct samples with `t_stable` = g.
    pub change_by_t_stable: Vec<Vec<Option<f64>>>,
    /// The same samples and grouping, with the representations of the untrained network; none where these are not known.
    pub change_by_t_stable_init: Option<Vec<Vec<Option<f64>>>>,
    /// \[T\]\[2\] Mean norm of r(t) over the stable-correct samples that are in the correct zone for good (`t_stable` <=
    /// t), and over those that will be later (`t_stable` > t).
    pub norm_now_later: Vec<[Option<f64>; 2]>,
    /// \[T\]\[2\] Mean cosine of r(t) with the readout vector of the class at t, for the same two sets.
    pub cos_current_now_later: Vec<[Option<f64>; 2]>,
    /// \[T\]\[2\] Over the stable-correct samples with `t_stable` > t: mean cosine of r(t) with the readout vector of the
    /// own label; and, over all ordered pairs (i, j) of them that have the same class at t and different labels, mean
    /// cosine of sample i's r(t) with the readout vector of sample j's label.
    pub cos_final_own_other: Vec<[Option<f64>; 2]>,
    /// \[2\] Mean over t < `timesteps_analyse` of the rows of `norm_now_later` in which both are defined.
    pub mean_norm_now_later: [Option<f64>; 2],
    /// \[2\] The same of `cos_current_now_later`.
    pub mean_cos_current_now_later: [Option<f64>; 2],
    /// \[2\] The same of `cos_final_own_other`.
    pub mean_cos_final_own_other: [Option<f64>; 2],

    /// \[K\]\[K\] Distances (1 - cosine)/2 between readout vectors.
    pub readout_distance: Vec<Vec<f64>>,
    /// \[K-1\]\[4\] Ward tree on these distances, in scipy's form: the two clusters joined, their distance, the new size.
    pub readout_linkage: Vec<[f64; 4]>,
    /// \[K\] The classes in the order of the tree's leaves.
    pub readout_leaves: Vec<usize>,

    /// Number of (sample, timestep) whose representation is all zero: it has a norm, but no cosine.
    pub silent_representations: u64,
}

/// Sizes of the four groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Stable-correct samples.
    pub stable_correct: u64,
    /// Stable-incorrect samples.
    pub stable_incorrect: u64,
    /// Unstable-correct samples.
    pub unstable_correct: u64,
    /// Unstable-incorrect samples.
    pub unstable_incorrect: u64,
}

/// What is measured on the representations: the part of [`Statistics`] that the exact and the streamed formulation
/// compute each in its own way. Fields as there.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    pub accuracy: Vec<f64>,
    pub accuracy_init: Option<Vec<f64>>,
    pub change_by_t_stable: Vec<Vec<Option<f64>>>,
    pub change_by_t_stable_init: Option<Vec<Vec<Option<f64>>>>,
    pub norm_now_later: Vec<[Option<f64>; 2]>,
    pub cos_current_now_later: Vec<[Option<f64>; 2]>,
    pub cos_final_own_other: Vec<[Option<f64>; 2]>,
    pub silent_representations: u64,
}

impl Statistics {
    /// Puts together what was measured and what follows from the trajectories and the readout by rule.
    pub(super) fn assemble(trajectories: &[Trajectory], measured: Measured, readout: &Readout) -> Result<Statistics> {
        let timesteps = measured.accuracy.len();
        let t_max_accuracy = definitions::first_arg_max(&measured.accuracy).unwrap_or(0);
        let [stable_correct, stable_incorrect, unstable_correct, unstable_incorrect] =
            Group::ALL.map(|group| members(trajectories, group));
        let of = |ids: &[u32]| ids.iter().map(|&id| trajectories[id as usize]).collect::<Vec<_>>();
        let t_stable_histogram = definitions::histogram(trajectories, timesteps);
        let window = definitions::analysis_window(&t_stable_histogram);
        let distance = readout.distances();
        let linkage = super::readout::ward(&distance);
        Ok(Statistics {
            samples: trajectories.len() as u64,
            timesteps,
            t_max_accuracy,
            max_accuracy: measured.accuracy.get(t_max_accuracy).copied().unwrap_or(0.0),
            accuracy: measured.accuracy,
            accuracy_init: measured.accuracy_init,
            group: trajectories.iter().map(|trajectory| trajectory.group.map_or(-1, |group| group as i32)).collect(),
            counts: Counts {
                stable_correct: stable_correct.len() as u64,
                stable_incorrect: stable_incorrect.len() as u64,
                unstable_correct: unstable_correct.len() as u64,
                unstable_incorrect: unstable_incorrect.len() as u64,
            },
            t_stable: trajectories.iter().map(step_or_none).collect(),
            t_stable_correct: of(&stable_correct).iter().map(step_or_none).collect(),
            t_stable_incorrect: of(&stable_incorrect).iter().map(step_or_none).collect(),
            label_stable_incorrect: of(&stable_incorrect).iter().map(|one| one.final_class as u32).collect(),
            t_unstable_correct: of(&unstable_correct)
                .iter()
                .filter_map(|one| one.t_unstable_correct)
                .map(|t| t as u32)
                .collect(),
            stable_correct_ids: stable_correct,
            stable_incorrect_ids: stable_incorrect,
            unstable_correct_ids: unstable_correct,
            unstable_incorrect_ids: unstable_incorrect,
            t_stable_histogram,
            timesteps_analyse: window,
            change_by_t_stable: measured.change_by_t_stable,
            change_by_t_stable_init: measured.change_by_t_stable_init,
            mean_norm_now_later: definitions::mean_of_complete_rows(&measured.norm_now_later, window),
            mean_cos_current_now_later: definitions::mean_of_complete_rows(&measured.cos_current_now_later, window),
            mean_cos_final_own_other: definitions::mean_of_complete_rows(&measured.cos_final_own_other, window),
            norm_now_later: measured.norm_now_later,
            cos_current_now_later: measured.cos_current_now_later,
            cos_final_own_other: measured.cos_final_own_other,
            readout_leaves: super::readout::leaves(&linkage),
            readout_distance: distance,
            readout_linkage: linkage,
            silent_representations: measured.silent_representations,
        })
    }
}

/// Indices of the trajectories of one group, ascending.
fn members(trajectories: &[Trajectory], group: Group) -> Vec<u32> {
    (0..).zip(trajectories).filter(|(_, trajectory)| trajectory.group == Some(group)).map(|(id, _)| id).collect()
}

/// `t_stable` as stored: -1 for none.
fn step_or_none(trajectory: &Trajectory) -> i32 {
    trajectory.t_stable.map_or(-1, |t| t as i32)
}
