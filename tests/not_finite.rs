//! A NaN anywhere in the parameters reaches the loss, so that training stops at its step: no kernel may swallow it.
//! Each kernel by itself: one NaN in one operand comes out at every result that depends on it.

use recurve::check::run::run_graph;
use recurve::check::twin::{Operand, prepare, results_of};
use recurve::dataset::{Batch, Normaliser, Pictures};
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Options, Store};
use recurve::graph::compile::Request;
use recurve::graph::{Graph, Origin, ValueId};
use recurve::kernels::choose::{Choices, ConvOp, Variant, variants};
use recurve::kernels::conv::{Lanes, Source};
use recurve::network::{NetworkConfig, Normalisation, Preset, Schedule, initialise};
use recurve::ops::*;
use recurve::reference::random::normal;

#[test]
fn a_parameter_that_is_nan_makes_the_loss_nan() {
    let gpu = Gpu::open(&Options { adapter: None, checked: true }).expect("this test needs an adapter");
    let small = NetworkConfig { image_size: 16, timesteps: 2, ..Preset::Tiny.network() };
    let images = 3;
    let data = (0..3 * 16 * 16 * images).map(|i| (13 * i % 256) as u8).collect();
    let batch = Batch::new(Pictures { data, labels: vec![0, 1, 2], n: images, side: 16 }, images);
    for norm in [Normalisation::Layer, Normalisation::None] {
        let config = NetworkConfig { norm, ..small.clone() };
        let (network, schedule) = (config.network(), Schedule::plain(config.timesteps));
        let request = Request::forward(&network, &schedule, images, &gpu.target);
        let mut engine = Engine::new(&gpu, &request, &mut Store::default()).expect("compiles");
        engine.set_normaliser(&Normaliser::new([127.5; 3], [74.0; 3]));
        let mut loss = |name: &str, value: f32| {
            let mut values = initialise(&network.parameters, 1);
            if let Some(tensor) = values.get_mut(name) {
                tensor.values.fill(value);
            }
            engine.set_parameters(&values).expect("all are there");
            engine.feed(&batch).unwrap();
            engine.run();
            engine.scores(images).expect("runs").loss[1]
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

/// An operation, the shapes of its inputs, and the variant that it is forced to.
struct Alone {
    op: Op,
    inputs: Vec<Vec<usize>>,
    choices: Choices,
}

impl Alone {
    fn new(op: impl Into<Op>, inputs: &[&[usize]]) -> Alone {
        Alone {
            op: op.into(),
            inputs: inputs.iter().map(|shape| shape.to_vec()).collect(),
            choices: Choices::default(),
        }
    }

    fn shapes(&self) -> Vec<&[usize]> {
        self.inputs.iter().map(Vec::as_slice).collect()
    }

    fn values(&self) -> Vec<Vec<f32>> {
        let shapes = self.shapes();
        let mut values: Vec<Vec<f32>> =
            shapes.iter().enumerate().map(|(i, s)| normal(i as u64 + 1, s.iter().product())).collect();
        prepare(&self.op, &shapes, &mut values);
        values
    }

    fn on_device(&self, gpu: &Gpu, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let mut graph = Graph::default();
        let inputs: Vec<ValueId> =
            self.inputs.iter().map(|shape| graph.value("x", shape, Origin::Input, "op", None)).collect();
        let outputs = graph.node(self.op, &inputs, "y", "op", 0);
        graph.outputs = outputs.clone();
        let words = values.iter().map(|v| v.iter().map(|x| x.to_bits()).collect());
        let fed: Vec<(ValueId, Vec<u32>)> = inputs.into_iter().zip(words).collect();
        run_graph(gpu, &graph, &self.choices, &fed, &outputs).unwrap_or_else(|e| panic!("{:?}: {e}", self.op))
    }

    fn twin(&self, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let shapes = self.shapes();
        let operands: Vec<Operand> =
            shapes.iter().zip(values).map(|(shape, values)| Operand { shape, values }).collect();
        let results = self.op.output_shapes(&shapes);
        results_of(&self.op, &operands, &results.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

/// Every operation, and the convolutions by every method.
fn operations(gpu: &Gpu) -> Vec<Alone> {
    let (map, pooled, parity) = ([5, 6, 4, 4], [5, 3, 2, 4], [3, 5, 3, 3]);
    let (x, small, large): (&[usize], &[usize], &[usize]) = (&[35, 6, 5, 4], &[35, 3, 4, 2], &[33, 6, 8, 2]);
    let (y, one): (&[usize], &[usize]) = (&[33, 6, 5, 4], &[3, 1, 1, 4]);
    let (w, v): (&[usize], &[usize]) = (&[33, 35, 3, 3], &[35, 33, 3, 3]);
    let (k, base, bias) = (3, false, false);
    let mut list = Vec::new();
    for per_channel in [false, true] {
        for relu in [false, true] {
            let norm = Norm { groups: 1, per_channel, relu };
            let (affine, stats): (Vec<usize>, &[usize]) =
                (if per_channel { vec![5] } else { vec![5, 6, 4] }, &[2, 1, 4]);
            let rectified: &[&[usize]] = if relu { &[&map] } else { &[] };
            list.push(Alone::new(norm, &[&map, &affine, &affine]));
            list.push(Alone::new(NormDInput(norm), &[&[&map, stats, &affine, &map], rectified].concat()));
            list.push(Alone::new(NormDAffine(norm), &[&[&map[..], stats, &map], rectified].concat()));
        }
    }
    list.extend([
        Alone::new(Relu, &[&map]),
        Alone::new(ReluDInput, &[&map, &map]),
        Alone::new(Add, &[&map, &map, &map]),
        Alone::new(Modulate, &[&map, &map]),
        Alone::new(ModulateDDrives, &[&map, &map, &map]),
        Alone::new(MaxPool, &[&map]),
        Alone::new(MaxPool, &[&parity]),
        Alone::new(MaxPoolDInput { base: true }, &[&map, &pooled, &map]),
        Alone::new(MaxPoolDInput { base }, &[&parity, &[3, 2, 1, 3]]),
        Alone::new(AvgPool, &[&map]),
        Alone::new(AvgPoolDInput { h: 3, w: 5 }, &[one]),
        Alone::new(ChannelSum, &[&map, &map]),
        Alone::new(SoftmaxCe, &[&[7, 1, 1, 3], &[3]]),
        Alone::new(SoftmaxCeDLogits, &[&[7, 1, 1, 3], &[3], &[1]]),
        Alone::new(Scale { at: 1 }, &[&map, &[3]]),
        Alone::new(Accumulate, &[&[9], &[9], &[1]]),
        Alone::new(Normalise { side: 2, images: 3 }, &[&[9], &[3, 256]]),
        Alone::new(Conv2d { k: 1, stride: 1, bias: true, base: true }, &[x, &[33, 35, 1, 1], &[33], y]),
        Alone::new(Conv2d { k, stride: 1, bias: true, base: true }, &[x, w, &[33], y]),
        Alone::new(Conv2dDInput { k, stride: 1, base }, &[y, w]),
        Alone::new(Conv2dDWeight { k, stride: 1, linear: false }, &[x, x, y, y]),
        Alone::new(ConvTranspose2d { k, stride: 2, bias, base }, &[small, v]),
        Alone::new(ConvTranspose2dDInput { k, stride: 2, base }, &[large, v]),
        Alone::new(ConvTranspose2dDWeight { k, stride: 2 }, &[small, large]),
    ]);
    // One variant of each source and method.
    let mut seen = Vec::new();
    let mut forced = |variant: Variant, op: Op, inputs: &[&[usize]]| {
        let kind = match variant {
            Variant::Conv(tile) => format!("{} {:?} {:?}", op.name(), tile.source == Source::Shared, tile.winograd),
            Variant::Weight(tile) => format!("{} {} {}", op.name(), tile.along == Lanes::Pixels, tile.subgroup),
        };
        if !seen.contains(&kind) {
            seen.push(kind);
            list.push(Alone { choices: Choices::force(variant), ..Alone::new(op, inputs) });
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

#[test]
fn one_nan_comes_through_every_kernel() {
    let gpus = [true, false].map(|checked| Gpu::open(&Options { adapter: None, checked }).expect("an adapter"));
    let mut depend = 0;
    for case in operations(&gpus[0]) {
        let clean = case.values();
        for operand in 0..clean.len() {
            if operand == 1 && matches!(case.op, Op::SoftmaxCe(_) | Op::SoftmaxCeDLogits(_)) {
                continue; // labels
            }
            let many = clean[operand].len();
            for (at, bits) in [(0, 0x7fc0_0000), (many / 2, 0xffc0_0000), (many - 1, 0x7fc0_0000)] {
                let mut values = clean.clone();
                values[operand][at] = f32::from_bits(bits);
                if operand == 0 && matches!(case.op, Op::NormDInput(_) | Op::NormDAffine(_)) {
                    // The statistics of x are NaN with it.
                    let (shapes, mut of_nan) = (case.shapes(), values.clone());
                    prepare(&case.op, &shapes, &mut of_nan);
                    values[1] = of_nan.swap_remove(1);
                }
                if operand == 2 && values.len() == 5 && matches!(case.op, Op::NormDInput(_)) {
                    // So is what was normalised with this gamma, whose rectification decides where gradients flow.
                    let per_gamma = values[0].len() / many;
                    values[4][at * per_gamma..(at + 1) * per_gamma].fill(f32::NAN);
                }
                let expected = case.twin(&values);
                for gpu in &gpus {
                    let found = case.on_device(gpu, &values);
                    for (number, (expected, found)) in expected.iter().zip(&found).enumerate() {
                        let swallowed = (0..expected.len()).find(|&i| expected[i].is_nan() && !found[i].is_nan());
                        depend += expected.iter().filter(|v| v.is_nan()).count();
                        assert!(
                            swallowed.is_none(),
                            "{:?}, {:?}: NaN at {at} of operand {operand} is lost at {swallowed:?} of result {number}",
                            case.op,
                            case.choices.forced
                        );
                    }
                }
            }
        }
    }
    assert!(depend > 10_000, "only {depend} results depend on a NaN");
}
