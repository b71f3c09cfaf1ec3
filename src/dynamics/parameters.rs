//! What the measures can be told, and what they are told where nobody says otherwise.

use crate::dataset::random::Random;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Numbers that the measures depend on; a report holds those it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Entropies, in nats, below which a network answers: one reaction time for each.
    pub thresholds: Vec<f64>,
    /// Index of the threshold at which the reaction time of every image is kept.
    pub image_threshold: usize,
    /// Number of bins of confidence for the calibration.
    pub bins: usize,
    /// Images between which dissimilarities are computed, ascending.
    pub rdm_images: Vec<usize>,
    /// Classes whose mean representations are shown, ascending.
    pub shown_classes: Vec<usize>,
    /// Ridge of the decoders: what is added to the diagonal of the training images' scatter matrix.
    pub ridge: f64,
    /// Coverage of intervals, such as 0.95.
    pub level: f64,
    /// Whether the values of every single image are kept.
    pub tables: bool,
}

/// Thresholds of the entropy as parts of ln K, the entropy of a network that knows nothing: close together near 0, where trained
/// networks answer, so that the speed-accuracy curve has points from the first timestep to the last.
const THRESHOLDS: [f64; 11] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9];
/// Of these the one at which the reaction time of every image is kept: 0.2 ln K.
const IMAGE_THRESHOLD: usize = 4;
/// Bins of confidence, as in Guo et al. (2017).
const BINS: usize = 15;
/// Most images between which dissimilarities are computed: 20,000 pairs, which a page can still show.
const RDM_IMAGES: usize = 200;
/// Most classes whose mean representations are shown: as many as colours can be told apart.
const SHOWN_CLASSES: usize = 20;
/// In the units of r squared: enough for features that are silent on all training images, and for fewer images than features;
/// next to nothing beside the scatter of features that are active on many.
const RIDGE: f64 = 1.0;
/// Most images of which every single value is kept.
const TABLES: usize = 64;
/// Bootstrap replicates.
pub const REPLICATES: usize = 1000;

impl Parameters {
    /// What the measures are told of images with these labels, out of so many classes.
    pub fn standard(labels: &[usize], classes: usize) -> Parameters {
        Parameters {
            thresholds: THRESHOLDS.map(|part| part * (classes as f64).ln()).to_vec(),
            image_threshold: IMAGE_THRESHOLD,
            bins: BINS,
            rdm_images: evenly_over_classes(labels, classes, RDM_IMAGES),
            shown_classes: evenly(classes, SHOWN_CLASSES),
            ridge: RIDGE,
            level: 0.95,
            tables: labels.len() <= TABLES,
        }
    }

    /// Refuses what no measure can be computed with, for so many images and classes.
    ///
    /// # Errors
    /// The first parameter that is wrong: what was expected, and what was found.
    pub fn check(&self, samples: usize, classes: usize) -> Result<()> {
        let refuse = |what: String| Err(Error::Config(format!("parameters of the dynamics: {what}")));
        if let Some(threshold) = self.thresholds.iter().find(|threshold| !threshold.is_finite()) {
            return refuse(format!("expected finite thresholds, found {threshold}"));
        }
        if self.image_threshold >= self.thresholds.len() {
            let (found, count) = (self.image_threshold, self.thresholds.len());
            return refuse(format!(
                "expected an image_threshold below the number of thresholds, {count}, found {found}"
            ));
        }
        if !(1..=10_000).contains(&self.bins) {
            return refuse(format!("expected 1 to 10000 bins, found {}", self.bins));
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return refuse(format!("expected a level between 0 and 1, found {}", self.level));
        }
        if !(self.ridge >= 0.0 && self.ridge.is_finite()) {
            return refuse(format!("expected a ridge of at least 0, found {}", self.ridge));
        }
        for (name, list, end) in
            [("rdm_images", &self.rdm_images, samples), ("shown_classes", &self.shown_classes, classes)]
        {
            if list.windows(2).any(|pair| pair[0] >= pair[1]) || list.last().is_some_and(|&last| last >= end) {
                return refuse(format!("expected {name} that ascend and are below {end}, found {list:?}"));
            }
        }
        Ok(())
    }
}

/// At most `most` of the numbers below `count`, at equal distances.
fn evenly(count: usize, most: usize) -> Vec<usize> {
    let chosen = count.min(most);
    (0..chosen).map(|i| i * count / chosen).collect()
}

/// At most `most` images, ascending: from every class its first ones, as many from each as its number of images allows. Where the
/// last round does not go round, classes at equal distances have one more than the others.
fn evenly_over_classes(labels: &[usize], classes: usize, most: usize) -> Vec<usize> {
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); classes];
    labels.iter().enumerate().for_each(|(image, &label)| of_class[label].push(image));
    let mut chosen = Vec::new();
    for round in 0.. {
        let left: Vec<usize> = of_class.iter().filter_map(|images| images.get(round).copied()).collect();
        let taken = evenly(left.len(), most - chosen.len());
        if taken.is_empty() {
            break;
        }
        chosen.extend(taken.into_iter().map(|i| left[i]));
    }
    chosen.sort_unstable();
    chosen
}

/// \[replicates\]\[samples\] How often each image is drawn when as many are drawn as there are, with replacement. Every replicate
/// has a ChaCha8 stream of its own, keyed by the seed and its number: the same on every platform. An image that was drawn 255
/// times is not drawn again, which never happens but for a handful of images drawn by a broken generator.
pub fn bootstrap_counts(seed: u64, replicates: usize, samples: usize) -> Vec<Vec<u8>> {
    let draw = |replicate: usize| {
        let mut random = Random::new(b"bootstrp", [seed, replicate as u64, 0]);
        let mut counts = vec![0u8; samples];
        let mut left = samples;
        while left > 0 {
            let count = &mut counts[random.below(samples as u64) as usize];
            if let Some(more) = count.checked_add(1) {
                *count = more;
                left -= 1;
            }
        }
        counts
    };
    (0..replicates).map(draw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_spread_over_classes() {
        // Class 2 has one image, class 1 none.
        let labels = [0, 0, 2, 3, 0, 3, 0, 3, 3];
        assert_eq!(evenly_over_classes(&labels, 4, 100), (0..9).collect::<Vec<_>>());
        assert_eq!(evenly_over_classes(&labels, 4, 5), [0, 1, 2, 3, 5]);
        assert_eq!(evenly_over_classes(&labels, 4, 2), [0, 2]);
        assert_eq!(evenly(100, 20), (0..20).map(|i| 5 * i).collect::<Vec<_>>());
        assert_eq!(evenly(3, 20), [0, 1, 2]);
    }

    #[test]
    fn standard_parameters_pass_their_check() {
        for (labels, classes) in [(vec![0; 70], 1), ((0..5000).map(|i| i % 300).collect(), 300), (vec![4], 7)] {
            let told = Parameters::standard(&labels, classes);
            told.check(labels.len(), classes).unwrap();
            assert!(told.rdm_images.len() <= 200 && told.shown_classes.len() <= 20);
            assert_eq!(told.tables, labels.len() <= 64);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = Parameters::standard(&[0, 1, 1], 2);
        for (wrong, word) in [
            (Parameters { bins: 0, ..good.clone() }, "bins"),
            (Parameters { image_threshold: 11, ..good.clone() }, "image_threshold"),
            (Parameters { thresholds: vec![f64::NAN], image_threshold: 0, ..good.clone() }, "thresholds"),
            (Parameters { level: 1.0, ..good.clone() }, "level"),
            (Parameters { ridge: f64::NAN, ..good.clone() }, "ridge"),
            (Parameters { rdm_images: vec![0, 3], ..good.clone() }, "rdm_images"),
            (Parameters { shown_classes: vec![1, 0], ..good.clone() }, "shown_classes"),
        ] {
            let message = wrong.check(3, 2).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
    }

    #[test]
    fn replicates_draw_as_many_images_as_there_are() {
        let counts = bootstrap_counts(7, 40, 30);
        assert_eq!(counts, bootstrap_counts(7, 40, 30));
        assert_eq!(counts[..3], bootstrap_counts(7, 3, 30), "a replicate does not depend on how many there are");
        assert_ne!(counts, bootstrap_counts(8, 40, 30));
        assert!(counts.iter().all(|counts| counts.iter().map(|&count| u32::from(count)).sum::<u32>() == 30));
        // Each image is missing from a replicate with probability (29 / 30)^30, about 0.36.
        let missing = counts.iter().flatten().filter(|&&count| count == 0).count() as f64 / 1200.0;
        assert!((missing - 0.36).abs() < 0.04, "{missing}");
        assert_eq!(bootstrap_counts(1, 2, 1), [[1], [1]]);
    }
}
