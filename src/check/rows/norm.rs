//! Normalisation, with and without rectification.

use super::{Case, Op, OpGraph, Operand, SMALL, Shaped, Sizes, Target, image_shape, last, rectify, sums, text};
use crate::ops::{NORM_EPS, Norm, NormDAffine, NormDInput};
use crate::reference::golden::Op as Golden;
use crate::reference::norm::{self as twins, NormKind, norm, norm_d_bias, norm_d_input, norm_d_weight};
use crate::reference::relu::{relu, relu_d_input};

pub(super) struct Row;

fn twin_norm(op: Norm, shape: &[usize]) -> twins::Norm {
    let kind = if op.per_channel { NormKind::Group { groups: op.groups } } else { NormKind::Layer };
    twins::Norm { shape: image_shape(shape), kind }
}

/// dy, images outermost, where y was not rectified away.
fn through(dy: Operand, y: Option<Operand>) -> Vec<f32> {
    match y {
        Some(y) => relu_d_input(&y.first(), &dy.first()),
        None => dy.first(),
    }
}

/// Mean and 1 / standard deviation of each group and image, [2, groups, images].
fn statistics(x: &[f32], shape: &[usize], groups: usize) -> Vec<f32> {
    let (n, rows) = (shape[3], x.len() / shape[3] / groups);
    let mut stats = vec![0.0; 2 * groups * n];
    for g in 0..groups {
        for image in 0..n {
            let values = || (0..rows).map(|r| f64::from(x[(g * rows + r) * n + image]));
            let mean = values().sum::<f64>() / rows as f64;
            let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64;
            stats[g * n + image] = mean as f32;
            stats[(groups + g) * n + image] = (1.0 / (variance + f64::from(NORM_EPS)).sqrt()) as f32;
        }
    }
    stats
}

/// Extents of gamma and beta.
fn affine(op: Norm, x: &[usize]) -> Vec<usize> {
    if op.per_channel { vec![x[0]] } else { x[..3].to_vec() }
}

fn forward(op: Norm, x: &[usize]) -> Shaped {
    let affine = affine(op, x);
    Shaped::new(op, &[x, &affine, &affine])
}

/// The norm and both gradients.
fn all(op: Norm, x: &[usize]) -> Vec<Shaped> {
    let stats: &[usize] = &[2, op.groups, x[3]];
    let rectified: &[&[usize]] = if op.relu { &[x] } else { &[] };
    vec![
        forward(op, x),
        Shaped::new(NormDInput(op), &[&[x, stats, &affine(op, x), x], rectified].concat()),
        Shaped::new(NormDAffine(op), &[&[x, stats, x], rectified].concat()),
    ]
}

/// The norms in which a map of an even number of channels is checked.
const KINDS: [(&str, usize, bool); 3] = [("layer", 1, false), ("1 groups", 1, true), ("2 groups", 2, true)];

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["norm", "norm_d_input", "norm_d_affine"]
    }

    fn prepare(&self, op: &Op, shapes: &[&[usize]], values: &mut [Vec<f32>]) {
        match *op {
            Op::NormDInput(NormDInput(norm)) => {
                values[1] = statistics(&values[0], shapes[0], norm.groups);
                values.iter_mut().skip(4).for_each(|y| rectify(y));
            }
            Op::NormDAffine(NormDAffine(norm)) => {
                let steps = shapes.len() / if norm.relu { 4 } else { 3 };
                for t in 0..steps {
                    values[steps + t] = statistics(&values[t], shapes[t], norm.groups);
                }
                values.iter_mut().skip(3 * steps).for_each(|y| rectify(y));
            }
            _ => {}
        }
    }

    fn twin(&self, op: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        let x = inputs[0];
        match *op {
            Op::NormDInput(NormDInput(op)) => {
                let through = through(inputs[3], op.relu.then(|| inputs[4]));
                let d_x = norm_d_input(&twin_norm(op, x.shape), &x.first(), inputs[2].values, &through);
                vec![last(&d_x, x.shape)]
            }
            Op::NormDAffine(NormDAffine(op)) => {
                let steps = inputs.len() / if op.relu { 4 } else { 3 };
                let s = twin_norm(op, x.shape);
                let (mut gammas, mut betas) = (Vec::new(), Vec::new());
                for t in 0..steps {
                    let d_y = through(inputs[2 * steps + t], op.relu.then(|| inputs[3 * steps + t]));
                    gammas.push(norm_d_weight(&s, &inputs[t].first(), &d_y));
                    betas.push(norm_d_bias(&s, &d_y));
                }
                vec![sums(&gammas), sums(&betas)]
            }
            Op::Norm(op) => {
                let y = norm(&twin_norm(op, x.shape), &x.first(), inputs[1].values, inputs[2].values);
                let y = if op.relu { relu(&y) } else { y };
                vec![last(&y, x.shape), statistics(x.values, x.shape, op.groups)]
            }
            _ => unreachable!("not of this row"),
        }
    }

    fn differentiable(&self, op: &Op, _: usize) -> usize {
        if matches!(op, Op::Norm(_)) { 3 } else { 0 }
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for x in [[6, 1, 1, 1], [4, 5, 7, 3], [2, 16, 8, 33], [8, 2, 2, 65]] {
            for (what, groups, per_channel) in KINDS {
                for relu in [false, true] {
                    let shaped = forward(Norm { groups, per_channel, relu }, &x);
                    let name = format!("norm {}{} {what}", if relu { "relu " } else { "" }, text(&x));
                    list.push(Case::of("norm", &name, &shaped, |values| {
                        values[0].iter_mut().for_each(|v| *v = 0.5 + 2.0 * *v);
                    }));
                }
            }
        }
        list
    }

    fn smooth(&self) -> Vec<Case> {
        let double = |values: &mut [Vec<f32>]| values[0].iter_mut().for_each(|v| *v *= 2.0);
        // A shift that decides alone what is rectified.
        let decided = |values: &mut [Vec<f32>]| {
            double(values);
            values[1].iter_mut().for_each(|gamma| *gamma = gamma.signum());
            values[2].iter_mut().enumerate().for_each(|(i, beta)| *beta = if i % 2 == 0 { 6.0 } else { -6.0 });
        };
        let mut list = Vec::new();
        for (what, groups, per_channel) in KINDS {
            let norm = |relu| forward(Norm { groups, per_channel, relu }, &SMALL);
            list.push(Case::of("norm", &format!("norm {what}"), &norm(false), double));
            list.push(Case::of("norm", &format!("norm relu {what}"), &norm(true), decided));
        }
        list
    }

    fn large(&self) -> Vec<Shaped> {
        let norm = Norm { groups: 1, per_channel: false, relu: true };
        [all(norm, &[64, 1024, 1024, 1]), all(norm, &[1, 1, 1, 2_000_001])].concat()
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        let norm = Norm { groups: 1, per_channel: false, relu: true };
        sizes.map().map_or(Vec::new(), |x| all(norm, &x))
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        let Golden::Norm(twins::Norm { kind, .. }) = g.case.op else { return false };
        let (groups, per_channel) = match kind {
            NormKind::Layer => (1, false),
            NormKind::Group { groups } => (groups, true),
        };
        g.weighted(|_| Norm { groups, per_channel, relu: false }.into());
        true
    }
}
