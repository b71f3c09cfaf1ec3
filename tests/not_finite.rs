//! A NaN anywhere in the parameters reaches the loss, so that training stops at its step: no kernel may swallow it.
//! Each kernel by itself: one NaN in one operand comes out at every result that depends on it.

use pollster::FutureExt;
use recurve::check::case::Case;
use recurve::check::rows::{Shaped, operations, row};
use recurve::dataset::{Batch, Normaliser, Pictures};
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Options, Store};
use recurve::graph::compile::Request;
use recurve::kernels::choose::{Choices, ConvOp, Variant, variants};
use recurve::kernels::conv::{Lanes, Source};
use recurve::network::{NetworkConfig, Normalisation, Preset, Schedule, initialise};
use recurve::ops::*;
use recurve::reference::random::normal;

#[test]
fn a_parameter_that_is_nan_makes_the_loss_nan() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let small = NetworkConfig { image_size: 16, timesteps: 2, ..Preset::Tiny.network() };
    let images = 3;
    let data = (0..3 * 16 * 16 * images).map(|i| (13 * i % 256) as u8).collect();
    let batch = Batch::new(Pictures { data, labels: vec![0, 1, 2], n: images, side: 16 }, images);
    for norm in [Normalisation::Layer, Normalisation::None] {
        let config = NetworkConfig { norm, ..small.clone() };
        let (network, schedule) = (config.network(), Schedule::plain(config.timesteps));
        let request = Request::forward(&network, &schedule, images, &gpu.target);
        let mut engine = Engine::new(&gpu, &request, &mut Store::default()).block_on().expect("compiles");
        engine.set_normaliser(&Normaliser::new([127.5; 3], [74.0; 3]));
        let mut loss = |name: &str, value: f32| {
            let mut values = initialise(&network.parameters, 1);
            if let Some(tensor) = values.get_mut(name) {
                tensor.values.fill(value);
            }
            engine.set_parameters(&values).expect("all are there");
            engine.feed(&batch).block_on().unwrap();
            engine.run();
            engine.scores(images).block_on().expect("runs").loss[1]
        };
        assert!(loss("none", 0.0).is_finite());
        for name in
            ["retina.weight", "v1.bottom_up.weight", "v2.lateral.weight", "gap.lateral.weight", "readout.weight"]
        {
            // A NaN of either sign: x86 makes those of inf - inf negative, other machines positive.
            for bits in [0xffc0_0000, 0x7fc0_0000] {
                let found = loss(name, f32::from_bits(bits));
                assert!(found.is_nan(), "{norm:?}, {name} = NaN ({bits:x}): the loss is {found}");
            }
        }
        assert!(!loss("readout.weight", f32::INFINITY).is_finite(), "{norm:?}: infinite logits");
    }
}

/// The first number that is not finite is found where it is made: operation, area, timestep and tensor.
#[test]
fn the_first_number_that_is_not_finite_is_named() {
    let gpu = Gpu::open(&Options::default()).block_on().expect("this test needs an adapter");
    let config = NetworkConfig { image_size: 16, timesteps: 3, norm: Normalisation::None, ..Preset::Tiny.network() };
    let (network, schedule, images) = (config.network(), Schedule::plain(config.timesteps), 2);
    let request = Request::training(&network, &schedule, images, &gpu.target);
    let mut engine = Engine::new(&gpu, &request, &mut Store::default()).block_on().expect("compiles");
    engine.set_normaliser(&Normaliser::new([127.5; 3], [74.0; 3]));
    let data = (0..3 * 16 * 16 * images).map(|i| (13 * i % 256) as u8).collect();
    let batch = Batch::new(Pictures { data, labels: vec![0, 1], n: images, side: 16 }, images);
    let clean = initialise(&network.parameters, 1);
    let hyper = Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let mut first = |name: &str, value: f32| {
        let mut values = clean.clone();
        if let Some(tensor) = values.get_mut(name) {
            tensor.values.fill(value);
        }
        engine.set_parameters(&values).expect("all are there");
        engine.set_moments(&clean.zeros(), &clean.zeros()).expect("all are there");
        engine.set_step(&hyper, 1, 1.0).block_on().unwrap();
        engine.feed(&batch).block_on().unwrap();
        let found = engine.first_not_finite(false).block_on().expect("runs");
        found.or_else(|| engine.first_not_finite(true).block_on().expect("runs"))
    };
    assert_eq!(first("none", 0.0), None, "a step of finite numbers");
    // Lateral input is there from the second step on. Packing the weight may be what meets it first.
    let found = first("v2.lateral.weight", f32::NAN).expect("a number that is not finite");
    assert!(found.area == "v2" && found.value.is_nan() && found.label.contains(" v2."), "{found}");
    assert!(found.timestep.is_none_or(|t| t == 1), "{found}");
    // Finite weights whose products are too large, met in the area where that happens.
    let found = first("v4.bottom_up.weight", 3e38).expect("a number that is not finite");
    assert!(found.area == "v4" && found.to_string().contains("area v4"), "{found}");
}

/// An operation and the variant that it is forced to.
struct Alone {
    shaped: Shaped,
    choices: Choices,
}

impl Alone {
    fn on_device(&self, gpu: &Gpu, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut case = Case::forward("alone", "alone", &self.shaped);
        case.choices = self.choices.clone();
        let found = case.run_with(gpu, values).block_on().unwrap_or_else(|e| panic!("{:?}: {e}", self.shaped.op));
        case.wanted.iter().map(|(name, _)| found[name].clone()).collect()
    }
}

/// Every operation of the table, each flag apart, and the convolutions by every method. Kernels above 3x3 have the same text.
fn all(gpu: &Gpu) -> Vec<Alone> {
    let large = |shaped: &Shaped| ["k: 5", "k: 7"].iter().any(|k| format!("{:?}", shaped.op).contains(k));
    let table = operations(&gpu.target).into_iter().filter(|shaped| !large(shaped));
    let mut list: Vec<Alone> = table.map(|shaped| Alone { shaped, choices: Choices::default() }).collect();
    let (x, y, w): (&[usize], &[usize], &[usize]) = (&[35, 6, 5, 4], &[33, 6, 5, 4], &[33, 35, 3, 3]);
    let (k, base, bias) = (3, false, false);
    // One variant of each source and method.
    let mut seen = Vec::new();
    let mut forced = |variant: Variant, op: Op, inputs: &[&[usize]]| {
        let kind = match variant {
            Variant::Conv(tile) => {
                format!("{} {:?} {:?} {}", op.name(), tile.source == Source::Shared, tile.winograd, tile.wide)
            }
            Variant::Weight(tile) => {
                format!("{} {} {} {}", op.name(), tile.along == Lanes::Pixels, tile.subgroup, tile.wide)
            }
        };
        if !seen.contains(&kind) {
            seen.push(kind);
            list.push(Alone { shaped: Shaped::new(op, inputs), choices: Choices::force(variant) });
        }
    };
    for variant in variants(&gpu.target, ConvOp::Conv2d, k, 1) {
        forced(variant, Conv2d { k, stride: 1, bias, base }.into(), &[x, w]);
    }
    for variant in variants(&gpu.target, ConvOp::Conv2dDWeight, k, 1) {
        forced(variant, Conv2dDWeight { k, stride: 1, linear: false }.into(), &[x, y]);
    }
    list
}

/// Rule `nan`.
#[test]
fn one_nan_comes_through_every_kernel() {
    let gpus = [true, false]
        .map(|checked| Gpu::open(&Options { checked, ..Options::default() }).block_on().expect("an adapter"));
    let mut depend = 0;
    for case in all(&gpus[0]) {
        let op = case.shaped.op;
        let clean = case.shaped.values(|input, count| normal(input as u64 + 1, count));
        for operand in 0..clean.len() {
            if operand == 1 && matches!(op, Op::SoftmaxCe(_) | Op::SoftmaxCeDLogits(_)) {
                continue; // labels
            }
            let many = clean[operand].len();
            for (at, bits) in [(0, 0x7fc0_0000), (many / 2, 0xffc0_0000), (many - 1, 0x7fc0_0000)] {
                let mut values = clean.clone();
                values[operand][at] = f32::from_bits(bits);
                if operand == 0 && matches!(op, Op::NormDInput(_)) {
                    // The statistics of x are NaN with it.
                    let mut of_nan = values.clone();
                    row(&op).prepare(&op, &case.shaped.shapes(), &mut of_nan);
                    values[1] = of_nan.swap_remove(1);
                }
                if operand == 2 && values.len() == 5 && matches!(op, Op::NormDInput(_)) {
                    // So is what was normalised with this gamma, whose rectification decides where gradients flow.
                    let per_gamma = values[0].len() / many;
                    values[4][at * per_gamma..(at + 1) * per_gamma].fill(f32::NAN);
                }
                let expected = case.shaped.twin(&values);
                for gpu in &gpus {
                    let found = case.on_device(gpu, &values);
                    for (number, (expected, found)) in expected.iter().zip(&found).enumerate() {
                        let swallowed = (0..expected.len()).find(|&i| expected[i].is_nan() && !found[i].is_nan());
                        depend += expected.iter().filter(|v| v.is_nan()).count();
                        assert!(
                            swallowed.is_none(),
                            "{:?}, {:?}: NaN at {at} of operand {operand} is lost at {swallowed:?} of result {number}",
                            op,
                            case.choices.forced
                        );
                    }
                }
            }
        }
    }
    assert!(depend > 10_000, "only {depend} results depend on a NaN");
}
