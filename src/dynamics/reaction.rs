//! When the network answers, and when it is right for good.
//!
//! Reaction time (Spoerer et al. 2020): the first timestep at which the entropy is below a threshold, or the last timestep where
//! none is. Lower thresholds are answers that are slower and more often correct: mean reaction time against accuracy is the
//! speed-accuracy curve. Object solution time (Kar et al. 2019): the first timestep from which on the class is the label to the
//! end.

use super::values::{Datum, Values};
use crate::trajectory::definitions::mean;
use serde::Serialize;

/// Reaction times, in timesteps; the first axis is the threshold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reaction {
    /// Mean over all images.
    pub mean: Vec<Option<f64>>,
    /// The part of the images whose class at their reaction time is the label.
    pub accuracy: Vec<Option<f64>>,
    /// Images whose entropy is ever below the threshold; the others count with the last timestep.
    pub reached: Vec<u64>,
    /// \[thresholds\]\[T\] Images by reaction time.
    pub histogram: Vec<Vec<u64>>,
    /// Mean over the images whose answer is correct.
    pub mean_correct: Vec<Option<f64>>,
    /// Mean over the others.
    pub mean_incorrect: Vec<Option<f64>>,
    /// \[N\] Reaction time of each image at the threshold with the number `image_threshold`; empty where there is none.
    pub image: Vec<u64>,
}

/// Object solution times, in timesteps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Solution {
    /// \[N\] Solution time of each image; -1 where its class is not the label at the end.
    pub image: Vec<i64>,
    /// \[T\] Images by solution time.
    pub histogram: Vec<u64>,
    /// Images that have none.
    pub unsolved: u64,
    /// Mean over the images that have one.
    pub mean: Option<f64>,
}

/// Reaction times at each threshold, in nats.
pub fn reaction(values: &Values, thresholds: &[f64], image_threshold: usize) -> Reaction {
    let (steps, samples) = (values.timesteps, values.samples);
    let mut all = Reaction {
        mean: vec![],
        accuracy: vec![],
        reached: vec![],
        histogram: vec![],
        mean_correct: vec![],
        mean_incorrect: vec![],
        image: vec![],
    };
    for (number, &threshold) in thresholds.iter().enumerate() {
        let answer = |i: usize| (0..steps).find(|&t| values.row(Datum::Entropy, t)[i] < threshold);
        let answers: Vec<Option<usize>> = (0..samples).map(answer).collect();
        let times: Vec<usize> = answers.iter().map(|answer| answer.unwrap_or(steps - 1)).collect();
        let right = |i: usize| values.correct(times[i], i);
        let mean_of = |outcome: bool| mean((0..samples).filter(|&i| right(i) == outcome).map(|i| times[i] as f64));
        all.mean.push(mean(times.iter().map(|&time| time as f64)));
        all.accuracy.push(mean((0..samples).map(|i| f64::from(u8::from(right(i))))));
        all.reached.push(answers.iter().flatten().count() as u64);
        all.histogram.push(counts(times.iter().copied(), steps));
        all.mean_correct.push(mean_of(true));
        all.mean_incorrect.push(mean_of(false));
        if number == image_threshold {
            all.image = times.iter().map(|&time| time as u64).collect();
        }
    }
    all
}

/// Object solution times.
pub fn solution(values: &Values) -> Solution {
    let time = |i: usize| {
        let first = (0..values.timesteps).rev().take_while(|&t| values.correct(t, i)).last();
        first.map_or(-1, |t| t as i64)
    };
    let image: Vec<i64> = (0..values.samples).map(time).collect();
    let solved = || image.iter().filter(|&&time| time >= 0);
    Solution {
        histogram: counts(solved().map(|&time| time as usize), values.timesteps),
        unsolved: (image.len() - solved().count()) as u64,
        mean: mean(solved().map(|&time| time as f64)),
        image,
    }
}

/// How often each of the numbers below `length` occurs.
pub(super) fn counts(numbers: impl IntoIterator<Item = usize>, length: usize) -> Vec<u64> {
    let mut counts = vec![0; length];
    numbers.into_iter().for_each(|number| counts[number] += 1);
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamics::values::made_up::{with_classes, with_numbers};

    #[test]
    fn answers_are_the_first_strictly_below_a_threshold() {
        let classes: [&[u32]; 3] = [&[1, 0, 0], &[0, 0, 1], &[1, 1, 1]];
        let entropies: [&[f64]; 3] = [&[0.9, 0.2, 0.5], &[0.5, 0.5, 0.5], &[0.8, 0.7, 0.4]];
        let values = with_numbers(with_classes(&classes, &[0, 0, 1], 2), Datum::Entropy, &entropies);
        let found = reaction(&values, &[0.5, 1.0], 0);
        assert_eq!((found.image, found.reached), (vec![1, 2, 2], vec![2, 3]));
        assert_eq!(found.histogram, [[0, 1, 2], [3, 0, 0]]);
        assert_eq!((found.mean[0], found.accuracy[0]), (Some(5.0 / 3.0), Some(2.0 / 3.0)));
        assert_eq!((found.mean_correct[0], found.mean_incorrect[0]), (Some(1.5), Some(2.0)));
        assert_eq!((found.mean[1], found.accuracy[1]), (Some(0.0), Some(2.0 / 3.0)));
        let found = solution(&values);
        assert_eq!((found.image, found.histogram), (vec![1, -1, 0], vec![1, 1, 0]));
        assert_eq!((found.unsolved, found.mean), (1, Some(0.5)));
    }
}
