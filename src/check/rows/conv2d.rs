//! Convolutions with stride, and linear layers and matrix products as convolutions of single pixels.

use super::convolution::{Sums, allowed, extents, sparse, start};
use super::{Case, Op, OpGraph, Operand, SMALL, Shaped, Sizes, Target, text};
use crate::kernels::choose::{ConvOp, Variant, variants};
use crate::ops::{Conv2d, Conv2dDInput, Conv2dDWeight};
use crate::reference::golden::Op as Golden;

pub(super) struct Row;

/// The convolution of a stride from a map to `cout` channels.
fn forward(x: [usize; 4], cout: usize, k: usize, stride: usize, bias: bool, base: bool) -> Shaped {
    let [c, h, w, n] = x;
    let op = Conv2d { k, stride, bias, base };
    let mut inputs = vec![x.to_vec(), vec![cout, c, k, k]];
    inputs.extend(bias.then_some(vec![cout]));
    inputs.extend(base.then_some(vec![cout, h / stride, w / stride, n]));
    Shaped { op: op.into(), inputs }
}

fn linear(n: usize, inputs: usize, outputs: usize, bias: bool) -> Shaped {
    let mut shaped = forward([inputs, 1, 1, n], outputs, 1, 1, bias, false);
    shaped.inputs[1].truncate(2);
    shaped
}

/// `conv2d 3x5x5x7 to 19 k3 s2 bias base`
fn name(shaped: &Shaped) -> String {
    let Op::Conv2d(Conv2d { k, stride, bias, base }) = shaped.op else { unreachable!("a convolution") };
    let stride = if stride == 1 { String::new() } else { format!(" s{stride}") };
    let (bias, base) = (if bias { " bias" } else { "" }, if base { " base" } else { "" });
    format!("conv2d {} to {} k{k}{stride}{bias}{base}", text(&shaped.inputs[0]), shaped.inputs[1][0])
}

/// As in areas with norms, where zeros need not be exact.
fn plain(shaped: &Shaped) -> Case {
    let mut case = Case::of("conv2d", &name(shaped), shaped, |_| {});
    case.graph.rounded.insert("op".into());
    case
}

fn few(shaped: &Shaped) -> Case {
    Case::of("conv2d", &format!("{} sparse", name(shaped)), shaped, |values| sparse(shaped, values))
}

/// Maps, channels and kernels in which exact zeros are checked, of which the table computes all by Winograd's method on lavapipe.
const SPARSE: [([usize; 4], usize, usize); 5] = [
    ([32, 1, 1, 65], 32, 3),
    ([40, 3, 3, 6], 40, 3),
    ([32, 3, 2, 33], 33, 3),
    ([33, 9, 6, 5], 32, 3),
    ([40, 7, 5, 2], 32, 5),
];

/// The sums of one of the row's operations.
fn sums(op: &Op, inputs: &[Operand], result: &[usize]) -> Sums {
    let first = inputs[0].shape;
    match *op {
        Op::Conv2d(Conv2d { k, stride, bias, base }) => {
            let start = start(inputs, result, bias, base);
            Sums::forward(extents(first, result, k, stride), inputs[0], inputs[1], start)
        }
        Op::Conv2dDInput(Conv2dDInput { k, stride, base }) => {
            let start = start(inputs, result, false, base);
            Sums::backward(extents(result, first, k, stride), inputs[0], inputs[1], start)
        }
        Op::Conv2dDWeight(Conv2dDWeight { k, stride, .. }) => {
            let (xs, dys) = inputs.split_at(inputs.len() / 2);
            Sums::weight(extents(first, dys[0].shape, k, stride), xs, dys)
        }
        _ => unreachable!("not of this row"),
    }
}

/// Every variant, in a shape that fills no tile, with a batch that vectors of images divide.
fn forced(target: &Target, list: &mut Vec<Case>) {
    for k in [1, 3, 5, 7] {
        let x = [5, 5, 7, 4];
        let case = plain(&forward(x, 19, k, 1, false, false));
        for op in [ConvOp::Conv2d, ConvOp::Conv2dDWeight] {
            list.extend(variants(target, op, k, 1).into_iter().map(|variant| case.forced(op.name(), variant)));
        }
        // One of each method.
        let (case, mut methods) = (few(&forward(x, 19, k, 1, false, false)), Vec::new());
        for variant in variants(target, ConvOp::Conv2d, k, 1) {
            let Variant::Conv(tile) = variant else { continue };
            if !methods.contains(&(tile.winograd, tile.wide)) {
                methods.push((tile.winograd, tile.wide));
                list.push(case.forced("conv2d", variant));
            }
        }
    }
    for stride in [2, 4] {
        for k in [1, 3, 5] {
            let (x, y) = ([5, 3 * stride, 5 * stride, 4], [19, 3, 5, 4]);
            let shaped = forward(x, 19, k, stride, true, true);
            let case = Case::forward("conv2d", &name(&shaped), &shaped);
            let strided = variants(target, ConvOp::Conv2d, k, stride).into_iter();
            list.extend(strided.map(|variant| case.forced("conv2d", variant)));
            let dw = Shaped::new(Conv2dDWeight { k, stride, linear: false }, &[&x, &x, &y, &y]);
            let what = format!("conv2d_d_weight {} to 19 k{k} s{stride} 2 steps", text(&x));
            let case = Case::forward("conv2d_d_weight", &what, &dw);
            // Splitting is the same with every stride.
            let once = |v: &Variant| !matches!(v, Variant::Weight(tile) if tile.splits > 1);
            let strided = variants(target, ConvOp::Conv2dDWeight, k, stride).into_iter().filter(once);
            list.push(case.clone());
            list.extend(strided.map(|variant| case.forced("conv2d_d_weight", variant)));
        }
    }
}

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["conv2d", "conv2d_d_input", "conv2d_d_weight"]
    }

    fn twin(&self, op: &Op, inputs: &[Operand], shapes: &[&[usize]]) -> Vec<Vec<f32>> {
        sums(op, inputs, shapes[0]).all(shapes[0].iter().product())
    }

    fn error(&self, op: &Op, inputs: &[Operand], results: &[Operand]) -> f64 {
        sums(op, inputs, results[0].shape).error(results[0].values)
    }

    fn allowed(&self, _: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        allowed(expected)
    }

    fn differentiable(&self, op: &Op, inputs: usize) -> usize {
        if matches!(op, Op::Conv2d(_)) { inputs } else { 0 }
    }

    fn cases(&self, target: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for k in [3, 1, 5, 7] {
            for (x, cout, bias) in [
                ([5, 5, 7, 3], 19, true),
                ([3, 1, 1, 1], 5, false),
                ([4, 2, 2, 8], 16, false),
                ([17, 7, 5, 5], 3, false),
                ([3, 16, 8, 33], 6, true),
            ] {
                list.push(plain(&forward(x, cout, k, 1, bias, false)));
            }
        }
        // Enough channels and tiles for Winograd's method; maps and channels that its tiles and panels do not divide.
        for (x, cout, k, bias) in [
            ([32, 4, 4, 16], 33, 3, false),
            ([33, 9, 6, 5], 32, 3, true),
            ([32, 3, 2, 33], 40, 3, false),
            ([64, 17, 5, 2], 32, 5, true),
        ] {
            list.push(plain(&forward(x, cout, k, 1, bias, false)));
        }
        list.extend(SPARSE.map(|(x, cout, k)| few(&forward(x, cout, k, 1, false, false))));
        for (k, h, w) in [(1, 1, 1), (3, 5, 7)] {
            for bias in [false, true] {
                list.push(plain(&forward([5, h, w, 3], 9, k, 1, bias, true)));
            }
            let (dy, w): (&[usize], &[usize]) = (&[9, h, w, 3], &[9, 5, k, k]);
            let shaped = Shaped::new(Conv2dDInput { k, stride: 1, base: true }, &[dy, w, &[5, dy[1], dy[2], 3]]);
            list.push(Case::forward("conv2d", &format!("conv2d_d_input base k{k}"), &shaped));
        }
        for stride in [2, 4] {
            for k in [1, 3, 5] {
                for (n, bias, base) in [(3, true, true), (4, false, false)] {
                    list.push(plain(&forward([5, 3 * stride, 5 * stride, n], 19, k, stride, bias, base)));
                }
            }
        }
        for (n, inputs, outputs, bias) in [(1, 7, 5, false), (5, 33, 10, true), (33, 64, 3, false)] {
            let name = format!("linear {n}x{inputs} to {outputs}{}", if bias { " bias" } else { "" });
            list.push(Case::of("linear", &name, &linear(n, inputs, outputs, bias), |_| {}));
        }
        forced(target, &mut list);
        list
    }

    fn smooth(&self) -> Vec<Case> {
        let mut list = vec![plain(&linear(5, 12, 7, true))];
        for k in [1, 3, 5] {
            list.push(plain(&forward(SMALL, 5, k, 1, true, true)));
            list.push(plain(&forward([4, 4, 6, 3], 5, k, 2, true, false)));
            list.push(plain(&forward([4, 4, 8, 3], 5, k, 4, false, true)));
        }
        list
    }

    fn large(&self) -> Vec<Shaped> {
        let classes = 1_000_000;
        let (logits, linear): (&[usize], bool) = (&[classes, 1, 1, 2], true);
        let long = [1024, 3, 40_001, 1];
        vec![
            Shaped::new(
                Conv2d { k: 1, stride: 1, bias: true, base: false },
                &[&[16, 1, 1, 2], &[classes, 16], &[classes]],
            ),
            Shaped::new(Conv2dDInput { k: 1, stride: 1, base: false }, &[logits, &[classes, 16]]),
            Shaped::new(Conv2dDWeight { k: 1, stride: 1, linear }, &[&[16, 1, 1, 2], logits]),
            forward([40_001, 4, 4, 1], 5, 3, 1, false, false),
            forward([40_001, 4, 4, 1], 5, 3, 2, false, false),
            forward([3, 2048, 2048, 16], 8, 7, 4, false, false),
            Shaped::new(Conv2dDWeight { k: 3, stride: 1, linear: false }, &[&long, &long]),
            forward([3, 512, 512, 128], 32, 1, 1, false, false),
        ]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        match *sizes {
            Sizes::Convolution { n, cin, cout, h, w, k } => {
                let (x, mut list) = ([cin, h, w, n], Vec::new());
                for stride in [1, 2, 4].into_iter().filter(|s| h.is_multiple_of(*s) && w.is_multiple_of(*s)) {
                    let (y, weight) = ([cout, h / stride, w / stride, n], [cout, cin, k, k]);
                    list.push(forward(x, cout, k, stride, false, false));
                    list.push(Shaped::new(Conv2dDInput { k, stride, base: false }, &[&y, &weight]));
                    list.push(Shaped::new(Conv2dDWeight { k, stride, linear: false }, &[&x, &y]));
                }
                list
            }
            Sizes::Product { m, n, k } => {
                let columns = (1..=128).rev().find(|c| n.is_multiple_of(*c)).unwrap_or(1);
                vec![forward([k, n / columns, columns, 1], m, 1, 1, false, false)]
            }
            Sizes::Map { .. } => Vec::new(),
        }
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        let (k, stride) = match g.case.op {
            Golden::Conv2d(s) => (s.k, s.stride),
            Golden::Linear(_) => (1, 1),
            _ => return false,
        };
        g.weighted(|bias| Conv2d { k, stride, bias, base: false }.into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule `zeros`.
    #[test]
    fn sparse_cases_have_exact_zeros_and_other_values() {
        for (x, cout, k) in SPARSE {
            let case = few(&forward(x, cout, k, 1, false, false));
            let (mut zeros_of_all, mut count_of_all) = (0, 0);
            for (name, expected, allowed) in case.wanted_values() {
                let zeros = expected.iter().filter(|v| **v == 0.0).count();
                let share = zeros as f64 / expected.len() as f64;
                assert!(share < 0.98, "{}: {share} of {name} is 0", case.name);
                assert_eq!(allowed.iter().filter(|e| **e == 0.0).count(), zeros, "{}: {name}", case.name);
                zeros_of_all += zeros;
                count_of_all += expected.len();
            }
            assert!(zeros_of_all * 50 > count_of_all, "{}: {zeros_of_all} of {count_of_all} are 0", case.name);
        }
    }
}
