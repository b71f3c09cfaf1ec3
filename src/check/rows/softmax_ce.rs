//! The loss, where gradients start.

use super::{Case, Op, OpGraph, Operand, Shaped, Sizes, Target, last};
use crate::ops::{SoftmaxCe, SoftmaxCeDLogits};
use crate::reference::golden::Op as Golden;
use crate::reference::softmax_ce::{self as twins, softmax_ce, softmax_ce_d_logits};

pub(super) struct Row;

fn forward(n: usize, classes: usize) -> Shaped {
    Shaped::new(SoftmaxCe, &[&[classes, 1, 1, n], &[n]])
}

fn all(n: usize, classes: usize) -> Vec<Shaped> {
    vec![forward(n, classes), Shaped::new(SoftmaxCeDLogits, &[&[classes, 1, 1, n], &[n], &[n]])]
}

impl super::Row for Row {
    fn names(&self) -> &'static [&'static str] {
        &["softmax_ce", "softmax_ce_d_logits"]
    }

    fn prepare(&self, _: &Op, shapes: &[&[usize]], values: &mut [Vec<f32>]) {
        let classes = shapes[0][0];
        values[1].iter_mut().enumerate().for_each(|(i, v)| *v = f32::from_bits((7 * i % classes) as u32));
    }

    fn twin(&self, op: &Op, inputs: &[Operand], _: &[&[usize]]) -> Vec<Vec<f32>> {
        let x = inputs[0];
        let (classes, n, labels) = (x.shape[0], x.shape[3], inputs[1].labels());
        let s = twins::SoftmaxCe { n, classes };
        if matches!(op, Op::SoftmaxCeDLogits(_)) {
            // The twin's gradient is that of the mean; the weight says what each image counts.
            let mean = softmax_ce_d_logits(&s, &x.first(), &labels);
            let weighed = mean.chunks(classes).zip(inputs[2].values);
            let weighed = weighed.flat_map(|(of_one, weight)| of_one.iter().map(move |d| d * n as f32 * weight));
            return vec![last(&weighed.collect::<Vec<_>>(), x.shape)];
        }
        let z = x.first();
        let (logprob, _) = softmax_ce(&s, &z, &labels);
        let (mut loss, mut correct) = (Vec::new(), Vec::new());
        for ((logprob, z), &label) in logprob.chunks(classes).zip(z.chunks(classes)).zip(&labels) {
            let first_maximum = (0..classes).fold(0, |best, c| if z[c] > z[best] { c } else { best });
            loss.push(-logprob[label]);
            correct.push(f32::from(u8::from(first_maximum == label)));
        }
        vec![last(&logprob, x.shape), [loss, correct].concat()]
    }

    fn allowed(&self, op: &Op, _: &[Operand], _: usize, expected: &[f32]) -> Vec<f64> {
        match op {
            Op::SoftmaxCeDLogits(_) => vec![1e-6; expected.len()],
            _ => expected.iter().map(|r| 1e-5 * (1.0 + f64::from(r.abs()))).collect(),
        }
    }

    fn differentiable(&self, op: &Op, _: usize) -> usize {
        usize::from(matches!(op, Op::SoftmaxCe(_)))
    }

    /// What each image counts: not the same, and the last of several nothing.
    fn upstream(&self, result: &[usize]) -> (Vec<usize>, Vec<f32>) {
        let n = result[3];
        let one = |image: usize| if n > 1 && image == n - 1 { 0.0 } else { (1.0 + image as f32) / n as f32 };
        (vec![n], (0..n).map(one).collect())
    }

    fn cases(&self, _: &Target) -> Vec<Case> {
        let one = |(n, classes)| {
            Case::of("softmax_ce", &format!("softmax_ce {n}x{classes}"), &forward(n, classes), |values| {
                values[0].iter_mut().for_each(|z| *z *= 3.0);
                // The first image's label lies below the clamp of the log-probability.
                values[0][n] = 60.0;
            })
        };
        [(5, 10), (1, 2), (33, 100), (2, 1001)].map(one).to_vec()
    }

    fn smooth(&self) -> Vec<Case> {
        vec![Case::of("softmax_ce", "softmax_ce", &forward(4, 6), |_| {})]
    }

    fn large(&self) -> Vec<Shaped> {
        all(2, 1_000_000)
    }

    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped> {
        match *sizes {
            Sizes::Map { n, c, h: 1, w: 1 } if c > 1 => all(n, c),
            _ => Vec::new(),
        }
    }

    fn golden(&self, g: &mut OpGraph) -> bool {
        if !matches!(g.case.op, Golden::SoftmaxCe(_)) {
            return false;
        }
        let (z, n) = (g.map("z"), g.n);
        let labels = g.given("labels", &[n], g.case.labels.iter().map(|&l| l as u32).collect());
        let out = g.node(SoftmaxCe, &[z, Some(labels)], "logprob");
        g.result("logprob", out[0], true);
        g.result("loss", out[1], false);
        let weight = g.given("weight", &[n], vec![(1.0 / n as f32).to_bits(); n]);
        g.gradients(out[0], weight, &[("z", z, true)]);
        true
    }
}
