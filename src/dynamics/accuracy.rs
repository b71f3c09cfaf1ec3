//! Accuracy over time, with its uncertainty over images of the same classes.

use super::bootstrap::{Rows, replicate, spread};
use super::values::Values;
use serde::Serialize;

/// \[T\] Accuracy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Accuracy {
    /// The part of the images whose class is the label.
    pub mean: Vec<f64>,
    /// Standard error sqrt(a (1 - a) / (N - 1)); none for a single image.
    pub se: Vec<Option<f64>>,
    /// Standard error by the bootstrap.
    pub boot_se: Vec<Option<f64>>,
    /// \[T\]\[2\] Interval by the bootstrap.
    pub boot_ci: Vec<[Option<f64>; 2]>,
}

/// The accuracy at each timestep; intervals have coverage `level`.
pub fn of(values: &Values, replicates: &[Vec<u8>], level: f64) -> Accuracy {
    let (steps, samples) = (values.timesteps, values.samples);
    let right = |t: usize, i: usize| f64::from(u8::from(values.correct(t, i)));
    // The last column counts the images drawn.
    let mut rows = Rows::new(steps + 1, 1);
    (0..samples).for_each(|i| rows.push(i, 0, (0..steps).map(|t| right(t, i)).chain([1.0])));
    let sums = replicate(replicates, |counts| rows.sums(counts));
    let spread = |t: usize| {
        let accuracy = |sums: &Vec<f64>| (sums[steps] > 0.0).then(|| sums[t] / sums[steps]);
        spread(sums.iter().map(accuracy), level)
    };
    let mean: Vec<f64> = (0..steps).map(|t| (0..samples).map(|i| right(t, i)).sum::<f64>() / samples as f64).collect();
    let se = |a: &f64| (samples > 1).then(|| (a * (1.0 - a) / (samples - 1) as f64).sqrt());
    Accuracy {
        se: mean.iter().map(se).collect(),
        boot_se: (0..steps).map(|t| spread(t).se).collect(),
        boot_ci: (0..steps).map(|t| spread(t).interval).collect(),
        mean,
    }
}
