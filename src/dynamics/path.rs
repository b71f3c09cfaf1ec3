//! The shape of trajectories: how long, how straight, how fast (Batschelet 1981; Benhamou 2004).
//!
//! Noise around a fixed point turns by 120 degrees from step to step, a random walk in many dimensions by 90, a straight line
//! by 0.

use super::sets::Sets;
use super::values::{Datum, Values};
use crate::trajectory::definitions::{Group, mean};
use serde::Serialize;

/// Means over a set of images, in the units of r where nothing else is said.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Path {
    /// Images.
    pub n: u64,
    /// Mean length: the sum of the steps' lengths.
    pub length: Option<f64>,
    /// Mean distance from the first representation to the last.
    pub displacement: Option<f64>,
    /// Mean of displacement / length, over the images that move.
    pub straightness: Option<f64>,
    /// Mean over images of the mean angle between successive steps, in degrees.
    pub turning: Option<f64>,
    /// \[T-2\] Mean angle between the step from t and the next, in degrees.
    pub turning_t: Vec<Option<f64>>,
    /// \[T-1\] Mean length of the step from t.
    pub speed: Vec<Option<f64>>,
    /// \[T\] Mean distance to the last representation.
    pub to_final: Vec<Option<f64>>,
}

/// The paths of all images, and of each group's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Paths {
    /// All images.
    pub all: Path,
    /// Stable, and the label at the end.
    pub stable_correct: Path,
    /// Stable, and not the label at the end.
    pub stable_incorrect: Path,
    /// Unstable, and the label at some step.
    pub unstable_correct: Path,
    /// Unstable, and never the label.
    pub unstable_incorrect: Path,
}

/// Length of the path of an image.
pub fn length(values: &Values, image: usize) -> f64 {
    (0..Datum::Step.rows(values.timesteps)).map(|t| values.row(Datum::Step, t)[image]).sum()
}

/// Displacement / length of an image; none where it does not move.
pub fn straightness(values: &Values, image: usize) -> Option<f64> {
    let length = length(values, image);
    (length > 0.0).then(|| values.row(Datum::ToFinal, 0)[image] / length)
}

/// Mean angle in degrees between successive steps of an image; none where there are no two steps that have a length.
pub fn turning(values: &Values, image: usize) -> Option<f64> {
    mean((0..Datum::Turning.rows(values.timesteps)).filter_map(|t| values.get(Datum::Turning, t, image)))
}

/// The paths of all images and groups.
pub fn of(values: &Values, sets: &Sets) -> Paths {
    let group = |group: Group| path(values, |i| sets.group[i] == Some(group));
    Paths {
        all: path(values, |_| true),
        stable_correct: group(Group::StableCorrect),
        stable_incorrect: group(Group::StableIncorrect),
        unstable_correct: group(Group::UnstableCorrect),
        unstable_incorrect: group(Group::UnstableIncorrect),
    }
}

fn path(values: &Values, member: impl Fn(usize) -> bool) -> Path {
    let images: Vec<usize> = (0..values.samples).filter(|&i| member(i)).collect();
    let over = |value: &dyn Fn(usize) -> Option<f64>| mean(images.iter().filter_map(|&i| value(i)));
    let by_step = |of: Datum| (0..of.rows(values.timesteps)).map(|t| over(&|i| values.get(of, t, i))).collect();
    Path {
        n: images.len() as u64,
        length: over(&|i| Some(length(values, i))),
        displacement: over(&|i| values.get(Datum::ToFinal, 0, i)),
        straightness: over(&|i| straightness(values, i)),
        turning: over(&|i| turning(values, i)),
        turning_t: by_step(Datum::Turning),
        speed: by_step(Datum::Step),
        to_final: by_step(Datum::ToFinal),
    }
}
