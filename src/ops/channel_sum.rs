//! The gradient of a bias: `d_bias[c]` = sum over pixels, images and timesteps of `dy[c]`.

use super::context::{Context, LANES};
use super::{Call, Operation, count, steps};
use crate::Result;
use crate::kernels::{Param, Settings, Site, View};

/// dy… -> d_bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChannelSum;

impl Operation for ChannelSum {
    fn name(&self) -> &'static str {
        "channel_sum"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![vec![inputs[0][0]]]
    }

    fn lists(&self) -> Option<usize> {
        Some(1)
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let x = call.inputs[0];
        let (channels, count) = (c.shape(x)[0], c.count(x));
        c.folded(&[call.inputs], call.outputs, site, false, |c, (runs, stage), outs, site| {
            let run = runs[0];
            launch(c, run.view, channels, count / channels, (run.step, run.steps), (outs[0], stage.goes_on()), site)
        })
    }

    fn flops(&self, inputs: &[&[usize]], _: &[&[usize]]) -> f64 {
        inputs.iter().map(|shape| count(shape) as f64).sum()
    }

    fn label(&self, inputs: &[&[usize]], _: &[&[usize]]) -> String {
        steps(inputs.len(), 1)
    }
}

/// y[c] = sum of the `length` values of channel c in each of `steps` maps, `step` words apart; beside what y holds already, if
/// it `goes_on`.
pub(super) fn launch(
    c: &mut Context,
    x: View,
    channels: usize,
    length: usize,
    (step, steps): (usize, usize),
    (y, goes_on): (View, bool),
    site: Site,
) -> Result<()> {
    let params: &[(&str, Param)] = &[("length", length.into()), ("steps", steps.into()), ("step", step.into())];
    let settings = Settings::new().set("L", LANES as u32).flag("GO_ON", goes_on);
    c.launch("channel_sum", &settings, &[("x", x), ("y", y)], params, [channels, 1, 1], site)
}
