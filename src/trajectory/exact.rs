//! The statistics as they are defined, in f64, with plain loops over stored arrays and over all pairs of samples. Slow,
//! and the truth for [`super::streaming`], with which it shares nothing but the [`definitions`] and the readout tree.

use super::definitions::{self, Group, Trajectory, mean};
use super::npz::Extraction;
use super::readout::norm;
use super::statistics::{Measured, Statistics};
use crate::{Error, Result};

/// What to do with an all-zero representation, which has no cosine to anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silent {
    /// Leave it out of the means of cosines: what this program reports.
    LeftOut,
    /// Do as the published notebook does, for comparison with its results: the undefined cosine makes the running sum
    /// start again at 0 with the next sample (the next sample i of the pairs), while the divisor still counts all; as
    /// the last contribution it leaves the result undefined, as it always does in the cosine to the own label.
    AsPublished,
}

/// Computes the statistics of `trained`, with `untrained`, if given, as the network before training: the same samples in the
/// same order, labels included, and as many timesteps.
pub fn statistics<'a>(
    trained: &Extraction,
    untrained: impl Into<Option<&'a Extraction>>,
    silent: Silent,
) -> Result<Statistics> {
    let (steps, samples) = (trained.timesteps, trained.samples);
    let untrained: Option<&Extraction> = untrained.into();
    if let Some(untrained) = untrained.filter(|of| (of.timesteps, &of.labels) != (steps, &trained.labels)) {
        return Err(Error::Data(format!(
            "the untrained network's extraction must be of the same samples: expected {steps} timesteps and {samples} \
             samples with the same labels, found {} timesteps and {} samples{}",
            untrained.timesteps,
            untrained.samples,
            if untrained.samples == samples { ", some with other labels" } else { "" }
        )));
    }
    let readout = trained.readout()?;
    let classes = classes(trained);
    let trajectories: Vec<Trajectory> =
        (0..samples).filter_map(|i| definitions::classify(&classes[i], trained.labels[i])).collect();

    // The stable-correct samples, of which everything below is measured, and since when they are stable.
    let members: Vec<(usize, usize)> = (0..samples)
        .filter(|&i| trajectories[i].group == Some(Group::StableCorrect))
        .filter_map(|i| Some((i, trajectories[i].t_stable?)))
        .collect();
    let is_silent = |t: usize, i: usize| trained.representation(t, i).iter().all(|&x| x == 0.0);
    let cosine = |t: usize, i: usize, class: usize| readout.cosine(trained.representation(t, i), class);

    let mut norm_now_later = Vec::new();
    let mut cos_current_now_later = Vec::new();
    let mut cos_final_own_other = Vec::new();
    for t in 0..steps {
        let now: Vec<usize> = members.iter().filter(|(_, stable)| *stable <= t).map(|(i, _)| *i).collect();
        let later: Vec<usize> = members.iter().filter(|(_, stable)| *stable > t).map(|(i, _)| *i).collect();
        norm_now_later.push([&now, &later].map(|set| mean(set.iter().map(|&i| norm(trained.representation(t, i))))));
        cos_current_now_later
            .push([&now, &later].map(|set| mean_cosine(set.iter().map(|&i| (cosine(t, i, classes[i][t]), 1)), silent)));
        let own: Vec<f64> = later.iter().map(|&i| cosine(t, i, trained.labels[i])).collect();
        let own = match silent {
            Silent::LeftOut => mean(own.into_iter().filter(|cosine| !cosine.is_nan())),
            Silent::AsPublished => mean(own).filter(|mean| !mean.is_nan()),
        };
        let others = later.iter().map(|&i| {
            let (mut sum, mut pairs) = (0.0, 0);
            for &j in &later {
                if classes[i][t] == classes[j][t] && trained.labels[i] != trained.labels[j] {
                    sum += cosine(t, i, trained.labels[j]);
                    pairs += 1;
                }
            }
            (sum, pairs)
        });
        cos_final_own_other.push([own, mean_cosine(others, silent)]);
    }

    Statistics::assemble(
        &trajectories,
        Measured {
            accuracy: accuracy(&classes, &trained.labels, steps),
            accuracy_init: untrained.map(|of| accuracy(&self::classes(of), &trained.labels, steps)),
            change_by_t_stable: change_by_t_stable(trained, &members),
            change_by_t_stable_init: untrained.map(|of| change_by_t_stable(of, &members)),
            norm_now_later,
            cos_current_now_later,
            cos_final_own_other,
            silent_representations: (0..steps).map(|t| (0..samples).filter(|&i| is_silent(t, i)).count() as u64).sum(),
        },
        &readout,
    )
}

/// \[N\]\[T\] The class of each sample at each timestep.
fn classes(extraction: &Extraction) -> Vec<Vec<usize>> {
    let class = |t: usize, i: usize| definitions::first_arg_max(extraction.output(t, i)).unwrap_or(0);
    (0..extraction.samples).map(|i| (0..extraction.timesteps).map(|t| class(t, i)).collect()).collect()
}

fn accuracy(classes: &[Vec<usize>], labels: &[usize], steps: usize) -> Vec<f64> {
    let correct = |t: usize| classes.iter().zip(labels).filter(|(classes, label)| classes[t] == **label).count();
    (0..steps).map(|t| correct(t) as f64 / labels.len() as f64).collect()
}

/// \[T-1\]\[T-1\] Mean norm of r(t+1) - r(t) over the members with each `t_stable`.
fn change_by_t_stable(network: &Extraction, members: &[(usize, usize)]) -> Vec<Vec<Option<f64>>> {
    let change = |t: usize, i: usize| {
        let (before, after) = (network.representation(t, i), network.representation(t + 1, i));
        norm(&before.iter().zip(after).map(|(before, after)| after - before).collect::<Vec<_>>())
    };
    let row = |stable: usize| {
        let group = || members.iter().filter(move |member| member.1 == stable);
        (0..network.timesteps - 1).map(|t| mean(group().map(|&(i, _)| change(t, i)))).collect()
    };
    (0..network.timesteps - 1).map(row).collect()
}

/// Mean over all terms of all contributions, each a sum of cosines and the number of its terms; NaN where the
/// representation was silent.
fn mean_cosine(contributions: impl Iterator<Item = (f64, u64)>, silent: Silent) -> Option<f64> {
    let (mut sum, mut count) = (0f64, 0);
    for (cosines, terms) in contributions {
        match silent {
            Silent::LeftOut if cosines.is_nan() => continue,
            Silent::AsPublished if sum.is_nan() => sum = 0.0,
            _ => {}
        }
        sum += cosines;
        count += terms;
    }
    (count > 0 && !sum.is_nan()).then(|| sum / count as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four samples that all end in class 1 or 0 as labelled, worked out on paper.
    #[test]
    fn on_paper() {
        // Class at each step: sample 0: 1 0 0 (label 0), sample 1: 1 1 1 (label 1), sample 2: 1 2 2 (label 2),
        // sample 3: 0 1 0 (label 1).
        let classes = [[1, 0, 0], [1, 1, 1], [1, 2, 2], [0, 1, 0]];
        let mut outputs = vec![0.0; 3 * 4 * 3];
        for (i, sequence) in classes.iter().enumerate() {
            for (t, class) in sequence.iter().enumerate() {
                outputs[(t * 4 + i) * 3 + class] = 1.0;
            }
        }
        let mut representations = vec![0.0; 3 * 4 * 2];
        let mut set = |t: usize, i: usize, r: [f64; 2]| representations[(t * 4 + i) * 2..][..2].copy_from_slice(&r);
        set(0, 0, [3.0, 4.0]);
        set(1, 0, [6.0, 8.0]);
        set(2, 0, [6.0, 8.0]);
        set(0, 1, [1.0, 0.0]);
        set(1, 1, [1.0, 1.0]);
        set(0, 2, [0.0, -2.0]);
        set(1, 2, [1.0, 0.0]);
        set(2, 2, [0.0, 1.0]);
        let network = Extraction {
            timesteps: 3,
            samples: 4,
            classes: 3,
            features: 2,
            outputs,
            labels: vec![0, 1, 2, 1],
            representations,
            readout_weight: vec![1.0, 0.0, 0.0, 1.0, -2.0, 0.0], // the directions right, up, left
            readout_bias: None,
        };
        let found = statistics(&network, &network, Silent::LeftOut).unwrap();
        assert_eq!(found.group, [0, 0, 0, 2]);
        assert_eq!(found.t_stable, [1, 0, 1, -1]);
        assert_eq!((found.t_unstable_correct[0], found.t_stable_histogram.as_slice()), (1, &[1, 2, 0][..]));
        assert_eq!(found.accuracy, [0.25, 1.0, 0.75]);
        assert_eq!((found.t_max_accuracy, found.timesteps_analyse), (1, Some(2)));
        // Sample 3 is silent throughout, sample 1 at the end.
        assert_eq!(found.silent_representations, 3 + 1);
        assert_eq!(found.norm_now_later[0], [Some(1.0), Some(3.5)]);
        let root2 = 2f64.sqrt();
        let close = |found: Option<f64>, expected: f64| {
            assert!(found.is_some_and(|found| (found - expected).abs() < 1e-12), "{found:?}, expected {expected}");
        };
        // At 0 all three are in class 1, "up": sample 1 has cosine 0, sample 0 4/5, sample 2 -1.
        close(found.cos_current_now_later[0][0], 0.0);
        close(found.cos_current_now_later[0][1], -0.1);
        // Own: sample 0 to right 3/5, sample 2 to left 0. Others: sample 0 to left -3/5, sample 2 to right 0.
        close(found.cos_final_own_other[0][0], 0.3);
        close(found.cos_final_own_other[0][1], -0.3);
        // At 1: sample 1 up 1/sqrt 2, sample 0 right 3/5, sample 2 left -1. At 2 sample 1 is silent: left out.
        close(found.cos_current_now_later[1][0], (1.0 / root2 + 0.6 - 1.0) / 3.0);
        close(found.cos_current_now_later[2][0], (0.6 + 0.0) / 2.0);
        assert_eq!(found.cos_current_now_later[1][1], None);
        close(found.change_by_t_stable[0][0], 1.0);
        close(found.change_by_t_stable[0][1], root2);
        close(found.change_by_t_stable[1][0], (5.0 + 5f64.sqrt()) / 2.0);
        close(found.change_by_t_stable[1][1], (0.0 + root2) / 2.0);
        // As published, the sum at 2 starts again after sample 1, whose turn is second: only sample 2 is in it.
        let published = statistics(&network, &network, Silent::AsPublished).unwrap();
        close(published.cos_current_now_later[2][0], 0.0 / 3.0);
    }

    #[test]
    fn extractions_of_different_samples_are_refused() {
        let network = Extraction {
            timesteps: 1,
            samples: 1,
            classes: 2,
            features: 1,
            outputs: vec![0.0, 1.0],
            labels: vec![1],
            representations: vec![1.0],
            readout_weight: vec![1.0, -1.0],
            readout_bias: None,
        };
        let other = Extraction { labels: vec![0], ..network.clone() };
        let message = statistics(&network, &other, Silent::LeftOut).unwrap_err().to_string();
        assert!(message.contains("other labels"), "{message}");
    }
}
