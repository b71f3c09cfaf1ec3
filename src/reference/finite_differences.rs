//! Finite differences: a witness of gradients that knows no derivative.
//!
//! For a function f, a gradient `d_y` that arrives at its output, and a direction s, the scalar
//! `L(a) = d_y . f(x + a s)` has the derivative `L'(0) = d_x . s`, where `d_x` is what the gradient twin claims. L' is
//! estimated in f64 by the five-point stencil, whose own error is of fourth order in the step:
//!
//! ```text
//! L'(0) ~ (L(-2h) - 8 L(-h) + 8 L(h) - L(2h)) / 12 h
//! ```
//!
//! The functions compute in f32, so two measures keep rounding out of the differences: inputs are first rounded to
//! multiples of 2^-12 and directions consist of +1 and -1, so that `x + a s` is exact. What remains is the rounding of
//! f's results. Near a kink (ReLU at 0, equal candidates of a pooling window) finite differences mean nothing: choose
//! inputs further than 2h from one.

use super::random::{SplitMix64, normal};

/// Directions tried for each input.
const DIRECTIONS: usize = 9;

/// Rounds to multiples of 2^-12, so that steps of 2^-12 or more are added without error (for |x| below 2000).
fn on_grid(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| (x * 4096.0).round() / 4096.0).collect()
}

/// The error of a claimed gradient for each input of `f`: the difference between claimed and estimated derivative,
/// relative to the gradient's Euclidean norm (which is the standard deviation of the derivative along a random
/// direction), the median over a few random directions (a wrong gradient is wrong along nearly every direction, while
/// a chance kink lies on few). A right gradient gives about 1e-5 on well-scaled inputs; one that is wrong in one
/// component out of n typically shows at 1 / sqrt(n). A gradient that is not finite gives infinity.
///
/// - `f`: inputs to output.
/// - `gradient`: inputs and `d_y` to one gradient per input.
/// - `step`: h, a power of two not below 2^-12.
/// - `seed`: of `d_y` and of the directions.
///
/// # Panics
/// When `gradient` does not return one gradient per input, each as long as its input.
pub fn gradient_errors(
    inputs: &[Vec<f32>],
    step: f32,
    seed: u64,
    f: impl Fn(&[Vec<f32>]) -> Vec<f32>,
    gradient: impl Fn(&[Vec<f32>], &[f32]) -> Vec<Vec<f32>>,
) -> Vec<f64> {
    let inputs: Vec<Vec<f32>> = inputs.iter().map(|x| on_grid(x)).collect();
    let d_y = normal(seed, f(&inputs).len());
    let claimed = gradient(&inputs, &d_y);
    assert_eq!(claimed.len(), inputs.len(), "one gradient per input");
    let mut random = SplitMix64::new(!seed);

    let mut error_of = |input: usize| -> f64 {
        let (x, d_x) = (&inputs[input], &claimed[input]);
        assert_eq!(d_x.len(), x.len(), "gradient {input} has the length of its input");
        let norm = d_x.iter().map(|&d| (d as f64).powi(2)).sum::<f64>().sqrt();
        let mut along_direction = || {
            let s: Vec<f32> = x.iter().map(|_| if random.bits() & 1 == 0 { 1.0 } else { -1.0 }).collect();
            let scalar = |a: f32| -> f64 {
                let mut moved = inputs.clone();
                moved[input].iter_mut().zip(&s).for_each(|(x, s)| *x += a * s);
                f(&moved).iter().zip(&d_y).map(|(&y, &d)| y as f64 * d as f64).sum()
            };
            let differences = scalar(-2.0 * step) - 8.0 * scalar(-step) + 8.0 * scalar(step) - scalar(2.0 * step);
            let estimated = differences / (12.0 * step as f64);
            let difference = (d_x.iter().zip(&s).map(|(&d, &s)| d as f64 * s as f64).sum::<f64>() - estimated).abs();
            match difference {
                0.0 => 0.0,
                _ if difference.is_nan() => f64::INFINITY,
                _ => difference / norm,
            }
        };
        let mut errors = [(); DIRECTIONS].map(|()| along_direction());
        errors.sort_by(f64::total_cmp);
        errors[DIRECTIONS / 2]
    };
    (0..inputs.len()).map(&mut error_of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::conv_transpose2d::*;
    use super::super::conv2d::*;
    use super::super::mix::Interaction::{Additive, Multiplicative};
    use super::super::norm::*;
    use super::super::random::uniform;
    use super::super::reduce::*;
    use super::super::{ImageShape, avg_pool::*, linear::*, max_pool::*, mix::*, relu::*, softmax_ce::*};
    use super::*;

    const STEP: f32 = 1.0 / 256.0;

    /// Asserts that the gradient of each input is right to 2e-4.
    fn assert_gradients(
        what: &str,
        inputs: &[Vec<f32>],
        f: impl Fn(&[Vec<f32>]) -> Vec<f32>,
        gradient: impl Fn(&[Vec<f32>], &[f32]) -> Vec<Vec<f32>>,
    ) {
        let errors = gradient_errors(inputs, STEP, 7, f, gradient);
        println!("{what}: {errors:?}");
        assert!(errors.iter().all(|&error| error < 2e-4), "{what}: {errors:?}");
    }

    #[test]
    fn a_wrong_gradient_is_found() {
        let inputs = [normal(1, 50)];
        let f = |x: &[Vec<f32>]| x[0].iter().map(|x| x * x).collect();
        let gradient = |factor: f32| {
            move |x: &[Vec<f32>], d: &[f32]| vec![x[0].iter().zip(d).map(|(x, d)| factor * x * d).collect()]
        };
        assert!(gradient_errors(&inputs, STEP, 1, f, gradient(2.0))[0] < 1e-5);
        assert!(gradient_errors(&inputs, STEP, 1, f, gradient(2.01))[0] > 1e-3);
        assert!(gradient_errors(&inputs, STEP, 1, f, gradient(0.0))[0] > 1e-3);
        assert!(gradient_errors(&inputs, STEP, 1, f, gradient(f32::NAN))[0] == f64::INFINITY);
    }

    #[test]
    fn conv2d_gradients() {
        let sizes = [(1, 4, 3, 1), (3, 5, 7, 1), (5, 4, 4, 1), (5, 2, 1, 1)];
        let strided = [(1, 4, 6, 2), (3, 8, 5, 2), (5, 6, 4, 2), (3, 8, 4, 4), (7, 4, 8, 4), (1, 8, 8, 4)];
        for (k, h, w, stride) in sizes.into_iter().chain(strided) {
            let s = Conv2d { n: 2, c_in: 3, c_out: 4, h, w, k, stride };
            let inputs = [normal(1, s.input().len()), normal(2, s.weight_len()), normal(3, s.c_out)];
            assert_gradients(
                &format!("{s:?}"),
                &inputs,
                |v| conv2d(&s, &v[0], &v[1], Some(&v[2])),
                |v, d| vec![conv2d_d_input(&s, &v[1], d), conv2d_d_weight(&s, &v[0], d), conv2d_d_bias(&s, d)],
            );
        }
    }

    #[test]
    fn conv_transpose2d_gradients() {
        let doubled = [(1, 2, 3, 2), (3, 3, 4, 2), (5, 2, 2, 2), (5, 1, 1, 2)];
        let others = [(3, 2, 3, 1), (1, 2, 2, 4), (3, 2, 3, 4), (5, 1, 2, 4), (7, 2, 1, 4)];
        for (k, h, w, stride) in doubled.into_iter().chain(others) {
            let s = ConvTranspose2d { n: 2, c_in: 4, c_out: 3, h, w, k, stride };
            let inputs = [normal(1, s.input().len()), normal(2, s.weight_len()), normal(3, s.c_out)];
            let gradient = |v: &[Vec<f32>], d: &[f32]| {
                let d_weight = conv_transpose2d_d_weight(&s, &v[0], d);
                vec![conv_transpose2d_d_input(&s, &v[1], d), d_weight, conv_transpose2d_d_bias(&s, d)]
            };
            let f = |v: &[Vec<f32>]| conv_transpose2d(&s, &v[0], &v[1], Some(&v[2]));
            assert_gradients(&format!("{s:?}"), &inputs, f, gradient);
        }
    }

    #[test]
    fn norm_gradients() {
        for kind in [NormKind::Layer, NormKind::Group { groups: 1 }, NormKind::Group { groups: 3 }] {
            for (h, w) in [(3, 4), (1, 1)] {
                let s = Norm { shape: ImageShape::new(3, 12, h, w), kind };
                let inputs = [normal(1, s.shape.len()), normal(2, s.affine_len()), normal(3, s.affine_len())];
                let gradient = |v: &[Vec<f32>], d: &[f32]| {
                    vec![norm_d_input(&s, &v[0], &v[1], d), norm_d_weight(&s, &v[0], d), norm_d_bias(&s, d)]
                };
                assert_gradients(&format!("{s:?}"), &inputs, |v| norm(&s, &v[0], &v[1], &v[2]), gradient);
            }
        }
    }

    #[test]
    fn relu_gradient() {
        // Away from the kink at 0.
        let x: Vec<f32> = normal(1, 100).into_iter().map(|x| x + 0.1f32.copysign(x)).collect();
        assert_gradients("relu", &[x], |v| relu(&v[0]), |v, d| vec![relu_d_input(&v[0], d)]);
    }

    #[test]
    fn max_pool_gradient() {
        // All values differ by at least 0.1; an odd last row and column.
        let s = ImageShape::new(2, 3, 5, 7);
        let x: Vec<f32> = (0..s.len()).map(|i| (i * 89 % s.len()) as f32 * 0.1).collect();
        assert_gradients("max_pool", &[x], |v| max_pool(s, &v[0]), |v, d| vec![max_pool_d_input(s, &v[0], d)]);
    }

    #[test]
    fn avg_pool_gradient() {
        let s = ImageShape::new(2, 3, 4, 5);
        let x = normal(1, s.len());
        assert_gradients("avg_pool", &[x], |v| avg_pool(s, &v[0]), |_, d| vec![avg_pool_d_input(s, d)]);
    }

    #[test]
    fn linear_gradients() {
        let s = Linear { n: 3, inputs: 7, outputs: 4 };
        assert_gradients(
            "linear",
            &[normal(1, 21), normal(2, 28), normal(3, 4)],
            |v| linear(&s, &v[0], &v[1], Some(&v[2])),
            |v, d| vec![linear_d_input(&s, &v[1], d), linear_d_weight(&s, &v[0], d), linear_d_bias(&s, d)],
        );
    }

    #[test]
    fn mix_gradients() {
        for kind in [Additive, Multiplicative] {
            for (has_l, has_t) in [(false, false), (true, false), (false, true), (true, true)] {
                // Inputs: b, then l and t as far as they exist.
                let mut inputs = vec![normal(1, 30)];
                inputs.extend(has_l.then(|| normal(2, 30)));
                inputs.extend(has_t.then(|| normal(3, 30)));
                let l = |v: &[Vec<f32>]| has_l.then(|| v[1].clone());
                let t = |v: &[Vec<f32>]| has_t.then(|| v[v.len() - 1].clone());
                let gradient = |v: &[Vec<f32>], d: &[f32]| {
                    let mut all = vec![mix_d_bottom_up(kind, l(v).as_deref(), t(v).as_deref(), d)];
                    all.resize(v.len(), mix_d_term(kind, &v[0], d));
                    all
                };
                let f = |v: &[Vec<f32>]| mix(kind, &v[0], l(v).as_deref(), t(v).as_deref());
                assert_gradients(&format!("{kind:?} {has_l} {has_t}"), &inputs, f, gradient);
            }
        }
    }

    #[test]
    fn softmax_ce_gradient() {
        // The last row's label lies far below the clamp: its loss is constant there.
        let s = SoftmaxCe { n: 4, classes: 6 };
        let mut z = uniform(1, 24, -2.0, 2.0);
        z[18..].copy_from_slice(&[40.0, 1.0, 2.0, 0.0, -1.0, 0.5]);
        let labels = [0, 5, 2, 3];
        let gradient = |v: &[Vec<f32>], d: &[f32]| {
            vec![softmax_ce_d_logits(&s, &v[0], &labels).iter().map(|g| g * d[0]).collect()]
        };
        assert_gradients("softmax_ce", &[z], |v| vec![softmax_ce(&s, &v[0], &labels).1], gradient);
    }

    #[test]
    fn sum_axis_gradient() {
        let s = Axis { outer: 3, len: 4, inner: 5 };
        assert_gradients("sum_axis", &[normal(1, 60)], |v| sum_axis(&s, &v[0]), |_, d| vec![sum_axis_d_input(&s, d)]);
    }
}
