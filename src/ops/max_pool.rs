//! 2x2 max-pooling of stride 2; an odd last row or column is dropped. The gradient goes to the first maximum in the order
//! (0,0), (0,1), (1,0), (1,1).

use super::context::{Context, LANES, vector};
use super::{Call, Op, Operation, Tape, ValueId, count, flags};
use crate::Result;
use crate::kernels::{Param, Settings, Site};

/// x -> y of half the rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPool;

/// x, dy, \[base\] -> d_x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaxPoolDInput {
    /// Whether a map is added.
    pub base: bool,
}

fn params(x: &[usize], vec: usize) -> [(&'static str, Param); 5] {
    let (h, w) = (x[1], x[2]);
    let n = (x[3] / vec).into();
    [("n", n), ("in_h", h.into()), ("in_w", w.into()), ("out_h", (h / 2).into()), ("out_w", (w / 2).into())]
}

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        let x = inputs[0];
        vec![vec![x[0], x[1] / 2, x[2] / 2, x[3]]]
    }

    fn gradient(&self, tape: &mut dyn Tape, call: Call, d_outputs: &[Option<ValueId>]) {
        let Some(dy) = d_outputs[0] else { return };
        let d_x = tape.emit(MaxPoolDInput { base: false }.into(), &[call.inputs[0], dy], "d_pooled");
        tape.add(call.inputs[0], d_x[0]);
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let (x, y) = (c.shape(call.inputs[0]), c.shape(call.outputs[0]));
        let operands = [("x", c.view(call.inputs[0])), ("y", c.view(call.outputs[0]))];
        let vec = vector(x[3]);
        let grid = [(y[2] * y[3] / vec).div_ceil(LANES), x[0], 1];
        let settings = Settings::new().set("L", LANES as u32).images(vec).wide_images(c.wide());
        c.launch("max_pool", &settings, &operands, &params(x, vec), grid, site)
    }

    fn flops(&self, inputs: &[&[usize]], _: &[&[usize]]) -> f64 {
        count(inputs[0]) as f64
    }
}

impl Operation for MaxPoolDInput {
    fn name(&self) -> &'static str {
        "max_pool_d_input"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![inputs[0].to_vec()]
    }

    fn with_base(&self) -> Option<Op> {
        (!self.base).then_some(MaxPoolDInput { base: true }.into())
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let x = c.shape(call.inputs[0]);
        let [map, dy] = [0, 1].map(|i| c.view(call.inputs[i]));
        let mut operands = vec![("x", map), ("dy", dy), ("dx", c.view(call.outputs[0]))];
        if self.base {
            operands.push(("base", c.view(call.inputs[2])));
        }
        let vec = vector(x[3]);
        let grid = [(x[2].div_ceil(2) * x[3] / vec).div_ceil(LANES), x[0], 1];
        let settings = Settings::new().set("L", LANES as u32).images(vec).wide_images(c.wide()).flag("BASE", self.base);
        c.launch("max_pool_d_input", &settings, &operands, &params(x, vec), grid, site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        count(outputs[0]) as f64
    }

    fn label(&self, _: &[&[usize]], _: &[&[usize]]) -> String {
        flags(&[("base", self.base)])
    }
}
