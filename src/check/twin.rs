//! What an operation of the engine gives, by its twin: for any operation of a graph, on maps in the engine's order. The
//! results of large convolutions are sampled, all others are compared whole.

use super::run::{image_first, image_last};
use crate::kernels::choose::{ConvOp, Key};
use crate::kernels::conv::{ConvShape, WeightOrder};
use crate::ops::{
    Conv2d, Conv2dDInput, Conv2dDWeight, ConvTranspose2d, ConvTranspose2dDInput, ConvTranspose2dDWeight, Hyper,
    MaxPoolDInput, NORM_EPS, NormDAffine, NormDInput, Normalise, Op, Scale,
};
use crate::reference::sample::{Product, Sampled, sample_error, sampled};
use crate::reference::{
    ImageShape,
    avg_pool::*,
    max_pool::*,
    norm::*,
    relu::*,
    softmax_ce::{SoftmaxCe, softmax_ce, softmax_ce_d_logits},
};

/// A tensor in the engine's order. Labels are numbers by their bits.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    /// Extents.
    pub shape: &'a [usize],
    /// Values.
    pub values: &'a [f32],
}

impl Operand<'_> {
    /// [N, C, H, W] of a map [C, H, W, N].
    fn image_shape(&self) -> ImageShape {
        ImageShape::new(self.shape[3], self.shape[0], self.shape[1], self.shape[2])
    }

    /// Images outermost.
    fn first(&self) -> Vec<f32> {
        image_first(self.values, self.shape[self.shape.len() - 1])
    }

    fn labels(&self) -> Vec<usize> {
        self.values.iter().map(|v| v.to_bits() as usize).collect()
    }
}

/// Inputs on which an operation's gradient is defined, from tensors of random values in the order of the operation's inputs:
/// statistics become those of x, what was rectified becomes so, labels become classes.
pub fn prepare(op: &Op, shapes: &[&[usize]], values: &mut [Vec<f32>]) {
    let rectify = |x: &mut Vec<f32>| x.iter_mut().for_each(|v| *v = v.max(0.0));
    match *op {
        Op::NormDInput(NormDInput(norm)) => {
            values[1] = statistics(&values[0], shapes[0], norm.groups);
            values.iter_mut().skip(4).for_each(rectify);
        }
        Op::NormDAffine(NormDAffine(norm)) => {
            let lists = if norm.relu { 4 } else { 3 };
            let steps = shapes.len() / lists;
            for t in 0..steps {
                values[steps + t] = statistics(&values[t], shapes[t], norm.groups);
            }
            values.iter_mut().skip(3 * steps).for_each(rectify);
        }
        Op::ReluDInput(_) => rectify(&mut values[0]),
        Op::Adam(_) => {
            let hyper = Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
            values[0] = hyper.numbers(3, 1.0).to_vec();
            values[4].iter_mut().for_each(|v| *v = 1e-4 * *v * *v);
        }
        Op::SoftmaxCe(_) | Op::SoftmaxCeDLogits(_) => {
            let classes = shapes[0][0];
            values[1].iter_mut().enumerate().for_each(|(i, v)| *v = f32::from_bits((7 * i % classes) as u32));
        }
        _ => {}
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

/// The largest difference between `results` and the twin of `op`, relative to the largest value of each result.
pub fn twin_error(op: &Op, inputs: &[Operand], results: &[Operand]) -> f64 {
    if let Some((sampled, product, [x, w, y], start)) = convolution(op, inputs, &results[0]) {
        return sample_error(&sampled, product, (&x, &w, &y), start.as_deref(), results[0].values);
    }
    let expected = whole(op, inputs, results);
    assert_eq!(expected.len(), results.len(), "{}: one twin per result", op.name());
    let errors = expected.iter().zip(results).map(|(twin, result)| difference(twin, result.values));
    errors.fold(0.0, f64::max)
}

/// All results of the twin of `op`, of the given shapes: for small operands.
pub fn results_of(op: &Op, inputs: &[Operand], shapes: &[&[usize]]) -> Vec<Vec<f32>> {
    let empty: Vec<Vec<f32>> = shapes.iter().map(|shape| vec![0.0; shape.iter().product()]).collect();
    let results: Vec<Operand> = shapes.iter().zip(&empty).map(|(shape, values)| Operand { shape, values }).collect();
    let Some((extents, product, [x, w, y], start)) = convolution(op, inputs, &results[0]) else {
        return whole(op, inputs, &results);
    };
    let start = |i: usize| start.as_ref().map_or(0.0, |start| f64::from(start[i]));
    let all = 0..empty[0].len();
    vec![all.map(|i| (sampled(&extents, product, (&x, &w, &y), i) + start(i)) as f32).collect()]
}

fn difference(twin: &[f32], result: &[f32]) -> f64 {
    assert_eq!(twin.len(), result.len(), "twin and result have one length");
    let largest = twin.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(f64::from(v.abs())));
    let worst = twin.iter().zip(result).fold(0.0, |worst, (a, b)| {
        let error = (f64::from(*a) - f64::from(*b)).abs();
        f64::max(worst, if error.is_nan() { f64::INFINITY } else { error })
    });
    worst / largest
}

/// Sampled convolution, product, operands x, w and y (without that which is computed), and what the sums start from.
type Convolution = (Sampled, Product, [Vec<f32>; 3], Option<Vec<f32>>);

/// The operation as a product of the sampled convolution, if it is one.
fn convolution(op: &Op, inputs: &[Operand], result: &Operand) -> Option<Convolution> {
    let extents = |x: &[usize], y: &[usize], k, stride| Sampled {
        n: x[3],
        cin: x[0],
        cout: y[0],
        in_h: x[1],
        in_w: x[2],
        out_h: y[1],
        out_w: y[2],
        k,
        stride,
    };
    // x, w, [bias], [base]: the sum of bias and base.
    let start = |bias: bool, base: bool| {
        let per_channel = result.values.len() / result.shape[0];
        let of_channel = |i: usize| if bias { inputs[2].values[i / per_channel] } else { 0.0 };
        let of_map = |i: usize| if base { inputs[2 + usize::from(bias)].values[i] } else { 0.0 };
        (bias || base).then(|| (0..result.values.len()).map(|i| of_channel(i) + of_map(i)).collect())
    };
    let one = |i: usize| inputs[i].values.to_vec();
    let many = |list: &[Operand]| list.iter().flat_map(|o| o.values).copied().collect::<Vec<f32>>();
    let half = inputs.len() / 2;
    let none = Vec::new;
    let first = inputs.first()?.shape;
    match *op {
        Op::Conv2d(Conv2d { k, stride, bias, base }) => {
            let s = extents(first, result.shape, k, stride);
            Some((s, Product::Forward, [one(0), one(1), none()], start(bias, base)))
        }
        Op::Conv2dDInput(Conv2dDInput { k, stride, base }) => {
            let s = extents(result.shape, first, k, stride);
            Some((s, Product::DInput, [none(), one(1), one(0)], start(false, base)))
        }
        Op::ConvTranspose2d(ConvTranspose2d { k, stride, bias, base }) => {
            let s = extents(result.shape, first, k, stride);
            Some((s, Product::DInput, [none(), one(1), one(0)], start(bias, base)))
        }
        Op::ConvTranspose2dDInput(ConvTranspose2dDInput { k, stride, base }) => {
            let s = extents(first, result.shape, k, stride);
            Some((s, Product::Forward, [one(0), one(1), none()], start(false, base)))
        }
        Op::Conv2dDWeight(Conv2dDWeight { k, stride, .. }) => {
            let s = extents(first, inputs[half].shape, k, stride);
            Some((s, Product::DWeight, [many(&inputs[..half]), none(), many(&inputs[half..])], None))
        }
        Op::ConvTranspose2dDWeight(ConvTranspose2dDWeight { k, stride }) => {
            let s = extents(inputs[half].shape, first, k, stride);
            Some((s, Product::DWeight, [many(&inputs[half..]), none(), many(&inputs[..half])], None))
        }
        _ => None,
    }
}

fn sums(parts: &[Vec<f32>]) -> Vec<f32> {
    (0..parts[0].len()).map(|i| parts.iter().map(|p| f64::from(p[i])).sum::<f64>() as f32).collect()
}

/// All results of an operation that is no convolution.
fn whole(op: &Op, inputs: &[Operand], results: &[Operand]) -> Vec<Vec<f32>> {
    let x = inputs[0];
    let each = |f: &dyn Fn(usize) -> f32| (0..x.values.len()).map(f).collect::<Vec<f32>>();
    let last = |values: Vec<f32>, n: usize| image_last(&values, n);
    let twin_norm = |op: crate::ops::Norm, shape: ImageShape| {
        let kind = if op.per_channel { NormKind::Group { groups: op.groups } } else { NormKind::Layer };
        Norm { shape, kind }
    };
    match *op {
        Op::ChannelSum(_) => {
            let per_channel = x.values.len() / x.shape[0];
            let one = |o: &Operand| {
                let channels = o.values.chunks(per_channel);
                channels.map(|c| c.iter().map(|&v| f64::from(v)).sum::<f64>() as f32).collect::<Vec<f32>>()
            };
            vec![sums(&inputs.iter().map(one).collect::<Vec<_>>())]
        }
        Op::Norm(op) => {
            let y = norm(&twin_norm(op, x.image_shape()), &x.first(), inputs[1].values, inputs[2].values);
            let y = if op.relu { relu(&y) } else { y };
            vec![last(y, x.shape[3]), statistics(x.values, x.shape, op.groups)]
        }
        Op::NormDInput(NormDInput(op)) => {
            let through = through(inputs[3], op.relu.then(|| inputs[4]));
            let d_x = norm_d_input(&twin_norm(op, x.image_shape()), &x.first(), inputs[2].values, &through);
            vec![last(d_x, x.shape[3])]
        }
        Op::NormDAffine(NormDAffine(op)) => {
            let steps = inputs.len() / if op.relu { 4 } else { 3 };
            let s = twin_norm(op, x.image_shape());
            let (mut gammas, mut betas) = (Vec::new(), Vec::new());
            for t in 0..steps {
                let d_y = through(inputs[2 * steps + t], op.relu.then(|| inputs[3 * steps + t]));
                gammas.push(norm_d_weight(&s, &inputs[t].first(), &d_y));
                betas.push(norm_d_bias(&s, &d_y));
            }
            vec![sums(&gammas), sums(&betas)]
        }
        Op::Relu(_) => vec![relu(x.values)],
        Op::ReluDInput(_) => vec![relu_d_input(x.values, inputs[1].values)],
        Op::Add(_) => vec![sums(&inputs.iter().map(|o| o.values.to_vec()).collect::<Vec<_>>())],
        Op::Modulate(_) => vec![each(&|i| x.values[i] * (1.0 + inputs[1].values[i]))],
        Op::ModulateDDrives(_) => {
            let (s, dy) = (inputs[1].values, inputs[2].values);
            vec![each(&|i| dy[i] * (1.0 + s[i])), each(&|i| dy[i] * x.values[i])]
        }
        Op::MaxPool(_) => vec![last(max_pool(x.image_shape(), &x.first()), x.shape[3])],
        Op::MaxPoolDInput(MaxPoolDInput { base }) => {
            let d_x = last(max_pool_d_input(x.image_shape(), &x.first(), &inputs[1].first()), x.shape[3]);
            vec![if base { sums(&[d_x, inputs[2].values.to_vec()]) } else { d_x }]
        }
        Op::AvgPool(_) => vec![last(avg_pool(x.image_shape(), &x.first()), x.shape[3])],
        Op::AvgPoolDInput(_) => {
            vec![last(avg_pool_d_input(results[0].image_shape(), &x.first()), x.shape[3])]
        }
        Op::SoftmaxCe(_) => {
            let (classes, n, labels) = (x.shape[0], x.shape[3], inputs[1].labels());
            let (logprob, _) = softmax_ce(&SoftmaxCe { n, classes }, &x.first(), &labels);
            let rows = logprob.chunks(classes).zip(x.first().chunks(classes).map(<[f32]>::to_vec).collect::<Vec<_>>());
            let (mut loss, mut correct) = (Vec::new(), Vec::new());
            for ((logprob, z), &label) in rows.zip(&labels) {
                let first_maximum = (0..classes).fold(0, |best, c| if z[c] > z[best] { c } else { best });
                loss.push(-logprob[label]);
                correct.push(f32::from(u8::from(first_maximum == label)));
            }
            vec![last(logprob, n), [loss, correct].concat()]
        }
        Op::SoftmaxCeDLogits(_) => {
            let (classes, n) = (x.shape[0], x.shape[3]);
            // The twin's gradient is that of the mean; the weight says what an image counts.
            let mean = softmax_ce_d_logits(&SoftmaxCe { n, classes }, &x.first(), &inputs[1].labels());
            let factor = n as f32 * inputs[2].values[0];
            vec![last(mean.iter().map(|d| d * factor).collect(), n)]
        }
        Op::Normalise(Normalise { side, images }) => {
            let (bytes, table) = (x.values.iter().flat_map(|w| w.to_bits().to_le_bytes()), inputs[1].values);
            let bytes: Vec<u8> = bytes.take(3 * side * side * images).collect();
            let value = |(i, &byte): (usize, &u8)| table[i % 3 * 256 + usize::from(byte)];
            let pixels: Vec<f32> = bytes.iter().enumerate().map(value).collect(); // [images, pixels, 3]
            let planes = pixels.chunks(3 * side * side);
            let planes: Vec<f32> =
                planes.flat_map(|p| (0..3).flat_map(|c| p[c..].iter().step_by(3).copied())).collect();
            vec![last(planes, images)]
        }
        Op::Scale(Scale { at }) => vec![each(&|i| inputs[1].values[at] * x.values[i])],
        Op::Accumulate(_) => {
            let part = inputs[1].values;
            vec![each(&|i| if inputs[2].values[0] != 0.0 { part[i] } else { x.values[i] + part[i] })]
        }
        Op::Adam(_) => adam_step(x.values, inputs[1].values, [2, 3, 4].map(|i| inputs[i].values)),
        Op::Conv2d(_)
        | Op::ConvTranspose2d(_)
        | Op::Conv2dDInput(_)
        | Op::ConvTranspose2dDInput(_)
        | Op::Conv2dDWeight(_)
        | Op::ConvTranspose2dDWeight(_) => unreachable!("sampled"),
    }
}

/// One step of Adam by the numbers that the kernel gets ([`crate::ops::Hyper::numbers`]), in f64.
fn adam_step(hyper: &[f32], g: &[f32], [p, m, v]: [&[f32]; 3]) -> Vec<Vec<f32>> {
    let h: Vec<f64> = hyper.iter().map(|&x| f64::from(x)).collect();
    let mut results = vec![Vec::new(); 3];
    for i in 0..p.len() {
        let [g, p, m, v] = [g[i], p[i], m[i], v[i]].map(f64::from);
        let g = g * h[5];
        let m = m + (g - m) * h[1];
        let v = v + (g * g - v) * h[2];
        let p = p - h[0] * m / (v.sqrt() * h[3] + h[4]);
        results.iter_mut().zip([p, m, v]).for_each(|(list, value)| list.push(value as f32));
    }
    results
}

/// dy, images outermost, where y was not rectified away.
fn through(dy: Operand, y: Option<Operand>) -> Vec<f32> {
    match y {
        Some(y) => relu_d_input(&y.first(), &dy.first()),
        None => dy.first(),
    }
}

/// How weights lie, and which product of a convolution the key is: the transposed one goes from y to x.
pub fn sampled_key(key: &Key) -> (WeightOrder, Sampled, Product) {
    let ConvShape { n, cin, cout, in_h, in_w, out_h, out_w, k, stride } = key.shape;
    let straight = WeightOrder::out_first(cin, k);
    let same = Sampled { n, cin, cout, in_h, in_w, out_h, out_w, k, stride };
    match key.op {
        ConvOp::Conv2d => (straight, same, Product::Forward),
        ConvOp::Conv2dDWeight => (straight, same, Product::DWeight),
        ConvOp::ConvTranspose2d => {
            let order = WeightOrder::in_first(cout, k);
            let (cin, cout) = (cout, cin);
            let (in_h, in_w, out_h, out_w) = (out_h, out_w, in_h, in_w);
            (order, Sampled { n, cin, cout, in_h, in_w, out_h, out_w, k, stride }, Product::DInput)
        }
    }
}
