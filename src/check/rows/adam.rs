//! Adam's step.

use super::{Case, Op, OpGraph, Operand, Shaped, Sizes, Target};
use crate::ops::{Adam, Hyper};
use crate::reference::adam::Adam as Settings;
use crate::reference::golden::Op as Golden;

pub(super) struct Row;

fn hyper(settings: &Settings) -> Hyper {
    let Settings { learning_rate, beta1, beta2, epsilon } = *settings;
    Hyper { learning_rate, beta1, beta2, epsilon }
}

fn shaped(shape: &[usize]) -> Shaped {
    Shaped::new(Adam, &[&[6], shape, shape, shape, shape])
}

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["adam"]
    }

    fn prepare(&self, _: &Op, _: &[&[usize]], values: &mut [Vec<f32>]) {
        values[0] = hyper(&Settings::default()).numbers(3, 1.0).to_vec();
        values[4].iter_mut().for_each(|v| *v = 1e-4 * *v * *v);
    }

    /// By the numbers that the kernel gets ([`Hyper::numbers`]), in f64.
    fn twin(&self, _: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        let h: Vec<f64> = inputs[0].values.iter().map(|&x| f64::from(x)).collect();
        let mut results = vec![Vec::new(); 3];
        for i in 0..inputs[1].values.len() {
            let [g, p, m, v] = [1, 2, 3, 4].map(|input| f64::from(inputs[input].values[i]));
            if h[5] == 0.0 {
                results.iter_mut().zip([p, m, v]).for_each(|(list, value)| list.push(value as f32));
                continue;
            }
            let g = g * h[5];
            let m = m + (g - m) * h[1];
            let v = v + (g * g - v) * h[2];
            let p = p - h[0] * m / (v.sqrt() * h[3] + h[4]);
            results.iter_mut().zip([p, m, v]).for_each(|(list, value)| list.push(value as f32));
        }
        results
    }

    fn allowed(&self, _: &Op, inputs: &[Operand], result: usize, expected: &[f32]) -> Vec<f64> {
        let size = |i: usize| f64::from(expected[i].abs());
        let rate = f64::from(inputs[0].values[1]);
        let all = 0..expected.len();
        match result {
            // Two units in the last place of f32.
            0 => all.map(|i| 1e-6 * size(i).max(1.0)).collect(),
            // Relative to the terms of the sum, which may cancel.
            1 => {
                let term = |input: usize, i: usize| f64::from(inputs[input].values[i].abs());
                let scale = f64::from(inputs[0].values[5]);
                all.map(|i| 1e-6 * ((1.0 - rate) * term(3, i) + rate * scale * term(1, i))).collect()
            }
            _ => all.map(|i| 1e-6 * size(i)).collect(),
        }
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for (count, steps_taken, scale) in
            [(1, 0, 1.0), (257, 0, 1.0), (1000, 1, 1.0), (1000, 5000, 1.0), (33, 7, 1024.0)]
        {
            let scaled = if scale == 1.0 { String::new() } else { format!(" loss scale {scale}") };
            let name = format!("adam {count} after {steps_taken} steps{scaled}");
            list.push(Case::of("adam", &name, &shaped(&[count]), |values| {
                values[0] = hyper(&Settings::default()).numbers(steps_taken + 1, f64::from(scale)).to_vec();
                values[1].iter_mut().for_each(|g| *g *= 0.02 * scale);
                values[3].iter_mut().for_each(|m| *m *= 0.01);
                if steps_taken == 0 {
                    values[3..].iter_mut().for_each(|moment| moment.fill(0.0));
                }
            }));
        }
        list.push(Case::of("adam", "adam 70 skipped", &shaped(&[70]), |values| {
            (values[0][5], values[1][3]) = (0.0, f32::NAN);
        }));
        list
    }

    fn large(&self) -> Vec<Shaped> {
        vec![shaped(&[300_000_001])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        sizes.map().map(|x| shaped(&x)).into_iter().collect()
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        let Golden::Adam { settings, steps_taken } = g.case.op else { return false };
        let numbers = g.given("hyper", &[6], hyper(&settings).numbers(steps_taken + 1, 1.0).map(f32::to_bits).to_vec());
        let [grad, p, m, v] = ["g", "p", "m", "v"].map(|name| g.parameter(name));
        let outputs = g.node(Adam, &[Some(numbers), grad, p, m, v], "p1");
        ["p1", "m1", "v1"].into_iter().zip(outputs).for_each(|(name, value)| g.result(name, value, false));
        true
    }
}
