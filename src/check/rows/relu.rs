//! Rectification.

use super::{Case, MAPS, Op, OpGraph, Operand, SMALL, Shaped, Sizes, Target, rectify, text};
use crate::ops::{Relu, ReluDInput};
use crate::reference::golden::Op as Golden;
use crate::reference::relu::*;

pub(super) struct Row;

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["relu", "relu_d_input"]
    }

    fn prepare(&self, op: &Op, _: &[&[usize]], values: &mut [Vec<f32>]) {
        if matches!(op, Op::ReluDInput(_)) {
            rectify(&mut values[0]);
        }
    }

    fn twin(&self, op: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        match op {
            Op::Relu(_) => vec![relu(inputs[0].values)],
            _ => vec![relu_d_input(inputs[0].values, inputs[1].values)],
        }
    }

    fn allowed(&self, _: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        vec![0.0; expected.len()]
    }

    fn differentiable(&self, op: &Op, _: usize) -> usize {
        usize::from(matches!(op, Op::Relu(_)))
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        // Some zeros of both signs.
        let zeros = |values: &mut [Vec<f32>]| {
            values[0].iter_mut().step_by(5).for_each(|x| *x = if *x < 0.0 { -0.0 } else { 0.0 });
        };
        let one =
            |map: [usize; 4]| Case::of("relu", &format!("relu {}", text(&map)), &Shaped::new(Relu, &[&map]), zeros);
        MAPS.map(one).to_vec()
    }

    fn smooth(&self) -> Vec<Case> {
        vec![Case::of("relu", "relu", &Shaped::new(Relu, &[&SMALL]), |values| {
            values[0].iter_mut().for_each(|x| *x += 0.05_f32.copysign(*x));
        })]
    }

    fn large(&self) -> Vec<Shaped> {
        let x: &[usize] = &[3, 4096, 4096, 4];
        vec![Shaped::new(Relu, &[x]), Shaped::new(ReluDInput, &[x, x])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        let Some(x) = sizes.map() else { return Vec::new() };
        vec![Shaped::new(Relu, &[&x]), Shaped::new(ReluDInput, &[&x, &x])]
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        let asked = matches!(g.case.op, Golden::Relu);
        if asked {
            g.unary(Relu);
        }
        asked
    }
}
