//! One step of Adam (Kingma & Ba 2015) with bias correction, as PyTorch computes it.

use super::context::Context;
use super::{Call, Operation, count};
use crate::Result;
use crate::kernels::{Settings, Site};

/// hyper \[6\], grad, param, m, v -> param, m, v, in place. `hyper`: [`Hyper::numbers`]; with a last number of 0 nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Adam;

/// Adam's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the denominator.
    pub epsilon: f64,
}

impl Hyper {
    /// What the kernel takes for the `step`-th step (the first is 1), where gradients are those of the loss times
    /// `loss_scale`: lr / (1 - b1^t), 1 - b1, 1 - b2, 1 / sqrt(1 - b2^t), eps, 1 / loss scale.
    pub fn numbers(&self, step: u64, loss_scale: f64) -> [f32; 6] {
        let (c1, c2) = (1.0 - self.beta1.powf(step as f64), 1.0 - self.beta2.powf(step as f64));
        let rate = self.learning_rate / c1;
        [rate, 1.0 - self.beta1, 1.0 - self.beta2, 1.0 / c2.sqrt(), self.epsilon, 1.0 / loss_scale].map(|x| x as f32)
    }

    /// The same without bias corrections, which [`FollowGradients`](super::FollowGradients) adds: lr, 1 - b1, 1 - b2, 1, eps, 1.
    pub fn plain(&self) -> [f32; 6] {
        [self.learning_rate, 1.0 - self.beta1, 1.0 - self.beta2, 1.0, self.epsilon, 1.0].map(|x| x as f32)
    }
}

impl Operation for Adam {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert!(inputs[1..].iter().all(|shape| shape == &inputs[1]), "adam: {inputs:?}");
        vec![inputs[1].to_vec(); 3]
    }

    fn in_place(&self) -> &'static [usize] {
        &[2, 3, 4]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let names = ["hyper", "grad", "param", "m", "v"];
        let operands: Vec<_> = names.into_iter().zip(call.inputs.iter().map(|&v| c.view(v))).collect();
        c.each("adam", Settings::new(), &operands, c.count(call.inputs[1]), site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        12.0 * count(outputs[0]) as f64
    }
}
