//! What a protocol changes: the disturbed run of a network against the undisturbed run of the same network on the same pictures
//! for as many timesteps, and what a run beyond the trained number of timesteps does.
//!
//! All images are in both runs, so that differences are paired. With b images lost (right undisturbed, wrong disturbed) and c
//! gained of N, the difference of the accuracies is (c - b) / N, with standard error sqrt((b + c - (c - b)^2 / N) / (N - 1) / N);
//! McNemar (1947) asks whether b and c could be tosses of a coin, here exactly: p = min(1, 2 P(X <= min(b, c))), X binomial of
//! b + c tosses.

use super::between::Distances;
use super::cka::Cka;
use super::rdm::{Condensed, Rdm};
use super::rdm_time;
use super::values::Values;
use crate::trajectory::definitions::{Group, Trajectory, classify, mean};
use serde::Serialize;

/// The member `disturbance` of `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Disturbance {
    /// Timesteps of the run under the protocol.
    pub timesteps: usize,
    /// T: timesteps that the network was trained with.
    pub trained_timesteps: usize,
    /// N.
    pub samples: usize,
    /// The disturbed run against the undisturbed one; none where a protocol only says for how many steps to run, as there is
    /// nothing to compare then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
    /// What happens after the trained number of timesteps; where the run is longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settling: Option<Settling>,
}

/// Two answers to each image: the one that a comparison starts from, and the one that it asks about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answers {
    /// Images with another class than before.
    pub changed: Vec<u64>,
    /// Images that were right and are wrong.
    pub lost: Vec<u64>,
    /// Images that were wrong and are right.
    pub gained: Vec<u64>,
    /// Images that are right both times.
    pub both_right: Vec<u64>,
    /// Images that are wrong both times.
    pub both_wrong: Vec<u64>,
    /// Difference of the accuracies, now minus before.
    pub difference: Vec<f64>,
    /// Its standard error, of paired images; none for a single image.
    pub se: Vec<Option<f64>>,
    /// p of McNemar's exact test, two-sided.
    pub mcnemar_p: Vec<f64>,
}

/// What becomes of the stability groups.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transitions {
    /// \[4\]\[4\] Images by their group before (row) and now (column): stable-correct, stable-incorrect, unstable-correct,
    /// unstable-incorrect. All 0 where one run has a single timestep, as nothing can be called stable then.
    pub groups: Vec<Vec<u64>>,
    /// Images that are stable both times.
    pub stable_both: u64,
    /// Those of them that are stable earlier now.
    pub earlier: u64,
    /// Those that are stable from the same timestep on.
    pub same: u64,
    /// Those that are stable later now.
    pub later: u64,
    /// Mean change of `t_stable` of the images that are stable both times, in timesteps.
    pub t_stable_change: Option<f64>,
}

/// The disturbed run against the undisturbed one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// \[T\] Accuracy of the disturbed run.
    pub accuracy: Vec<f64>,
    /// \[T\] Accuracy of the undisturbed run.
    pub accuracy_undisturbed: Vec<f64>,
    /// \[T\] each: the same timestep undisturbed and disturbed.
    pub answers: Answers,
    /// The groups undisturbed and disturbed.
    pub transitions: Transitions,
    /// How far apart the two representations of an image are.
    pub distance: Distances,
    /// How alike the geometry is; left out where the device has no room for the moments.
    #[serde(flatten)]
    pub geometry: Option<Geometry>,
    /// The images whose class differs at any timestep.
    pub changed_images: Vec<usize>,
}

/// \[T\]\[T\] Similarity of representational geometry: rows are timesteps of the disturbed run, columns of the undisturbed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Geometry {
    /// Spearman correlation of the correlation dissimilarities of the images `rdm_images`: see [`super::rdm_time`].
    pub rdm_spearman: Vec<Vec<Option<f64>>>,
    /// Debiased linear CKA over all images: see [`super::cka`].
    pub cka: Vec<Vec<Option<f64>>>,
}

/// What happens after the trained number of timesteps T, in the run under the protocol.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settling {
    /// The timesteps T - 1 (the last that was trained), T, ... to the end.
    pub steps: Vec<usize>,
    /// Accuracy at these.
    pub accuracy: Vec<f64>,
    /// Each of these against T - 1.
    pub answers: Answers,
    /// The groups by the first T timesteps alone, and by all.
    pub transitions: Transitions,
    /// Images that keep the class of T - 1 to the end.
    pub kept: u64,
    /// Images that change their class at the very last step.
    pub still_changing: u64,
}

impl Geometry {
    /// From the dissimilarities of the disturbed and the undisturbed run, and CKA between them as the second axis.
    pub fn new(disturbed: &Rdm, undisturbed: &Rdm, cka: Cka) -> Geometry {
        let [a, b]: [&[Condensed]; 2] = [&disturbed.correlation, &undisturbed.correlation];
        Geometry { rdm_spearman: rdm_time::spearman(a, b), cka: cka.debiased_init.expect("of two networks") }
    }
}

impl Disturbance {
    /// Of a run under a protocol, given its values; `comparison` where there is an undisturbed run that differs.
    pub fn new(values: &Values, trained_timesteps: usize, comparison: Option<Comparison>) -> Disturbance {
        let longer = values.timesteps > trained_timesteps;
        Disturbance {
            timesteps: values.timesteps,
            trained_timesteps,
            samples: values.samples,
            comparison,
            settling: longer.then(|| Settling::new(values, trained_timesteps)),
        }
    }
}

impl Comparison {
    /// Of the same images in data order.
    pub fn new(
        disturbed: &Values,
        undisturbed: &Values,
        distance: Distances,
        geometry: Option<Geometry>,
    ) -> Comparison {
        let (steps, samples) = (disturbed.timesteps, disturbed.samples);
        assert_eq!((steps, samples), (undisturbed.timesteps, undisturbed.samples), "the same images and steps");
        assert_eq!(disturbed.labels, undisturbed.labels, "the same images");
        let differs = |i: &usize| (0..steps).any(|t| disturbed.class(t, *i) != undisturbed.class(t, *i));
        Comparison {
            accuracy: (0..steps).map(|t| accuracy(disturbed, t)).collect(),
            accuracy_undisturbed: (0..steps).map(|t| accuracy(undisturbed, t)).collect(),
            answers: Answers::new((0..steps).map(|t| ((undisturbed, t), (disturbed, t)))),
            transitions: Transitions::new(&trajectories(undisturbed, steps), &trajectories(disturbed, steps)),
            distance,
            geometry,
            changed_images: (0..samples).filter(differs).collect(),
        }
    }
}

impl Settling {
    fn new(values: &Values, trained: usize) -> Settling {
        let (steps, last) = (values.timesteps, trained - 1);
        let shown: Vec<usize> = (last..steps).collect();
        let images = 0..values.samples;
        let keeps = |i: &usize| shown.iter().all(|&t| values.class(t, *i) == values.class(last, *i));
        let moves = |i: &usize| values.class(steps - 1, *i) != values.class(steps - 2, *i);
        Settling {
            accuracy: shown.iter().map(|&t| accuracy(values, t)).collect(),
            answers: Answers::new(shown.iter().map(|&t| ((values, last), (values, t)))),
            transitions: Transitions::new(&trajectories(values, trained), &trajectories(values, steps)),
            kept: images.clone().filter(keeps).count() as u64,
            still_changing: images.filter(moves).count() as u64,
            steps: shown,
        }
    }
}

impl Answers {
    /// Of pairs of runs and timesteps: before, and now.
    fn new<'a>(pairs: impl Iterator<Item = ((&'a Values, usize), (&'a Values, usize))>) -> Answers {
        let mut all = Answers {
            changed: Vec::new(),
            lost: Vec::new(),
            gained: Vec::new(),
            both_right: Vec::new(),
            both_wrong: Vec::new(),
            difference: Vec::new(),
            se: Vec::new(),
            mcnemar_p: Vec::new(),
        };
        for ((before, t), (now, u)) in pairs {
            let count = |of: &dyn Fn(usize) -> bool| (0..now.samples).filter(|&i| of(i)).count() as u64;
            let right = |was: bool, is: bool| count(&|i| before.correct(t, i) == was && now.correct(u, i) == is);
            let (lost, gained) = (right(true, false), right(false, true));
            let (n, b, c) = (now.samples as f64, lost as f64, gained as f64);
            all.changed.push(count(&|i| before.class(t, i) != now.class(u, i)));
            all.lost.push(lost);
            all.gained.push(gained);
            all.both_right.push(right(true, true));
            all.both_wrong.push(right(false, false));
            all.difference.push((c - b) / n);
            all.se.push((n > 1.0).then(|| ((b + c - (c - b).powi(2) / n).max(0.0) / (n - 1.0) / n).sqrt()));
            all.mcnemar_p.push(mcnemar(lost, gained));
        }
        all
    }
}

impl Transitions {
    fn new(before: &[Trajectory], now: &[Trajectory]) -> Transitions {
        let mut groups = vec![vec![0; Group::ALL.len()]; Group::ALL.len()];
        for (before, now) in before.iter().zip(now) {
            if let (Some(before), Some(now)) = (before.group, now.group) {
                groups[before as usize][now as usize] += 1;
            }
        }
        let both = before.iter().zip(now).filter_map(|(before, now)| before.t_stable.zip(now.t_stable));
        let changes: Vec<f64> = both.map(|(before, now)| now as f64 - before as f64).collect();
        let count = |of: fn(f64) -> bool| changes.iter().filter(|change| of(**change)).count() as u64;
        Transitions {
            groups,
            stable_both: changes.len() as u64,
            earlier: count(|change| change < 0.0),
            same: count(|change| change == 0.0),
            later: count(|change| change > 0.0),
            t_stable_change: mean(changes.iter().copied()),
        }
    }
}

/// \[N\] What each image's classes in the first `steps` timesteps amount to.
fn trajectories(values: &Values, steps: usize) -> Vec<Trajectory> {
    let classes = |i: usize| (0..steps).map(|t| values.class(t, i)).collect::<Vec<_>>();
    (0..values.samples).map(|i| classify(&classes(i), values.labels[i]).expect("there are timesteps")).collect()
}

fn accuracy(values: &Values, t: usize) -> f64 {
    (0..values.samples).filter(|&i| values.correct(t, i)).count() as f64 / values.samples as f64
}

/// p of McNemar's exact test: the probability that one of two equally probable outcomes comes at most as often as the rarer of
/// these did, twice. Summed from the largest term down, by logarithms, as 2^-25000 is no f64.
fn mcnemar(lost: u64, gained: u64) -> f64 {
    let (n, least) = (lost + gained, lost.min(gained));
    if lost == gained {
        return 1.0;
    }
    let ln_ways: f64 = (0..least).map(|k| ((n - k) as f64 / (k + 1) as f64).ln()).sum();
    // C(n, k - 1) / C(n, k) = k / (n - k + 1), from k = least down.
    let (mut term, mut sum) = (1.0, 1.0);
    for k in (1..=least).rev() {
        term *= k as f64 / (n - k + 1) as f64;
        sum += term;
    }
    let ln_p = (ln_ways - n as f64 * std::f64::consts::LN_2) + f64::ln(2.0 * sum);
    ln_p.exp().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamics::values::made_up::with_classes;

    fn no_distance() -> Distances {
        let none = Vec::new;
        Distances { mean: none(), relative: none(), cosine: none(), norm_disturbed: none(), norm_undisturbed: none() }
    }

    #[test]
    fn counts_by_hand() {
        // Labels 0 0 1 1 2. At the last step: undisturbed right right right wrong wrong, disturbed wrong wrong right right wrong.
        let labels = [0, 0, 1, 1, 2];
        let before: [&[u32]; 5] = [&[0, 0, 0], &[1, 0, 0], &[1, 1, 1], &[0, 0, 0], &[0, 1, 1]];
        let now: [&[u32]; 5] = [&[0, 0, 1], &[1, 1, 1], &[1, 1, 1], &[0, 1, 1], &[0, 1, 0]];
        let [before, now] = [before, now].map(|classes| with_classes(&classes, &labels, 3));
        let found = Comparison::new(&now, &before, no_distance(), None);
        assert_eq!(found.accuracy_undisturbed, [0.4, 0.6, 0.6]);
        assert_eq!(found.accuracy, [0.4, 0.6, 0.4]);
        let answers = &found.answers;
        assert_eq!(answers.changed, [0, 2, 4]);
        assert_eq!((&answers.lost[..], &answers.gained[..]), (&[0, 1, 2][..], &[0, 1, 1][..]));
        assert_eq!((&answers.both_right[..], &answers.both_wrong[..]), (&[2, 2, 1][..], &[3, 1, 1][..]));
        // Differences of single images at the last step: -1 -1 0 1 0, of mean -0.2 and variance 0.7.
        assert!((answers.difference[2] + 0.2).abs() < 1e-15);
        assert!((answers.se[2].unwrap() - (0.7f64 / 5.0).sqrt()).abs() < 1e-15, "{:?}", answers.se);
        // 1 of 3: twice (1 + 3) / 8.
        assert!(answers.mcnemar_p.iter().all(|p| (p - 1.0).abs() < 1e-15), "{:?}", answers.mcnemar_p);
        assert_eq!(found.changed_images, [0, 1, 3, 4]);
        // 0: stable-correct, then changes at the last step. 1: stable-correct from 1, then never the label from 0. 2: stays.
        // 3: stable-incorrect from 0, then correct from 1. 4: stable-incorrect from 1, then comes back.
        let mut groups = vec![vec![0; 4]; 4];
        for (before, now) in [(0, 2), (0, 1), (0, 0), (1, 0), (1, 3)] {
            groups[before][now] += 1;
        }
        let transitions = &found.transitions;
        assert_eq!(transitions.groups, groups);
        assert_eq!([transitions.stable_both, transitions.earlier, transitions.same, transitions.later], [3, 1, 1, 1]);
        assert_eq!(transitions.t_stable_change, Some(0.0));
    }

    #[test]
    fn mcnemar_is_the_binomial_tail() {
        assert_eq!(mcnemar(0, 0), 1.0);
        assert_eq!(mcnemar(7, 7), 1.0);
        // Of 10 tosses at most 1: 2 (1 + 10) / 1024; of 8 none: 2 / 256; of 12 at most 3: 2 (1 + 12 + 66 + 220) / 4096.
        for (b, c, expected) in [(1, 9, 22.0 / 1024.0), (8, 0, 2.0 / 256.0), (9, 3, 598.0 / 4096.0)] {
            assert!((mcnemar(b, c) - expected).abs() < 1e-14, "{b} {c}: {}", mcnemar(b, c));
        }
        assert_eq!(mcnemar(20_000, 0), 0.0);
        let near = mcnemar(12_500, 12_490);
        assert!((0.9..1.0).contains(&near), "{near}");
    }

    #[test]
    fn settling_starts_from_the_last_trained_step() {
        // Trained with 3 of 5 steps, labels 0 1 1.
        let classes: [&[u32]; 3] = [&[0, 0, 0, 0, 0], &[0, 1, 0, 1, 1], &[0, 1, 1, 1, 0]];
        let values = with_classes(&classes, &[0, 1, 1], 2);
        let found = Disturbance::new(&values, 3, None).settling.unwrap();
        assert_eq!(found.steps, [2, 3, 4]);
        assert_eq!(found.accuracy, [2.0 / 3.0, 1.0, 2.0 / 3.0]);
        assert_eq!(found.answers.changed, [0, 1, 2]);
        assert_eq!((&found.answers.lost[..], &found.answers.gained[..]), (&[0, 0, 1][..], &[0, 1, 1][..]));
        assert_eq!((found.kept, found.still_changing), (1, 1));
        // The third is stable-correct from 1 on in three steps, and comes back to 0 in five.
        assert_eq!(found.transitions.groups[0], [1, 0, 1, 0]);
        assert_eq!(found.transitions.groups[2], [0, 0, 1, 0]);
        assert_eq!(Disturbance::new(&values, 5, None).settling, None);
    }
}
