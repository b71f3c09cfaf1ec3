//! Maxima of 2 x 2 windows.

use super::{Case, MAPS, Op, OpGraph, Operand, SMALL, Shaped, Sizes, Target, last, sums, text};
use crate::ops::{MaxPool, MaxPoolDInput};
use crate::reference::golden::Op as Golden;
use crate::reference::max_pool::*;
use crate::reference::random::uniform;

pub(super) struct Row;

/// The map that comes of a map.
fn pooled(x: [usize; 4]) -> [usize; 4] {
    [x[0], x[1] / 2, x[2] / 2, x[3]]
}

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["max_pool", "max_pool_d_input"]
    }

    fn twin(&self, op: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        let x = inputs[0];
        let Op::MaxPoolDInput(MaxPoolDInput { base }) = *op else {
            return vec![last(&max_pool(x.image_shape(), &x.first()), x.shape)];
        };
        let d_x = last(&max_pool_d_input(x.image_shape(), &x.first(), &inputs[1].first()), x.shape);
        vec![if base { sums(&[d_x, inputs[2].values.to_vec()]) } else { d_x }]
    }

    /// Nothing is rounded but what is added to.
    fn allowed(&self, op: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        let ulp = if matches!(op, Op::MaxPoolDInput(MaxPoolDInput { base: true })) { 1e-7 } else { 0.0 };
        expected.iter().map(|v| ulp * f64::from(v.abs())).collect()
    }

    fn differentiable(&self, op: &Op, _: usize) -> usize {
        usize::from(matches!(op, Op::MaxPool(_)))
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for x in MAPS {
            let (shaped, name) = (Shaped::new(MaxPool, &[&x]), format!("max_pool {}", text(&x)));
            list.push(Case::of("max_pool", &name, &shaped, |_| {}));
            // A few different values only, so that most windows hold equal maxima.
            list.push(Case::of("max_pool", &format!("{name} ties"), &shaped, |values| {
                values[0] = uniform(2, values[0].len(), 0.0, 3.0).iter().map(|x| x.floor()).collect();
            }));
            let shaped = Shaped::new(MaxPoolDInput { base: true }, &[&x, &pooled(x), &x]);
            list.push(Case::of("max_pool", &format!("max_pool_d_input base {}", text(&x)), &shaped, |_| {}));
        }
        list
    }

    fn smooth(&self) -> Vec<Case> {
        vec![Case::of("max_pool", "max_pool", &Shaped::new(MaxPool, &[&SMALL]), |values| {
            let count = values[0].len();
            values[0] = (0..count).map(|i| (i * 7919 % count) as f32 * 0.0625 - 5.0).collect();
        })]
    }

    fn large(&self) -> Vec<Shaped> {
        let x = [3, 4, 4, 3_000_001];
        let base = false;
        vec![Shaped::new(MaxPool, &[&x]), Shaped::new(MaxPoolDInput { base }, &[&x, &pooled(x)])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        match *sizes {
            Sizes::Map { n, c, h, w } if h > 1 && w > 1 => {
                let x = [c, h, w, n];
                let base = false;
                vec![Shaped::new(MaxPool, &[&x]), Shaped::new(MaxPoolDInput { base }, &[&x, &pooled(x)])]
            }
            _ => Vec::new(),
        }
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        let asked = matches!(g.case.op, Golden::MaxPool(_));
        if asked {
            g.unary(MaxPool);
        }
        asked
    }
}
