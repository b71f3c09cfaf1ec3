//! A loss scale that follows the gradients.

use super::{Case, Op, Operand, Shaped, Sizes, Target};
use crate::ops::{FollowGradients, Hyper, LossScale};
use crate::reference::loss_scale::LossScale as Twin;

pub(super) struct Row;

fn shaped() -> Shaped {
    Shaped::new(FollowGradients, &[&[6], &[6], &[2]])
}

fn hyper() -> Vec<f32> {
    Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }.plain().to_vec()
}

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["loss_scale"]
    }

    fn prepare(&self, _: &Op, _: &[&[usize]], values: &mut [Vec<f32>]) {
        (values[0], values[1], values[2]) = (hyper(), LossScale::INITIAL.numbers().to_vec(), vec![2.0, 1.0]);
    }

    fn twin(&self, _: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        let [hyper, state, norm] =
            [0, 1, 2].map(|i| inputs[i].values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
        let before = Twin { scale: state[0], good: state[1], skipped: state[2], c1: state[3], c2: state[4] };
        let after = before.after(norm[0], (hyper[1], hyper[2]), f64::from(LossScale::GROWTH));
        let Twin { scale, good, skipped, c1, c2 } = after;
        let unscale = if norm[0].is_finite() { 1.0 / before.scale } else { 0.0 };
        let numbers = [hyper[0] / c1, hyper[1], hyper[2], 1.0 / c2.sqrt(), hyper[4], unscale];
        [[scale, good, skipped, c1, c2, 1.0 / scale], numbers].map(|list| list.map(|x| x as f32).to_vec()).to_vec()
    }

    /// Scales and counts are exact; the rest are a few operations.
    fn allowed(&self, _: &Op, _: &[Operand], result: usize, expected: &[f32]) -> Vec<f64> {
        let exact: &[usize] = if result == 0 { &[0, 1, 2, 5] } else { &[1, 2, 4, 5] };
        let one = |(i, v): (usize, &f32)| if exact.contains(&i) { 0.0 } else { 1e-6 * f64::from(v.abs()) };
        expected.iter().enumerate().map(one).collect()
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let after = |good_steps, scale| LossScale { scale, good_steps, skipped: 3, first: 0.7, second: 0.02 };
        [
            ("first step", LossScale::INITIAL, 2.0),
            ("a good step", after(7, 1024.0), 2.0),
            ("the last before it doubles", after(1998, 1024.0), 2.0),
            ("it doubles", after(1999, 1024.0), 2.0),
            ("infinite", after(7, 1024.0), f32::INFINITY),
            ("NaN", after(1999, 1024.0), f32::NAN),
        ]
        .into_iter()
        .map(|(what, state, norm)| {
            Case::of("loss_scale", &format!("loss scale: {what}"), &shaped(), |values| {
                (values[1], values[2]) = (state.numbers().to_vec(), vec![norm, 1.0]);
            })
        })
        .collect()
    }

    fn large(&self) -> Vec<Shaped> {
        vec![shaped()]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        sizes.map().map(|_| shaped()).into_iter().collect()
    }
}
