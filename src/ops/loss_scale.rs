//! A loss scale that follows the gradients, as PyTorch's GradScaler does: it lives on the device, so that no step waits for what
//! the last one has led to.

use super::context::Context;
use super::{Call, Operation};
use crate::Result;
use crate::kernels::{Settings, Site};

/// hyper \[6\] ([`super::Hyper::plain`]), state \[6\] ([`LossScale::numbers`]), norm \[2\] (as [`super::GradientNorm`] gives it) -> state
/// in place, what [`super::Adam`] takes \[6\].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FollowGradients;

/// A loss scale and what it depends on.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    /// What the loss is multiplied by.
    pub scale: f32,
    /// Steps since it changed.
    pub good_steps: u32,
    /// Steps that were skipped in all, as a gradient was not finite.
    pub skipped: u32,
    /// 1 - beta1^t, where t counts the steps that were not skipped.
    pub first: f32,
    /// 1 - beta2^t.
    pub second: f32,
}

impl LossScale {
    /// The scale of a new run.
    pub const INITIAL: LossScale = LossScale { scale: 65_536.0, good_steps: 0, skipped: 0, first: 0.0, second: 0.0 };
    /// Good steps in a row after which the scale doubles.
    pub const GROWTH: u32 = 2000;

    /// As it lies on the device.
    pub fn numbers(&self) -> [f32; 6] {
        let LossScale { scale, good_steps, skipped, first, second } = *self;
        [scale, good_steps as f32, skipped as f32, first, second, 1.0 / scale]
    }

    /// From what lies on the device.
    pub fn of_numbers(numbers: [f32; 6]) -> LossScale {
        let [scale, good_steps, skipped, first, second, _] = numbers;
        LossScale { scale, good_steps: good_steps as u32, skipped: skipped as u32, first, second }
    }
}

impl Operation for FollowGradients {
    fn name(&self) -> &'static str {
        "loss_scale"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert_eq!(inputs, [&[6][..], &[6], &[2]], "loss_scale");
        vec![vec![6], vec![6]]
    }

    fn in_place(&self) -> &'static [usize] {
        &[1]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let [hyper, state, norm] = [0, 1, 2].map(|i| c.view(call.inputs[i]));
        let operands = [("hyper", hyper), ("state", state), ("norm", norm), ("numbers", c.view(call.outputs[1]))];
        c.launch("loss_scale", &Settings::new().set("GROWTH", LossScale::GROWTH), &operands, &[], [1, 1, 1], site)
    }

    fn flops(&self, _: &[&[usize]], _: &[&[usize]]) -> f64 {
        20.0
    }
}
