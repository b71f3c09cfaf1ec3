//! Nested loops and folded grids on the device: sizes beyond which kernels take them, on whole numbers, whose sums are exact in
//! any order, against the plain loops of the twins.

use pollster::FutureExt;
use recurve::check::case::Case;
use recurve::check::rows::{Shaped, row};
use recurve::gpu::{Gpu, Options};
use recurve::graph::lower::lower;
use recurve::graph::{Graph, Origin, ValueId};
use recurve::kernels::choose::{Choices, ConvOp, Variant, variants};
use recurve::kernels::conv::{Lanes, WeightTile};
use recurve::kernels::{Program, Target};
use recurve::ops::*;
use recurve::reference::random::normal;
use std::collections::{BTreeSet, HashMap};

fn gpu() -> Gpu {
    Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter")
}

/// Whole numbers from -2 to 2, the same every time.
fn whole_numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7 + i / 11 + seed) % 5) as f32 - 2.0).collect()
}

/// An operation on whole numbers, and the variant that it is forced to.
struct Alone {
    shaped: Shaped,
    choices: Choices,
}

fn case(op: impl Into<Op>, shapes: &[&[usize]]) -> Alone {
    Alone { shaped: Shaped::new(op, shapes), choices: Choices::default() }
}

impl Alone {
    fn values(&self) -> Vec<Vec<f32>> {
        self.shaped.values(whole_numbers)
    }

    fn lowered(&self, target: &Target) -> Program {
        let mut graph = Graph::default();
        let inputs: Vec<ValueId> =
            self.shaped.inputs.iter().map(|shape| graph.value("x", shape, Origin::Input, "op", None)).collect();
        graph.outputs = graph.node(self.shaped.op, &inputs, "y", "op", 0);
        lower(&graph, target, &self.choices, Program::default(), &HashMap::new()).expect("lowers").program
    }

    fn on_device(&self, gpu: &Gpu, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut case = Case::forward("alone", "alone", &self.shaped);
        case.choices = self.choices.clone();
        let found = case.run_with(gpu, values).block_on().unwrap_or_else(|e| panic!("{:?}: {e}", self.shaped.op));
        case.wanted.iter().map(|(name, _)| found[name].clone()).collect()
    }
}

/// Largest difference, relative to the largest expected value; infinite for NaN.
fn difference(expected: &[f32], found: &[f32]) -> f32 {
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let errors = expected.iter().zip(found).map(|(a, b)| (a - b).abs());
    errors.fold(0.0, |worst: f32, e| if e.is_finite() { worst.max(e) } else { f32::INFINITY }) / largest
}

/// A weight gradient forced to one split.
fn one_split(target: &Target, along: Lanes) -> Choices {
    let fits = |v: &Variant| matches!(v, Variant::Weight(tile) if tile.along == along);
    let Some(Variant::Weight(tile)) = variants(target, ConvOp::Conv2dDWeight, 3, 1).into_iter().find(fits) else {
        panic!("there are variants along {along:?}");
    };
    Choices::force(Variant::Weight(WeightTile { splits: 1, ..tile }))
}

/// Rule `loops`.
#[test]
fn nested_loops_compute_the_same() {
    let gpu = gpu();
    let (k, bias, base) = (3, false, false);
    let per_element = Norm { groups: 1, per_channel: false, relu: false };
    let line: (&[usize], &[usize]) = (&[2, 1, 20_001, 1], &[3, 1, 20_001, 1]);
    let long_line: (&[usize], &[usize]) = (&[1, 1, 140_001, 1], &[2, 1, 140_001, 1]);
    let cases = [
        (1e-6, case(Conv2d { k, stride: 1, bias, base }, &[&[16_401, 2, 1, 1], &[3, 16_401, 3, 3]])),
        (1e-6, case(ConvTranspose2d { k, stride: 2, bias, base }, &[&[16_401, 2, 1, 1], &[16_401, 3, 3, 3]])),
        (1e-6, case(Conv2d { k: 1, stride: 1, bias, base }, &[&[70_001, 1, 1, 2], &[3, 70_001]])),
        (
            1e-6,
            Alone {
                choices: one_split(&gpu.target, Lanes::Channels),
                ..case(Conv2dDWeight { k, stride: 1, linear: false }, &[line.0, line.1])
            },
        ),
        (
            1e-6,
            Alone {
                choices: one_split(&gpu.target, Lanes::Pixels),
                ..case(Conv2dDWeight { k, stride: 1, linear: false }, &[long_line.0, long_line.1])
            },
        ),
        (1e-6, case(AvgPool, &[&[2, 200, 101, 3]])),
        (1e-6, case(AvgPoolDInput { h: 200, w: 101 }, &[&[2, 1, 1, 3]])),
        (1e-5, case(NormDAffine { map: [3, 1, 1], per_channel: false }, &[&[3, 16_411, 2]])),
        (1e-5, case(SoftmaxCe, &[&[600_001, 1, 1, 2], &[2]])),
        (1e-5, case(SoftmaxCeDLogits, &[&[600_001, 1, 1, 2], &[2], &[1]])),
    ];
    for (tolerance, case) in cases {
        let values = case.values();
        let found = case.on_device(&gpu, &values);
        for (i, (expected, found)) in case.shaped.twin(&values).iter().zip(&found).enumerate() {
            let error = difference(expected, found);
            assert!(error <= tolerance, "{:?}, result {i}: {error:e}", case.shaped.op);
        }
    }
}

#[test]
fn folded_grids_compute_the_same() {
    let whole = gpu();
    let mut narrow = gpu();
    narrow.target.max_grid = 24;
    let mut folded = BTreeSet::new();
    let (k, bias, base) = (3, true, true);
    let norm = |per_channel| Norm { groups: 5, per_channel, relu: true };
    let (map, pooled, stats): (&[usize], &[usize], &[usize]) = (&[35, 9, 10, 4], &[35, 4, 5, 4], &[2, 5, 4]);
    let (y, large): (&[usize], &[usize]) = (&[33, 9, 10, 4], &[33, 18, 20, 4]);
    let (w, v): (&[usize], &[usize]) = (&[33, 35, 3, 3], &[35, 33, 3, 3]);
    let cases = [
        case(Conv2d { k, stride: 1, bias, base }, &[map, w, &[33], y]),
        case(Conv2d { k: 7, stride: 1, bias, base }, &[map, &[33, 35, 7, 7], &[33], y]),
        case(Conv2d { k: 1, stride: 1, bias, base }, &[map, &[33, 35, 1, 1], &[33], y]),
        case(Conv2dDInput { k, stride: 1, base }, &[y, w, map]),
        case(ConvTranspose2d { k, stride: 2, bias, base }, &[map, v, &[33], large]),
        case(ConvTranspose2dDInput { k, stride: 2, base }, &[large, v, map]),
        case(Conv2dDWeight { k, stride: 1, linear: false }, &[map, y]),
        case(ConvTranspose2dDWeight { k, stride: 2 }, &[map, large]),
        case(Conv2d { k: 7, stride: 1, bias: false, base: false }, &[&[3, 9, 100, 4], &[33, 3, 7, 7]]),
        case(ConvTranspose2d { k, stride: 2, bias: false, base: false }, &[&[3, 9, 100, 4], &[3, 5, 3, 3]]),
        case(Conv2dDWeight { k, stride: 1, linear: false }, &[&[200, 4, 4, 3], &[5, 4, 4, 3]]),
        case(Op::Norm(norm(true)), &[map, &[35], &[35]]),
        case(NormDInput(norm(false)), &[map, stats, &[35, 9, 10], map, map]),
        case(NormDAffine { map: [35, 9, 10], per_channel: true }, &[&[3150, 1, 2]]),
        case(Relu, &[map]),
        case(Add, &[map, map, map]),
        case(MaxPool, &[map]),
        case(MaxPoolDInput { base }, &[map, pooled, map]),
        case(AvgPool, &[&[35, 4, 4, 100]]),
        case(AvgPoolDInput { h: 4, w: 4 }, &[&[35, 1, 1, 100]]),
        case(ChannelSum, &[map]),
        case(SoftmaxCe, &[&[7, 1, 1, 300], &[300]]),
        case(SoftmaxCeDLogits, &[&[7, 1, 1, 300], &[300], &[1]]),
    ];
    for case in cases {
        let values = case.values();
        let launches = case.lowered(&narrow.target).launches;
        folded.extend(launches.iter().filter(|l| l.kernel.settings.is_set("FOLDED")).map(|l| l.kernel.name));
        // The same variants, which the table does not choose by the grid.
        assert_eq!(case.on_device(&whole, &values), case.on_device(&narrow, &values), "{:?}", case.shaped.op);
    }
    for name in ["channel_sum", "conv2d", "conv2d_d_weight_channels", "conv_transpose2d", "max_pool", "product"] {
        assert!(folded.contains(name), "{name} is not among the folded kernels: {folded:?}");
    }
}

/// A plan takes a norm apart as it likes: an image's numbers do not depend on it.
#[test]
fn norms_in_one_launch_and_in_several_have_the_same_bits() {
    let gpu = gpu();
    let mut apart = 0;
    for (map, groups) in [([8, 13, 11, 32], 1), ([8, 13, 11, 32], 4), ([6, 1, 1, 33], 2), ([16, 16, 16, 2], 1)] {
        let norm = Norm { groups, per_channel: groups > 1, relu: true };
        let affine: &[usize] = if norm.per_channel { &map[..1] } else { &map[..3] };
        let stats: &[usize] = &[2, groups, map[3]];
        let forward = case(norm, &[&map, affine, affine]);
        let backward = case(NormDInput(norm), &[&map, stats, affine, &map, &map]);
        for case in [forward, backward] {
            let op = case.shaped.op;
            let mut values = case.shaped.values(|input, count| normal(input as u64 + 1, count));
            row(&op).prepare(&op, &case.shaped.shapes(), &mut values);
            let [one, several] = [true, false].map(|whole| {
                let choices = Choices { norm_whole: Some(whole), ..Choices::default() };
                let alone = Alone { shaped: case.shaped.clone(), choices };
                apart += alone.lowered(&gpu.target).launches.len();
                let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
                alone.on_device(&gpu, &values).into_iter().map(bits).collect::<Vec<_>>()
            });
            assert!(one == several, "{op:?} on {map:?}");
        }
    }
    assert_eq!(apart, 4 * 2 * (1 + 3));
}
