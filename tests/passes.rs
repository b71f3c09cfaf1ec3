//! Graph passes leave results as they are, and every network equals the one written by twins alone.

use pollster::FutureExt;
use recurve::check::network::run_network;
use recurve::gpu::{Gpu, Options};
use recurve::graph::checker;
use recurve::graph::compile::{Request, compile};
use recurve::graph::passes::Passes;
use recurve::graph::taps::Tap;
use recurve::kernels::choose::Choices;
use recurve::network::{NetworkConfig, Schedule};
use recurve::reference::golden::{Results, made_up};
use recurve::reference::network::blt;
use serde_json::{Value, json};

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
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
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
        let config_json = description(changes);
        let config = NetworkConfig::from_golden_json(&config_json.to_string()).expect("valid");
        let golden = made_up(Some(config_json), None, None, n, 7).expect("a valid description");
        let twin: Results = golden.expected.iter().map(|(name, t)| (name.clone(), t.values.clone())).collect();
        let run = |passes: Passes| {
            let (network, schedule) = (config.network(), Schedule::plain(config.timesteps));
            let taps = Tap::everything(&network);
            let request = Request { passes, taps: &taps, ..Request::training(&network, &schedule, n, &gpu.target) };
            let compiled = compile(&request).expect("compiles");
            checker::check(&compiled.program, &compiled.plan).expect("a sound plan");
            let before = gpu.allocated();
            let results = run_network(&gpu, &golden, passes, Choices::TABLE).block_on().expect("runs");
            assert_eq!(gpu.allocated() - before, compiled.peak_bytes(), "{name}: planned and allocated bytes");
            (results, compiled.program.launches.len())
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
    assert_eq!(blt::AREAS, recurve::network::AREAS);
}
