//! Gradients of the parts of a batch are added up.

use super::context::Context;
use super::{Call, Operation, count};
use crate::Result;
use crate::kernels::{Settings, Site};

/// sum, part, first \[1\] -> sum + part, in place; part alone where `first` is not 0, whatever the sum held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Accumulate;

impl Operation for Accumulate {
    fn name(&self) -> &'static str {
        "accumulate"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert_eq!(inputs[0], inputs[1], "accumulate");
        vec![inputs[0].to_vec()]
    }

    fn in_place(&self) -> &'static [usize] {
        &[0]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let [sum, part, first] = [0, 1, 2].map(|i| c.view(call.inputs[i]));
        let operands = [("sum", sum), ("part", part), ("first", first)];
        c.each("accumulate", Settings::new(), &operands, c.count(call.inputs[0]), site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        count(outputs[0]) as f64
    }
}
