//! The statistics from a stream of batches: the CPU twin, in f32 and in the same order of summation, of the kernels in
//! `shaders/trajectory_*.wgsl`. Each function below is one kernel; [`Stream::add`] is their sequence.
//!
//! Where f32 needs care: a sum over features goes in blocks; a sum over samples, whose number has no bound, is compensated
//! (it carries along what rounding loses, [`Compensated`]), across batches too. Every sum has one owner, which takes the
//! images in order: the same input gives the same bits.

use super::accumulator::{Accumulator, Compensated, GROUP_NOT_FINITE, NO_GROUP, NO_STEP, Tally};
use super::definitions::{self, Group};
use super::npz::Extraction;
use super::readout::Readout;
use super::statistics::Statistics;
use crate::Result;

/// A measure that does not exist: the cosine of an all-zero representation, the change after the last step.
pub const UNDEFINED: f32 = 3.0e38;
/// The class where a logit or a representation is not finite.
const NOT_FINITE: u32 = u32::MAX;
/// Length of the blocks in which sums over features go.
const BLOCK: usize = 32;

/// What the readout says and sees for one batch, image innermost, as the network's kernels leave it.
#[derive(Clone, Copy, Debug)]
pub struct Activity<'a> {
    /// \[T\]\[K\]\[width\] Logits, or anything with the same order such as log-probabilities.
    pub logits: &'a [f32],
    /// \[T\]\[D\]\[width\] Representations.
    pub representations: &'a [f32],
}

/// One batch.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Images for which the arrays have room.
    pub width: usize,
    /// Images that are there: the first; the others are padding.
    pub images: usize,
    /// \[width\] Labels.
    pub labels: &'a [u32],
    /// The network that is analysed.
    pub trained: Activity<'a>,
    /// The network before training, on the same images.
    pub untrained: Activity<'a>,
}

/// Batches in, statistics out.
#[derive(Clone, Debug)]
pub struct Stream {
    accumulator: Accumulator,
    readout: Readout,
    unit: Vec<f32>,
    first: usize,
}

impl Stream {
    /// For so many samples and timesteps of a network with this readout.
    pub fn new(readout: Readout, samples: usize, timesteps: usize) -> Stream {
        let accumulator = Accumulator::new(samples, timesteps, readout.classes());
        Stream { accumulator, unit: readout.unit_vectors(), readout, first: 0 }
    }

    /// Takes the next batch.
    pub fn add(&mut self, batch: &Batch) {
        let to = &mut self.accumulator;
        let shape = Shape {
            timesteps: to.timesteps,
            classes: to.classes,
            features: self.readout.features(),
            width: batch.width,
            images: batch.images,
            first: self.first,
            samples: to.samples,
        };
        let (class_at, values) = measure(&shape, batch.trained);
        let cosines = cosine(&shape, batch.trained.representations, &self.unit, &values);
        classify(&shape, &class_at, batch.labels, &mut to.records);
        let picked = pick(&shape, &cosines, &class_at, batch.labels);
        count(&shape, &class_at, &values, batch.labels, &mut to.counts);
        tally(&shape, &values, &to.records, &mut to.values);
        tally(&shape, &picked, &to.records, &mut to.picked);
        pairs(&shape, &cosines, &class_at, &to.records, &mut to.pairs);

        let (class_at, values) = measure(&shape, batch.untrained);
        count(&shape, &class_at, &values, batch.labels, &mut to.counts_init);
        tally(&shape, &values, &to.records, &mut to.values_init);
        self.first += batch.images;
    }

    /// What has been summed so far.
    pub fn accumulator(&self) -> &Accumulator {
        &self.accumulator
    }

    /// The statistics: see [`Accumulator::finish`].
    pub fn finish(&self) -> Result<Statistics> {
        self.accumulator.finish(&self.readout)
    }
}

/// The numbers that the kernels get, named as in `shaders/shared/trajectory.wgsl`.
struct Shape {
    timesteps: usize,
    classes: usize,
    features: usize,
    width: usize,
    images: usize,
    first: usize,
    samples: usize,
}

/// `trajectory_measure`: class \[T\]\[width\]; norm and change \[2\]\[T\]\[width\].
fn measure(s: &Shape, of: Activity) -> (Vec<u32>, Vec<f32>) {
    let mut class_at = vec![0; s.timesteps * s.width];
    let mut values = vec![0.0; 2 * s.timesteps * s.width];
    for t in 0..s.timesteps {
        for n in 0..s.images {
            let logit = |k: usize| of.logits[(t * s.classes + k) * s.width + n];
            let feature = |t: usize, d: usize| of.representations[(t * s.features + d) * s.width + n];
            let finite =
                (0..s.classes).all(|k| logit(k).is_finite()) && (0..s.features).all(|d| feature(t, d).is_finite());
            let class = definitions::first_arg_max((0..s.classes).map(logit)).map_or(NOT_FINITE, |k| k as u32);
            class_at[t * s.width + n] = if finite { class } else { NOT_FINITE };
            values[t * s.width + n] = blocked_sum(s.features, |d| feature(t, d) * feature(t, d)).sqrt();
            values[(s.timesteps + t) * s.width + n] = if t + 1 == s.timesteps {
                UNDEFINED
            } else {
                blocked_sum(s.features, |d| (feature(t + 1, d) - feature(t, d)).powi(2)).sqrt()
            };
        }
    }
    (class_at, values)
}

/// `trajectory_cosine`: cosines \[T\]\[K\]\[width\] with the readout vectors, given at unit length \[K\]\[D\].
fn cosine(s: &Shape, representations: &[f32], unit: &[f32], values: &[f32]) -> Vec<f32> {
    let mut cosines = vec![0.0; s.timesteps * s.classes * s.width];
    for t in 0..s.timesteps {
        for k in 0..s.classes {
            for n in 0..s.images {
                let norm = values[t * s.width + n];
                let feature = |d: usize| representations[(t * s.features + d) * s.width + n];
                let dot = blocked_sum(s.features, |d| feature(d) * unit[k * s.features + d]);
                cosines[(t * s.classes + k) * s.width + n] = if norm > 0.0 { dot / norm } else { UNDEFINED };
            }
        }
    }
    cosines
}

/// `trajectory_classify`: fills the batch's part of the records \[4\]\[samples\].
fn classify(s: &Shape, class_at: &[u32], labels: &[u32], records: &mut [u32]) {
    for n in 0..s.images {
        let classes: Vec<usize> = (0..s.timesteps).map(|t| class_at[t * s.width + n] as usize).collect();
        let Some(trajectory) = definitions::classify(&classes, labels[n] as usize) else { continue };
        let group = match trajectory.group {
            _ if classes.contains(&(NOT_FINITE as usize)) => GROUP_NOT_FINITE,
            None => NO_GROUP,
            Some(group) => group as u32,
        };
        let step = |t: Option<usize>| t.map_or(NO_STEP, |t| t as u32);
        let record =
            [group, step(trajectory.t_stable), step(trajectory.t_unstable_correct), trajectory.final_class as u32];
        for (field, value) in record.into_iter().enumerate() {
            records[field * s.samples + s.first + n] = value;
        }
    }
}

/// `trajectory_pick`: cosines with the readout vectors of the class at t and of the label \[2\]\[T\]\[width\].
fn pick(s: &Shape, cosines: &[f32], class_at: &[u32], labels: &[u32]) -> Vec<f32> {
    let mut picked = vec![0.0; 2 * s.timesteps * s.width];
    let cosine = |t: usize, k: u32, n: usize| {
        let k = k as usize;
        if k < s.classes { cosines[(t * s.classes + k) * s.width + n] } else { UNDEFINED }
    };
    for t in 0..s.timesteps {
        for n in 0..s.images {
            picked[t * s.width + n] = cosine(t, class_at[t * s.width + n], n);
            picked[(s.timesteps + t) * s.width + n] = cosine(t, labels[n], n);
        }
    }
    picked
}

/// `trajectory_count`: adds to the counts \[4\]\[T\]\[K\].
fn count(s: &Shape, class_at: &[u32], values: &[f32], labels: &[u32], counts: &mut [u32]) {
    for t in 0..s.timesteps {
        for n in 0..s.images {
            let (class, label) = (class_at[t * s.width + n], labels[n]);
            if label as usize >= s.classes {
                continue;
            }
            let mut add = |table: usize, which: bool| {
                counts[(table * s.timesteps + t) * s.classes + label as usize] += u32::from(which);
            };
            add(0, true);
            add(1, class == label);
            add(2, values[t * s.width + n] == 0.0);
            add(3, class == NOT_FINITE);
        }
    }
}

/// `trajectory_tally`: adds the batch's values \[2\]\[T\]\[width\] to a tally.
fn tally(s: &Shape, values: &[f32], records: &[u32], to: &mut Tally) {
    for n in 0..s.images {
        let Some(t_stable) = stable_correct_since(s, records, n) else { continue };
        for measure in 0..Tally::MEASURES {
            for t in 0..s.timesteps {
                let value = values[(measure * s.timesteps + t) * s.width + n];
                if value != UNDEFINED {
                    let entry = (measure * s.timesteps + t_stable) * s.timesteps + t;
                    to.sums[entry] = add(to.sums[entry], value);
                    to.counts[entry] += 1;
                }
            }
        }
    }
}

/// `trajectory_pairs`: adds to the tables for pairs.
fn pairs(s: &Shape, cosines: &[f32], class_at: &[u32], records: &[u32], to: &mut super::accumulator::Pairs) {
    for n in 0..s.images {
        let Some(t_stable) = stable_correct_since(s, records, n) else { continue };
        let label = records[3 * s.samples + s.first + n] as usize;
        for t in 0..t_stable {
            let class = class_at[t * s.width + n] as usize;
            for k in 0..s.classes {
                let cell = (t * s.classes + class) * s.classes + k;
                let cosine = cosines[(t * s.classes + k) * s.width + n];
                let defined = cosine != UNDEFINED;
                to.later[cell] += u32::from(k == label);
                to.voiced[cell] += u32::from(k == label && defined);
                if defined {
                    to.all[cell] = add(to.all[cell], cosine);
                }
                if defined && k == label {
                    to.own[cell] = add(to.own[cell], cosine);
                }
            }
        }
    }
}

/// `t_stable` of the batch's image n if it is stable-correct.
fn stable_correct_since(s: &Shape, records: &[u32], n: usize) -> Option<usize> {
    let [group, t_stable] = [0, 1].map(|field| records[field * s.samples + s.first + n]);
    (group == Group::StableCorrect as u32).then_some(t_stable as usize)
}

/// Sum of terms 0 .. count, block by block.
fn blocked_sum(count: usize, term: impl Fn(usize) -> f32) -> f32 {
    let block = |start: usize| (start..(start + BLOCK).min(count)).fold(0.0, |sum, d| sum + term(d));
    (0..count).step_by(BLOCK).fold(0.0, |sum, start| sum + block(start))
}

/// Adds x to a compensated sum. Knuth's two-sum finds exactly what rounding loses; it is kept below one rounding of the
/// sum, so that it is not itself a sum of many terms.
fn add([sum, lost]: Compensated, x: f32) -> Compensated {
    let total = sum + x;
    let arrived = total - sum;
    let lost = ((sum - (total - arrived)) + (x - arrived)) + lost;
    let sum = total + lost;
    [sum, lost - (sum - total)]
}

/// Samples of stored extractions as batches hold them: `(logits, representations)`, image innermost, padded with zeros.
pub fn image_innermost(extraction: &Extraction, samples: std::ops::Range<usize>, width: usize) -> (Vec<f32>, Vec<f32>) {
    let (steps, classes, features) = (extraction.timesteps, extraction.classes, extraction.features);
    let mut logits = vec![0.0; steps * classes * width];
    let mut representations = vec![0.0; steps * features * width];
    for t in 0..steps {
        for (n, sample) in samples.clone().enumerate() {
            for (k, &value) in extraction.output(t, sample).iter().enumerate() {
                logits[(t * classes + k) * width + n] = value as f32;
            }
            for (d, &value) in extraction.representation(t, sample).iter().enumerate() {
                representations[(t * features + d) * width + n] = value as f32;
            }
        }
    }
    (logits, representations)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why sums over samples are compensated: a million terms of about 0.1 lose three digits in a plain f32 sum.
    #[test]
    fn compensated_sums_keep_what_plain_ones_lose() {
        let terms: Vec<f32> = (0..1_000_000).map(|i| 0.1 + (i % 7) as f32 / 100.0).collect();
        let exact: f64 = terms.iter().map(|&x| f64::from(x)).sum();
        let [sum, lost] = terms.iter().fold([0.0; 2], |sum, &x| add(sum, x));
        let error = |sum: f64| (sum - exact).abs() / exact;
        let compensated = error(f64::from(sum) + f64::from(lost));
        let plain = error(f64::from(terms.iter().fold(0f32, |sum, x| sum + x)));
        assert!(compensated < 1e-12 && plain > 1e-4, "compensated {compensated:.1e}, plain {plain:.1e}");
    }

    #[test]
    fn blocked_sums_cover_every_term_once() {
        for count in [1, 31, 32, 33, 100] {
            let expected = (count * (count - 1) / 2) as f32;
            assert_eq!(blocked_sum(count, |d| d as f32), expected);
        }
    }
}
