//! Principal components of all T N representations together, and how many dimensions they fill.
//!
//! C = sum_t (Mc_tt + N (m_t - m)(m_t - m)') / (TN - 1), with the means m_t of the timesteps and m of all. The participation
//! ratio (tr C)^2 / tr C^2 counts dimensions (Abbott et al. 2011; Gao et al. 2017); `participation_t` has one timestep's images
//! alone, p_t^2 / |Mc_tt|^2. It is biased downwards where images are not many more than dimensions.

use super::Subject;
use super::moments::Moments;
use super::rdm::{Vectors, class_means};
use nalgebra::{DMatrix, DVector, SymmetricEigen};
use serde::Serialize;

/// Eigenvalues that are given.
const EIGENVALUES: usize = 10;
/// Components that are given.
const COMPONENTS: usize = 3;
/// A component whose eigenvalue is no larger than this share of the first is rounding.
const NEGLIGIBLE: f64 = 1e-6;

/// Components of the representations of all images and timesteps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pca {
    /// The 10 largest eigenvalues of C, or all D.
    pub eigenvalues: Vec<f64>,
    /// Their shares of the trace; none where nothing varies.
    pub explained: Vec<Option<f64>>,
    /// \[min(3, D)\]\[D\] Directions of unit length, the loading of largest magnitude positive; none where the eigenvalue is
    /// negligible.
    pub components: Vec<Option<Vec<f64>>>,
    /// \[shown classes\]\[T\]\[min(3, D)\] Where the mean representation of a class lies along them, from the mean of all.
    pub class_mean: Vec<Vec<Vec<Option<f64>>>>,
    /// Participation ratio of C; none where nothing varies.
    pub participation: Option<f64>,
    /// \[T\] Participation ratio of one timestep's images; none where they do not vary.
    pub participation_t: Vec<Option<f64>>,
}

/// From moments, and the mean representations \[T\]\[shown\]\[D\] of the shown classes.
pub fn of(moments: &Moments, class_means: &[Vectors]) -> Pca {
    let (means, features) = (&moments.trained.mean, moments.features);
    let (timesteps, images) = (means.len(), moments.images as f64);
    let grand = DVector::from_fn(features, |d, _| means.iter().map(|m| m[d]).sum::<f64>() / timesteps as f64);
    let mut c = DMatrix::zeros(features, features);
    if moments.varies {
        c.copy_from_slice(&moments.scatter);
        for mean in means {
            let apart = DVector::from_column_slice(mean) - &grand;
            c.ger(images, &apart, &apart, 1.0);
        }
        c /= timesteps as f64 * images - 1.0;
    }
    let (trace, squared) = (c.trace(), c.norm_squared());
    let SymmetricEigen { eigenvalues, eigenvectors } = SymmetricEigen::new(c);
    let mut order: Vec<usize> = (0..features).collect();
    order.sort_by(|&i, &j| eigenvalues[j].total_cmp(&eigenvalues[i]));
    let values: Vec<f64> = order.iter().take(EIGENVALUES).map(|&i| eigenvalues[i]).collect();
    let component = |i: usize| {
        let counts = eigenvalues[i] > NEGLIGIBLE * values[0].max(0.0);
        counts.then(|| {
            let vector = eigenvectors.column(i);
            let positive = vector[vector.iamax()] >= 0.0;
            vector.iter().map(|x| if positive { *x } else { -x }).collect::<Vec<f64>>()
        })
    };
    let components: Vec<Option<Vec<f64>>> = order.iter().take(COMPONENTS).map(|&i| component(i)).collect();
    let along = |mean: &Option<Vec<f64>>, component: &Option<Vec<f64>>| -> Option<f64> {
        let (mean, component) = (mean.as_ref()?, component.as_ref()?);
        Some((0..features).map(|d| (mean[d] - grand[d]) * component[d]).sum())
    };
    let shown = class_means.first().map_or(0, Vec::len);
    let class_mean = (0..shown)
        .map(|k| class_means.iter().map(|step| components.iter().map(|c| along(&step[k], c)).collect()).collect())
        .collect();
    let trained = &moments.trained;
    let ratio = |trace: f64, squared: f64, varies: bool| varies.then(|| trace * trace / squared);
    Pca {
        explained: values.iter().map(|value| moments.varies.then_some(value / trace)).collect(),
        eigenvalues: values,
        components,
        class_mean,
        participation: ratio(trace, squared, moments.varies),
        participation_t: (0..timesteps)
            .map(|t| ratio(trained.trace[t], trained.squared[t], trained.varies[t]))
            .collect(),
    }
}

/// `pca`, exact.
pub fn exact(subject: &Subject) -> Pca {
    of(&Moments::exact(subject), &class_means(subject.trained, &subject.parameters.shown_classes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamics::moments::Cross;
    use crate::dynamics::moments::Marginals;

    /// Two timesteps of four images at the corners of rectangles: along the first axis 6 wide, along the second 2, the centres
    /// 8 apart along the third.
    #[test]
    fn by_hand() {
        let marginals = Marginals {
            mean: vec![vec![1.0, 1.0, -4.0], vec![1.0, 1.0, 4.0]],
            varies: vec![true; 2],
            trace: vec![40.0; 2],
            squared: vec![36.0 * 36.0 + 4.0 * 4.0; 2],
            fourth: vec![0.0; 2],
        };
        let table = vec![vec![0.0; 2]; 2];
        let moments = Moments {
            images: 4,
            features: 3,
            trained: marginals,
            within: Cross { squared: table.clone(), fourth: table },
            untrained: None,
            scatter: vec![72.0, 0.0, 0.0, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0],
            varies: true,
        };
        let class = vec![Some(vec![2.0, 0.0, -4.0]), None];
        let found = of(&moments, &[class.clone(), class]);
        let expected = [128.0 / 7.0, 72.0 / 7.0, 8.0 / 7.0];
        for (found, expected) in found.eigenvalues.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
        }
        let axes: Vec<Vec<f64>> = found.components.into_iter().map(Option::unwrap).collect();
        assert_eq!(axes, [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
        assert_eq!(found.class_mean[0][0], [Some(-4.0), Some(1.0), Some(-1.0)]);
        assert_eq!(found.class_mean[1], [[None; 3], [None; 3]]);
        let squares: f64 = [128.0f64, 72.0, 8.0].iter().map(|x| x * x).sum();
        assert!((found.participation.unwrap() - 208.0 * 208.0 / squares).abs() < 1e-12);
        assert_eq!(found.participation_t[1], Some(1600.0 / (36.0 * 36.0 + 16.0)));
    }
}
