//! Disturbed against undisturbed: distances on a device against their definition in f64, and of networks against their twins.

mod own;

use own::{batch, description, network, open};
use pollster::FutureExt;
use recurve::dataset::Normaliser;
use recurve::dynamics::between::{Between, BetweenStream, stored};
use recurve::engine::Engine;
use recurve::gpu::Store;
use recurve::graph::compile::Request;
use recurve::graph::taps::{Quantity, Tap};
use recurve::network::{Protocol, Schedule, initialise};
use recurve::reference;
use recurve::reference::random::normal;
use recurve::stream::{Portion, Sink};
use recurve::trajectory::measured::Layout;
use recurve::trajectory::npz::Extraction;
use serde_json::json;
use std::collections::BTreeMap;

/// Made-up representations of this size, near `base` where it is given: T, N, D.
fn extraction(
    seed: u64,
    [timesteps, samples, features]: [usize; 3],
    size: f64,
    base: Option<&Extraction>,
) -> Extraction {
    let noise = normal(seed, timesteps * samples * features);
    let value = |i: usize| base.map_or(0.0, |base| base.representations[i]) + size * f64::from(noise[i]);
    Extraction {
        timesteps,
        samples,
        classes: 2,
        features,
        outputs: vec![0.0; timesteps * samples * 2],
        labels: vec![0; samples],
        // What the device gets is f32.
        representations: (0..noise.len()).map(|i| f64::from(value(i) as f32)).collect(),
        readout_weight: vec![1.0; 2 * features],
        readout_bias: None,
    }
}

/// The largest error of any number, relative to the larger norm of its image.
fn worst(found: &Between, expected: &Between) -> f64 {
    let scale = |i: usize| expected.norms[0][i].max(expected.norms[1][i]).max(f64::MIN_POSITIVE);
    let each = |found: &[f64], expected: &[f64], relative: bool| {
        assert_eq!(found.len(), expected.len());
        let error = |i: usize| match (found[i].is_nan(), expected[i].is_nan()) {
            (true, true) => 0.0,
            (false, false) => (found[i] - expected[i]).abs() / if relative { scale(i) } else { 1.0 },
            _ => f64::INFINITY,
        };
        (0..found.len()).map(error).fold(0.0, f64::max)
    };
    let pairs = [(&found.distance, &expected.distance), (&found.norms[0], &expected.norms[0])];
    let lengths = pairs.into_iter().chain([(&found.norms[1], &expected.norms[1])]);
    lengths.map(|(f, e)| each(f, e, true)).fold(each(&found.cosine, &expected.cosine, false), f64::max)
}

#[test]
fn distances_on_the_device_are_those_of_the_definition() {
    let gpu = open();
    for (shape, width) in [([3, 10, 33], 4), ([1, 1, 1], 8), ([4, 70, 64], 64), ([2, 5, 7], 5)] {
        for size in [1.0, 1e20, 1e-25] {
            let mut undisturbed = extraction(1, shape, size, None);
            let mut disturbed = extraction(2, shape, 1e-2 * size, Some(&undisturbed));
            let features = shape[2];
            // The first image is silent, of the last timestep's both.
            undisturbed.representations[..features].fill(0.0);
            let last = (shape[0] - 1) * shape[1] * features;
            for of in [&mut undisturbed, &mut disturbed] {
                of.representations[last..last + features].fill(0.0);
            }
            let found = stored(&gpu, [&disturbed, &undisturbed], width).block_on().unwrap();
            let error = worst(&found, &Between::exact(&disturbed, &undisturbed));
            assert!(error < 1e-6, "{shape:?}, {size}: {error:.1e}");

            let same = stored(&gpu, [&disturbed, &disturbed], width).block_on().unwrap();
            assert!(same.distance.iter().all(|d| *d == 0.0));
            assert!(same.cosine.iter().all(|c| *c == 1.0 || c.is_nan()));
            assert_eq!(same.norms[0], same.norms[1]);
        }
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let gpu = open();
    let plain = extraction(1, [3, 6, 5], 1.0, None);
    for (bad, both) in [(f64::NAN, 0), (f64::INFINITY, 1), (1e30, 0), (f64::NAN, 1)] {
        let mut broken = plain.clone();
        broken.representations[6 * 5 + 7] = bad;
        let networks = if both == 0 { [&broken, &plain] } else { [&plain, &broken] };
        let error = stored(&gpu, networks, 4).block_on().unwrap_err().to_string();
        assert!(error.contains("1 of 6 samples") && error.contains("timestep 1"), "{bad}: {error}");
    }
}

/// The device's two engines against two runs of the twins, which read network and protocol on their own.
#[test]
fn networks_are_as_far_apart_as_their_twins() {
    let gpu = open();
    let images = 5;
    let protocols = [
        json!({"gains": [{"connection": "*.lateral", "gain": 0, "from": 2}]}),
        json!({"gains": [{"connection": "low.top_down", "gain": 0.5}, {"connection": "gap.lateral", "gain": 3, "from": 3}]}),
        json!({"timesteps": 7, "inputs": [{"from": 3, "show": "next"}, {"from": 4, "show": "blank"}]}),
        json!({"timesteps": 7, "gains": [{"connection": "*.top_down", "gain": 0, "from": 1}], "inputs": [{"from": 5, "show": "next"}]}),
    ];
    for (unroll, first) in [("engineering", 0), ("biological", 2)] {
        for protocol in &protocols {
            let (network, text) = (network(unroll, 5), protocol.to_string());
            let read = Protocol::from_golden_json(&text).unwrap();
            read.validate(&network).unwrap();
            let schedule = Schedule::new(&network, Some(&read));
            let undisturbed = schedule.undisturbed();
            let parameters = initialise(&network.parameters, 3);
            let taps = [Quantity::Logits, Quantity::Representation].map(Tap::series);
            let mut engines: Vec<Engine> = Vec::new();
            for schedule in [&schedule, &undisturbed] {
                let mut store = Store::default();
                engines.iter().for_each(|first| first.share_pictures(&mut store));
                let request = Request { taps: &taps, ..Request::forward(&network, schedule, images, &gpu.target) };
                let mut engine = Engine::new(&gpu, &request, &mut store).block_on().unwrap();
                engine.set_parameters(&parameters).unwrap();
                engines.push(engine);
            }
            engines[0].set_normaliser(&Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]));
            let mut pictures = batch(5, images);
            let mut next = pictures.pictures.clone();
            next.rotate_left(16 * 16 * 3);
            pictures.next = Some(next);
            let mut store = Store::default();
            let layout = Layout::share(&mut store, &engines);
            let stream = BetweenStream::new(&gpu, network.features(), images, layout, &mut store);
            let mut stream = stream.block_on().unwrap();
            engines[0].feed(&pictures).block_on().unwrap();
            engines.iter().for_each(Engine::run);
            stream.take(&Portion { engines: &engines, images, first: 0 }).block_on().unwrap();
            let found = stream.finish().block_on().unwrap();

            let twin = reference::network::architecture::network(&description(unroll, 5)).unwrap();
            let of_twin = |(name, of): (&String, &recurve::tensors::Tensor)| {
                let tensor = reference::Tensor { shape: of.shape.clone(), values: of.values.clone() };
                (name.clone(), tensor)
            };
            let twins: BTreeMap<String, reference::Tensor> = parameters.iter().map(of_twin).collect();
            let pixel =
                |i: usize, channel: usize, place: usize| f32::from(pictures.pictures[(i * 256 + place) * 3 + channel]);
            let (mean, std) = ([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]);
            let cells = (0..images).flat_map(|i| (0..3).flat_map(move |c| (0..256).map(move |place| (i, c, place))));
            let x: Vec<f32> = cells.map(|(i, c, place)| (pixel(i, c, place) - mean[c]) / std[c]).collect();
            let labels: Vec<usize> = pictures.labels.iter().map(|&label| label as usize).collect();
            let run = |protocol: &serde_json::Value| {
                let protocol = serde_json::from_value(protocol.clone()).unwrap();
                reference::network::run(&twin, &protocol, &twins, &x, &labels).unwrap()
            };
            let alone = json!({ "timesteps": schedule.timesteps });
            let runs = [run(protocol), run(&alone)];
            let stored = runs.map(|run| {
                let steps = first..schedule.timesteps;
                let representations: Vec<f64> =
                    steps.flat_map(|t| run[&format!("act/gap/{t}")].iter().map(|&r| f64::from(r))).collect();
                let shape = [schedule.timesteps - first, images, network.features()];
                Extraction { representations, ..extraction(1, shape, 1.0, None) }
            });
            let expected = Between::exact(&stored[0], &stored[1]);
            let error = worst(&found, &expected);
            assert!(error < 2e-5, "{unroll}, {text}: {error:.1e}");
            // The same bits until the protocol reaches the readout, other numbers in the end.
            let still = (0..expected.distance.len()).filter(|&i| expected.distance[i] == 0.0);
            assert!(still.into_iter().all(|i| found.distance[i] == 0.0), "{unroll}, {text}");
            assert!(found.distance.iter().any(|d| *d > 1e-2), "{unroll}, {text}: {:?}", found.distance);
        }
    }
}
