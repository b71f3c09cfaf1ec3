//! Pictures as the host has them, bytes, become the network's input.

use super::context::{Context, LANES};
use super::{Call, Operation, count};
use crate::Result;
use crate::kernels::{Param, Settings, Site};

/// pictures (bytes \[images, rows, columns, 3\], four to a word), table \[3, 256\] -> x \[3, rows, columns, images\]:
/// `x[c] = table[c][byte]`. The table is made on the host, so that every adapter has its bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Normalise {
    /// Rows and columns of a picture.
    pub side: usize,
    /// Pictures.
    pub images: usize,
}

impl Normalise {
    /// Words of the pictures.
    pub fn words(&self) -> usize {
        (3 * self.side * self.side * self.images).div_ceil(4)
    }
}

impl Operation for Normalise {
    fn name(&self) -> &'static str {
        "normalise"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert_eq!(inputs[0], [self.words()], "normalise: words of the pictures");
        assert_eq!(inputs[1], [3, 256], "normalise: table");
        vec![vec![3, self.side, self.side, self.images]]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let [pictures, table] = [0, 1].map(|i| c.view(call.inputs[i]));
        let operands = [("pictures", pictures), ("table", table), ("x", c.view(call.outputs[0]))];
        let pixels = self.side * self.side;
        let vec = if operands[2].1.half { 2 } else { 1 };
        let n = self.images / vec;
        let params: &[(&str, Param)] = &[("n", n.into()), ("pixels", pixels.into())];
        let grid = [n.div_ceil(LANES), pixels, 1];
        c.launch("normalise", &Settings::new().set("L", LANES as u32).images(vec), &operands, params, grid, site)
    }

    fn flops(&self, _: &[&[usize]], outputs: &[&[usize]]) -> f64 {
        count(outputs[0]) as f64
    }
}
