//! Sums of maps: additive interaction, and the sum of gradients.

use super::context::Context;
use super::{Call, Operation, Tape, ValueId, count};
use crate::Result;
use crate::kernels::{Settings, Site, View};

/// Any number of maps -> their sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Add;

/// Most terms of one launch: with its output they stay within 8 storage buffers.
const MOST_TERMS: usize = 7;

impl Operation for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert!(inputs.iter().all(|x| x == &inputs[0]), "add: {inputs:?}");
        vec![inputs[0].to_vec()]
    }

    fn gradient(&self, tape: &mut dyn Tape, call: Call, d_outputs: &[Option<ValueId>]) {
        let Some(dy) = d_outputs[0] else { return };
        call.inputs.iter().for_each(|&x| tape.add(x, dy));
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let terms: Vec<View> = call.inputs.iter().map(|&v| c.view(v)).collect();
        sum(c, &terms, c.count(call.inputs[0]), c.view(call.outputs[0]), site)
    }

    fn flops(&self, inputs: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        ((inputs.len() - 1) * count(outputs[0])) as f64
    }

    fn label(&self, inputs: &[&[usize]], _: &[&[usize]]) -> String {
        format!("-{}terms", inputs.len())
    }
}

/// y = the sum of `terms`, in order; more than fit into one launch are added in several.
pub(super) fn sum(c: &mut Context, terms: &[View], count: usize, y: View, site: Site) -> Result<()> {
    const NAMES: [&str; MOST_TERMS] = ["x0", "x1", "x2", "x3", "x4", "x5", "x6"];
    let (first, mut rest) = terms.split_at(terms.len().min(MOST_TERMS));
    let mut terms = first.to_vec();
    while !rest.is_empty() {
        let partial = c.program.scratch("sum", site.area, count);
        launch(c, &NAMES, &terms, count, partial, site)?;
        let (next, after) = rest.split_at(rest.len().min(MOST_TERMS - 1));
        terms = [&[partial], next].concat();
        rest = after;
    }
    launch(c, &NAMES, &terms, count, y, site)
}

fn launch(c: &mut Context, names: &[&'static str], terms: &[View], count: usize, y: View, site: Site) -> Result<()> {
    let mut operands: Vec<(&'static str, View)> = names.iter().copied().zip(terms.iter().copied()).collect();
    let settings = Settings::new().set("TERMS", operands.len() as u32);
    operands.push(("y", y));
    c.each("add", settings, &operands, count, site)
}
