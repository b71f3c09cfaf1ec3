//! Clipping of gradients by their norm.

use super::{Case, Op, Operand, Shaped, Sizes, Target};
use crate::ops::{Clip, GradientNorm, Hyper};
use crate::reference::clip::{clip_factor, gradient_norm};

pub(super) struct Row;

/// The norm of gradients of these counts.
fn norm(counts: &[usize]) -> Shaped {
    let gradients: Vec<Vec<usize>> = counts.iter().map(|&count| vec![count]).collect();
    let shapes: Vec<&[usize]> = [&[6][..], &[1]].into_iter().chain(gradients.iter().map(|shape| &shape[..])).collect();
    Shaped::new(GradientNorm, &shapes)
}

fn hyper(loss_scale: f64) -> Vec<f32> {
    Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }.numbers(1, loss_scale).to_vec()
}

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["clip", "gradient_norm"]
    }

    fn prepare(&self, op: &Op, _: &[&[usize]], values: &mut [Vec<f32>]) {
        match op {
            Op::GradientNorm(_) => (values[0], values[1]) = (hyper(1.0), vec![0.5]),
            _ => values[1] = vec![2.0, 0.3],
        }
    }

    fn twin(&self, op: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        if let Op::Clip(_) = op {
            let (grad, norm) = (inputs[0], inputs[1].values);
            return vec![grad.each(|i| norm[1] * grad.values[i])];
        }
        let gradients: Vec<&[f32]> = inputs[2..].iter().map(|operand| operand.values).collect();
        let norm = gradient_norm(&gradients) * f64::from(inputs[0].values[5]);
        vec![vec![norm as f32, clip_factor(norm, f64::from(inputs[1].values[0])) as f32]]
    }

    /// One product rounds in one way; a lane of the norm adds 256 squares, then come sums of lanes and groups.
    fn allowed(&self, op: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        let relative = if matches!(op, Op::Clip(_)) { 0.0 } else { 4e-6 };
        expected.iter().map(|v| relative * f64::from(v.abs())).collect()
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for count in [1, 258, 1001] {
            let shaped = Shaped::new(Clip, &[&[count], &[2]]);
            list.push(Case::of("clip", &format!("clip {count}"), &shaped, |_| {}));
        }
        for (counts, limit, scale) in [
            (&[1][..], 0.5, 1.0),
            (&[7, 257, 1], 0.5, 1.0),
            (&[16_384, 16_385, 40_000], 10.0, 1024.0),
            (&[1000, 1], 1e6, 1.0),
        ] {
            let name = format!("gradient norm of {counts:?}, limit {limit}, loss scale {scale}");
            list.push(Case::of("gradient_norm", &name, &norm(counts), |values| {
                (values[0], values[1]) = (hyper(scale), vec![limit]);
            }));
        }
        let name = "gradient norm of zeros";
        list.push(Case::of("gradient_norm", name, &norm(&[300, 5]), |values| {
            values[2..].iter_mut().for_each(|gradient| gradient.fill(0.0));
        }));
        list
    }

    fn large(&self) -> Vec<Shaped> {
        vec![Shaped::new(Clip, &[&[300_000_001], &[2]]), norm(&[1_200_000_001, 300_000_001, 1])]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        let of = |x: Vec<usize>| [Shaped::new(Clip, &[&x, &[2]]), norm(&[x.iter().product()])];
        sizes.map().into_iter().flat_map(of).collect()
    }
}
