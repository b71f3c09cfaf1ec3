//! Normalisation, with and without rectification.

use super::{Case, Op, OpGraph, Operand, SMALL, Shaped, Sizes, Target, image_shape, last, rectify, text};
use crate::ops::{NORM_EPS, Norm, NormDAffine, NormDInput};
use crate::reference::golden::Op as Golden;
use crate::reference::norm::{self as twins, NormKind, norm, norm_d_input};
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

/// At each element of a map, over the images of each vector, the sums of d_y and of its product with the normalised x: `shape` is
/// [elements, vectors, 2].
fn row_sums(x: Operand, groups: usize, d_y: &[f32], shape: &[usize]) -> Vec<f32> {
    let (images, vectors) = (x.shape[3], shape[1]);
    let stats = statistics(x.values, x.shape, groups);
    let mut sums = vec![0.0; 2 * shape[0] * vectors];
    for (i, (&x, &d)) in x.values.iter().zip(d_y).enumerate() {
        let (row, image) = (i / images, i % images);
        let cell = row / (shape[0] / groups) * images + image;
        let h = (f64::from(x) - f64::from(stats[cell])) * f64::from(stats[groups * images + cell]);
        let at = 2 * (row * vectors + image / (images / vectors));
        sums[at] += f64::from(d);
        sums[at + 1] += f64::from(d) * h;
    }
    sums.into_iter().map(|v| v as f32).collect()
}

/// Extents of gamma and beta.
fn affine(op: Norm, x: &[usize]) -> Vec<usize> {
    if op.per_channel { vec![x[0]] } else { x[..3].to_vec() }
}

fn forward(op: Norm, x: &[usize]) -> Shaped {
    let affine = affine(op, x);
    Shaped::new(op, &[x, &affine, &affine])
}

fn d_input(op: Norm, x: &[usize]) -> Shaped {
    let stats: &[usize] = &[2, op.groups, x[3]];
    let rectified: &[&[usize]] = if op.relu { &[x] } else { &[] };
    Shaped::new(NormDInput(op), &[&[x, stats, &affine(op, x), x], rectified].concat())
}

fn d_affine(op: Norm, x: &[usize]) -> Shaped {
    let d_input = d_input(op, x);
    let row_sums = d_input.op.output_shapes(&d_input.shapes()).swap_remove(1);
    Shaped::new(NormDAffine { map: [x[0], x[1], x[2]], per_channel: op.per_channel }, &[&row_sums])
}

/// The norm and both gradients.
fn all(op: Norm, x: &[usize]) -> Vec<Shaped> {
    vec![forward(op, x), d_input(op, x), d_affine(op, x)]
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
            _ => {}
        }
    }

    fn twin(&self, op: &Op, inputs: &[Operand], outputs: &[&[usize]]) -> Vec<Vec<f32>> {
        let x = inputs[0];
        match *op {
            Op::NormDInput(NormDInput(op)) => {
                let through = through(inputs[3], op.relu.then(|| inputs[4]));
                let s = twin_norm(op, x.shape);
                let d_x = norm_d_input(&s, &x.first(), inputs[2].values, &through);
                vec![last(&d_x, x.shape), row_sums(x, op.groups, &last(&through, x.shape), outputs[1])]
            }
            Op::NormDAffine(NormDAffine { map, per_channel }) => {
                let pixels = map[1] * map[2];
                let sum = |which: usize| {
                    let mut sums = vec![0.0f64; if per_channel { map[0] } else { map[0] * pixels }];
                    for step in inputs {
                        let n = step.shape[1];
                        for (i, v) in step.values.iter().enumerate().filter(|(i, _)| i % 2 == which) {
                            let row = i / 2 / n;
                            sums[if per_channel { row / pixels } else { row }] += f64::from(*v);
                        }
                    }
                    sums.into_iter().map(|v| v as f32).collect::<Vec<f32>>()
                };
                vec![sum(1), sum(0)]
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
