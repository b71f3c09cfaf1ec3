//! The statistics from a stream of batches: the CPU twin, in f32, of the kernels in `shaders/measured_*.wgsl` and
//! `shaders/trajectory_*.wgsl`; [`Stream::add`] is their sequence. On a device the matrix product of convolutions computes the
//! products with readout vectors, in an order of its own.
//!
//! Where f32 needs care: a sum over features goes in blocks; a sum over samples, whose number has no bound, is compensated
//! (it carries along what rounding loses, [`Compensated`]), across batches too. Every sum has one owner, which takes the
//! images in order: the same input gives the same bits.
//!
//! Sizes: squares in f32 overflow from 1.8e19 on and vanish below 1e-19, so norms, changes and cosines of very large and very
//! small representations are those of representations multiplied by a power of 2 (`scale_of`); for all others that is 1,
//! which changes no bit. Elements nearer to 0 than 2^-126 count as 0, as WGSL lets a device take them for it; a representation
//! of only such elements is all-zero. A norm above `LONGEST`, about 4e28, counts as not finite, as sums over samples could
//! not be kept: statistics are then refused, and not wrong.

use super::accumulator::{Accumulator, Compensated, GROUP_NOT_FINITE, NO_GROUP, NO_STEP, Pairs, Tally};
use super::definitions::{self, Group};
use super::npz::Extraction;
use super::readout::Readout;
use super::statistics::Statistics;
use crate::Result;

/// A measure that does not exist: the cosine of an all-zero representation, the change after the last step.
pub const UNDEFINED: f32 = 3.0e38;
/// The class where a logit or a representation is not finite, or its norm is above `LONGEST`.
const NOT_FINITE: u32 = u32::MAX;
/// 2^95: sums of norms, and of changes, which are at most twice as long, stay below the largest f32 over 2^31 samples.
const LONGEST: f32 = (1_u128 << 95) as f32;
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
pub struct ActivityBatch<'a> {
    /// Images for which the arrays have room.
    pub width: usize,
    /// Images that are there: the first; the others are padding.
    pub images: usize,
    /// \[width\] Labels.
    pub labels: &'a [u32],
    /// The network that is analysed.
    pub trained: Activity<'a>,
    /// The network before training, on the same images, where it is known.
    pub untrained: Option<Activity<'a>>,
}

/// Batches in, statistics out.
#[derive(Clone, Debug)]
pub struct Stream {
    accumulator: Accumulator,
    pairs: Pairs,
    readout: Readout,
    unit: Vec<f32>,
    first: usize,
}

impl Stream {
    /// For so many samples and timesteps of a network with this readout, with or without the untrained network.
    pub fn new(readout: Readout, samples: usize, timesteps: usize, untrained: bool) -> Stream {
        let accumulator = Accumulator::new(samples, timesteps, readout.classes(), untrained);
        let pairs = Pairs::new(timesteps, readout.classes());
        Stream { accumulator, pairs, unit: readout.unit_vectors(), readout, first: 0 }
    }

    /// Takes the next batch.
    pub fn add(&mut self, batch: &ActivityBatch) {
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
        pairs(&shape, &cosines, &class_at, &to.records, &mut self.pairs);

        if let (Some(of), Some(to_untrained)) = (batch.untrained, &mut to.untrained) {
            let (class_at, values) = measure(&shape, of);
            count(&shape, &class_at, &values, batch.labels, &mut to_untrained.counts);
            tally(&shape, &values, &to.records, &mut to_untrained.values);
        }
        to.pairs = self.pairs.sums(to.classes);
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

/// `measured_outputs` and `measured_lengths`: class \[T\]\[width\]; norm and change \[2\]\[T\]\[width\].
fn measure(s: &Shape, of: Activity) -> (Vec<u32>, Vec<f32>) {
    let mut class_at = vec![0; s.timesteps * s.width];
    let mut values = vec![0.0; 2 * s.timesteps * s.width];
    for t in 0..s.timesteps {
        for n in 0..s.images {
            let logit = |k: usize| of.logits[(t * s.classes + k) * s.width + n];
            let feature = |t: usize, d: usize| of.representations[(t * s.features + d) * s.width + n];
            let finite =
                (0..s.classes).all(|k| logit(k).is_finite()) && (0..s.features).all(|d| feature(t, d).is_finite());
            let next = (t + 1).min(s.timesteps - 1);
            let difference = |d: usize| normal(normal(feature(next, d)) - normal(feature(t, d)));
            let (norm, largest_feature) = length(s.features, |d| normal(feature(t, d)));
            let (change, _) = length(s.features, difference);
            let short = largest_feature <= LONGEST && norm <= LONGEST;
            let class = definitions::first_arg_max((0..s.classes).map(logit)).map_or(NOT_FINITE, |k| k as u32);
            class_at[t * s.width + n] = if finite && short { class } else { NOT_FINITE };
            values[t * s.width + n] = norm;
            values[(s.timesteps + t) * s.width + n] = if t + 1 == s.timesteps { UNDEFINED } else { change };
        }
    }
    (class_at, values)
}

/// From the products with all readout vectors: cosines \[T\]\[K\]\[width\] with the readout vectors, given at unit length \[K\]\[D\].
fn cosine(s: &Shape, representations: &[f32], unit: &[f32], values: &[f32]) -> Vec<f32> {
    let mut cosines = vec![0.0; s.timesteps * s.classes * s.width];
    for t in 0..s.timesteps {
        for k in 0..s.classes {
            for n in 0..s.images {
                let norm = values[t * s.width + n];
                let (scale, _) = scale_of(norm);
                let feature = |d: usize| normal(representations[(t * s.features + d) * s.width + n]) * scale;
                let dot = blocked_sum(s.features, |d| feature(d) * unit[k * s.features + d]);
                let cosine = if norm > 0.0 { dot / (norm * scale) } else { UNDEFINED };
                cosines[(t * s.classes + k) * s.width + n] = cosine;
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
fn pairs(s: &Shape, cosines: &[f32], class_at: &[u32], records: &[u32], to: &mut Pairs) {
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

/// The same number, but 0 for one nearer to 0 than 2^-126.
fn normal(x: f32) -> f32 {
    if x.is_subnormal() { 0.0 } else { x }
}

/// A power of 2, and its inverse, by which numbers of at most this size are multiplied so that their squares neither overflow
/// nor vanish. It is 1 for all but very large and very small ones.
fn scale_of(size: f32) -> (f32, f32) {
    let power = |n: i32| 2_f32.powi(n);
    match size {
        _ if size >= power(50) => (power(-60), power(60)),
        _ if size < power(-40) => (power(90), power(-90)),
        _ => (1.0, 1.0),
    }
}

/// The norm of a vector of `count` elements, and the size of its largest element. Of numbers up to [`LONGEST`] nothing
/// overflows on the way.
fn length(count: usize, element: impl Fn(usize) -> f32) -> (f32, f32) {
    let largest = (0..count).fold(0.0, |largest, d| f32::max(largest, element(d).abs()));
    let (scale, inverse) = scale_of(largest);
    (blocked_sum(count, |d| (element(d) * scale).powi(2)).sqrt() * inverse, largest)
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
    fn scaling_changes_no_bit_of_ordinary_numbers() {
        let random = crate::reference::random::normal(1, 100);
        for size in [1e-9_f32, 1.0, 3e12] {
            let element = |d: usize| size * random[d];
            let plain = blocked_sum(random.len(), |d| element(d) * element(d)).sqrt();
            assert_eq!(length(random.len(), element).0.to_bits(), plain.to_bits(), "{size:e}");
        }
        for (size, scale) in [(1e-13, 2_f32.powi(90)), (1e-12, 1.0), (1e15, 1.0), (2e15, 2_f32.powi(-60))] {
            let (found, inverse) = scale_of(size);
            assert_eq!((found, found * inverse), (scale, 1.0), "{size:e}");
        }
    }

    #[test]
    fn blocked_sums_cover_every_term_once() {
        for count in [1, 31, 32, 33, 100] {
            let expected = (count * (count - 1) / 2) as f32;
            assert_eq!(blocked_sum(count, |d| d as f32), expected);
        }
    }
}
