//! What holds for all networks, protocols and files of a kind, on random ones (proptest). `PROPTEST_CASES=N` takes N of each
//! where nothing else is said; a failure is told with the smallest case that fails. Loaders: the tests of `src/dataset/loader.rs`.

use pollster::FutureExt;
use proptest::prelude::*;
use recurve::check::network::run_network;
use recurve::gpu::{Gpu, Options};
use recurve::graph::checker;
use recurve::graph::compile::{Request, compile};
use recurve::graph::passes::Passes;
use recurve::graph::taps::{Quantity, Tap};
use recurve::kernels::Target;
use recurve::kernels::choose::Choices;
use recurve::network::{Architecture, Description, Preset, Protocol, RunConfig, Schedule, TrainingConfig};
use recurve::reference::golden::made_up;
use recurve::train::{Checkpoint, DataState};
use recurve::trajectory::npz::{Extraction, StoredBatch, StoredExtraction};
use recurve::weights::{self, Form, encode};
use serde_json::{Value, json};

/// As many cases as `PROPTEST_CASES` says, else so many. Failures are shown, not kept in files.
fn cases(usually: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok().map(|n| n.parse().expect("PROPTEST_CASES is a number"));
    ProptestConfig { cases: asked.unwrap_or(usually), failure_persistence: None, ..ProptestConfig::default() }
}

/// What is drawn for an area, and for the connection from the one below.
#[derive(Clone, Debug)]
struct Layer {
    groups: usize,
    channels: usize,
    norm: &'static str,
    activation: &'static str,
    interaction: &'static str,
    kernel: usize,
    stride: usize,
    pool: usize,
    bias: Option<bool>,
    lateral: Option<usize>,
    /// The kernel of a top-down connection to the area below.
    down: Option<usize>,
    /// And to the one below that.
    far: Option<usize>,
}

fn layer() -> impl Strategy<Value = Layer> {
    let kernel = || prop::sample::select(vec![1_usize, 3, 5]);
    let area = (
        1_usize..4,
        1_usize..4,
        prop::sample::select(vec!["none", "layer", "group"]),
        prop::sample::select(vec!["relu", "relu", "none"]),
        prop::sample::select(vec!["additive", "multiplicative"]),
    );
    let connection = (kernel(), prop::sample::select(vec![1_usize, 1, 2]), 1_usize..3, any::<Option<bool>>());
    let recurrent = (prop::option::of(kernel()), prop::option::of(kernel()), prop::option::of(kernel()));
    (area, connection, recurrent).prop_map(
        |((groups, channels, norm, activation, interaction), (kernel, stride, pool, bias), (lateral, down, far))| {
            Layer {
                groups: if norm == "group" { groups } else { 1 },
                channels: channels * groups,
                norm,
                activation,
                interaction,
                kernel,
                stride,
                pool,
                bias,
                lateral,
                down,
                far,
            }
        },
    )
}

/// A network of one to four areas one above the other, with lateral and top-down connections, of pictures of 8 x 8 pixels.
fn architecture() -> impl Strategy<Value = Value> {
    let unroll = prop::sample::select(vec!["biological", "engineering"]);
    (prop::collection::vec(layer(), 1..5), unroll, 0_usize..3, any::<bool>(), any::<bool>()).prop_map(
        |(layers, unroll, more, readout_bias, vector)| {
            let (mut areas, mut connections, mut side, mut sides) = (Vec::new(), Vec::new(), 8_usize, Vec::new());
            for (i, one) in layers.iter().enumerate() {
                let name = format!("a{i}");
                areas.push(json!({
                    "name": name, "channels": one.channels, "norm": one.norm, "groups": one.groups,
                    "activation": one.activation, "interaction": one.interaction,
                }));
                let stride = if side.is_multiple_of(one.stride) { one.stride } else { 1 };
                let pool = if (side / stride).is_multiple_of(one.pool) && i > 0 { one.pool } else { 1 };
                side /= stride * pool;
                sides.push(side);
                let from = if i == 0 { "input".into() } else { format!("a{}", i - 1) };
                let mut up = json!({
                    "from": from, "to": name, "kind": "bottom_up", "kernel": one.kernel, "stride": stride, "pool": pool,
                });
                if let Some(bias) = one.bias {
                    up["bias"] = bias.into();
                }
                connections.push(up);
                if let Some(kernel) = one.lateral {
                    connections.push(json!({"from": name, "to": name, "kind": "lateral", "kernel": kernel}));
                }
                for (below, kernel, called) in [(1, one.down, "down"), (2, one.far, "far")] {
                    if let (Some(kernel), Some(to)) = (kernel, i.checked_sub(below)) {
                        let stride: usize = sides[to] / side;
                        if stride <= 4 {
                            connections.push(json!({
                                "from": name, "to": format!("a{to}"), "kind": "top_down", "name": called,
                                "kernel": kernel, "stride": stride,
                            }));
                        }
                    }
                }
            }
            if vector {
                let (last, channels) = (layers.len() - 1, layers[layers.len() - 1].channels);
                areas.push(json!({"name": "gap", "channels": channels, "pool": "average", "norm": "none"}));
                connections.push(json!({"from": format!("a{last}"), "to": "gap", "kind": "bottom_up"}));
            }
            json!({
                "image_size": 8, "classes": 3, "timesteps": areas.len() + more, "unroll": unroll,
                "readout_bias": readout_bias, "areas": areas, "connections": connections,
            })
        },
    )
}

/// A protocol for networks in which there may be no lateral or top-down connection.
fn protocol() -> impl Strategy<Value = Option<Value>> {
    let gain = prop::sample::select(vec![0.0, 0.5, 2.0]);
    let show = prop::sample::select(vec!["blank", "next"]);
    prop::option::of((gain, 0_usize..3, 1_usize..4, show, 1_usize..5).prop_map(|(gain, from, steps, show, at)| {
        json!({
            "timesteps": 8,
            "gains": [{"connection": "a0.bottom_up", "gain": gain, "from": from, "until": from + steps}],
            "inputs": [{"from": at, "show": show}],
        })
    }))
}

fn read(json: &Value) -> Architecture {
    Architecture::from_golden_json(&json.to_string()).unwrap_or_else(|e| panic!("{json}: {e}"))
}

proptest! {
    #![proptest_config(cases(48))]

    /// Any network under any protocol, for adapters of several kinds, compiles to a program whose plan is sound by a checker that
    /// shares nothing with the planner.
    #[test]
    fn plans_are_sound(
        json in architecture(), protocol in protocol(), batch in 1_usize..6, parts in 1_usize..3, train: bool,
        [hoist, fuse, fold, reuse] in any::<[bool; 4]>(), adapter in 0_usize..3, taps in 0_usize..3,
    ) {
        let network = read(&json).network().unwrap();
        let protocol = protocol.map(|json| Protocol::from_golden_json(&json.to_string()).unwrap());
        if let Some(protocol) = &protocol {
            protocol.validate(&network).unwrap();
        }
        let schedule = Schedule::new(&network, protocol.as_ref());
        let cpu = Target { cpu: true, subgroup: 8, ..Target::minimum() };
        let narrow = Target { max_binding: 100_000, max_buffer: 150_000, ..cpu.clone() };
        let target = &[Target::minimum(), cpu, narrow][adapter];
        let taps = [vec![], Tap::everything(&network), vec![Tap::series(Quantity::Logits)]][taps].clone();
        let passes = Passes { hoist, fuse, fold, reuse };
        let train = train && protocol.is_none(); // networks are trained undisturbed
        let parts = if train { parts } else { 1 };
        let plain = Request::training(&network, &schedule, batch, target);
        let request = Request { passes, train, parts, taps: &taps, ..plain };
        let compiled = compile(&request).unwrap_or_else(|e| panic!("{request:?}: {e}"));
        checker::check(&compiled.program, &compiled.plan).unwrap_or_else(|e| panic!("{request:?}: {e}"));
    }

    /// A configuration that is written and read again is the same.
    #[test]
    fn configurations_round_trip(
        json in architecture(), own: bool, batch in 1_usize..1 << 20, steps in 1_u64..1 << 40, rate in 1e-30_f64..1e30,
        beta in 0.0_f64..0.999, seed in 0..i64::MAX as u64, every: u32, path in "\\PC{1,20}", split in "[a-z\"\\\\]{1,8}",
    ) {
        let mut run = Preset::Tiny.run();
        if own {
            run.network = Description::Own(read(&json));
        }
        run.classes_open = false;
        (run.data.path, run.data.train_split) = (Some(path), split);
        run.training = TrainingConfig {
            batch, steps: Some(steps), epochs: None, learning_rate: rate, beta1: beta, seed, checkpoint_every: every.into(),
            ..run.training
        };
        prop_assert_eq!(RunConfig::parse(&run.to_toml()).unwrap(), run);
    }

    /// Checkpoints and exported weights hold every bit of every parameter.
    #[test]
    fn checkpoints_and_weights_round_trip(json in architecture(), seed: u32) {
        let mut run = Preset::Tiny.run();
        run.network = Description::Own(read(&json));
        run.training.seed = seed.into();
        run.classes_open = false;
        let mut checkpoint = Checkpoint::initial(&run, DataState::unknown(3));
        (checkpoint.state.step, checkpoint.state.adam_step) = (seed.into(), seed.into());
        checkpoint.adam_m = checkpoint.parameters.clone();
        let bytes = checkpoint.to_bytes().unwrap();
        prop_assert_eq!(&Checkpoint::from_bytes(&bytes).unwrap(), &checkpoint);
        prop_assert_eq!(&checkpoint.to_bytes().unwrap(), &bytes);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, encode(&checkpoint, Form::Safetensors).unwrap()).unwrap();
        prop_assert_eq!(&weights::read(&path).unwrap().tensors, &checkpoint.parameters);
    }

    /// So do state dicts of the published family in PyTorch's format.
    #[test]
    fn state_dicts_round_trip(
        stem in 1_usize..6, channels in any::<[u8; 4]>(), kernel in 0_usize..3, lateral: bool, topdown: bool, bias: bool,
        seed: u32,
    ) {
        let mut network = Preset::Tiny.network();
        network.image_size = 8;
        network.stem_channels = stem;
        network.area_channels = channels.map(|n| 1 + usize::from(n % 5));
        network.kernel_size = 2 * kernel + 1;
        (network.lateral, network.topdown, network.readout_bias) = (lateral, topdown, bias);
        let mut run = Preset::Tiny.run();
        run.network = network.clone().into();
        run.training.seed = seed.into();
        run.classes_open = false;
        let checkpoint = Checkpoint::initial(&run, DataState::unknown(network.classes));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pth");
        std::fs::write(&path, encode(&checkpoint, Form::Pth).unwrap()).unwrap();
        prop_assert_eq!(&weights::read(&path).unwrap().tensors, &checkpoint.parameters);
    }

    /// Stored activity is read back to the bit, whole and by rows.
    #[test]
    fn extractions_round_trip(
        timesteps in 1_usize..4, samples in 1_usize..6, classes in 1_usize..5, features in 1_usize..6, bias: bool, seed: u64,
    ) {
        let draw = |stream: u64, n: usize| -> Vec<f64> {
            recurve::reference::random::normal(seed ^ stream, n).into_iter().map(f64::from).collect()
        };
        let one = Extraction {
            timesteps, samples, classes, features,
            outputs: draw(1, timesteps * samples * classes),
            labels: (0..samples).map(|i| (seed as usize ^ i) % classes).collect(),
            representations: draw(2, timesteps * samples * features),
            readout_weight: draw(3, classes * features),
            readout_bias: bias.then(|| draw(4, classes)),
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        one.write(&path).unwrap();
        prop_assert_eq!(&Extraction::read(&path).unwrap(), &one);
        let mut stored = StoredExtraction::open(&path).unwrap();
        let (mut batch, ids) = (StoredBatch::default(), (0..samples as u32).rev().collect::<Vec<_>>());
        stored.read(&ids, samples, &mut batch).unwrap();
        for (place, id) in ids.iter().enumerate() {
            for t in 0..timesteps {
                for (d, value) in one.representation(t, *id as usize).iter().enumerate() {
                    prop_assert_eq!(f64::from(batch.representations[(t * features + d) * samples + place]), *value);
                }
            }
        }
    }
}

/// Random networks under random protocols on the device: forward, and backward and Adam's step where nothing is disturbed,
/// against the twins.
#[test]
fn networks_on_the_device_are_those_of_the_twins() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let strategy = (architecture(), protocol(), 1_usize..5, any::<u32>(), any::<[bool; 4]>());
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        cases(6),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let result = runner.run(&strategy, |(json, protocol, images, seed, [hoist, fuse, fold, reuse])| {
        let golden = made_up(None, Some(json), protocol, images, seed.into())
            .map_err(|e| TestCaseError::fail(format!("the twins refuse it: {e}")))?;
        let passes = Passes { hoist, fuse, fold, reuse };
        let found = run_network(&gpu, &golden, passes, Choices::TABLE).block_on();
        let found = found.map_err(|e| TestCaseError::fail(e.to_string()))?;
        // A gradient whose terms nearly cancel has their rounding, and they are as large as those of the network's others.
        let compared = golden.compare(&found);
        let gradient = |tensor: &str| tensor.starts_with("grad/");
        let of_terms = compared.iter().filter(|one| gradient(&one.tensor)).map(|one| one.allowed).fold(0.0, f64::max);
        for one in compared {
            prop_assert!(
                one.passes() || (gradient(&one.tensor) && one.error <= of_terms),
                "{}[{}]: {} where {} is expected, error {:.1e}, {:.1e} allowed",
                one.tensor,
                one.position,
                one.found,
                one.expected,
                one.error,
                one.allowed
            );
        }
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}
