//! Cross-entropy of the softmax, with log-probabilities clamped at 1e-10 (where the label's lies below, no gradient flows).

use super::context::Context;
use super::{Call, Operation, Tape, ValueId, count};
use crate::Result;
use crate::kernels::{Param, Settings, Site};

/// logits, labels -> log-probabilities, score \[2, images\]: loss, and 1 where the first maximum is the label.
///
/// Gradients start here: that of the log-probabilities is a number for each image, what its loss counts in the whole
/// (1 / images for a mean, 0 for an image that only fills the batch up, times a loss scale if there is one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftmaxCe;

/// logits, labels, weight \[images\] -> d_logits: weight (softmax - one at the label).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SoftmaxCeDLogits;

/// Invocations of a workgroup, one for each image.
const LANES: usize = 8;

fn params(z: &[usize]) -> [(&'static str, Param); 2] {
    [("n", z[3].into()), ("classes", z[0].into())]
}

impl Operation for SoftmaxCe {
    fn name(&self) -> &'static str {
        "softmax_ce"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![inputs[0].to_vec(), vec![2, inputs[0][3]]]
    }

    fn gradient(&self, tape: &mut dyn Tape, call: Call, d_outputs: &[Option<ValueId>]) {
        let Some(weight) = d_outputs[0] else { return };
        let d_z = tape.emit(SoftmaxCeDLogits.into(), &[call.inputs[0], call.inputs[1], weight], "d_logits");
        tape.add(call.inputs[0], d_z[0]);
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let z = c.shape(call.inputs[0]);
        let [logits, labels] = [0, 1].map(|i| c.view(call.inputs[i]));
        let [logprob, score] = [0, 1].map(|i| c.view(call.outputs[i]));
        let operands = [("z", logits), ("labels", labels), ("logprob", logprob), ("score", score)];
        let settings = Settings::new().set("L", LANES as u32);
        c.launch("softmax_ce", &settings, &operands, &params(z), [z[3].div_ceil(LANES), 1, 1], site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        5.0 * count(outputs[0]) as f64
    }
}

impl Operation for SoftmaxCeDLogits {
    fn name(&self) -> &'static str {
        "softmax_ce_d_logits"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![inputs[0].to_vec()]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let z = c.shape(call.inputs[0]);
        let [logits, labels, weight] = [0, 1, 2].map(|i| c.view(call.inputs[i]));
        let operands = [("z", logits), ("labels", labels), ("weight", weight), ("dz", c.view(call.outputs[0]))];
        let settings = Settings::new().set("L", LANES as u32);
        c.launch("softmax_ce_d_logits", &settings, &operands, &params(z), [z[3].div_ceil(LANES), 1, 1], site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        5.0 * count(outputs[0]) as f64
    }
}
