//! Means over maps.

use super::{Case, MAPS, Op, OpGraph, Operand, SMALL, Shaped, Sizes, Target, image_shape, last, scaled, text};
use crate::ops::{AvgPool, AvgPoolDInput};
use crate::reference::avg_pool::*;
use crate::reference::golden::Op as Golden;

pub(super) struct Row;

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["avg_pool", "avg_pool_d_input"]
    }

    fn twin(&self, op: &Op, inputs: &[Operand], shapes: &[&[usize]]) -> Vec<Vec<f32>> {
        let x = inputs[0];
        let values = match op {
            Op::AvgPool(_) => avg_pool(x.image_shape(), &x.first()),
            _ => avg_pool_d_input(image_shape(shapes[0]), &x.first()),
        };
        vec![last(&values, x.shape)]
    }

    fn allowed(&self, _: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        scaled(1e-6, expected)
    }

    fn differentiable(&self, op: &Op, _: usize) -> usize {
        usize::from(matches!(op, Op::AvgPool(_)))
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let one = |map: [usize; 4]| {
            Case::of("avg_pool", &format!("avg_pool {}", text(&map)), &Shaped::new(AvgPool, &[&map]), |_| {})
        };
        MAPS.map(one).to_vec()
    }

    fn smooth(&self) -> Vec<Case> {
        vec![Case::of("avg_pool", "avg_pool", &Shaped::new(AvgPool, &[&SMALL]), |_| {})]
    }

    fn large(&self) -> Vec<Shaped> {
        let (h, w) = (4096, 4096);
        vec![Shaped::new(AvgPool, &[&[3, h, w, 1]]), Shaped::new(AvgPoolDInput { h, w }, &[&[3, 1, 1, 1]])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        let Sizes::Map { n, c, h, w } = *sizes else { return Vec::new() };
        vec![Shaped::new(AvgPool, &[&[c, h, w, n]]), Shaped::new(AvgPoolDInput { h, w }, &[&[c, 1, 1, n]])]
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        let asked = matches!(g.case.op, Golden::AvgPool(_));
        if asked {
            g.unary(AvgPool);
        }
        asked
    }
}
