//! Graph passes leave results as they are, and every network equals the one written by twins alone.

use recurve::check::network::run_network;
use recurve::gpu::{Gpu, Options};
use recurve::graph::checker;
use recurve::graph::compile::{Request, compile};
use recurve::graph::passes::Passes;
use recurve::kernels::choose::Choices;
use recurve::network::NetworkConfig;
use recurve::reference::golden::{NetworkGolden, Results};
use recurve::reference::network::{Config, run};
use recurve::reference::normalise::normalise;
use recurve::reference::random::{SplitMix64, normal};
use recurve::reference::{Tensor, network};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MEAN: [f64; 3] = [120.0, 110.0, 100.0];
const STD: [f64; 3] = [60.0, 55.0, 50.0];

/// A small network that differs from the ordinary one in `changes`.
fn description(changes: Value) -> Value {
    let mut all = json!({
        "image_size": 16, "in_channels": 3, "stem_channels": 4, "area_channels": [4, 8, 16, 32], "kernel_size": 3,
        "lateral": true, "topdown": true, "interaction": "additive", "lt_position": "all", "norm": "LN", "groups": 1,
        "classifier_bias": false, "timesteps": 3, "n_classes": 5,
    });
    for (key, value) in changes.as_object().expect("an object") {
        all[key] = value.clone();
    }
    all
}

/// The network with random parameters and pictures, and what its twin computes.
fn made_up(config_json: Value, n: usize, seed: u64) -> NetworkGolden {
    let config = Config::from_json(&config_json).expect("a valid description");
    let mut params: BTreeMap<String, Tensor> = BTreeMap::new();
    for (i, (name, shape)) in config.parameters().into_iter().enumerate() {
        let count: usize = shape.iter().product();
        let fan_in: usize = shape[1..].iter().product();
        let noise = normal(seed * 1000 + i as u64, count);
        let values = match name.as_str() {
            norm if norm.contains("_ln.weight") => noise.iter().map(|v| 1.0 + 0.3 * v).collect(),
            weight if weight.ends_with("weight") => noise.iter().map(|v| v / (fan_in as f32).sqrt()).collect(),
            _ => noise.iter().map(|v| 0.2 * v).collect(),
        };
        params.insert(name, Tensor { shape, values });
    }
    let size = 16;
    let mut random = SplitMix64::new(seed);
    let images: Vec<u8> = (0..n * size * size * 3).map(|_| random.bits() as u8).collect();
    let x = normalise(&images, size, MEAN, STD);
    let labels: Vec<usize> = (0..n).map(|i| i * 3 % 5).collect();
    let results = run(&config, &params, &x, &labels, 3).expect("the twin runs");
    let tensor = |values: Vec<f32>| Tensor { shape: vec![values.len()], values };
    let expected = results.into_iter().map(|(name, values)| (name, tensor(values))).collect();
    let unused_params = params.keys().filter(|name| !config.is_used(name)).cloned().collect();
    let x = Tensor { shape: vec![n, 3, size, size], values: x };
    let (mean, std, adam3_safe) = (MEAN, STD, BTreeMap::new());
    NetworkGolden { config_json, config, images, mean, std, x, labels, params, unused_params, expected, adam3_safe }
}

/// Largest difference of a tensor, relative to its largest value (at least 1e-3, so that a tensor of zeros counts);
/// infinite where either is no number.
fn difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let scale = a.iter().chain(b).fold(1e-3_f64, |m, v| m.max(f64::from(v.abs())));
    let errors = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    let worst = errors.fold(0.0, |m, error| if error.is_finite() { f64::max(m, error) } else { f64::INFINITY });
    if worst.is_finite() { worst / scale } else { f64::INFINITY }
}

#[test]
fn a_difference_sees_what_is_no_number() {
    assert_eq!(difference(&[1.0, 2.0], &[1.0, 1.0]), 0.5);
    for spoilt in [f32::NAN, f32::INFINITY] {
        assert_eq!(difference(&[1.0, spoilt, 2.0], &[1.0, spoilt, 2.0]), f64::INFINITY);
        assert_eq!(difference(&[1.0, 0.0, 2.0], &[1.0, spoilt, 2.0]), f64::INFINITY);
    }
}

/// Everything but parameters after Adam's steps: where a gradient is tiny, the sign of its first update is arbitrary.
fn compare(what: &str, found: &Results, expected: &Results, tolerance: f64) {
    let mut compared = 0;
    for (name, values) in expected {
        if name.starts_with("adam3/") && name != "adam3/losses" {
            continue;
        }
        let error = difference(&found[name], values);
        assert!(error <= tolerance, "{what}: {name} differs by {error:.1e} of its largest value");
        compared += 1;
    }
    assert!(compared > 20, "{what}: only {compared} tensors");
}

#[test]
fn passes_leave_results_and_networks_equal_their_twin() {
    let gpu = Gpu::open(&Options { adapter: None, checked: true }).expect("this test needs an adapter");
    let networks = [
        ("lateral additive", json!({ "topdown": false }), 3),
        ("both multiplicative", json!({ "interaction": "multiplicative" }), 1),
        ("top-down, V1 too", json!({ "lateral": false, "recurrent_from": "v1" }), 3),
        ("both, V1 too, multiplicative", json!({ "recurrent_from": "v1", "interaction": "multiplicative" }), 2),
        ("no norm", json!({ "norm": "None", "classifier_bias": true }), 3),
        ("group norm", json!({ "norm": "GN", "groups": 2 }), 3),
        ("last", json!({ "lt_position": "last" }), 2),
        ("one step", json!({ "timesteps": 1 }), 3),
        ("several steps, no recurrence", json!({ "lateral": false, "topdown": false }), 3),
        ("last, no recurrence", json!({ "lt_position": "last", "lateral": false, "norm": "None" }), 2),
    ];
    for (name, changes, n) in networks {
        let golden = made_up(description(changes), n, 7);
        let config = NetworkConfig::from_golden_json(&golden.config_json.to_string()).expect("valid");
        let twin: Results = golden.expected.iter().map(|(name, t)| (name.clone(), t.values.clone())).collect();
        let run = |passes: Passes| {
            let request = Request {
                config: &config,
                batch: n,
                target: &gpu.target,
                passes,
                choices: Choices::TABLE,
                train: true,
                inspect: true,
                trajectory: false,
            };
            let compiled = compile(&request).expect("compiles");
            checker::check(&compiled.lowered.program, &compiled.plan).expect("a sound plan");
            let before = gpu.allocated();
            let results = run_network(&gpu, &golden, passes, Choices::TABLE).expect("runs");
            assert_eq!(gpu.allocated() - before, compiled.peak_bytes(), "{name}: planned and allocated bytes");
            (results, compiled.lowered.program.launches.len())
        };
        let (all, launches) = run(Passes::default());
        compare(name, &all, &twin, 5e-5);
        let (again, _) = run(Passes::default());
        assert_eq!(all, again, "{name}: the same run gave other bits");
        for pass in Passes::NAMES {
            let (without, more) = run(Passes::without(&[pass]).expect("a known pass"));
            compare(&format!("{name} without {pass}"), &without, &all, 2e-5);
            assert!(more >= launches, "{name}: {pass} adds launches");
        }
        println!("{name}: {launches} launches");
    }
}

#[test]
fn the_twin_has_areas_by_their_names() {
    assert_eq!(network::AREAS, recurve::network::AREAS);
}
