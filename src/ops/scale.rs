//! A gain on what a connection carries: lesion (0), cooling, amplification. The gain is data that the host writes.

use super::context::{Context, vector};
use super::{Call, Operation, count};
use crate::Result;
use crate::kernels::{Settings, Site};

/// x, gains -> `gains[at]` x. Scaling a connection's weight and bias scales its term, and a gain of 1 changes no bit of
/// either. Forward only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scale {
    /// Which of the gains.
    pub at: usize,
}

impl Operation for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert!(self.at < inputs[1][0], "scale: gain {} of {}", self.at, inputs[1][0]);
        vec![inputs[0].to_vec()]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let [x, gains] = [0, 1].map(|i| c.view(call.inputs[i]));
        let operands = [("x", x), ("gains", gains), ("y", c.view(call.outputs[0]))];
        let count = c.count(call.inputs[0]);
        c.each_with("scale", Settings::new(), &operands, (count, vector(count)), &[("at", self.at.into())], site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        count(outputs[0]) as f64
    }
}
