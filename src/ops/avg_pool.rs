//! The mean over the pixels of a map: what an area that is a vector sees of the map below it.

use super::context::{Context, vector};
use super::{Call, Operation, Tape, ValueId, count};
use crate::Result;
use crate::kernels::{Param, Program, Settings, Site, Target, View};

/// x -> y \[channels, 1, 1, images\].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvgPool;

/// dy -> d_x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AvgPoolDInput {
    /// Rows of x.
    pub h: usize,
    /// Columns of x.
    pub w: usize,
}

/// Invocations of a workgroup.
const LANES: usize = 8;

fn launch(
    (program, target): (&mut Program, &Target),
    name: &'static str,
    operands: &[(&'static str, View)],
    map: &[usize],
    site: Site,
) -> Result<()> {
    let vec = vector(map[3]);
    let params: &[(&str, Param)] = &[("n", (map[3] / vec).into()), ("pixels", (map[1] * map[2]).into())];
    let settings = Settings::new().set("L", LANES as u32).images(vec);
    program.add(target, (name, settings), operands, params, [(map[3] / vec).div_ceil(LANES), map[0], 1], site)?;
    Ok(())
}

/// Adds the launch that makes of a map x of extents `map`, \[channels, rows, columns, images\], its mean over the pixels y
/// \[channels, images\].
///
/// # Errors
/// When naga refuses the variant.
pub fn average(program: &mut Program, target: &Target, map: &[usize], (x, y): (View, View), site: Site) -> Result<()> {
    launch((program, target), "avg_pool", &[("x", x), ("y", y)], map, site)
}

impl Operation for AvgPool {
    fn name(&self) -> &'static str {
        "avg_pool"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![vec![inputs[0][0], 1, 1, inputs[0][3]]]
    }

    fn gradient(&self, tape: &mut dyn Tape, call: Call, d_outputs: &[Option<ValueId>]) {
        let Some(dy) = d_outputs[0] else { return };
        let (h, w) = (tape.shape(call.inputs[0])[1], tape.shape(call.inputs[0])[2]);
        let d_x = tape.emit(AvgPoolDInput { h, w }.into(), &[dy], "d_averaged");
        tape.add(call.inputs[0], d_x[0]);
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let (map, views) = (c.shape(call.inputs[0]), (c.view(call.inputs[0]), c.view(call.outputs[0])));
        average(c.program, c.target, map, views, site)
    }

    fn flops(&self, inputs: &[&[usize]], _: &[&[usize]]) -> f64 {
        count(inputs[0]) as f64
    }
}

impl Operation for AvgPoolDInput {
    fn name(&self) -> &'static str {
        "avg_pool_d_input"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        vec![vec![inputs[0][0], self.h, self.w, inputs[0][3]]]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let operands = [("dy", c.view(call.inputs[0])), ("dx", c.view(call.outputs[0]))];
        let map = c.shape(call.outputs[0]);
        launch((c.program, c.target), "avg_pool_d_input", &operands, map, site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        count(outputs[0]) as f64
    }

    fn label(&self, _: &[&[usize]], _: &[&[usize]]) -> String {
        format!("-{}x{}", self.h, self.w)
    }
}
