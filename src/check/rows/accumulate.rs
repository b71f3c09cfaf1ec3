//! Sums over the parts of a batch.

use super::{Case, Op, Operand, Shaped, Sizes, Target};
use crate::ops::Accumulate;

pub(super) struct Row;

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["accumulate"]
    }

    fn twin(&self, _: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        let (sum, part, first) = (inputs[0], inputs[1].values, inputs[2].values[0]);
        vec![sum.each(|i| if first != 0.0 { part[i] } else { sum.values[i] + part[i] })]
    }

    /// One addition rounds in one way.
    fn allowed(&self, _: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        vec![0.0; expected.len()]
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for count in [1, 258, 1001] {
            for (first, what) in [(0.0, "added"), (1.0, "first")] {
                let shaped = Shaped::new(Accumulate, &[&[count], &[count], &[1]]);
                let name = format!("accumulate {count} {what}");
                list.push(Case::of("accumulate", &name, &shaped, |values| {
                    values[2][0] = first;
                    if first != 0.0 {
                        values[0].fill(f32::NAN); // what nobody wrote
                    }
                }));
            }
        }
        list
    }

    fn large(&self) -> Vec<Shaped> {
        vec![Shaped::new(Accumulate, &[&[300_000_001], &[300_000_001], &[1]])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        sizes.map().map(|x| Shaped::new(Accumulate, &[&x, &x, &[1]])).into_iter().collect()
    }
}
