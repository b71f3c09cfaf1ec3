//! Clipping of gradients by their norm, all learned parameters taken together, as `torch.nn.utils.clip_grad_norm_` does it: what
//! they are multiplied with, and the multiplication.

use super::context::{Context, LANES};
use super::{Call, Operation, count};
use crate::Result;
use crate::kernels::{Settings, Site};

/// Squares that a lane adds up: bounds the growth of rounding.
const TERMS: usize = 256;

/// hyper \[6\], limit \[1\], gradients… -> \[norm, factor\]: the root of the sum of all squares over the loss scale (1 over it is the last
/// number of `hyper`, as of what [`Adam`](super::Adam) takes and of [`LossScale`](super::LossScale)), and min(1, limit / (norm + 1e-6)). The order of the sums depends on the shapes alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GradientNorm;

/// gradients, \[norm, factor\] -> factor * gradients, in place. A factor of 1 changes no bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Clip;

impl Operation for GradientNorm {
    fn name(&self) -> &'static str {
        "gradient_norm"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert!(inputs.len() > 2 && inputs[..2] == [&[6][..], &[1]], "gradient_norm: {inputs:?}");
        vec![vec![2]]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let settings = Settings::new().set("L", LANES as u32);
        let groups: Vec<usize> = call.inputs[2..].iter().map(|&v| c.count(v).div_ceil(LANES * TERMS)).collect();
        let squares = c.program.scratch("squares", site.area, groups.iter().sum());
        let mut at = 0;
        for (&gradient, &groups) in call.inputs[2..].iter().zip(&groups) {
            let operands = [("x", c.view(gradient)), ("y", squares)];
            let params = [("count", c.count(gradient).into()), ("at", at.into())];
            let settings = settings.clone().set("TERMS", TERMS as u32);
            c.launch("square_sum", &settings, &operands, &params, [groups, 1, 1], site)?;
            at += groups;
        }
        let [hyper, limit] = [0, 1].map(|i| c.view(call.inputs[i]));
        let operands = [("hyper", hyper), ("limit", limit), ("squares", squares), ("y", c.view(call.outputs[0]))];
        c.launch("clip_factor", &settings, &operands, &[("parts", at.into())], [1, 1, 1], site)
    }

    fn flops(&self, inputs: &[&[usize]], _: &[&[usize]]) -> f64 {
        inputs[2..].iter().map(|shape| 2.0 * count(shape) as f64).sum()
    }

    fn label(&self, inputs: &[&[usize]], _: &[&[usize]]) -> String {
        let values: usize = inputs[2..].iter().map(|shape| count(shape)).sum();
        format!("-{}tensors-{values}", inputs.len() - 2)
    }
}

impl Operation for Clip {
    fn name(&self) -> &'static str {
        "clip"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert_eq!(inputs[1], [2], "clip");
        vec![inputs[0].to_vec()]
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let operands = [("grad", c.view(call.inputs[0])), ("norm", c.view(call.inputs[1]))];
        c.each("clip", Settings::new(), &operands, c.count(call.inputs[0]), site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        count(outputs[0]) as f64
    }
}
