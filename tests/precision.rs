//! Half precision: kernels against twins that round what is stored, memory, the loss scale, and runs that go on.

mod own;

use assert_cmd::Command;
use own::{batch, network, open};
use pollster::FutureExt;
use recurve::check::cases::table;
use recurve::dataset::Normaliser;
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Store};
use recurve::graph::compile::{Request, compile};
use recurve::graph::fit::{best_parts, largest_batch};
use recurve::graph::precision::{packed, unpacked};
use recurve::kernels::Target;
use recurve::network::{Precision, Preset, Schedule, initialise};
use recurve::ops::{Hyper, LossScale};
use recurve::tensors::Tensors;
use recurve::train::run_folder::read_metrics;
use recurve::train::{Checkpoint, Event};
use std::path::Path;

const HYPER: Hyper = Hyper { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/// Rule `right-first`, in half precision.
#[test]
fn kernels_agree_with_twins_that_round_what_is_stored() {
    let gpu = open();
    let cases: Vec<_> = table(&gpu.target).into_iter().filter(|case| case.name.ends_with("in f16")).collect();
    assert!(cases.len() > 60, "only {} cases", cases.len());
    let mut failed = Vec::new();
    for case in &cases {
        match case.run(&gpu).block_on() {
            Ok(found) => {
                let again = case.run(&gpu).block_on().expect("as before");
                let bits = |results: &recurve::reference::golden::Results| -> Vec<u32> {
                    results.values().flatten().map(|v| v.to_bits()).collect()
                };
                let bad = case.compare(&found).iter().any(|one| !one.passes());
                if bad || bits(&found) != bits(&again) {
                    failed.push(format!("{} [{}]: {:?}", case.name, case.kind, case.compare(&found)));
                }
            }
            Err(error) => failed.push(format!("{} [{}]: {error}", case.name, case.kind)),
        }
    }
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

/// Numbers are stored as IEEE 754 rounds them, whatever the driver's packing does: half way to the even one, beyond the range to
/// infinity; a NaN stays one.
#[test]
fn what_is_stored_is_rounded_as_ieee_has_it() {
    let gpu = open();
    let step = 2.0_f32.powi(-10);
    let mut values = vec![1.0 + step / 2.0, 1.0 + 1.5 * step, 1.0 + step / 2.0 + 1e-6, -1.0 - step / 2.0 - 1e-6];
    values.extend([65_504.0, 65_519.9, 65_520.0, -65_520.0, 1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
    values.extend([2.0_f32.powi(-14), 3.0e-5 + 1e-9, 0.0, -0.0]);
    let expected = unpacked(&packed(&values));
    let shape = [1, 2, 2, values.len() / 4];
    // x + 0, from f32 to f16.
    let mut graph = recurve::graph::Graph::default();
    let x = graph.value("x", &shape, recurve::graph::Origin::Input, "op", None);
    let zero = graph.value("zero", &shape, recurve::graph::Origin::Input, "op", None);
    let y = graph.node(recurve::ops::Add, &[x, zero], "y", "op", 0)[0];
    graph.values[y.0].half = true;
    graph.outputs.push(y);
    let bits = values.iter().map(|v| v.to_bits()).collect();
    let inputs = [(x, bits), (zero, vec![0; values.len()])];
    let choices = recurve::kernels::choose::Choices::TABLE;
    let found = recurve::check::run::run_graph(&gpu, &graph, choices, &inputs, &[y]).block_on().unwrap().remove(0);
    for ((value, expected), found) in values.iter().zip(expected).zip(found) {
        if value.abs() >= 2.0_f32.powi(-14) || *value == 0.0 {
            assert!(found == expected || found.is_nan() && expected.is_nan(), "{value}: {found}, not {expected}");
        } else {
            assert!((found - value).abs() <= 2.0_f32.powi(-24) || value.is_nan() && found.is_nan(), "{value}: {found}");
        }
    }
}

#[test]
fn maps_take_half_of_the_memory() {
    let target = Target { cpu: true, subgroup: 8, ..Target::minimum() };
    let network = Preset::Blt64.network().network();
    let schedule = Schedule::plain(network.timesteps);
    let f32 = Request::training(&network, &schedule, 16, &target);
    let mixed = Request { precision: Precision::Mixed, ..f32.clone() };
    let [f32, both] = [&f32, &mixed].map(|request| compile(request).unwrap().peak_bytes());
    assert!(both as f64 <= 0.6 * f32 as f64, "{both} of {f32} bytes");
    // Within a bound of memory too.
    let bounded = compile(&Request { memory: Some(both * 6 / 10), ..mixed.clone() }).unwrap();
    assert!(bounded.bound.as_ref().is_some_and(|bound| bound.met), "{:?}", bounded.bound);
}

#[test]
fn images_come_in_pairs() {
    let target = Target::minimum();
    let network = Preset::Tiny.network().network();
    let schedule = Schedule::plain(network.timesteps);
    let request = Request { precision: Precision::Mixed, ..Request::training(&network, &schedule, 7, &target) };
    let error = compile(&request).unwrap_err().to_string();
    assert!(error.contains("even number") && error.contains('7'), "{error}");
    assert!(largest_batch(&request).unwrap() > 2);
    assert_eq!(12 / best_parts(&request, 12, 5).unwrap(), 2, "parts of two images");
}

/// An engine of the small network in mixed precision.
fn engine<'g>(gpu: &'g Gpu, parts: usize, clip: bool) -> Engine<'g> {
    let network = network("engineering", 4);
    let schedule = Schedule::plain(network.timesteps);
    let training = Request::training(&network, &schedule, 6, &gpu.target);
    let request = Request { precision: Precision::Mixed, parts, clip, ..training };
    let mut engine = Engine::new(gpu, &request, &mut Store::default()).block_on().expect("fits");
    let start: Tensors = initialise(&network.parameters, 3);
    engine.set_normaliser(&Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]));
    engine.set_parameters(&start).expect("all parameters");
    engine.set_moments(&start.zeros(), &start.zeros()).expect("all parameters");
    if clip {
        engine.set_clip_norm(1.0);
    }
    engine
}

fn step(engine: &Engine, number: u64) -> LossScale {
    engine.set_step(&HYPER, number, 1.0).block_on().unwrap();
    for (part, batch) in batch(number, 6 * engine.parts).parts(engine.parts).iter().enumerate() {
        engine.feed(batch).block_on().unwrap();
        engine.pass_part(part == 0).block_on().unwrap();
    }
    engine.update();
    engine.loss_scale().block_on().unwrap().expect("mixed precision has one")
}

#[test]
fn a_step_whose_gradients_overflow_changes_nothing_but_the_scale() {
    let gpu = open();
    for (parts, clip) in [(1, false), (2, true)] {
        let engine = engine(&gpu, parts, clip);
        let state = || (engine.parameters().block_on().unwrap(), engine.moments().block_on().unwrap());
        let first = step(&engine, 1);
        assert_eq!((first.scale, first.good_steps, first.skipped), (65_536.0, 1, 0), "{first:?}");
        assert!((first.first - 0.1).abs() < 1e-6 && (first.second - 1e-3).abs() < 1e-8, "{first:?}");
        let before = state();
        engine.set_loss_scale(LossScale { scale: 2.0_f32.powi(60), ..first });
        let skipped = step(&engine, 2);
        assert_eq!(skipped, LossScale { scale: 2.0_f32.powi(59), good_steps: 0, skipped: 1, ..first });
        assert!(state() == before, "parameters or moments have changed");
        // It halves until gradients fit again, and then the network learns.
        let mut last = skipped;
        for number in 3..70 {
            last = step(&engine, number);
            if last.good_steps > 0 {
                break;
            }
        }
        assert!(last.good_steps == 1 && last.scale >= 1.0 && last.skipped > 10, "{last:?}");
        assert!(state() != before);
        engine.set_loss_scale(LossScale { good_steps: LossScale::GROWTH - 1, scale: 512.0, ..last });
        let grown = step(&engine, 80);
        assert_eq!((grown.scale, grown.good_steps), (1024.0, 0), "{grown:?}");
    }
}

/// Rule `same-bytes`: gradients are those of f32 to the rounding of what is stored, whatever the loss scale.
#[test]
fn gradients_are_those_of_f32() {
    let gpu = open();
    let gradients = |precision| {
        let network = network("engineering", 4);
        let schedule = Schedule::plain(network.timesteps);
        let request = Request { precision, ..Request::training(&network, &schedule, 6, &gpu.target) };
        let mut engine = Engine::new(&gpu, &request, &mut Store::default()).block_on().expect("fits");
        let start: Tensors = initialise(&network.parameters, 3);
        engine.set_normaliser(&Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]));
        engine.set_parameters(&start).expect("all parameters");
        engine.set_moments(&start.zeros(), &start.zeros()).expect("all parameters");
        engine.set_step(&HYPER, 1, 1.0).block_on().unwrap();
        engine.feed(&batch(1, 6)).block_on().unwrap();
        engine.pass();
        engine.gradients().block_on().unwrap()
    };
    let (full, half) = (gradients(Precision::F32), gradients(Precision::Mixed));
    assert_eq!(bits(&half), bits(&gradients(Precision::Mixed)));
    for (name, tensor) in full.iter() {
        let scaled = half.values(name).unwrap().iter().map(|v| f64::from(*v) / 65_536.0);
        let size = |list: &mut dyn Iterator<Item = f64>| list.map(|v| v * v).sum::<f64>().sqrt();
        let difference = size(&mut tensor.values.iter().zip(scaled).map(|(a, b)| f64::from(*a) - b));
        let whole = size(&mut tensor.values.iter().map(|v| f64::from(*v)));
        assert!(difference < 0.02 * whole + 1e-9, "{name}: {difference:e} of {whole:e}");
        assert!(difference > 0.0 || whole == 0.0, "{name} has the bits of f32");
    }
}

fn bits(tensors: &Tensors) -> Vec<u32> {
    tensors.iter().flat_map(|(_, tensor)| tensor.values.iter().map(|v| v.to_bits())).collect()
}

const DATA: &str = "glyphs:train=40,val=10,test=12,testplus=12,difficulty=0";
const CONFIG: &str = "
[network]
image_size = 16
stem_channels = 4
area_channels = [4, 4, 8, 8]
topdown = true
timesteps = 2

[training]
batch = 4
steps = 12
checkpoint_every = 6
precision = \"mixed\"
";

fn recurve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recurve"));
    command.args(arguments).env("NO_COLOR", "1");
    command
}

fn newest(root: &Path) -> Checkpoint {
    Checkpoint::read(&root.join("checkpoint.safetensors")).unwrap()
}

#[test]
fn a_run_in_mixed_precision_goes_on_with_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("small.toml"), CONFIG).unwrap();
    let train = |name: &str, flags: &[&str]| {
        let mut command = recurve(&["train", "--data", DATA, "--seed", "5", "--no-tune", "--config"]);
        command.arg(path("small.toml")).arg("--out").arg(path(name)).args(flags).assert().success();
    };
    train("whole", &[]);
    train("parted", &["--steps", "6"]);
    recurve(&["train", "--steps", "12", "--resume"]).arg(path("parted")).assert().success();
    let bytes = |name: &str| std::fs::read(path(name).join("checkpoint.safetensors")).unwrap();
    assert!(bytes("whole") == bytes("parted"), "another checkpoint");
    let state = newest(&path("whole")).state;
    let scale = state.loss_scale.expect("mixed precision has one");
    assert_eq!((u64::from(scale.good_steps + scale.skipped), state.training.precision), (12, Precision::Mixed));
    let events = read_metrics(&path("whole")).unwrap();
    let mut logged =
        events.iter().filter_map(|e| if let Event::Step { loss_scale, .. } = e { *loss_scale } else { None });
    assert_eq!(logged.next_back(), Some(scale.scale));
    // f32 is what a file without the key says, and what the flag asks for.
    train("f32", &["--precision", "f32"]);
    let f32 = newest(&path("f32"));
    assert_eq!((f32.state.loss_scale, f32.state.training.precision), (None, Precision::F32));
    assert!(!std::fs::read_to_string(path("f32").join("config.toml")).unwrap().contains("precision"));
    recurve(&["train", "--precision", "f32", "--resume"]).arg(path("whole")).assert().failure();
}
