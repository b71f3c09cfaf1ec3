//! Second moments of representations between timesteps: what CKA, principal components and the decoders are made of.
//!
//! X_t \[N, D\] are the representations at t, Mc_tu = X_t' X_u with their columns centred. Only what is left of the D x D
//! matrices is kept: |Mc_tu|^2, p_t = tr Mc_tt, q_tu = sum_i |x_ti|^2 |x_ui|^2, and sum_t Mc_tt.
//!
//! A stream of batches knows no mean beforehand: the device sums y = x - shift, where the shift is about the mean, and
//! [`centred_fourth`] says how q follows from sums of y.

use super::Subject;
use crate::trajectory::npz::Extraction;
use nalgebra::DMatrix;

/// Of one network at each timestep.
#[derive(Clone, Debug)]
pub struct Marginals {
    /// \[T\]\[D\] Mean representation.
    pub mean: Vec<Vec<f64>>,
    /// \[T\] Whether any feature differs between any two images. Where none does, all other moments are exactly 0.
    pub varies: Vec<bool>,
    /// \[T\] p_t = tr Mc_tt.
    pub trace: Vec<f64>,
    /// \[T\] |Mc_tt|^2.
    pub squared: Vec<f64>,
    /// \[T\] q_tt.
    pub fourth: Vec<f64>,
}

/// Between the timesteps of two networks, \[T\]\[T\] each.
#[derive(Clone, Debug)]
pub struct Cross {
    /// |Mc_tu|^2.
    pub squared: Vec<Vec<f64>>,
    /// q_tu.
    pub fourth: Vec<Vec<f64>>,
}

/// Everything that is kept of a network over a set of images.
#[derive(Clone, Debug)]
pub struct Moments {
    /// N.
    pub images: usize,
    /// D.
    pub features: usize,
    /// Of the network that is analysed.
    pub trained: Marginals,
    /// Between its timesteps.
    pub within: Cross,
    /// Of the network before training, and between the timesteps of both, where it is given.
    pub untrained: Option<(Marginals, Cross)>,
    /// \[D\]\[D\] sum_t Mc_tt of the analysed network, symmetric.
    pub scatter: Vec<f64>,
    /// Whether any feature of the analysed network differs between any two images or timesteps.
    pub varies: bool,
}

/// q_tu of centred representations from sums over images of y = x - shift; see the terms.
#[derive(Clone, Copy, Debug)]
pub struct FourthTerms {
    /// n, the number of images.
    pub images: f64,
    /// sum |y_t|^2 |y_u|^2.
    pub both: f64,
    /// sum |y_t|^2, sum |y_u|^2.
    pub squares: [f64; 2],
    /// \[0\]: (sum |y_t|^2 y_u) . m_u; \[1\]: (sum |y_u|^2 y_t) . m_t; m is the mean of y.
    pub weighted: [f64; 2],
    /// |m_t|^2, |m_u|^2.
    pub means: [f64; 2],
    /// m_t' (sum y_t y_u') m_u.
    pub bilinear: f64,
}

/// q_tu = sum_i (a - 2 b + c)_ti (a - 2 b + c)_ui with a = |y|^2, b = y . m, c = |m|^2, multiplied out.
pub fn centred_fourth(of: &FourthTerms) -> f64 {
    let FourthTerms { images, both, squares, weighted, means: [c, d], bilinear } = *of;
    both - 2.0 * (weighted[0] + weighted[1]) + d * squares[0] + c * squares[1] + 4.0 * bilinear - 3.0 * images * c * d
}

/// Representations of one network and timestep, centred: a column for each image.
struct Centred {
    mean: Vec<f64>,
    varies: bool,
    columns: DMatrix<f64>,
    /// \[N\] |x_i|^2.
    squares: Vec<f64>,
}

impl Centred {
    fn of(network: &Extraction, t: usize) -> Centred {
        let (images, features) = (network.samples, network.features);
        let x = &network.representations[t * images * features..(t + 1) * images * features];
        let mut mean = vec![0.0; features];
        for image in x.chunks_exact(features) {
            mean.iter_mut().zip(image).for_each(|(sum, x)| *sum += x);
        }
        mean.iter_mut().for_each(|sum| *sum /= images as f64);
        let varies = x.chunks_exact(features).any(|image| image != &x[..features]);
        let mut columns = DMatrix::zeros(features, images);
        if varies {
            for (i, image) in x.chunks_exact(features).enumerate() {
                for d in 0..features {
                    columns[(d, i)] = image[d] - mean[d];
                }
            }
        }
        let squares = columns.column_iter().map(|column| column.norm_squared()).collect();
        Centred { mean, varies, columns, squares }
    }

    fn all(network: &Extraction) -> Vec<Centred> {
        (0..network.timesteps).map(|t| Centred::of(network, t)).collect()
    }
}

fn fourth(a: &Centred, b: &Centred) -> f64 {
    a.squares.iter().zip(&b.squares).map(|(a, b)| a * b).sum()
}

fn marginals(of: &[Centred]) -> Marginals {
    let squared = |x: &Centred| (&x.columns * x.columns.transpose()).norm_squared();
    Marginals {
        mean: of.iter().map(|x| x.mean.clone()).collect(),
        varies: of.iter().map(|x| x.varies).collect(),
        trace: of.iter().map(|x| x.squares.iter().sum()).collect(),
        squared: of.iter().map(squared).collect(),
        fourth: of.iter().map(|x| fourth(x, x)).collect(),
    }
}

fn cross(a: &[Centred], b: &[Centred]) -> Cross {
    let transposed: Vec<DMatrix<f64>> = b.iter().map(|b| b.columns.transpose()).collect();
    let squared = |a: &Centred| transposed.iter().map(|b| (&a.columns * b).norm_squared()).collect();
    Cross {
        squared: a.iter().map(squared).collect(),
        fourth: a.iter().map(|a| b.iter().map(|b| fourth(a, b)).collect()).collect(),
    }
}

impl Moments {
    /// All moments in f64, of columns that are centred first.
    pub fn exact(subject: &Subject) -> Moments {
        let trained = Centred::all(subject.trained);
        let untrained = subject.untrained.map(Centred::all);
        let (images, features) = (subject.trained.samples, subject.trained.features);
        let mut scatter = DMatrix::zeros(features, features);
        trained.iter().for_each(|x| scatter += &x.columns * x.columns.transpose());
        let x = &subject.trained.representations;
        Moments {
            images,
            features,
            within: cross(&trained, &trained),
            untrained: untrained.map(|untrained| (marginals(&untrained), cross(&trained, &untrained))),
            trained: marginals(&trained),
            scatter: scatter.as_slice().to_vec(),
            varies: x.chunks_exact(features).any(|vector| vector != &x[..features]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dynamics::{Parameters, cka, pca};
    use crate::reference::random::normal;

    /// Representations with a mean, at two timesteps that are related; every other array is empty of meaning.
    pub(crate) fn made_up(seed: u64, [timesteps, samples, features]: [usize; 3]) -> Extraction {
        let (base, noise) = (normal(seed, samples * features), normal(seed + 1, timesteps * samples * features));
        let value = |i: usize| 0.7 + f64::from(base[i % base.len()]) + 0.8 * f64::from(noise[i]);
        Extraction {
            timesteps,
            samples,
            classes: 3,
            features,
            outputs: vec![0.0; timesteps * samples * 3],
            labels: (0..samples).map(|i| i % 3).collect(),
            representations: (0..timesteps * samples * features).map(value).collect(),
            readout_weight: vec![1.0; 3 * features],
            readout_bias: None,
        }
    }

    fn parameters() -> Parameters {
        Parameters {
            thresholds: vec![0.5],
            image_threshold: 0,
            bins: 15,
            rdm_images: vec![],
            shown_classes: vec![0, 2],
            ridge: 0.5,
            level: 0.95,
            tables: false,
        }
    }

    /// HSIC of two timesteps by the N x N matrices of the definition: biased, and n(n-3) times unbiased.
    fn hsic(a: &Centred, b: &Centred) -> [f64; 2] {
        let n = a.columns.ncols();
        let (k, l) = (a.columns.transpose() * &a.columns, b.columns.transpose() * &b.columns);
        let (mut k0, mut l0) = (k.clone(), l.clone());
        k0.fill_diagonal(0.0);
        l0.fill_diagonal(0.0);
        let ones = nalgebra::DVector::from_element(n, 1.0);
        let (sum_k, sum_l) = ((&k0 * &ones).sum(), (&l0 * &ones).sum());
        let (m, joint) = (n as f64, (&k0 * &l0 * &ones).sum());
        let unbiased = (&k0 * &l0).trace() + sum_k * sum_l / ((m - 1.0) * (m - 2.0)) - 2.0 / (m - 2.0) * joint;
        [(k * l).trace(), unbiased]
    }

    #[test]
    fn cka_from_moments_is_that_of_the_definition() {
        let (trained, untrained) = (made_up(1, [3, 17, 5]), made_up(9, [3, 17, 5]));
        let parameters = parameters();
        let subject = Subject {
            trained: &trained,
            untrained: Some(&untrained),
            train: &[true; 17],
            replicates: &[],
            parameters: &parameters,
        };
        let found = cka::of(&Moments::exact(&subject));
        let (x, z) = (Centred::all(&trained), Centred::all(&untrained));
        let by_definition =
            |a: &Centred, b: &Centred, which: usize| hsic(a, b)[which] / (hsic(a, a)[which] * hsic(b, b)[which]).sqrt();
        for t in 0..3 {
            for u in 0..3 {
                for (found, b, which) in [
                    (&found.biased, &x, 0),
                    (&found.debiased, &x, 1),
                    (found.biased_init.as_ref().unwrap(), &z, 0),
                    (found.debiased_init.as_ref().unwrap(), &z, 1),
                ] {
                    let (found, expected) = (found[t][u].unwrap(), by_definition(&x[t], &b[u], which));
                    assert!((found - expected).abs() < 1e-12, "{t} {u}: {found}, expected {expected}");
                }
            }
        }
    }

    #[test]
    fn fourth_moments_from_shifted_sums() {
        let network = made_up(5, [2, 13, 4]);
        let x = Centred::all(&network);
        let shift = [[0.3, -0.2, 0.9, 2.0], [0.1, 0.6, -0.4, 1.0]];
        let y = |t: usize, i: usize| -> Vec<f64> {
            network.representation(t, i).iter().zip(shift[t]).map(|(x, s)| x - s).collect()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mean = |t: usize| -> Vec<f64> { (0..4).map(|d| (0..13).map(|i| y(t, i)[d]).sum::<f64>() / 13.0).collect() };
        for (t, u) in [(0, 0), (0, 1), (1, 0)] {
            let (m, w) = (mean(t), mean(u));
            let sum = |of: &dyn Fn(usize) -> f64| (0..13).map(of).sum::<f64>();
            let terms = FourthTerms {
                images: 13.0,
                both: sum(&|i| dot(&y(t, i), &y(t, i)) * dot(&y(u, i), &y(u, i))),
                squares: [sum(&|i| dot(&y(t, i), &y(t, i))), sum(&|i| dot(&y(u, i), &y(u, i)))],
                weighted: [
                    sum(&|i| dot(&y(t, i), &y(t, i)) * dot(&y(u, i), &w)),
                    sum(&|i| dot(&y(u, i), &y(u, i)) * dot(&y(t, i), &m)),
                ],
                means: [dot(&m, &m), dot(&w, &w)],
                bilinear: sum(&|i| dot(&m, &y(t, i)) * dot(&y(u, i), &w)),
            };
            let (found, expected) = (centred_fourth(&terms), fourth(&x[t], &x[u]));
            assert!((found - expected).abs() < 1e-10 * expected, "{t} {u}: {found}, expected {expected}");
        }
    }

    #[test]
    fn what_does_not_vary_has_no_cka_and_no_components() {
        let mut network = made_up(1, [2, 6, 3]);
        network.representations[18..].fill(0.1); // timestep 1
        let parameters = parameters();
        let subject =
            Subject { trained: &network, untrained: None, train: &[true; 6], replicates: &[], parameters: &parameters };
        let found = cka::of(&Moments::exact(&subject));
        assert!(found.biased[0][0].is_some() && found.debiased[0][0].is_some() && found.biased_init.is_none());
        assert_eq!([found.biased[0][1], found.biased[1][1], found.debiased[1][0]], [None; 3]);
        assert_eq!(pca::exact(&subject).participation_t[1], None);
        let still = Extraction { representations: vec![0.1; 36], ..network.clone() };
        let found = pca::exact(&Subject { trained: &still, ..subject });
        assert_eq!((found.participation, &found.eigenvalues[..]), (None, &[0.0; 3][..]));
        assert!(found.components.iter().all(Option::is_none));
    }

    #[test]
    fn few_images_have_no_debiased_cka() {
        let parameters = parameters();
        for images in 1..5 {
            let network = made_up(3, [2, images, 4]);
            let train = vec![true; images];
            let subject =
                Subject { trained: &network, untrained: None, train: &train, replicates: &[], parameters: &parameters };
            let found = cka::of(&Moments::exact(&subject));
            assert_eq!(found.debiased[0][1].is_some(), images > 3, "{images}");
            assert_eq!(found.biased[0][1].is_some(), images > 1, "{images}");
        }
    }
}
