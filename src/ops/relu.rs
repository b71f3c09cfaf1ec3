//! Rectification, max(x, 0); its derivative at 0 is 0.

use super::context::Context;
use super::{Call, Operation, Tape, ValueId, count};
use crate::Result;
use crate::kernels::{Settings, Site};

/// x -> max(x, 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Relu;

/// y, dy -> d_x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReluDInput;

impl Operation for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![inputs[0].to_vec()]
    }

    fn gradient(&self, tape: &mut dyn Tape, call: Call, d_outputs: &[Option<ValueId>]) {
        let Some(dy) = d_outputs[0] else { return };
        let d_x = tape.emit(ReluDInput.into(), &[call.outputs[0], dy], "d_x");
        tape.add(call.inputs[0], d_x[0]);
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let operands = [("x", c.view(call.inputs[0])), ("y", c.view(call.outputs[0]))];
        c.each("relu", Settings::new(), &operands, c.count(call.inputs[0]), site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        count(outputs[0]) as f64
    }
}

impl Operation for ReluDInput {
    fn name(&self) -> &'static str {
        "relu_d_input"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![inputs[0].to_vec()]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let [y, dy] = [0, 1].map(|i| c.view(call.inputs[i]));
        let operands = [("y", y), ("dy", dy), ("dx", c.view(call.outputs[0]))];
        c.each("relu_d_input", Settings::new(), &operands, c.count(call.inputs[0]), site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        count(outputs[0]) as f64
    }
}
