//! What remains of all batches: per sample four numbers, else only sums and small tables; and the statistics from them.

use super::definitions::{Group, Trajectory};
use super::readout::Readout;
use super::statistics::{Measured, Statistics};
use crate::stream::Order;
use crate::{Error, Result};

/// A sum and what was lost to rounding on the way: their sum is what counts. In f32, since WGSL has no f64.
pub type Compensated = [f32; 2];

/// Codes in [`Accumulator::records`] for which there is no [`Group`]: T = 1; a number that is not finite.
pub(super) const NO_GROUP: u32 = 4;
pub(super) const GROUP_NOT_FINITE: u32 = 5;
/// A step that does not exist, in [`Accumulator::records`].
pub(super) const NO_STEP: u32 = u32::MAX;

/// Everything that is kept while batches pass, in the layout of the kernels' buffers (row-major, last index innermost).
/// S samples, T timesteps, K classes. All zero at the start.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    /// S.
    pub samples: usize,
    /// T.
    pub timesteps: usize,
    /// K.
    pub classes: usize,
    /// \[4\]\[S\] Group, `t_stable`, `t_unstable_correct`, final class.
    pub records: Vec<u32>,
    /// \[4\]\[T\]\[K: label\] Number of samples; of those whose class is the label; of all-zero representations; of samples
    /// with a logit or representation that is not finite, or too long (see [`super::streaming`]).
    pub counts: Vec<u32>,
    /// Norm of the representation, norm of its change to the next step.
    pub values: Tally,
    /// Of the untrained network, where its activity comes too.
    pub untrained: Option<Untrained>,
    /// Cosine with the readout vector of the class at t, cosine with the label's.
    pub picked: Tally,
    /// For the mean cosine over pairs.
    pub pairs: PairSums,
}

/// What is kept of the network before training.
#[derive(Clone, Debug, PartialEq)]
pub struct Untrained {
    /// As [`Accumulator::counts`].
    pub counts: Vec<u32>,
    /// As [`Accumulator::values`], grouped as the trained network groups.
    pub values: Tally,
}

/// Sums of [`Tally::MEASURES`] measures over the stable-correct samples by `t_stable` and timestep.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// \[MEASURES\]\[T: t_stable\]\[T\]
    pub sums: Vec<Compensated>,
    /// \[MEASURES\]\[T: t_stable\]\[T\] Number of terms in each sum: those that are defined.
    pub counts: Vec<u32>,
}

impl Tally {
    /// Number of measures in a tally.
    pub const MEASURES: usize = 2;
}

/// Over the stable-correct samples with `t_stable` > t, by timestep t, class c at t, and class k: \[T\]\[K: c\]\[K: k\].
///
/// The sum over all ordered pairs (i, j) of the same class c at t but different labels, of the cosine of r_i with the
/// readout vector of j's label, is sum_ck `later`\[c\]\[k\] (`all`\[c\]\[k\] - `own`\[c\]\[k\]): of the samples in c, `later` have
/// label k, and each is partner to every sample in c that has another label. On a device these tables stay there.
#[derive(Clone, Debug, PartialEq)]
pub struct Pairs {
    /// Number of samples with label k.
    pub later: Vec<u32>,
    /// Those of them whose representation is not all zero, so that there is a cosine.
    pub voiced: Vec<u32>,
    /// Sum of the cosines with readout vector k.
    pub all: Vec<Compensated>,
    /// The same over the samples with label k.
    pub own: Vec<Compensated>,
}

/// What remains of [`Pairs`]: by timestep t and class c at t, \[T\]\[K: c\].
#[derive(Clone, Debug, PartialEq)]
pub struct PairSums {
    /// Sum of the cosines over the pairs of samples in c.
    pub sums: Vec<Compensated>,
    /// How many pairs there are whose first has a cosine: low and high word.
    pub counts: Vec<[u32; 2]>,
}

impl Pairs {
    /// Empty.
    pub fn new(timesteps: usize, classes: usize) -> Pairs {
        let cells = timesteps * classes * classes;
        Pairs { later: vec![0; cells], voiced: vec![0; cells], all: vec![[0.0; 2]; cells], own: vec![[0.0; 2]; cells] }
    }

    /// The sums over pairs.
    pub fn sums(&self, classes: usize) -> PairSums {
        let rows = self.later.len() / classes;
        let one = |row: usize| {
            let row = row * classes..(row + 1) * classes;
            let in_class: u64 = self.later[row.clone()].iter().map(|&count| u64::from(count)).sum();
            let (sum, pairs) = row.fold((0.0, 0), |(sum, pairs), cell| {
                let later = u64::from(self.later[cell]);
                let others = total(self.all[cell]) - total(self.own[cell]);
                (sum + later as f64 * others, pairs + u64::from(self.voiced[cell]) * (in_class - later))
            });
            let high = sum as f32;
            ([high, (sum - f64::from(high)) as f32], [pairs as u32, (pairs >> 32) as u32])
        };
        let (sums, counts) = (0..rows).map(one).unzip();
        PairSums { sums, counts }
    }
}

impl Accumulator {
    /// Empty, for so many samples, timesteps and classes, with or without the untrained network.
    pub fn new(samples: usize, timesteps: usize, classes: usize, untrained: bool) -> Accumulator {
        let table = Tally::MEASURES * timesteps * timesteps;
        let tally = Tally { sums: vec![[0.0; 2]; table], counts: vec![0; table] };
        Accumulator {
            samples,
            timesteps,
            classes,
            records: vec![0; 4 * samples],
            counts: vec![0; 4 * timesteps * classes],
            values: tally.clone(),
            untrained: untrained.then(|| Untrained { counts: vec![0; 4 * timesteps * classes], values: tally.clone() }),
            picked: tally,
            pairs: PairSums { sums: vec![[0.0; 2]; timesteps * classes], counts: vec![[0; 2]; timesteps * classes] },
        }
    }

    /// The same with the records in data order, if samples were streamed in this one.
    pub fn in_data_order(mut self, order: &Order) -> Accumulator {
        self.records = self.records.chunks_exact(self.samples).flat_map(|field| order.restore(field)).collect();
        self
    }

    /// The statistics, once all samples have passed. `readout` is the trained network's.
    ///
    /// All-zero representations are left out of the means of cosines. Numbers that are not finite, and samples that
    /// never came or have a label that is no class, are errors.
    pub fn finish(&self, readout: &Readout) -> Result<Statistics> {
        self.complete()?;
        let trajectories = (0..self.samples).map(|sample| self.trajectory(sample)).collect::<Result<Vec<_>>>()?;
        let (steps, samples) = (self.timesteps, self.samples as f64);
        let accuracy = |counts: &[u32]| (0..steps).map(|t| self.count(counts, 1, t) as f64 / samples).collect();
        let measured = Measured {
            accuracy: accuracy(&self.counts),
            accuracy_init: self.untrained.as_ref().map(|of| accuracy(&of.counts)),
            change_by_t_stable: self.change_by_t_stable(&self.values),
            change_by_t_stable_init: self.untrained.as_ref().map(|of| self.change_by_t_stable(&of.values)),
            norm_now_later: (0..steps).map(|t| self.now_later(&self.values, 0, t)).collect(),
            cos_current_now_later: (0..steps).map(|t| self.now_later(&self.picked, 0, t)).collect(),
            cos_final_own_other: (0..steps)
                .map(|t| [self.now_later(&self.picked, 1, t)[1], self.other_final(t)])
                .collect(),
            silent_representations: (0..steps).map(|t| self.count(&self.counts, 2, t)).sum(),
        };
        Statistics::assemble(&trajectories, measured, readout)
    }

    /// Refuses an accumulation that lacks samples or met numbers that are not finite.
    fn complete(&self) -> Result<()> {
        let untrained = self.untrained.iter().map(|of| ("untrained", &of.counts));
        for (network, counts) in [("trained", &self.counts)].into_iter().chain(untrained) {
            for t in 0..self.timesteps {
                let (seen, not_finite) = (self.count(counts, 0, t), self.count(counts, 3, t));
                if seen != self.samples as u64 {
                    return Err(Error::Data(format!(
                        "trajectory statistics of the {network} network: expected {} samples with labels below {}, \
                         found {seen}",
                        self.samples, self.classes
                    )));
                }
                if not_finite > 0 {
                    return Err(Error::Data(format!(
                        "trajectory statistics of the {network} network: logits or representations of {not_finite} of \
                         {seen} samples are not finite, or longer than 4e28, at timestep {t}; its weights have probably \
                         diverged"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Total over labels of one of the four tables of counts.
    fn count(&self, counts: &[u32], table: usize, t: usize) -> u64 {
        let row = (table * self.timesteps + t) * self.classes;
        counts[row..row + self.classes].iter().map(|&count| u64::from(count)).sum()
    }

    fn trajectory(&self, sample: usize) -> Result<Trajectory> {
        let [code, t_stable, t_unstable_correct, final_class] =
            [0, 1, 2, 3].map(|field| self.records[field * self.samples + sample]);
        let group = Group::ALL.into_iter().find(|&group| group as u32 == code);
        if (group.is_none() && code != NO_GROUP) || final_class as usize >= self.classes {
            return Err(Error::Data(format!(
                "trajectory statistics: sample {sample} has group code {code} and final class {final_class}, expected \
                 at most {NO_GROUP} and below {}",
                self.classes
            )));
        }
        let step = |code: u32| (code != NO_STEP).then_some(code as usize).filter(|&t| t < self.timesteps);
        Ok(Trajectory {
            group,
            t_stable: step(t_stable),
            t_unstable_correct: step(t_unstable_correct),
            final_class: final_class as usize,
        })
    }

    /// Sum and number of terms of one entry of a tally.
    fn entry(&self, tally: &Tally, measure: usize, t_stable: usize, t: usize) -> (f64, u64) {
        let at = (measure * self.timesteps + t_stable) * self.timesteps + t;
        (total(tally.sums[at]), u64::from(tally.counts[at]))
    }

    fn change_by_t_stable(&self, tally: &Tally) -> Vec<Vec<Option<f64>>> {
        let steps = self.timesteps - 1;
        (0..steps).map(|g| (0..steps).map(|t| mean([self.entry(tally, 1, g, t)])).collect()).collect()
    }

    /// Means over the samples that are stable at t, and over those that are not yet.
    fn now_later(&self, tally: &Tally, measure: usize, t: usize) -> [Option<f64>; 2] {
        [0..t + 1, t + 1..self.timesteps].map(|stable| mean(stable.map(|g| self.entry(tally, measure, g, t))))
    }

    /// Mean cosine over the pairs at t: see [`Pairs`].
    fn other_final(&self, t: usize) -> Option<f64> {
        mean((t * self.classes..(t + 1) * self.classes).map(|row| {
            let [low, high] = self.pairs.counts[row];
            (total(self.pairs.sums[row]), u64::from(high) << 32 | u64::from(low))
        }))
    }
}

/// The sum with what rounding lost.
pub(crate) fn total([sum, lost]: Compensated) -> f64 {
    f64::from(sum) + f64::from(lost)
}

/// Mean from partial sums and their numbers of terms; `None` without terms.
fn mean(parts: impl IntoIterator<Item = (f64, u64)>) -> Option<f64> {
    let (sum, count) = parts.into_iter().fold((0.0, 0), |(sum, count), part| (sum + part.0, count + part.1));
    (count > 0).then(|| sum / count as f64)
}
