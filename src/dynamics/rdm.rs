//! Representational dissimilarity matrices (Kriegeskorte et al. 2008): how far apart images, or class means, are from each
//! other at each timestep.
//!
//! `euclidean` is the squared distance / D, `correlation` 1 - Pearson over features, `cosine` 1 - cosine. The latter two are
//! |u - v|^2 / 2 of vectors of unit length, centred first for the correlation, which keeps the digits of small ones; below
//! 1e-12 they are 0. An all-zero vector has no cosine, one of equal entries no correlation.
//!
//! Keys: `rdm` (images `rdm_images`) and `class_rdm` (means over the images of each label in `shown_classes`).

use super::Subject;
use crate::parallel;
use crate::trajectory::npz::Extraction;
use serde::Serialize;

/// The upper triangle of a dissimilarity matrix: pairs i < j, row by row. None where it is not defined.
pub type Condensed = Vec<Option<f64>>;

/// One of each for the three dissimilarities.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ByMetric<V> {
    /// Squared distance / D.
    pub euclidean: V,
    /// 1 - Pearson over features.
    pub correlation: V,
    /// 1 - cosine.
    pub cosine: V,
}

impl<V> ByMetric<V> {
    /// The same of each.
    pub fn map<W>(&self, of: impl Fn(&V) -> W) -> ByMetric<W> {
        ByMetric { euclidean: of(&self.euclidean), correlation: of(&self.correlation), cosine: of(&self.cosine) }
    }
}

/// \[T\]\[pairs\] by dissimilarity.
pub type Rdm = ByMetric<Vec<Condensed>>;

/// Dissimilarities below this are rounding.
const SMALLEST: f64 = 1e-12;

/// Vectors \[n\]\[D\] of a timestep; those that do not exist, or have no dissimilarities to others, are none.
pub type Vectors = Vec<Option<Vec<f64>>>;

/// Between the vectors of each timestep.
pub fn of(vectors: &[Vectors]) -> Rdm {
    finished(
        &prepared(vectors).map(|prepared| parallel::each(prepared, |_, vectors| squared_distances(vectors))),
        vectors,
    )
}

/// The vectors whose squared distances are the dissimilarities, but for a factor.
pub(super) fn prepared(vectors: &[Vectors]) -> ByMetric<Vec<Vectors>> {
    let by = |prepare: fn(&[f64]) -> Option<Vec<f64>>| {
        vectors.iter().map(|step| step.iter().map(|v| v.as_deref().and_then(prepare)).collect()).collect()
    };
    ByMetric {
        euclidean: by(|v| Some(v.to_vec())),
        correlation: by(|v| centred(v).and_then(|v| unit(&v))),
        cosine: by(unit),
    }
}

/// Dissimilarities of `vectors` from squared distances of what [`prepared`] makes of them.
pub(super) fn finished(squared: &ByMetric<Vec<Condensed>>, vectors: &[Vectors]) -> Rdm {
    let features = vectors.iter().flatten().flatten().next().map_or(1, Vec::len) as f64;
    let scaled = |steps: &Vec<Condensed>, scale: &dyn Fn(f64) -> f64| {
        steps.iter().map(|step| step.iter().map(|d| d.map(scale)).collect()).collect()
    };
    let half = |squared: f64| if squared / 2.0 < SMALLEST { 0.0 } else { squared / 2.0 };
    ByMetric {
        euclidean: scaled(&squared.euclidean, &|squared| squared / features),
        correlation: scaled(&squared.correlation, &half),
        cosine: scaled(&squared.cosine, &half),
    }
}

fn squared_distances(vectors: &[Option<Vec<f64>>]) -> Condensed {
    let mut all = Vec::with_capacity(vectors.len() * vectors.len().saturating_sub(1) / 2);
    for (i, a) in vectors.iter().enumerate() {
        let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        all.extend(vectors[i + 1..].iter().map(|b| a.as_ref().zip(b.as_ref()).map(|(a, b)| distance(a, b))));
    }
    all
}

/// The vector at unit length; none for an all-zero one.
fn unit(vector: &[f64]) -> Option<Vec<f64>> {
    let largest = vector.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    if largest == 0.0 {
        return None;
    }
    // Scaled first: the squares of very small entries would vanish.
    let scaled: Vec<f64> = vector.iter().map(|x| x / largest).collect();
    let norm = scaled.iter().map(|x| x * x).sum::<f64>().sqrt();
    Some(scaled.into_iter().map(|x| x / norm).collect())
}

/// The vector minus the mean of its entries; none where they are all equal.
fn centred(vector: &[f64]) -> Option<Vec<f64>> {
    let first = *vector.first()?;
    if vector.iter().all(|&x| x == first) {
        return None;
    }
    let mean = vector.iter().sum::<f64>() / vector.len() as f64;
    Some(vector.iter().map(|x| x - mean).collect())
}

/// `rdm`: between `images` of a network.
pub fn images(of_network: &Extraction, images: &[usize]) -> Rdm {
    let at = |t: usize| images.iter().map(|&i| Some(of_network.representation(t, i).to_vec())).collect();
    of(&(0..of_network.timesteps).map(at).collect::<Vec<_>>())
}

/// \[T\]\[classes\] Mean representations of the images of each label; none without images.
pub fn class_means(of_network: &Extraction, classes: &[usize]) -> Vec<Vectors> {
    let mean = |t: usize, class: usize| {
        let mut sum = vec![0.0; of_network.features];
        let mut count = 0;
        for (i, _) in of_network.labels.iter().enumerate().filter(|(_, label)| **label == class) {
            sum.iter_mut().zip(of_network.representation(t, i)).for_each(|(sum, x)| *sum += x);
            count += 1;
        }
        (count > 0).then(|| sum.into_iter().map(|x| x / f64::from(count)).collect())
    };
    (0..of_network.timesteps).map(|t| classes.iter().map(|&class| mean(t, class)).collect()).collect()
}

/// `rdm`, exact.
pub fn exact(subject: &Subject) -> Rdm {
    images(subject.trained, &subject.parameters.rdm_images)
}

/// `class_rdm`, exact.
pub fn exact_of_classes(subject: &Subject) -> Rdm {
    of(&class_means(subject.trained, &subject.parameters.shown_classes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let vectors = [[3.0, 0.0, 0.0], [0.0, 4.0, 0.0], [2.0, 2.0, 2.0], [0.0; 3]];
        let found = of(&[vectors.iter().map(|v| Some(v.to_vec())).chain([None]).collect()]);
        // Pairs 01 02 03 04, 12 13 14, 23 24, 34.
        let close = |found: &Condensed, expected: [Option<f64>; 10]| {
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                match (found, expected) {
                    (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-15, "{i}: {found}"),
                    (found, expected) => assert_eq!(*found, expected, "{i}"),
                }
            }
        };
        let third = |x: f64| Some(x / 3.0);
        let tilted = Some(1.0 - 1.0 / 3f64.sqrt());
        close(
            &found.euclidean[0],
            [third(25.0), third(9.0), third(9.0), None, third(12.0), third(16.0), None, third(12.0), None, None],
        );
        close(&found.cosine[0], [Some(1.0), tilted, None, None, tilted, None, None, None, None, None]);
        // Centred (2, -1, -1) and (-1, 2, -1): Pearson -3/6; equal entries have none.
        close(&found.correlation[0], [Some(1.5), None, None, None, None, None, None, None, None, None]);
    }

    #[test]
    fn small_ones_are_zero_and_tiny_vectors_have_a_direction() {
        let base = vec![0.1, 0.7, 0.3];
        let same: Vec<f64> = base.iter().map(|x| x * 3.0).collect();
        let tiny: Vec<f64> = base.iter().map(|x| x * 1e-300).collect();
        let found = of(&[vec![Some(base), Some(same), Some(tiny)]]);
        assert_eq!(found.cosine[0], [Some(0.0); 3]);
        assert_eq!(found.correlation[0], [Some(0.0); 3]);
        assert!(found.euclidean[0].iter().all(|d| d.is_some_and(|d| d > 0.0)));
        let one_feature = of(&[vec![Some(vec![1.0]), Some(vec![2.0])]]);
        assert_eq!((one_feature.correlation[0][0], one_feature.cosine[0][0]), (None, Some(0.0)));
    }
}
