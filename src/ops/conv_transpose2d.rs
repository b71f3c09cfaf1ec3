//! Transposed convolution with padding (k - 1) / 2 and output padding stride - 1: the result has exactly stride times the
//! rows and columns.

use super::context::Context;
use super::convolution::{self, Product, d_name, divided, start_gradient, strided, transposed};
use super::{Call, Op, Operation, Tape, ValueId, count, flags, steps};
use crate::Result;
use crate::kernels::Site;
use crate::kernels::choose::ConvOp;
use crate::kernels::conv::WeightOrder;

/// x, w, \[bias\], \[base\] -> y.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvTranspose2d {
    /// Kernel size, odd.
    pub k: usize,
    /// 2 or 4.
    pub stride: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Whether a map is added.
    pub base: bool,
}

/// dy, w, \[base\] -> d_x: the convolution of that stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvTranspose2dDInput {
    /// Kernel size.
    pub k: usize,
    /// 2 or 4.
    pub stride: usize,
    /// Whether a map is added.
    pub base: bool,
}

/// x…, dy… -> d_w, summed over the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvTranspose2dDWeight {
    /// Kernel size.
    pub k: usize,
    /// 2 or 4.
    pub stride: usize,
}

impl Operation for ConvTranspose2d {
    fn name(&self) -> &'static str {
        "conv_transpose2d"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        let (x, w) = (inputs[0], inputs[1]);
        assert_eq!(w[0], x[0], "conv_transpose2d: weight {w:?} on map {x:?}");
        vec![vec![w[1], self.stride * x[1], self.stride * x[2], x[3]]]
    }

    fn with_base(&self) -> Option<Op> {
        (!self.base).then_some(ConvTranspose2d { base: true, ..*self }.into())
    }

    fn gradient(&self, tape: &mut dyn Tape, call: Call, d_outputs: &[Option<ValueId>]) {
        let Some(dy) = d_outputs[0] else { return };
        let (x, w, ConvTranspose2d { k, stride, .. }) = (call.inputs[0], call.inputs[1], *self);
        tape.parameter(w, ConvTranspose2dDWeight { k, stride }.into(), 0, &[x, dy]);
        if tape.needs(x) {
            let name = d_name(tape, w);
            let d_x = tape.emit(ConvTranspose2dDInput { k, stride, base: false }.into(), &[dy, w], &name);
            tape.add(x, d_x[0]);
        }
        start_gradient(tape, call, dy, self.bias, self.base);
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let shape = transposed(c.shape(call.inputs[0]), c.shape(call.outputs[0]), self.k, self.stride);
        let (order, bias, base) = (WeightOrder::in_first(shape.cout, self.k), self.bias, self.base);
        convolution::lower(c, call, Product { op: ConvOp::ConvTranspose2d, shape, order, bias, base }, site)
    }

    fn flops(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        2.0 * (count(inputs[0]) * outputs[0][0] * self.k * self.k) as f64
    }

    fn label(&self, _: &[&[usize]], outputs: &[&[usize]]) -> String {
        let stride = convolution::stride_label(self.stride);
        format!("-{}-k{}{stride}{}", outputs[0][0], self.k, flags(&[("bias", self.bias), ("base", self.base)]))
    }
}

impl Operation for ConvTranspose2dDInput {
    fn name(&self) -> &'static str {
        "conv_transpose2d_d_input"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        let dy = inputs[0];
        vec![vec![inputs[1][0], divided(dy[1], self.stride), divided(dy[2], self.stride), dy[3]]]
    }

    fn with_base(&self) -> Option<Op> {
        (!self.base).then_some(ConvTranspose2dDInput { base: true, ..*self }.into())
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let shape = strided(c.shape(call.inputs[0]), c.shape(call.outputs[0]), self.k, self.stride);
        let order = WeightOrder::out_first(shape.cin, self.k);
        convolution::lower(c, call, Product { op: ConvOp::Conv2d, shape, order, bias: false, base: self.base }, site)
    }

    fn flops(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        2.0 * (count(outputs[0]) * inputs[0][0] * self.k * self.k) as f64
    }

    fn label(&self, _: &[&[usize]], outputs: &[&[usize]]) -> String {
        let stride = convolution::stride_label(self.stride);
        format!("-{}-k{}{stride}{}", outputs[0][0], self.k, flags(&[("base", self.base)]))
    }
}

impl Operation for ConvTranspose2dDWeight {
    fn name(&self) -> &'static str {
        "conv_transpose2d_d_weight"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![vec![inputs[0][0], inputs[inputs.len() / 2][0], self.k, self.k]]
    }

    fn lists(&self) -> Option<usize> {
        Some(2)
    }

    /// dw[in, out] correlates x (the small map) with dy at the stride: the weight gradient of the convolution of that stride
    /// from dy to x.
    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let (xs, dys) = call.inputs.split_at(call.inputs.len() / 2);
        let shape = strided(c.shape(dys[0]), c.shape(xs[0]), self.k, self.stride);
        convolution::lower_d_weight(c, (dys, xs), shape, call.outputs[0], site)
    }

    fn flops(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        2.0 * count(outputs[0]) as f64 * (count(&inputs[0][1..]) * inputs.len() / 2) as f64
    }

    fn label(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> String {
        let stride = convolution::stride_label(self.stride);
        format!("-{}-k{}{stride}{}", outputs[0][1], self.k, steps(inputs.len(), 2))
    }
}
