//! Sums of maps, which is also the additive interaction.

use super::{Case, MAPS, Op, OpGraph, Operand, SMALL, Shaped, Sizes, Target, scaled, sums, text};
use crate::ops::Add;
use crate::reference::golden::Op as Golden;
use crate::reference::mix::Interaction;

pub(super) struct Row;

fn terms(count: usize, map: &[usize]) -> Shaped {
    Shaped::new(Add, &vec![map; count])
}

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["add"]
    }

    fn twin(&self, _: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        vec![sums(&inputs.iter().map(|o| o.values.to_vec()).collect::<Vec<_>>())]
    }

    fn allowed(&self, _: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        scaled(1e-6, expected)
    }

    fn differentiable(&self, _: &Op, inputs: usize) -> usize {
        inputs
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for map in MAPS {
            // More than 7 terms take more than one launch.
            for count in [1, 2, 3, 7, 8, 17] {
                let name = format!("add {} {count} terms", text(&map));
                list.push(Case::of("add", &name, &terms(count, &map), |_| {}));
            }
        }
        list
    }

    fn smooth(&self) -> Vec<Case> {
        [1, 2, 3].map(|count| Case::of("add", "add", &terms(count, &SMALL), |_| {})).to_vec()
    }

    fn large(&self) -> Vec<Shaped> {
        vec![terms(2, &[3, 4096, 4096, 4])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        sizes.map().map(|x| terms(2, &x)).into_iter().collect()
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        let alone = !g.case.inputs.contains_key("l") && !g.case.inputs.contains_key("t");
        match g.case.op {
            Golden::Mix(kind) if kind == Interaction::Additive || alone => {}
            _ => return false,
        }
        let terms = ["b", "l", "t"].map(|name| g.map(name));
        let y = g.node(Add, &terms, "y")[0];
        g.mixed(y, terms);
        true
    }
}
