//! Multiplicative interaction: y = b (1 + s).

use super::context::Context;
use super::{Call, Operation, Tape, ValueId, count};
use crate::Result;
use crate::kernels::{Settings, Site};

/// b, s -> b (1 + s).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Modulate;

/// b, s, dy -> d_b, d_s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ModulateDDrives;

impl Operation for Modulate {
    fn name(&self) -> &'static str {
        "modulate"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert_eq!(inputs[0], inputs[1], "modulate");
        vec![inputs[0].to_vec()]
    }

    fn gradient(&self, tape: &mut dyn Tape, call: Call, d_outputs: &[Option<ValueId>]) {
        let Some(dy) = d_outputs[0] else { return };
        let d = tape.emit(ModulateDDrives.into(), &[call.inputs[0], call.inputs[1], dy], "d_drive");
        tape.add(call.inputs[0], d[0]);
        tape.add(call.inputs[1], d[1]);
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let [b, s] = [0, 1].map(|i| c.view(call.inputs[i]));
        let operands = [("b", b), ("s", s), ("y", c.view(call.outputs[0]))];
        c.each("modulate", Settings::new(), &operands, c.count(call.inputs[0]), site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        2.0 * count(outputs[0]) as f64
    }
}

impl Operation for ModulateDDrives {
    fn name(&self) -> &'static str {
        "modulate_d_drives"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![inputs[0].to_vec(), inputs[0].to_vec()]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let [b, s, dy] = [0, 1, 2].map(|i| c.view(call.inputs[i]));
        let [db, ds] = [0, 1].map(|i| c.view(call.outputs[i]));
        let operands = [("b", b), ("s", s), ("dy", dy), ("db", db), ("ds", ds)];
        c.each("modulate_d_drives", Settings::new(), &operands, c.count(call.inputs[0]), site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        3.0 * count(outputs[0]) as f64
    }
}
