//! Gains on what a connection carries.

use super::{Case, MAPS, Op, Operand, Shaped, Sizes, Target, text};
use crate::ops::Scale;

pub(super) struct Row;

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["scale"]
    }

    fn twin(&self, op: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        let Op::Scale(Scale { at }) = *op else { unreachable!("not of this row") };
        vec![inputs[0].each(|i| inputs[1].values[at] * inputs[0].values[i])]
    }

    /// One product rounds in one way.
    fn allowed(&self, _: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        vec![0.0; expected.len()]
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for map in MAPS {
            for (at, gain) in [(1, 0.7), (0, 1.0), (2, 0.0)] {
                let shaped = Shaped::new(Scale { at }, &[&map, &[3]]);
                let name = format!("scale {} by {gain}", text(&map));
                list.push(Case::of("scale", &name, &shaped, |values| values[1][at] = gain));
            }
        }
        list
    }

    fn large(&self) -> Vec<Shaped> {
        vec![Shaped::new(Scale { at: 0 }, &[&[3, 4096, 4096, 4], &[1]])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        sizes.map().map(|x| Shaped::new(Scale { at: 0 }, &[&x, &[1]])).into_iter().collect()
    }
}
