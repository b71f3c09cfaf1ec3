//! Transposed convolutions with stride: the input gradients of convolutions with that stride, and the other way round.

use super::convolution::{Sums, allowed, extents, start};
use super::{Case, Op, OpGraph, Operand, SMALL, Shaped, Sizes, Target, text};
use crate::kernels::choose::{ConvOp, variants};
use crate::ops::{ConvTranspose2d, ConvTranspose2dDInput, ConvTranspose2dDWeight};
use crate::reference::golden::Op as Golden;

pub(super) struct Row;

/// The transposed convolution of a stride from a map to `cout` channels.
fn forward(x: [usize; 4], cout: usize, k: usize, stride: usize, bias: bool, base: bool) -> Shaped {
    let [c, h, w, n] = x;
    let op = ConvTranspose2d { k, stride, bias, base };
    let mut inputs = vec![x.to_vec(), vec![c, cout, k, k]];
    inputs.extend(bias.then_some(vec![cout]));
    inputs.extend(base.then_some(vec![cout, stride * h, stride * w, n]));
    Shaped { op: op.into(), inputs }
}

/// `conv_transpose2d 3x5x5x7 to 19 k3 s4 bias base`; stride 2, the usual one, is left out.
fn name(shaped: &Shaped) -> String {
    let Op::ConvTranspose2d(ConvTranspose2d { k, stride, bias, base }) = shaped.op else { unreachable!("of this row") };
    let stride = if stride == 2 { String::new() } else { format!(" s{stride}") };
    let (bias, base) = (if bias { " bias" } else { "" }, if base { " base" } else { "" });
    format!("conv_transpose2d {} to {} k{k}{stride}{bias}{base}", text(&shaped.inputs[0]), shaped.inputs[1][1])
}

fn plain(shaped: &Shaped) -> Case {
    Case::of("conv_transpose2d", &name(shaped), shaped, |_| {})
}

/// The sums of one of the row's operations: those of a convolution from its large map to its small one.
fn sums(op: &Op, inputs: &[Operand], result: &[usize]) -> Sums {
    let first = inputs[0].shape;
    match *op {
        Op::ConvTranspose2d(ConvTranspose2d { k, stride, bias, base }) => {
            let start = start(inputs, result, bias, base);
            Sums::backward(extents(result, first, k, stride), inputs[0], inputs[1], start)
        }
        Op::ConvTranspose2dDInput(ConvTranspose2dDInput { k, stride, base }) => {
            let start = start(inputs, result, false, base);
            Sums::forward(extents(first, result, k, stride), inputs[0], inputs[1], start)
        }
        Op::ConvTranspose2dDWeight(ConvTranspose2dDWeight { k, stride }) => {
            let (xs, dys) = inputs.split_at(inputs.len() / 2);
            Sums::weight(extents(dys[0].shape, first, k, stride), dys, xs)
        }
        _ => unreachable!("not of this row"),
    }
}

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["conv_transpose2d", "conv_transpose2d_d_input", "conv_transpose2d_d_weight"]
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
        if matches!(op, Op::ConvTranspose2d(_)) { inputs } else { 0 }
    }

    fn cases(&self, target: &Target) -> Vec<Case> {
        let mut list = Vec::new();
        for k in [3, 1, 5, 7] {
            for (x, cout, bias) in [
                ([5, 3, 4, 3], 19, true),
                ([3, 1, 1, 1], 5, false),
                ([4, 1, 1, 8], 16, false),
                ([17, 4, 3, 5], 3, false),
                ([3, 8, 4, 33], 6, true),
            ] {
                list.push(plain(&forward(x, cout, k, 2, bias, false)));
            }
        }
        for (k, h, w) in [(1, 1, 1), (3, 3, 4)] {
            for bias in [false, true] {
                list.push(plain(&forward([5, h, w, 3], 9, k, 2, bias, true)));
            }
            let (dy, weight): (&[usize], &[usize]) = (&[9, 2 * h, 2 * w, 3], &[5, 9, k, k]);
            let shaped = Shaped::new(ConvTranspose2dDInput { k, stride: 2, base: true }, &[dy, weight, &[5, h, w, 3]]);
            list.push(Case::forward("conv_transpose2d", &format!("conv_transpose2d_d_input base k{k}"), &shaped));
        }
        for k in [1, 3, 5] {
            for (n, bias, base) in [(3, true, true), (4, false, false)] {
                list.push(plain(&forward([19, 3, 5, n], 5, k, 4, bias, base)));
            }
        }
        // Every variant, in a shape that fills no tile, with a batch that vectors of images divide.
        for k in [1, 3, 5, 7] {
            let case = plain(&forward([19, 3, 4, 4], 5, k, 2, false, false));
            for (op, name) in [
                (ConvOp::ConvTranspose2d, "conv_transpose2d"),
                (ConvOp::Conv2d, "conv_transpose2d_d_input"),
                (ConvOp::Conv2dDWeight, "conv_transpose2d_d_weight"),
            ] {
                list.extend(variants(target, op, k, 2).into_iter().map(|variant| case.forced(name, variant)));
            }
        }
        for stride in [2, 4] {
            for k in [1, 3, 5] {
                let shaped = forward([19, 3, 5, 4], 5, k, stride, true, true);
                let case = Case::forward("conv_transpose2d", &name(&shaped), &shaped);
                let strided = variants(target, ConvOp::ConvTranspose2d, k, stride).into_iter();
                list.extend(strided.map(|variant| case.forced("conv_transpose2d", variant)));
            }
        }
        list
    }

    fn smooth(&self) -> Vec<Case> {
        let mut list = Vec::new();
        for k in [1, 3, 5] {
            list.push(plain(&forward(SMALL, 5, k, 2, true, true)));
            list.push(plain(&forward([4, 2, 3, 3], 5, k, 4, true, false)));
        }
        list
    }

    fn large(&self) -> Vec<Shaped> {
        let (k, stride, base) = (3, 2, false);
        let (long, short): (&[usize], &[usize]) = (&[64, 6, 40_002, 1], &[64, 3, 20_001, 1]);
        vec![
            forward([40_001, 4, 4, 1], 5, 3, 2, false, false),
            forward([40_001, 4, 4, 1], 5, 3, 4, false, false),
            Shaped::new(ConvTranspose2dDInput { k, stride, base }, &[&[40_001, 4, 4, 1], &[5, 40_001, 3, 3]]),
            Shaped::new(ConvTranspose2dDWeight { k, stride }, &[short, long]),
        ]
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        let Sizes::Convolution { n, cin, cout, h, w, k } = *sizes else { return Vec::new() };
        let (x, mut list) = ([cin, h, w, n], Vec::new());
        for stride in [2, 4] {
            let (large, weight) = ([cout, stride * h, stride * w, n], [cin, cout, k, k]);
            list.push(forward(x, cout, k, stride, false, false));
            list.push(Shaped::new(ConvTranspose2dDInput { k, stride, base: false }, &[&large, &weight]));
            list.push(Shaped::new(ConvTranspose2dDWeight { k, stride }, &[&x, &large]));
        }
        list
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        let Golden::ConvTranspose2d(s) = g.case.op else { return false };
        g.weighted(|bias| ConvTranspose2d { k: s.k, stride: s.stride, bias, base: false }.into());
        true
    }
}
