//! Convolution with padding (k - 1) / 2, and linear layers as convolutions of 1x1 maps with k = 1:
//! `y[co, yo, xo] = base + bias[co] + sum over ci, ky, kx of w[co, ci, ky, kx] x[ci, s yo + ky - p, s xo + kx - p]`.

use super::context::Context;
use super::convolution::{self, Product, d_name, divided, start_gradient, strided, transposed};
use super::{Call, Op, Operation, Tape, ValueId, count, flags, steps};
use crate::Result;
use crate::kernels::Site;
use crate::kernels::choose::ConvOp;
use crate::kernels::conv::WeightOrder;

/// x, w, \[bias\], \[base\] -> y, with as many rows and columns as x divided by the stride.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Kernel size, odd.
    pub k: usize,
    /// 1, 2 or 4.
    pub stride: usize,
    /// Whether a bias is added.
    pub bias: bool,
    /// Whether a map is added.
    pub base: bool,
}

/// dy, w, \[base\] -> d_x: a convolution with turned weights; with a stride, a transposed convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dDInput {
    /// Kernel size.
    pub k: usize,
    /// Stride of the forward convolution.
    pub stride: usize,
    /// Whether a map is added.
    pub base: bool,
}

/// x…, dy… -> d_w, summed over the pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2dDWeight {
    /// Kernel size.
    pub k: usize,
    /// Stride of the forward convolution.
    pub stride: usize,
    /// Whether the weight has only two dimensions.
    pub linear: bool,
}

impl Operation for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        let (x, w) = (inputs[0], inputs[1]);
        assert_eq!(w[1], x[0], "conv2d: weight {w:?} on map {x:?}");
        vec![vec![w[0], divided(x[1], self.stride), divided(x[2], self.stride), x[3]]]
    }

    fn with_base(&self) -> Option<Op> {
        (!self.base).then_some(Conv2d { base: true, ..*self }.into())
    }

    fn gradient(&self, tape: &mut dyn Tape, call: Call, d_outputs: &[Option<ValueId>]) {
        let Some(dy) = d_outputs[0] else { return };
        let (x, w, Conv2d { k, stride, .. }) = (call.inputs[0], call.inputs[1], *self);
        let linear = tape.shape(w).len() == 2;
        tape.parameter(w, Conv2dDWeight { k, stride, linear }.into(), 0, &[x, dy]);
        if tape.needs(x) {
            let name = d_name(tape, w);
            let d_x = tape.emit(Conv2dDInput { k, stride, base: false }.into(), &[dy, w], &name);
            tape.add(x, d_x[0]);
        }
        start_gradient(tape, call, dy, self.bias, self.base);
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let shape = strided(c.shape(call.inputs[0]), c.shape(call.outputs[0]), self.k, self.stride);
        let (order, bias, base) = (WeightOrder::out_first(shape.cin, self.k), self.bias, self.base);
        convolution::lower(c, call, Product { op: ConvOp::Conv2d, shape, order, bias, base }, site)
    }

    fn flops(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        2.0 * (count(outputs[0]) * inputs[0][0] * self.k * self.k) as f64
    }

    fn label(&self, _: &[&[usize]], outputs: &[&[usize]]) -> String {
        let stride = convolution::stride_label(self.stride);
        format!("-{}-k{}{stride}{}", outputs[0][0], self.k, flags(&[("bias", self.bias), ("base", self.base)]))
    }
}

impl Operation for Conv2dDInput {
    fn name(&self) -> &'static str {
        "conv2d_d_input"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        let dy = inputs[0];
        vec![vec![inputs[1][1], self.stride * dy[1], self.stride * dy[2], dy[3]]]
    }

    fn with_base(&self) -> Option<Op> {
        (!self.base).then_some(Conv2dDInput { base: true, ..*self }.into())
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let (dy, d_x) = (c.shape(call.inputs[0]), c.shape(call.outputs[0]));
        let order = WeightOrder::in_first(d_x[0], self.k);
        let (op, shape, order) = match self.stride {
            1 => (ConvOp::Conv2d, strided(dy, d_x, self.k, 1), order.turned()),
            stride => (ConvOp::ConvTranspose2d, transposed(dy, d_x, self.k, stride), order),
        };
        convolution::lower(c, call, Product { op, shape, order, bias: false, base: self.base }, site)
    }

    fn flops(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        2.0 * (count(inputs[0]) * outputs[0][0] * self.k * self.k) as f64
    }

    fn label(&self, _: &[&[usize]], outputs: &[&[usize]]) -> String {
        let stride = convolution::stride_label(self.stride);
        format!("-{}-k{}{stride}{}", outputs[0][0], self.k, flags(&[("base", self.base)]))
    }
}

impl Operation for Conv2dDWeight {
    fn name(&self) -> &'static str {
        "conv2d_d_weight"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        let (x, dy) = (inputs[0], inputs[inputs.len() / 2]);
        vec![if self.linear { vec![dy[0], x[0]] } else { vec![dy[0], x[0], self.k, self.k] }]
    }

    fn lists(&self) -> Option<usize> {
        Some(2)
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let (xs, dys) = call.inputs.split_at(call.inputs.len() / 2);
        let shape = strided(c.shape(xs[0]), c.shape(dys[0]), self.k, self.stride);
        convolution::lower_d_weight(c, (xs, dys), shape, call.outputs[0], site)
    }

    fn flops(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        let dy = inputs[inputs.len() / 2];
        2.0 * count(outputs[0]) as f64 * (count(&dy[1..]) * inputs.len() / 2) as f64
    }

    fn label(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> String {
        let stride = convolution::stride_label(self.stride);
        format!("-{}-k{}{stride}{}", outputs[0][0], self.k, steps(inputs.len(), 2))
    }
}
