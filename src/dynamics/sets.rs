//! The sets of images that means are over. Groups, `t_stable` and window are those of [`crate::trajectory::definitions`].

use super::values::Values;
use crate::trajectory::definitions::{self, Group, Trajectory};
use serde::Serialize;

/// The group of each image, and since when the stable-correct ones are stable.
#[derive(Clone, Debug, PartialEq)]
pub struct Sets {
    /// \[N\] Groups; none where T = 1.
    pub group: Vec<Option<Group>>,
    /// \[N\] `t_stable` of the stable-correct images.
    pub since: Vec<Option<usize>>,
    /// Timesteps from the first that means over time cover, if there are such.
    pub window: Option<usize>,
}

impl Sets {
    /// From the classes and labels of a network.
    pub fn new(values: &Values) -> Sets {
        let classes = |i: usize| (0..values.timesteps).map(|t| values.class(t, i)).collect::<Vec<_>>();
        let trajectories: Vec<Trajectory> =
            (0..values.samples).filter_map(|i| definitions::classify(&classes(i), values.labels[i])).collect();
        let since = |of: &Trajectory| of.t_stable.filter(|_| of.group == Some(Group::StableCorrect));
        Sets {
            group: trajectories.iter().map(|of| of.group).collect(),
            since: trajectories.iter().map(since).collect(),
            window: definitions::analysis_window(&definitions::histogram(&trajectories, values.timesteps)),
        }
    }

    /// Whether an image is stable-correct, and stable at a timestep already.
    pub fn now(&self, t: usize, image: usize) -> bool {
        self.since[image].is_some_and(|since| since <= t)
    }

    /// Whether an image is stable-correct, but stable only after a timestep.
    pub fn later(&self, t: usize, image: usize) -> bool {
        self.since[image].is_some_and(|since| since > t)
    }
}

/// \[T\] Means over all images, and over those whose class at the timestep is the label, or is not.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByOutcome {
    /// All images.
    pub all: Vec<Option<f64>>,
    /// Images whose class is the label.
    pub correct: Vec<Option<f64>>,
    /// The others.
    pub incorrect: Vec<Option<f64>>,
}

/// \[T\] Means by outcome, and over the stable-correct images by whether they are stable.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BySet {
    /// By outcome.
    #[serde(flatten)]
    pub outcome: ByOutcome,
    /// Stable-correct images that are stable.
    pub now: Vec<Option<f64>>,
    /// Stable-correct images that are stable only later.
    pub later: Vec<Option<f64>>,
}

impl ByOutcome {
    /// Means of `value` at t of an image, where it is defined.
    pub fn of(values: &Values, value: impl Fn(usize, usize) -> Option<f64>) -> ByOutcome {
        ByOutcome {
            all: means(values, &value, |_, _| true),
            correct: means(values, &value, |t, i| values.correct(t, i)),
            incorrect: means(values, &value, |t, i| !values.correct(t, i)),
        }
    }
}

impl BySet {
    /// Means of `value` at t of an image, where it is defined.
    pub fn of(values: &Values, sets: &Sets, value: impl Fn(usize, usize) -> Option<f64>) -> BySet {
        BySet {
            now: means(values, &value, |t, i| sets.now(t, i)),
            later: means(values, &value, |t, i| sets.later(t, i)),
            outcome: ByOutcome::of(values, value),
        }
    }
}

fn means(
    values: &Values,
    value: &impl Fn(usize, usize) -> Option<f64>,
    member: impl Fn(usize, usize) -> bool,
) -> Vec<Option<f64>> {
    let members = |t: usize| (0..values.samples).filter(|&i| member(t, i)).collect::<Vec<_>>();
    (0..values.timesteps).map(|t| definitions::mean(members(t).into_iter().filter_map(|i| value(t, i)))).collect()
}
