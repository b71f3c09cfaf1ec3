//! The built-in cases: every operation, forward and backward, in shapes that divide by nothing, and every kernel variant,
//! against the operation's twin; fused forms against twins put together.

use super::goldens::{Bits, judge, report};
use super::probes::probes;
use super::run::{image_last, run_case, run_graph};
use super::{CaseReport, repeated, strides};
use crate::Result;
use crate::gpu::Gpu;
use crate::graph::autodiff::differentiate;
use crate::graph::{Graph, Origin, ValueId};
use crate::kernels::Target;
use crate::kernels::choose::{self, Choices, ConvOp};
use crate::ops;
use crate::reference::golden::{Comparison, Op, OpCase, Results, run_twin};
use crate::reference::random::{normal, uniform};
use crate::reference::{ImageShape, Tensor};
use crate::reference::{
    adam::Adam, conv_transpose2d::*, conv2d::*, linear::Linear, max_pool::*, mix::Interaction, norm::*, relu::*,
    softmax_ce::SoftmaxCe,
};
use std::collections::BTreeMap;

/// A case with the kernel variants that it is run with.
#[derive(Clone, Debug)]
pub struct Case {
    /// Operation, inputs, and what its twin makes of them.
    pub case: OpCase,
    /// Forced variants.
    pub choices: Choices,
    /// Operation and forced variant.
    pub kind: String,
}

/// Runs every case and hands its report over. With `repeat` above 1 each runs that often, and must give equal bits.
///
/// # Errors
/// A lost device. A case that cannot run has failed.
pub fn run_cases(gpu: &Gpu, repeat: usize, take: &mut dyn FnMut(CaseReport)) -> Result<()> {
    for Case { case, choices, kind } in table(&gpu.target) {
        let outcome = repeated(repeat, || run_case(gpu, &case, &choices).map(Bits));
        take(examined(case.name.clone(), kind, outcome, |found| case.compare(found)));
        gpu.check()?;
    }
    for fused in fused() {
        let outcome = repeated(repeat, || fused.run(gpu).map(Bits));
        take(examined(fused.name.clone(), "fused".into(), outcome, |found| fused.compare(found)));
        gpu.check()?;
    }
    for strided in strides::cases(&gpu.target) {
        let outcome = repeated(repeat, || strided.run(gpu).map(Bits));
        take(examined(strided.name(), strided.kind(), outcome, |found| strided.compare(found)));
        gpu.check()?;
    }
    for probe in probes(&gpu.target)? {
        let outcome = repeated(repeat, || probe.verified(gpu).map(|_| ()));
        let verdict = match outcome {
            Ok(((), equal_bits)) => report(true, 0.0, "exact".into(), equal_bits),
            Err(error) => report(false, f64::INFINITY, error.to_string(), None),
        };
        take(CaseReport { name: probe.label(), kind: "ceiling".into(), ..verdict });
        gpu.check()?;
    }
    Ok(())
}

fn examined(
    name: String,
    kind: String,
    outcome: Result<(Bits, Option<bool>)>,
    compare: impl Fn(&Results) -> Vec<Comparison>,
) -> CaseReport {
    let verdict = match outcome {
        Ok((found, equal_bits)) => {
            let (passed, error, detail) = judge(&compare(&found.0), "");
            report(passed, error, detail, equal_bits)
        }
        Err(error) => report(false, f64::INFINITY, error.to_string(), None),
    };
    CaseReport { name, kind, ..verdict }
}

/// The case table for an adapter: all operations with the variants that the engine chooses, then all other variants.
pub fn table(target: &Target) -> Vec<Case> {
    let mut list = Vec::new();
    let mut chosen = |kind: &str, case| {
        list.push(Case { case, choices: Choices::default(), kind: kind.to_string() });
    };
    for k in [1, 3, 5, 7] {
        for (n, c_in, c_out, h, w, bias) in [
            (1, 3, 5, 1, 1, false),
            (8, 4, 16, 2, 2, false),
            (3, 5, 19, 5, 7, true),
            (5, 17, 3, 7, 5, false),
            (33, 3, 6, 16, 8, true),
        ] {
            chosen("conv2d", convolution(Conv2d { n, c_in, c_out, h, w, k, stride: 1 }, bias));
            let s = ConvTranspose2d { n, c_in, c_out, h: h.div_ceil(2), w: w.div_ceil(2), k, stride: 2 };
            chosen("conv_transpose2d", transposed(s, bias));
        }
    }
    // Enough channels and tiles for Winograd's method; maps and channels that its tiles and panels do not divide.
    for (n, c_in, c_out, h, w, k, bias) in [
        (16, 32, 33, 4, 4, 3, false),
        (5, 33, 32, 9, 6, 3, true),
        (33, 32, 40, 3, 2, 3, false),
        (2, 64, 32, 17, 5, 5, true),
    ] {
        chosen("conv2d", convolution(Conv2d { n, c_in, c_out, h, w, k, stride: 1 }, bias));
    }
    for s in SPARSE {
        chosen("conv2d", sparse(s));
    }
    for (n, inputs, outputs, bias) in [(1, 7, 5, false), (5, 33, 10, true), (33, 64, 3, false)] {
        chosen("linear", linear(Linear { n, inputs, outputs }, bias));
    }
    for (n, c, h, w) in [(1, 6, 1, 1), (3, 4, 5, 7), (33, 2, 16, 8), (65, 8, 2, 2)] {
        for kind in [NormKind::Layer, NormKind::Group { groups: 1 }, NormKind::Group { groups: 2 }] {
            chosen("norm", norm_case(Norm { shape: ImageShape::new(n, c, h, w), kind }));
        }
    }
    let maps =
        [(1, 1, 2, 2), (3, 5, 5, 7), (8, 3, 2, 3), (33, 2, 16, 8)].map(|(n, c, h, w)| ImageShape::new(n, c, h, w));
    for s in maps {
        chosen("relu", plain(format!("relu {}", shape(s)), Op::Relu, &with_zeros(1, s.len()), s, s));
        // A few different values only, so that most windows hold equal maxima.
        let ties: Vec<f32> = uniform(2, s.len(), 0.0, 3.0).iter().map(|x| x.floor()).collect();
        for (what, x) in [("", normal(3, s.len())), (" ties", ties)] {
            chosen(
                "max_pool",
                plain(format!("max_pool {}{what}", shape(s)), Op::MaxPool(s), &x, s, max_pool_output(s)),
            );
        }
        let averaged = ImageShape::new(s.n, s.c, 1, 1);
        chosen("avg_pool", plain(format!("avg_pool {}", shape(s)), Op::AvgPool(s), &normal(4, s.len()), s, averaged));
    }
    for s in [maps[1], maps[3]] {
        for kind in [Interaction::Additive, Interaction::Multiplicative] {
            for terms in ["b", "bl", "bt", "blt"] {
                chosen("mix", mix_case(s, kind, terms));
            }
        }
    }
    for (n, classes) in [(1, 2), (5, 10), (33, 100), (2, 1001)] {
        chosen("softmax_ce", softmax_case(SoftmaxCe { n, classes }));
    }
    for (count, steps_taken) in [(1, 0), (257, 0), (1000, 1), (1000, 5000)] {
        chosen("adam", adam_case(count, steps_taken));
    }
    variants(target, &mut list);
    list
}

/// Every tile, on one shape each that fills no tile, with a batch that vectors of images divide.
fn variants(target: &Target, list: &mut Vec<Case>) {
    for k in [1, 3, 5, 7] {
        let conv = convolution(Conv2d { n: 4, c_in: 5, c_out: 19, h: 5, w: 7, k, stride: 1 }, false);
        let deconv = transposed(ConvTranspose2d { n: 4, c_in: 19, c_out: 5, h: 5, w: 7, k, stride: 2 }, false);
        let mut add = |op, case: &OpCase, name: &str| {
            for variant in choose::variants(target, op, k, if op == ConvOp::ConvTranspose2d { 2 } else { 1 }) {
                let choices = Choices::force(variant);
                list.push(Case { case: case.clone(), choices, kind: format!("{name} {variant}") });
            }
        };
        for op in ConvOp::ALL {
            add(op, if op == ConvOp::ConvTranspose2d { &deconv } else { &conv }, op.name());
        }
        add(ConvOp::Conv2dDWeight, &deconv, "conv_transpose2d_d_weight");
        // One of each method.
        let few = sparse(Conv2d { n: 4, c_in: 5, c_out: 19, h: 5, w: 7, k, stride: 1 });
        let mut methods = Vec::new();
        for variant in choose::variants(target, ConvOp::Conv2d, k, 1) {
            let choose::Variant::Conv(tile) = variant else { continue };
            if !methods.contains(&tile.winograd) {
                methods.push(tile.winograd);
                let choices = Choices::force(variant);
                list.push(Case { case: few.clone(), choices, kind: format!("conv2d {variant}") });
            }
        }
    }
}

/// Shapes in which exact zeros are checked, of which the table computes all by Winograd's method on lavapipe.
const SPARSE: [Conv2d; 5] = [
    Conv2d { n: 33, c_in: 32, c_out: 32, h: 1, w: 1, k: 3, stride: 1 },
    Conv2d { n: 6, c_in: 40, c_out: 40, h: 3, w: 3, k: 3, stride: 1 },
    Conv2d { n: 33, c_in: 32, c_out: 33, h: 3, w: 2, k: 3, stride: 1 },
    Conv2d { n: 5, c_in: 33, c_out: 32, h: 9, w: 6, k: 3, stride: 1 },
    Conv2d { n: 2, c_in: 40, c_out: 32, h: 7, w: 5, k: 5, stride: 1 },
];

/// A convolution of maps and gradients with few values other than 0, a pixel being 0 in all channels more often than not:
/// many sums of the forward pass and of both gradients have no product other than 0. They must be exactly 0.
fn sparse(s: Conv2d) -> OpCase {
    let OpCase { name, op, mut inputs, .. } = convolution(s, false);
    for (seed, tensor, maps) in [(15, "x", s.input()), (16, "gy", s.output())] {
        let (pixels, values) =
            (uniform(seed, maps.n * maps.h * maps.w, 0.0, 1.0), uniform(seed + 2, maps.len(), 0.0, 1.0));
        let size = maps.h * maps.w;
        for (i, v) in inputs.get_mut(tensor).expect("a convolution has both").values.iter_mut().enumerate() {
            let (image, channel, pixel) = (i / (size * maps.c), i / size % maps.c, i % size);
            if channel == 1 || pixels[image * size + pixel] > 0.3 || values[i] > 0.3 {
                *v = 0.0;
            }
        }
    }
    let inputs = inputs.iter().map(|(name, t)| (name.as_str(), t.shape.clone(), t.values.clone())).collect();
    case_of(format!("{name} sparse"), op, inputs, Vec::new())
}

fn shape(s: ImageShape) -> String {
    format!("{}x{}x{}x{}", s.n, s.c, s.h, s.w)
}

fn four(s: ImageShape) -> Vec<usize> {
    vec![s.n, s.c, s.h, s.w]
}

/// Normal values with some zeros of both signs.
fn with_zeros(seed: u64, n: usize) -> Vec<f32> {
    let mut values = normal(seed, n);
    values.iter_mut().step_by(5).for_each(|x| *x = if *x < 0.0 { -0.0 } else { 0.0 });
    values
}

/// A case on the given inputs, with the twin's results.
fn case_of(name: String, op: Op, inputs: Vec<(&str, Vec<usize>, Vec<f32>)>, labels: Vec<usize>) -> OpCase {
    let inputs = inputs.into_iter().map(|(name, shape, values)| (name.to_string(), Tensor { shape, values })).collect();
    let mut case = OpCase { name, op, data: String::new(), inputs, labels, expected: BTreeMap::new() };
    let expected = run_twin(&case).into_iter();
    case.expected = expected.map(|(name, values)| (name, Tensor { shape: vec![values.len()], values })).collect();
    case
}

/// x, w, b?, gy; weights so small that results are about 1.
fn weighted(name: String, op: Op, x: Vec<usize>, w: Vec<usize>, y: Vec<usize>, bias: Option<usize>) -> OpCase {
    let count = |shape: &[usize]| shape.iter().product::<usize>();
    let scale = 1.0 / (count(&w) as f32 / y[1] as f32).sqrt();
    let weight = normal(12, count(&w)).into_iter().map(|v| v * scale).collect();
    let (x_values, y_values) = (normal(11, count(&x)), normal(13, count(&y)));
    let mut inputs = vec![("x", x, x_values), ("w", w, weight), ("gy", y, y_values)];
    inputs.extend(bias.map(|c| ("b", vec![c], normal(14, c))));
    case_of(name, op, inputs, Vec::new())
}

fn bias_name(bias: bool) -> &'static str {
    if bias { " bias" } else { "" }
}

fn convolution(s: Conv2d, bias: bool) -> OpCase {
    let name = format!("conv2d {} to {} k{}{}", shape(s.input()), s.c_out, s.k, bias_name(bias));
    let w = vec![s.c_out, s.c_in, s.k, s.k];
    weighted(name, Op::Conv2d(s), four(s.input()), w, four(s.output()), bias.then_some(s.c_out))
}

fn transposed(s: ConvTranspose2d, bias: bool) -> OpCase {
    let name = format!("conv_transpose2d {} to {} k{}{}", shape(s.input()), s.c_out, s.k, bias_name(bias));
    let w = vec![s.c_in, s.c_out, s.k, s.k];
    weighted(name, Op::ConvTranspose2d(s), four(s.input()), w, four(s.output()), bias.then_some(s.c_out))
}

fn linear(s: Linear, bias: bool) -> OpCase {
    let name = format!("linear {}x{} to {}{}", s.n, s.inputs, s.outputs, bias_name(bias));
    let (x, w, y) = (vec![s.n, s.inputs], vec![s.outputs, s.inputs], vec![s.n, s.outputs]);
    weighted(name, Op::Linear(s), x, w, y, bias.then_some(s.outputs))
}

fn norm_case(s: Norm) -> OpCase {
    let (what, affine) = match s.kind {
        NormKind::Layer => ("layer".to_string(), four(s.shape)[1..].to_vec()),
        NormKind::Group { groups } => (format!("{groups} groups"), vec![s.shape.c]),
    };
    let (count, map) = (affine.iter().product(), four(s.shape));
    let x = normal(21, s.shape.len()).iter().map(|v| 0.5 + 2.0 * v).collect();
    let inputs = vec![
        ("x", map.clone(), x),
        ("w", affine.clone(), normal(22, count)),
        ("b", affine, normal(23, count)),
        ("gy", map, normal(24, s.shape.len())),
    ];
    case_of(format!("norm {} {what}", shape(s.shape)), Op::Norm(s), inputs, Vec::new())
}

fn plain(name: String, op: Op, x: &[f32], from: ImageShape, to: ImageShape) -> OpCase {
    let inputs = vec![("x", four(from), x.to_vec()), ("gy", four(to), normal(31, to.len()))];
    case_of(name, op, inputs, Vec::new())
}

fn mix_case(s: ImageShape, kind: Interaction, terms: &str) -> OpCase {
    let mut inputs = vec![("gy", four(s), normal(41, s.len()))];
    for (seed, (letter, name)) in [('b', "b"), ('l', "l"), ('t', "t")].into_iter().enumerate() {
        inputs.extend(terms.contains(letter).then(|| (name, four(s), normal(42 + seed as u64, s.len()))));
    }
    case_of(format!("mix {} {kind:?} {terms}", shape(s)).to_lowercase(), Op::Mix(kind), inputs, Vec::new())
}

fn softmax_case(s: SoftmaxCe) -> OpCase {
    // The first row's label lies below the clamp of the log-probability.
    let mut z: Vec<f32> = normal(51, s.n * s.classes).iter().map(|v| 3.0 * v).collect();
    let labels: Vec<usize> = (0..s.n).map(|i| i * 7 % s.classes).collect();
    z[1] = 60.0;
    let name = format!("softmax_ce {}x{}", s.n, s.classes);
    case_of(name, Op::SoftmaxCe(s), vec![("z", vec![s.n, s.classes], z)], labels)
}

fn adam_case(count: usize, steps_taken: u64) -> OpCase {
    let small = |seed: u64, scale: f32| -> Vec<f32> { normal(seed, count).iter().map(|v| v * scale).collect() };
    let moments = |values: Vec<f32>| if steps_taken == 0 { vec![0.0; count] } else { values };
    let v = moments(small(63, 0.01).iter().map(|v| v * v).collect());
    let inputs = [("p", normal(61, count)), ("m", moments(small(62, 0.01))), ("v", v), ("g", small(64, 0.02))];
    let inputs = inputs.map(|(name, values)| (name, vec![count], values)).to_vec();
    let op = Op::Adam { settings: Adam::default(), steps_taken };
    case_of(format!("adam {count} after {steps_taken} steps"), op, inputs, Vec::new())
}

/// A small graph with what it must give.
struct Fused {
    name: String,
    graph: Graph,
    inputs: Vec<(ValueId, Vec<u32>)>,
    /// Name, value, expected.
    outputs: Vec<(String, ValueId, Vec<f32>)>,
    /// Whether what is expected to be 0 must be exactly so: sums without a product other than 0.
    exact_zeros: bool,
}

impl Fused {
    fn new(name: &str) -> Fused {
        let (inputs, outputs) = (Vec::new(), Vec::new());
        Fused { name: name.to_string(), graph: Graph::default(), inputs, outputs, exact_zeros: false }
    }

    fn input(&mut self, shape: &[usize], values: &[f32]) -> ValueId {
        let value = self.graph.value("input", shape, Origin::Input, "op", None);
        self.inputs.push((value, values.iter().map(|v| v.to_bits()).collect()));
        value
    }

    /// A parameter with random values.
    fn parameter(&mut self, shape: &[usize]) -> (ValueId, Vec<f32>) {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = normal(100 + self.inputs.len() as u64, count).iter().map(|v| 0.3 * v).collect();
        (self.input(shape, &values), values)
    }

    /// A map with random values, images outermost.
    fn map(&mut self, s: ImageShape) -> (ValueId, Vec<f32>) {
        let values = normal(100 + self.inputs.len() as u64, s.len());
        (self.input(&[s.c, s.h, s.w, s.n], &image_last(&values, s.n)), values)
    }

    /// Rectified random maps, one a timestep, that lie behind each other in one buffer; `below` is taken from their values.
    fn series(&mut self, name: &str, s: ImageShape, steps: usize, below: f32) -> (Vec<ValueId>, Vec<Vec<f32>>) {
        let one = |t| {
            let values: Vec<f32> = normal(100 + self.inputs.len() as u64, s.len()).iter().map(|v| v - below).collect();
            let value = self.input(&[s.c, s.h, s.w, s.n], &image_last(&values, s.n));
            (self.graph.node(ops::Relu, &[value], name, "op", t)[0], relu(&values))
        };
        (0..steps).map(one).unzip()
    }

    fn node(&mut self, op: impl Into<ops::Op>, inputs: &[ValueId]) -> Vec<ValueId> {
        self.graph.node(op, inputs, "y", "op", 0)
    }

    fn expect(&mut self, name: &str, value: ValueId, expected: Vec<f32>) {
        self.outputs.push((name.to_string(), value, expected));
    }

    fn run(&self, gpu: &Gpu) -> Result<Results> {
        let wanted: Vec<ValueId> = self.outputs.iter().map(|o| o.1).collect();
        let mut graph = self.graph.clone();
        graph.outputs = wanted.clone();
        let read = run_graph(gpu, &graph, Choices::TABLE, &self.inputs, &wanted)?;
        Ok(self.outputs.iter().map(|o| o.0.clone()).zip(read).collect())
    }

    /// Tolerance: 1e-5 of the largest value, as for the operations themselves.
    fn compare(&self, found: &Results) -> Vec<Comparison> {
        let one = |(name, _, expected): &(String, ValueId, Vec<f32>)| {
            let largest = expected.iter().fold(1.0_f64, |m, v| m.max(f64::from(v.abs())));
            let exact = |v: &f32| self.exact_zeros && *v == 0.0;
            let allowed: Vec<f64> = expected.iter().map(|v| if exact(v) { 0.0 } else { 1e-5 * largest }).collect();
            Comparison::of(name, expected, &found[name], &allowed)
        };
        self.outputs.iter().map(one).collect()
    }
}

fn sum(parts: &[Vec<f32>]) -> Vec<f32> {
    (0..parts[0].len()).map(|i| parts.iter().map(|p| f64::from(p[i])).sum::<f64>() as f32).collect()
}

/// Forms that only graph passes make.
fn fused() -> Vec<Fused> {
    let mut list = Vec::new();
    for (k, h, w) in [(1, 1, 1), (3, 5, 7)] {
        list.extend(started_sums(k, h, w));
    }
    let s = ImageShape::new(3, 4, 5, 7);
    for kind in [NormKind::Layer, NormKind::Group { groups: 2 }] {
        list.push(norm_relu(Norm { shape: s, kind }));
        list.push(folded_norm(Norm { shape: s, kind }));
    }
    for s in [ImageShape::new(3, 4, 5, 7), ImageShape::new(8, 3, 2, 2)] {
        let mut f = Fused::new(&format!("max_pool_d_input base {}", shape(s)));
        let ((x, x_values), (dy, dy_values), (base, base_values)) = (f.map(s), f.map(max_pool_output(s)), f.map(s));
        let dx = f.node(ops::MaxPoolDInput { base: true }, &[x, dy, base])[0];
        let expected = sum(&[max_pool_d_input(s, &x_values, &dy_values), base_values]);
        f.expect("dx", dx, image_last(&expected, s.n));
        list.push(f);
    }
    for (name, x_steps) in FOLDS {
        list.push(folded_conv(name, Conv2d { n: 3, c_in: 5, c_out: 9, h: 5, w: 7, k: 3, stride: 1 }, x_steps, 0.0));
        list.push(folded_transposed(name, x_steps));
    }
    // Winograd's method transforms so many timesteps at a time that this takes two parts.
    let large = Conv2d { n: 64, c_in: 32, c_out: 32, h: 16, w: 16, k: 3, stride: 1 };
    list.push(folded_conv("1 stretch of large maps", large, &[0, 1, 2, 3], 0.0));
    // So few values that some taps meet in one part only, and some never.
    list.push(folded_conv("1 stretch of large sparse maps", large, &[0, 1, 2, 3], 2.6));
    list.push(folded_bias());
    list.push(long_sum());
    list
}

/// Sums of a convolution that start from a map, with and without a bias.
fn started_sums(k: usize, h: usize, w: usize) -> Vec<Fused> {
    let mut list = Vec::new();
    let s = Conv2d { n: 3, c_in: 5, c_out: 9, h, w, k, stride: 1 };
    let t = ConvTranspose2d { n: 3, c_in: 5, c_out: 9, h: h.div_ceil(2), w: w.div_ceil(2), k, stride: 2 };
    for biased in [false, true] {
        let mut f = Fused::new(&format!("conv2d base{} k{k}", bias_name(biased)));
        let ((x, xs), (w, ws), (base, bases)) = (f.map(s.input()), f.parameter(&[9, 5, k, k]), f.map(s.output()));
        let bias = biased.then(|| f.parameter(&[9]));
        let inputs: Vec<ValueId> =
            [Some(x), Some(w), bias.as_ref().map(|b| b.0), Some(base)].into_iter().flatten().collect();
        let y = f.node(ops::Conv2d { k, stride: 1, bias: biased, base: true }, &inputs)[0];
        let expected = sum(&[conv2d(&s, &xs, &ws, bias.as_ref().map(|b| &b.1[..])), bases]);
        f.expect("y", y, image_last(&expected, s.n));
        list.push(f);

        let mut f = Fused::new(&format!("conv_transpose2d base{} k{k}", bias_name(biased)));
        let ((x, xs), (w, ws), (base, bases)) = (f.map(t.input()), f.parameter(&[5, 9, k, k]), f.map(t.output()));
        let bias = biased.then(|| f.parameter(&[9]));
        let inputs: Vec<ValueId> =
            [Some(x), Some(w), bias.as_ref().map(|b| b.0), Some(base)].into_iter().flatten().collect();
        let y = f.node(ops::ConvTranspose2d { k, stride: 2, bias: biased, base: true }, &inputs)[0];
        let expected = sum(&[conv_transpose2d(&t, &xs, &ws, bias.as_ref().map(|b| &b.1[..])), bases]);
        f.expect("y", y, image_last(&expected, t.n));
        list.push(f);
    }
    let mut f = Fused::new(&format!("conv2d_d_input base k{k}"));
    let ((dy, dys), (w, ws), (base, bases)) = (f.map(s.output()), f.parameter(&[9, 5, k, k]), f.map(s.input()));
    let dx = f.node(ops::Conv2dDInput { k, stride: 1, base: true }, &[dy, w, base])[0];
    f.expect("dx", dx, image_last(&sum(&[conv2d_d_input(&s, &ws, &dys), bases]), s.n));
    list.push(f);
    let mut f = Fused::new(&format!("conv_transpose2d_d_input base k{k}"));
    let ((dy, dys), (w, ws), (base, bases)) = (f.map(t.output()), f.parameter(&[5, 9, k, k]), f.map(t.input()));
    let dx = f.node(ops::ConvTranspose2dDInput { k, stride: 2, base: true }, &[dy, w, base])[0];
    f.expect("dx", dx, image_last(&sum(&[conv_transpose2d_d_input(&t, &ws, &dys), bases]), t.n));
    list.push(f);
    list
}

/// The norm as the engine's operation, its name, and the shape of gamma and beta.
fn norm_op(s: &Norm) -> (ops::Norm, String, Vec<usize>) {
    let map = vec![s.shape.c, s.shape.h, s.shape.w];
    match s.kind {
        NormKind::Layer => (ops::Norm { groups: 1, per_channel: false, relu: true }, "layer".into(), map),
        NormKind::Group { groups } => {
            (ops::Norm { groups, per_channel: true, relu: true }, format!("{groups} groups"), vec![s.shape.c])
        }
    }
}

/// relu(norm(x)) in one, and its gradients.
fn norm_relu(s: Norm) -> Fused {
    let (op, what, affine) = norm_op(&s);
    let mut f = Fused::new(&format!("norm relu {} {what}", shape(s.shape)));
    let ((x, xs), (gamma, gammas), (beta, betas)) = (f.map(s.shape), f.parameter(&affine), f.parameter(&affine));
    let (dy, dys) = f.map(s.shape);
    let y = f.node(op, &[x, gamma, beta])[0];
    let d = differentiate(&mut f.graph, &[(y, dy)], &[x, gamma, beta], true);
    let d: Vec<ValueId> = d.into_iter().map(|v| v.expect("all take part")).collect();
    let normed = norm(&s, &xs, &gammas, &betas);
    let d_normed = relu_d_input(&normed, &dys);
    f.expect("y", y, image_last(&relu(&normed), s.shape.n));
    f.expect("dx", d[0], image_last(&norm_d_input(&s, &xs, &gammas, &d_normed), s.shape.n));
    f.expect("d_gamma", d[1], norm_d_weight(&s, &xs, &d_normed));
    f.expect("d_beta", d[2], norm_d_bias(&s, &d_normed));
    f
}

/// Gradients of gamma and beta over three timesteps at once.
fn folded_norm(s: Norm) -> Fused {
    let (op, what, affine) = norm_op(&s);
    let mut f = Fused::new(&format!("norm_d_affine over 3 steps {} {what}", shape(s.shape)));
    let ((gamma, gammas), (beta, betas)) = (f.parameter(&affine), f.parameter(&affine));
    let ((x, xs), (dy, dys)) = (f.series("x", s.shape, 3, 0.0), f.series("dy", s.shape, 3, 0.0));
    let mut lists = [x.clone(), Vec::new(), dy, Vec::new()];
    for (t, x) in x.into_iter().enumerate() {
        let out = f.graph.node(op, &[x, gamma, beta], "y", "op", t);
        lists[3].push(out[0]);
        lists[1].push(out[1]);
    }
    let d = f.node(ops::NormDAffine(op), &lists.concat());
    let through: Vec<Vec<f32>> =
        xs.iter().zip(&dys).map(|(x, dy)| relu_d_input(&norm(&s, x, &gammas, &betas), dy)).collect();
    let gammas: Vec<Vec<f32>> = xs.iter().zip(&through).map(|(x, dy)| norm_d_weight(&s, x, dy)).collect();
    f.expect("d_gamma", d[0], sum(&gammas));
    f.expect("d_beta", d[1], sum(&through.iter().map(|dy| norm_d_bias(&s, dy)).collect::<Vec<_>>()));
    f
}

/// Which x belongs to which of the steps of dy: x that stand in order are one stretch of memory, x that serve two steps
/// end one.
const FOLDS: [(&str, &[usize]); 3] =
    [("1 stretch", &[0, 1, 2]), ("2 stretches", &[0, 0, 1, 2]), ("3 stretches", &[1, 1, 1])];

fn folded_conv(name: &str, s: Conv2d, steps: &[usize], below: f32) -> Fused {
    let mut f = Fused::new(&format!("conv2d_d_weight over {} steps in {name}", steps.len()));
    f.exact_zeros = true;
    let (x, xs) = f.series("x", s.input(), steps.len(), below);
    let (dy, dys) = f.series("dy", s.output(), steps.len(), below);
    let inputs: Vec<ValueId> = steps.iter().map(|&t| x[t]).chain(dy).collect();
    let dw = f.node(ops::Conv2dDWeight { k: 3, stride: 1, linear: false }, &inputs)[0];
    let parts: Vec<Vec<f32>> = steps.iter().zip(&dys).map(|(&t, dy)| conv2d_d_weight(&s, &xs[t], dy)).collect();
    f.expect("dw", dw, sum(&parts));
    f
}

fn folded_transposed(name: &str, steps: &[usize]) -> Fused {
    let s = ConvTranspose2d { n: 3, c_in: 5, c_out: 9, h: 3, w: 5, k: 3, stride: 2 };
    let mut f = Fused::new(&format!("conv_transpose2d_d_weight over {} steps in {name}", steps.len()));
    let ((x, xs), (dy, dys)) = (f.series("x", s.input(), 3, 0.0), f.series("dy", s.output(), steps.len(), 0.0));
    let inputs: Vec<ValueId> = steps.iter().map(|&t| x[t]).chain(dy).collect();
    let dw = f.node(ops::ConvTranspose2dDWeight { k: 3, stride: 2 }, &inputs)[0];
    let parts: Vec<Vec<f32>> =
        steps.iter().zip(&dys).map(|(&t, dy)| conv_transpose2d_d_weight(&s, &xs[t], dy)).collect();
    f.expect("dw", dw, sum(&parts));
    f
}

fn folded_bias() -> Fused {
    let s = Conv2d { n: 33, c_in: 1, c_out: 5, h: 5, w: 7, k: 1, stride: 1 };
    let mut f = Fused::new("channel_sum over 3 steps");
    let (dy, dys) = f.series("dy", s.output(), 3, 0.0);
    let db = f.node(ops::ChannelSum, &dy)[0];
    f.expect("db", db, sum(&dys.iter().map(|dy| conv2d_d_bias(&s, dy)).collect::<Vec<_>>()));
    f
}

/// More terms than one launch adds.
fn long_sum() -> Fused {
    let s = ImageShape::new(3, 4, 5, 7);
    let mut f = Fused::new("add 17 terms");
    let (terms, values): (Vec<ValueId>, Vec<Vec<f32>>) = (0..17).map(|_| f.map(s)).unzip();
    let y = f.node(ops::Add, &terms)[0];
    f.expect("y", y, image_last(&sum(&values), s.n));
    f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_cases_have_exact_zeros_and_other_values() {
        for s in SPARSE {
            let case = sparse(s);
            for (name, tensor) in &case.expected {
                let zeros = tensor.values.iter().filter(|v| **v == 0.0).count();
                let share = zeros as f64 / tensor.values.len() as f64;
                assert!(share > 0.02 && share < 0.98, "{}: {share} of {name} is 0", case.name);
                let allowed = case.allowed_errors(name);
                assert_eq!(allowed.iter().filter(|e| **e == 0.0).count(), zeros, "{}: {name}", case.name);
            }
        }
    }
}
