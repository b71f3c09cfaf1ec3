//! Multiplicative interaction.

use super::{Case, MAPS, Op, OpGraph, Operand, SMALL, Shaped, Sizes, Target, scaled, text};
use crate::ops::{Add, Modulate, ModulateDDrives};
use crate::reference::golden::Op as Golden;
use crate::reference::mix::Interaction;

pub(super) struct Row;

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["modulate", "modulate_d_drives"]
    }

    fn twin(&self, op: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        let (b, s) = (inputs[0], inputs[1].values);
        if matches!(op, Op::Modulate(_)) {
            return vec![b.each(|i| b.values[i] * (1.0 + s[i]))];
        }
        let dy = inputs[2].values;
        vec![b.each(|i| dy[i] * (1.0 + s[i])), b.each(|i| dy[i] * b.values[i])]
    }

    fn allowed(&self, _: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        scaled(1e-6, expected)
    }

    fn differentiable(&self, op: &Op, _: usize) -> usize {
        if matches!(op, Op::Modulate(_)) { 2 } else { 0 }
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let one = |map: [usize; 4]| {
            Case::of("modulate", &format!("modulate {}", text(&map)), &Shaped::new(Modulate, &[&map, &map]), |_| {})
        };
        MAPS.map(one).to_vec()
    }

    fn smooth(&self) -> Vec<Case> {
        vec![Case::of("modulate", "modulate", &Shaped::new(Modulate, &[&SMALL, &SMALL]), |_| {})]
    }

    fn large(&self) -> Vec<Shaped> {
        let x: &[usize] = &[3, 4096, 4096, 4];
        vec![Shaped::new(Modulate, &[x, x]), Shaped::new(ModulateDDrives, &[x, x, x])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        let Some(x) = sizes.map() else { return Vec::new() };
        vec![Shaped::new(Modulate, &[&x, &x]), Shaped::new(ModulateDDrives, &[&x, &x, &x])]
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        let alone = !g.case.inputs.contains_key("l") && !g.case.inputs.contains_key("t");
        match g.case.op {
            Golden::Mix(Interaction::Multiplicative) if !alone => {}
            _ => return false,
        }
        let terms = ["b", "l", "t"].map(|name| g.map(name));
        let s = match terms {
            [_, Some(l), Some(t)] => g.node(Add, &[Some(l), Some(t)], "s")[0],
            [_, l, t] => l.or(t).expect("one of them"),
        };
        let y = g.node(Modulate, &[terms[0], Some(s)], "y")[0];
        g.mixed(y, terms);
        true
    }
}
