//! Decoders of the label, fitted at one timestep and tested at all: do representations keep what tells the classes apart in
//! the same directions over time (King and Dehaene 2014, temporal generalisation)? The network's own readout is the same at
//! every timestep, so its matrix is `accuracy` in every row.
//!
//! Fitted at t on the training images, tested at t' on the others:
//! - `ridge`: W = (Xc'Xc + ridge I)^-1 Xc'Yc with one-hot Y, both centred by the training means; score = (x - mean x) W + mean y.
//!   Xc'Yc = class sums - n_k mean x: no second pass.
//! - `class_mean`: score = -|x - m_k|^2 / D, of the classes that occur in the training images alone.
//!
//! The class is the first arg-max. `unsafe` counts the test images whose two best scores are so close that rounding may
//! decide: 1e-4 of the largest score or less, for class means of the largest |m_k|^2 / D if that is larger.

use super::Subject;
use crate::{Error, Result, parallel};
use nalgebra::{Cholesky, DMatrix};
use serde::Serialize;

/// Of the largest score: closer ones are near ties.
const NEAR: f64 = 1e-4;

/// How one kind of decoder does, \[T: fitted\]\[T: tested\].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Generalisation {
    /// Test images whose class is right.
    pub correct: Vec<Vec<u64>>,
    /// Near ties, by which `correct` may differ.
    #[serde(rename = "unsafe")]
    pub near_ties: Vec<Vec<u64>>,
    /// Mean score of the label, over the test images whose label occurs in training.
    pub score: Vec<Vec<Option<f64>>>,
    /// \[T\] Frobenius norm of W: of ridge alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_norm: Option<Vec<f64>>,
}

/// Both kinds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decoder {
    /// Number of test images.
    pub n_test: u64,
    /// Ridge regression on one-hot labels.
    pub ridge: Generalisation,
    /// The nearest class mean.
    pub class_mean: Generalisation,
}

/// What decoders are fitted to: sums over the training images.
#[derive(Clone, Debug)]
pub struct Training {
    /// Number of training images.
    pub images: usize,
    /// \[K\] How many there are of each class.
    pub counts: Vec<u64>,
    /// By timestep.
    pub steps: Vec<Step>,
}

/// Sums over the training images at one timestep.
#[derive(Clone, Debug)]
pub struct Step {
    /// \[D\] Mean representation.
    pub mean: Vec<f64>,
    /// \[D\]\[D\] Xc'Xc.
    pub scatter: DMatrix<f64>,
    /// \[D\]\[K\] Sum of the representations of each class minus as many means: Xc'Yc.
    pub apart: DMatrix<f64>,
}

/// Decoders fitted at one timestep.
#[derive(Clone, Debug)]
pub struct Fitted {
    /// \[D\] Mean representation of the training images.
    pub mean: Vec<f64>,
    /// \[D\]\[K\] W.
    pub weight: DMatrix<f64>,
    /// \[K\] Share of each class among the training images.
    pub share: Vec<f64>,
    /// \[K\]\[D\] Mean representation of each class; none without training images.
    pub class_mean: Vec<Option<Vec<f64>>>,
}

/// Fits the decoders of all timesteps.
///
/// # Errors
/// No training images; a ridge that leaves the scatter matrix singular.
pub fn fit(training: &Training, ridge: f64) -> Result<Vec<Fitted>> {
    if training.images == 0 {
        return Err(Error::Data("decoders: none of the images is a training image, expected one at least".into()));
    }
    let images = training.images as f64;
    let fit = |t: usize, step: &Step| {
        let Step { mean, scatter, apart } = step;
        let mut system = scatter.clone();
        (0..mean.len()).for_each(|d| system[(d, d)] += ridge);
        let factors = Cholesky::new(system).ok_or_else(|| {
            Error::Data(format!(
                "decoders: the scatter matrix of the {} training images at timestep {t} with a ridge of {ridge} is not \
                 positive definite; expected a larger ridge",
                training.images
            ))
        })?;
        let of_class = |(k, &count): (usize, &u64)| {
            let column = apart.column(k);
            (count > 0).then(|| mean.iter().zip(column.iter()).map(|(m, sum)| m + sum / count as f64).collect())
        };
        Ok(Fitted {
            mean: mean.clone(),
            weight: factors.solve(apart),
            share: training.counts.iter().map(|&count| count as f64 / images).collect(),
            class_mean: training.counts.iter().enumerate().map(of_class).collect(),
        })
    };
    parallel::each(&training.steps, fit).into_iter().collect()
}

impl Fitted {
    /// The largest |m_k|^2 / D.
    pub fn size(&self) -> f64 {
        let size = |mean: &Vec<f64>| mean.iter().map(|x| x * x).sum::<f64>() / mean.len() as f64;
        self.class_mean.iter().flatten().map(size).fold(0.0, f64::max)
    }
}

/// What a decoder says of the test images at one timestep.
#[derive(Clone, Debug, Default)]
pub struct Tested {
    /// Images whose class is right.
    pub correct: u64,
    /// Score of the best class minus that of the second of each image; none with one class.
    pub gaps: Vec<f64>,
    /// The largest |score|.
    pub largest: f64,
    /// Sum of the scores of the labels that occur in training.
    pub own: f64,
    /// How many there are of them.
    pub known: u64,
}

impl Tested {
    /// Takes an image's scores; classes without one stand out.
    fn take(&mut self, scores: &[Option<f64>], label: usize) {
        let (mut best, mut second, mut class) = (f64::NEG_INFINITY, f64::NEG_INFINITY, None);
        for (k, score) in scores.iter().enumerate() {
            let Some(score) = *score else { continue };
            self.largest = self.largest.max(score.abs());
            if score > best {
                (second, best, class) = (best, score, Some(k));
            } else {
                second = second.max(score);
            }
        }
        self.correct += u64::from(class == Some(label));
        self.gaps.extend((second > f64::NEG_INFINITY).then_some(best - second));
    }

    fn label(&mut self, score: Option<f64>) {
        self.own += score.unwrap_or(0.0);
        self.known += u64::from(score.is_some());
    }

    /// Images with a near tie. `size`: another number that the scores come from, if larger than they.
    pub fn near_ties(&self, size: f64) -> u64 {
        let near = NEAR * self.largest.max(size);
        self.gaps.iter().filter(|gap| **gap <= near).count() as u64
    }
}

/// The table of one kind: `tested` \[T\]\[T\] with the number of near ties.
pub fn generalisation(tested: &[Vec<(Tested, u64)>], weight_norm: Option<Vec<f64>>) -> Generalisation {
    fn table<V>(tested: &[Vec<(Tested, u64)>], of: impl Fn(&(Tested, u64)) -> V) -> Vec<Vec<V>> {
        tested.iter().map(|row| row.iter().map(&of).collect()).collect()
    }
    Generalisation {
        correct: table(tested, |(tested, _)| tested.correct),
        near_ties: table(tested, |(_, near)| *near),
        score: table(tested, |(tested, _)| (tested.known > 0).then(|| tested.own / tested.known as f64)),
        weight_norm,
    }
}

/// Sums over the training images of a subject.
fn training(subject: &Subject) -> Training {
    let network = subject.trained;
    let images: Vec<usize> = (0..network.samples).filter(|&i| subject.train[i]).collect();
    let mut counts = vec![0; network.classes];
    images.iter().for_each(|&i| counts[network.labels[i]] += 1);
    let step = |t: usize| {
        let mut mean = vec![0.0; network.features];
        for &i in &images {
            mean.iter_mut().zip(network.representation(t, i)).for_each(|(sum, x)| *sum += x);
        }
        mean.iter_mut().for_each(|sum| *sum /= images.len().max(1) as f64);
        let centred =
            DMatrix::from_fn(network.features, images.len(), |d, i| network.representation(t, images[i])[d] - mean[d]);
        let mut apart = DMatrix::zeros(network.features, network.classes);
        for (column, &i) in centred.column_iter().zip(&images) {
            let mut sum = apart.column_mut(network.labels[i]);
            sum += column;
        }
        Step { mean, scatter: &centred * centred.transpose(), apart }
    };
    Training { images: images.len(), counts, steps: (0..network.timesteps).map(step).collect() }
}

/// `decoder`, exact.
///
/// # Errors
/// No training images; a ridge that leaves the scatter matrix singular.
pub fn exact(subject: &Subject) -> Result<Decoder> {
    let network = subject.trained;
    let fitted = fit(&training(subject), subject.parameters.ridge)?;
    let test: Vec<usize> = (0..network.samples).filter(|&i| !subject.train[i]).collect();
    let features = network.features as f64;
    let known = |label: usize| fitted[0].share[label] > 0.0;
    let ridge = |of: &Fitted, u: usize| {
        let centred =
            DMatrix::from_fn(test.len(), network.features, |i, d| network.representation(u, test[i])[d] - of.mean[d]);
        let products = centred * &of.weight;
        let mut tested = Tested::default();
        for (i, &image) in test.iter().enumerate() {
            let label = network.labels[image];
            let scores: Vec<_> = (0..network.classes).map(|k| Some(products[(i, k)] + of.share[k])).collect();
            tested.take(&scores, label);
            tested.label(scores[label].filter(|_| known(label)));
        }
        let near = tested.near_ties(0.0);
        (tested, near)
    };
    let class_mean = |of: &Fitted, u: usize| {
        let mut tested = Tested::default();
        for &image in &test {
            let (x, label) = (network.representation(u, image), network.labels[image]);
            let score = |m: &Vec<f64>| -x.iter().zip(m).map(|(x, m)| (x - m) * (x - m)).sum::<f64>() / features;
            let scores: Vec<_> = of.class_mean.iter().map(|mean| mean.as_ref().map(score)).collect();
            tested.take(&scores, label);
            tested.label(scores[label]);
        }
        let near = tested.near_ties(of.size());
        (tested, near)
    };
    let table = |test: &dyn Fn(&Fitted, usize) -> (Tested, u64)| -> Vec<Vec<_>> {
        fitted.iter().map(|of| (0..network.timesteps).map(|u| test(of, u)).collect()).collect()
    };
    let norms = fitted.iter().map(|of| of.weight.norm()).collect();
    Ok(Decoder {
        n_test: test.len() as u64,
        ridge: generalisation(&table(&ridge), Some(norms)),
        class_mean: generalisation(&table(&class_mean), None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One feature, two classes: everything is a fraction.
    #[test]
    fn by_hand() {
        let step = Step {
            mean: vec![2.0],
            scatter: DMatrix::from_element(1, 1, 15.5),
            // Classes 0 and 1 at 1 and 3, two images each; class 2 has none.
            apart: DMatrix::from_row_slice(1, 3, &[-2.0, 2.0, 0.0]),
        };
        let training = Training { images: 4, counts: vec![2, 2, 0], steps: vec![step] };
        let fitted = &fit(&training, 0.5).unwrap()[0];
        assert_eq!(fitted.weight.as_slice(), [-0.125, 0.125, 0.0]);
        assert_eq!(fitted.class_mean, [Some(vec![1.0]), Some(vec![3.0]), None]);
        assert_eq!((fitted.share[0], fitted.size()), (0.5, 9.0));
        assert!(fit(&Training { images: 0, ..training }, 0.5).is_err());
    }

    #[test]
    fn first_arg_max_and_near_ties() {
        let mut tested = Tested::default();
        for (scores, label) in
            [([1.0, 1.0, 0.0], 0), ([1.0, 1.0, 0.0], 1), ([0.0, 1.0, 1.00009], 2), ([0.0, 3.0, 1.0], 1)]
        {
            tested.take(&scores.map(Some), label);
        }
        tested.take(&[None, Some(-4.0), None], 0);
        assert_eq!((tested.correct, tested.gaps.len(), tested.largest), (3, 4, 4.0));
        assert_eq!((tested.near_ties(0.0), tested.near_ties(1e5)), (3, 4));
        tested.label(Some(0.5));
        tested.label(None);
        assert_eq!((tested.own, tested.known), (0.5, 1));
    }

    #[test]
    fn a_singular_scatter_matrix_needs_a_ridge() {
        let step = Step { mean: vec![0.0], scatter: DMatrix::zeros(1, 1), apart: DMatrix::zeros(1, 2) };
        let training = Training { images: 2, counts: vec![1, 1], steps: vec![step] };
        let error = fit(&training, 0.0).unwrap_err().to_string();
        assert!(error.contains("timestep 0") && error.contains("ridge"), "{error}");
        assert!(fit(&training, 1e-3).is_ok());
    }
}
