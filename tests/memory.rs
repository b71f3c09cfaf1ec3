//! Training steps within a bound of memory: what is given up and computed again changes no bit, what is packed to f16 rounds
//! gradients and nothing else.

mod own;

use assert_cmd::Command;
use own::{batch, description, network, open};
use pollster::FutureExt;
use recurve::dataset::Normaliser;
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Store};
use recurve::graph::checker::replay;
use recurve::graph::compile::{Compiled, Request, compile};
use recurve::graph::fit::best_parts;
use recurve::graph::passes::Passes;
use recurve::kernels::Target;
use recurve::kernels::choose::{Choices, Variant};
use recurve::kernels::conv::{Lanes, WeightTile};
use recurve::kernels::pace::Pace;
use recurve::network::{Network, Preset, Schedule, initialise};
use recurve::ops::Hyper;
use recurve::reference;
use recurve::tensors::Tensors;
use serde_json::Value;
use std::collections::BTreeMap;

const IMAGES: usize = 6;

/// Scores, gradients and parameters of three training steps, as bits; and what was compiled.
fn trained(gpu: &Gpu, request: &Request) -> (Vec<Vec<u32>>, Compiled) {
    let mut engine = Engine::new(gpu, request, &mut Store::default()).block_on().expect("fits");
    let network: &Network = request.network;
    let start: Tensors = initialise(&network.parameters, 3);
    engine.set_normaliser(&Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]));
    engine.set_parameters(&start).expect("all parameters");
    engine.set_moments(&start.zeros(), &start.zeros()).expect("all parameters");
    let mut bits: Vec<Vec<u32>> = Vec::new();
    let mut keep = |tensors: &Tensors| {
        assert!(tensors.not_finite().is_none());
        bits.extend(tensors.iter().map(|(_, t)| t.values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>()));
    };
    for number in 1..=3 {
        let hyper = Hyper { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        engine.set_step(&hyper, number, 1.0).block_on().unwrap();
        for (part, batch) in batch(number, IMAGES * engine.parts).parts(engine.parts).iter().enumerate() {
            engine.feed(batch).block_on().unwrap();
            engine.pass_part(part == 0).block_on().unwrap();
        }
        keep(&engine.gradients().block_on().expect("read"));
        engine.update();
        keep(&engine.parameters().block_on().expect("read"));
    }
    (bits, engine.compiled)
}

/// So much per cent of the way from the smallest plan to that without a bound.
fn between(request: &Request, free: &Compiled, share: u64) -> u64 {
    let least = compile(&Request { memory: Some(1), ..request.clone() }).expect("compiles");
    assert!(least.bound.as_ref().is_some_and(|bound| !bound.met));
    let least = least.peak_bytes();
    least + (free.peak_bytes() - least) * share / 100
}

/// Rule `same-bytes`.
#[test]
fn what_is_computed_again_has_the_same_bits() {
    let gpu = open();
    for unroll in ["engineering", "biological"] {
        let network = network(unroll, 6);
        let schedule = Schedule::plain(network.timesteps);
        let mut again = 0.0;
        for (parts, passes) in [
            (1, Passes::default()),
            (2, Passes::default()),
            (1, Passes { fold: false, ..Passes::default() }),
            (1, Passes { hoist: false, fuse: false, ..Passes::default() }),
        ] {
            let plain = Request::training(&network, &schedule, IMAGES, &gpu.target);
            let request = Request { parts, passes, ..plain };
            let (expected, free) = trained(&gpu, &request);
            for share in [60, 30, 5] {
                let memory = between(&request, &free, share);
                let request = Request { memory: Some(memory), ..request.clone() };
                let compiled = compile(&request).expect("compiles");
                let bound = compiled.bound.clone().expect("it was asked for");
                assert!(bound.met, "{unroll}, {parts} parts, {passes:?}, {share} %: {bound:?}");
                again = bound.extra_operations.max(again);
                let phases = &compiled.phases;
                let submissions = [phases.pass.clone(), phases.accumulate.clone(), phases.update.clone()];
                replay(&compiled.program, &compiled.plan, &submissions).expect("sound");
                let (found, compiled) = trained(&gpu, &request);
                assert!(compiled.peak_bytes() <= memory);
                assert!(found == expected, "{unroll}, {parts} parts, {passes:?}, {share} %: {bound:?}");
            }
        }
        assert!(again > 0.0, "{unroll}: nothing was computed again");
    }
}

/// Lanes that exchange their sums start anew with each launch: sums of timesteps that come apart round differently, and are right.
#[test]
fn sums_of_timesteps_that_come_apart_are_right_with_every_kind_of_lanes() {
    let gpu = open();
    let network = network("engineering", 6);
    let schedule = Schedule::plain(network.timesteps);
    for splits in [1, 3] {
        let lanes = if gpu.target.subgroup > 0 { gpu.target.subgroup as usize } else { 8 };
        let along = Lanes::Pixels;
        let tile = WeightTile { along, subgroup: false, lanes, r: 1, c: 1, unroll: 1, vec: 1, wide: false, splits };
        let choices = Choices::force(Variant::Weight(tile));
        let request = Request { choices: &choices, ..Request::training(&network, &schedule, IMAGES, &gpu.target) };
        let (expected, free) = trained(&gpu, &request);
        let memory = Some(between(&request, &free, 40));
        let (found, compiled) = trained(&gpu, &Request { memory, ..request.clone() });
        assert!(compiled.program.launches.len() > free.program.launches.len());
        // The gradients of the first step, before rounding has gone through an update.
        let first = expected.len() / 6;
        for (expected, found) in expected[..first].iter().zip(&found) {
            let values = |bits: &[u32]| bits.iter().map(|b| f32::from_bits(*b)).collect::<Vec<f32>>();
            let (expected, found) = (values(expected), values(found));
            let largest = expected.iter().fold(1e-6_f32, |most, v| most.max(v.abs()));
            let apart = expected.iter().zip(&found).fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
            assert!(apart <= 1e-5 * largest, "{splits} splits: {apart:e} of {largest:e}");
        }
    }
}

/// What one pass gives.
struct OnePass {
    scores: Vec<u64>,
    gradients: BTreeMap<String, Vec<f32>>,
    compiled: Compiled,
}

/// The scores and gradients of one pass over `images` pictures.
fn one_pass(gpu: &Gpu, request: &Request, images: usize) -> OnePass {
    let mut engine = Engine::new(gpu, request, &mut Store::default()).block_on().expect("fits");
    engine.set_normaliser(&Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]));
    engine.set_parameters(&initialise(&request.network.parameters, 3)).expect("all parameters");
    let hyper = Hyper { learning_rate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    engine.set_step(&hyper, 1, 1.0).block_on().unwrap();
    engine.feed(&batch(1, images)).block_on().unwrap();
    engine.pass();
    let scores = engine.scores(images).block_on().unwrap();
    let scores: Vec<u64> = [scores.loss, scores.correct].concat().into_iter().map(f64::to_bits).collect();
    let gradients = engine.gradients().block_on().unwrap();
    assert!(gradients.not_finite().is_none());
    let gradients = gradients.iter().map(|(name, t)| (name.clone(), t.values.clone())).collect();
    OnePass { scores, gradients, compiled: engine.compiled }
}

/// The same gradients by the twins alone, from the description.
fn by_twins(unroll: &str, timesteps: usize, images: usize) -> BTreeMap<String, Vec<f32>> {
    let twin = reference::network::architecture::network(&description(unroll, timesteps)).unwrap();
    let of = |(name, of): (&String, &recurve::tensors::Tensor)| {
        (name.clone(), reference::Tensor { shape: of.shape.clone(), values: of.values.clone() })
    };
    let parameters = initialise(&network(unroll, timesteps).parameters, 3).iter().map(of).collect();
    let pictures = batch(1, images);
    let pixel = |i: usize, channel: usize, place: usize| f32::from(pictures.pictures[(i * 256 + place) * 3 + channel]);
    let (mean, std) = ([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]);
    let cells = (0..images).flat_map(|i| (0..3).flat_map(move |c| (0..256).map(move |place| (i, c, place))));
    let x: Vec<f32> = cells.map(|(i, c, place)| (pixel(i, c, place) - mean[c]) / std[c]).collect();
    let labels: Vec<usize> = pictures.labels.iter().map(|&label| label as usize).collect();
    let all = reference::network::train(&twin, &parameters, &x, &labels, 0).unwrap();
    let gradients =
        all.into_iter().filter_map(|(name, values)| Some((name.strip_prefix("grad/")?.to_string(), values)));
    gradients.collect()
}

/// The Euclidean norm of the difference of two tensors, by that of the second.
fn apart(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |list: &mut dyn Iterator<Item = f64>| list.map(|v| v * v).sum::<f64>().sqrt();
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    difference / (norm(&mut expected.iter().map(|v| f64::from(*v))) + 1e-9)
}

/// Rule `same-bytes`: what is packed changes no bit of the forward pass, and gradients by no more than f16 rounds.
#[test]
fn what_is_packed_rounds_gradients_and_nothing_else() {
    /// Most that packing may change of a gradient, by its norm; as much as mixed precision may.
    const MOST: f64 = 0.02;
    let (gpu, images) = (open(), 24);
    // In a network as small as this a launch costs more than what it computes: an adapter is planned for that computes slowly.
    let target = Target { pace: Some(Pace { operations: 1e9, bytes: 1e10 }), ..gpu.target.clone() };
    for unroll in ["engineering", "biological"] {
        let network = network(unroll, 6);
        let schedule = Schedule::plain(network.timesteps);
        let plain = Request::training(&network, &schedule, images, &target);
        let free = one_pass(&gpu, &plain, images);
        let twins = by_twins(unroll, 6, images);
        let mut packed = 0;
        for share in [30, 5, 0] {
            let memory = Some(between(&plain, &free.compiled, share));
            let request = Request { memory, pack: true, ..plain.clone() };
            let OnePass { scores, gradients, compiled } = one_pass(&gpu, &request, images);
            let bound = compiled.bound.clone().expect("it was asked for");
            assert!(bound.met && Some(compiled.peak_bytes()) <= memory, "{unroll}, {share} %: {bound:?}");
            let phases = &compiled.phases;
            let submissions = [phases.pass.clone(), phases.update.clone()];
            replay(&compiled.program, &compiled.plan, &submissions).expect("sound");
            assert_eq!(scores, free.scores, "{unroll}, {share} %: {bound:?}");
            let again = one_pass(&gpu, &request, images);
            assert_eq!(again.gradients, gradients, "{unroll}, {share} %: not the same bits again");
            if bound.packed == 0 {
                assert_eq!(gradients, free.gradients, "{unroll}, {share} %: {bound:?}");
                continue;
            }
            packed = bound.packed.max(packed);
            assert_ne!(gradients, free.gradients, "{unroll}, {share} %: {bound:?}");
            let mut worst = 0.0_f64;
            for (name, gradient) in &gradients {
                let [of_f32, of_twins] = [apart(gradient, &free.gradients[name]), apart(gradient, &twins[name])];
                assert!(
                    of_f32 <= MOST && of_twins <= MOST,
                    "{unroll}, {share} %, {name}: {of_f32:.1e}, {of_twins:.1e}"
                );
                worst = worst.max(of_f32);
            }
            println!("{unroll}, {share} %: {} values packed, gradients {worst:.1e} apart", bound.packed);
        }
        assert!(packed > 0, "{unroll}: nothing was packed");
        // Where everything fits, nothing is packed.
        let request = Request { memory: Some(free.compiled.peak_bytes()), pack: true, ..plain.clone() };
        let loose = one_pass(&gpu, &request, images);
        assert!(loose.gradients == free.gradients && loose.compiled.bound.is_some_and(|bound| bound.packed == 0));
    }
}

#[test]
fn packing_costs_less_than_computing_again() {
    let network = Preset::Blt64.network().network();
    let schedule = Schedule::plain(network.timesteps);
    let target = Target { max_binding: 1 << 31, max_buffer: 1 << 31, ..Target::minimum() };
    let plain = Request::training(&network, &schedule, 32, &target);
    let free = compile(&plain).unwrap().peak_bytes();
    for share in [50, 40, 30] {
        let request = Request { memory: Some(free * share / 100), ..plain.clone() };
        let bound = |pack| {
            let compiled = compile(&Request { pack, ..request.clone() }).unwrap();
            let bound = compiled.bound.clone().unwrap();
            assert!(bound.met && compiled.peak_bytes() <= bound.bytes, "{share} %: {bound:?}");
            bound
        };
        let (without, with) = (bound(false), bound(true));
        assert!(without.packed == 0 && with.packed > 0, "{without:?} {with:?}");
        assert!(with.extra_time <= without.extra_time + 0.01, "{share} %: {with:?} is no better than {without:?}");
        assert!(share > 30 || with.extra_time < 0.5 * without.extra_time, "{share} %: {with:?} {without:?}");
    }
    // Two images share a word.
    let odd = compile(&Request { batch: 7, memory: Some(free), pack: true, ..plain.clone() }).unwrap_err().to_string();
    assert!(odd.contains("even number") && odd.contains('7'), "{odd}");
    // What cannot be reached either way is as small as without packing.
    let least = |pack| compile(&Request { memory: Some(1), pack, ..plain.clone() }).unwrap().peak_bytes();
    assert!(least(true) <= least(false));
}

/// Where a timestep is work enough for a launch, it has a sum of its own with and without a bound.
#[test]
fn large_sums_come_apart_on_gpus_with_the_same_bits() {
    let network = Preset::Blt64.network().network();
    let schedule = Schedule::plain(network.timesteps);
    let target = Target { max_binding: 1 << 31, max_buffer: 1 << 31, ..Target::minimum() };
    let request = Request::training(&network, &schedule, 8, &target);
    let free = compile(&request).unwrap();
    let memory = Some(free.peak_bytes() * 6 / 10);
    let bounded = compile(&Request { memory, ..request }).unwrap();
    assert!(bounded.bound.as_ref().is_some_and(|bound| bound.met));
    assert_eq!(bounded.stretches, free.stretches);
    let ones = free.stretches.values().filter(|list| list.len() > 1 && list.iter().all(|&steps| steps == 1));
    assert!(ones.count() >= 5, "{:?}", free.stretches);
}

#[test]
fn the_published_network_within_shares_of_its_memory() {
    let network = Preset::Blt64.network().network();
    let schedule = Schedule::plain(network.timesteps);
    let cpu =
        Target { cpu: true, subgroup: 8, pace: None, max_binding: 1 << 31, max_buffer: 1 << 31, ..Target::minimum() };
    let plain = Request::training(&network, &schedule, 16, &cpu);
    let free = compile(&plain).unwrap().peak_bytes();
    let mut before = 0.0;
    for share in [100, 60, 45, 35] {
        let memory = Some(free * share / 100);
        let compiled = compile(&Request { memory, ..plain.clone() }).unwrap();
        let bound = compiled.bound.clone().unwrap();
        assert!(
            bound.met && compiled.peak_bytes() <= bound.bytes,
            "{share} %: {} bytes, {bound:?}",
            compiled.peak_bytes()
        );
        assert!(bound.extra_time >= before - 0.01, "less memory is no faster: {bound:?}");
        before = bound.extra_time;
        // The same request gives the same plan.
        let again = compile(&Request { memory, ..plain.clone() }).unwrap();
        assert_eq!((again.plan.slots, again.bound), (compiled.plan.slots, compiled.bound));
    }
}

#[test]
fn parts_and_recomputation_are_chosen_together() {
    let network = Preset::Tiny.network().network();
    let schedule = Schedule::plain(network.timesteps);
    let target = Target { cpu: true, subgroup: 8, pace: None, ..Target::minimum() };
    let request = Request::training(&network, &schedule, 1, &target);
    let whole = compile(&Request { batch: 32, ..request.clone() }).unwrap().peak_bytes();
    let seconds = |parts: usize, memory: u64| {
        let request = Request { batch: 32 / parts, parts, memory: Some(memory), ..request.clone() };
        let compiled = compile(&request).unwrap();
        compiled.bound.as_ref().unwrap().met.then(|| compiled.predicted_seconds(&request))
    };
    for share in [100, 60, 30, 22] {
        let memory = whole * share / 100;
        let chosen = best_parts(&Request { memory: Some(memory), ..request.clone() }, 32, 1).unwrap();
        let best = seconds(chosen, memory).expect("what was chosen fits");
        for parts in [1, 2, 4, 8] {
            assert!(
                seconds(parts, memory).is_none_or(|other| best <= 1.01 * other),
                "{share} %: {chosen} parts, not {parts}"
            );
        }
    }
    let error = best_parts(&Request { memory: Some(1000), ..request }, 32, 1).unwrap_err().to_string();
    assert!(error.contains("--memory") && error.contains("largest tensors"), "{error}");
}

fn recurve(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_recurve")).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_bound_is_planned_kept_resumed_and_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let plan = |more: &[&str]| {
        let (code, stdout, stderr) =
            recurve(&[&["plan", "--preset", "tiny", "--batch", "32", "--json"], more].concat());
        let plan: Value = serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}{stderr}"));
        (code, plan)
    };
    let (_, free) = plan(&[]);
    let bytes = free["peak_bytes"].as_u64().unwrap() / 2;
    let memory = bytes.to_string();
    let (code, bounded) = plan(&["--memory", &memory]);
    assert!(code == 0 && bounded["peak_bytes"].as_u64().unwrap() <= bytes, "{bounded}");
    assert!(bounded["bound"]["bytes"] == bytes && bounded["bound"]["extra_time"].is_number(), "{bounded}");
    let (code, refused) = plan(&["--memory", "1MiB"]);
    assert!(code == 1 && refused["fits"] == false, "{refused}");
    for word in ["1.0 MiB are allowed", "the least", "largest tensors"] {
        assert!(refused["why_not"].as_str().unwrap().contains(word), "{refused}");
    }
    let (code, _, stderr) = recurve(&["plan", "--preset", "tiny", "--memory", "6 gigs"]);
    assert!(code == 2 && stderr.contains("6GiB"), "{stderr}");

    let train = |name: &str, more: &[&str]| {
        let flags = ["--data", "glyphs", "--preset", "tiny", "--batch", "32", "--no-tune", "--out"];
        recurve(&[&["train"], &flags[..], &[&run(name)], more].concat())
    };
    let (code, _, stderr) = train("free", &["--steps", "4"]);
    assert_eq!(code, 0, "{stderr}");
    let (code, _, stderr) = train("bounded", &["--steps", "2", "--memory", &memory]);
    assert!(code == 0 && stderr.contains("computed again"), "{stderr}");
    let config = std::fs::read_to_string(folder.path().join("bounded/config.toml")).unwrap();
    assert!(config.contains(&format!("memory = {bytes}")), "{config}");
    let (code, _, stderr) = recurve(&["train", "--resume", &run("bounded"), "--steps", "4"]);
    assert!(code == 0 && stderr.contains("computed again"), "{stderr}");
    let checkpoint = |name: &str| std::fs::read(folder.path().join(name).join("checkpoint.safetensors")).unwrap();
    assert!(checkpoint("free") == checkpoint("bounded"), "a bound changes no byte of a checkpoint");
    let metrics = std::fs::read_to_string(folder.path().join("bounded/metrics.jsonl")).unwrap();
    for line in metrics.lines().filter(|line| line.contains("planned_bytes")) {
        let start: Value = serde_json::from_str(line).unwrap();
        assert_eq!(start["planned_bytes"], start["allocated_bytes"]);
    }
    let (code, _, stderr) = train("refused", &["--steps", "1", "--memory", "1MiB"]);
    assert!(code == 1 && stderr.contains("the least that was found possible"), "{stderr}");
}

#[test]
fn packing_is_asked_for_said_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let plan = |more: &[&str]| {
        let (code, stdout, stderr) =
            recurve(&[&["plan", "--preset", "tiny", "--batch", "32", "--json"], more].concat());
        (code, serde_json::from_str::<Value>(&stdout).unwrap_or(Value::Null), stderr)
    };
    let (_, free, _) = plan(&[]);
    // As much as has something packed.
    let shares = [45, 40, 35, 30];
    let bytes = shares.map(|share| (free["peak_bytes"].as_u64().unwrap() * share / 100).to_string());
    let packing =
        |bytes: &&String| plan(&["--memory", bytes, "--pack-activations"]).1["bound"]["packed"].as_u64() > Some(0);
    let memory = bytes.iter().find(packing).expect("something is packed");
    let (code, packed, _) = plan(&["--memory", memory, "--pack-activations"]);
    assert!(code == 0 && packed["bound"]["met"] == true, "{packed}");
    assert_eq!(plan(&["--memory", memory]).1["bound"]["packed"], 0, "it is not asked for");
    let (code, _, stderr) = plan(&["--pack-activations"]);
    assert!(code == 1 && stderr.contains("--memory"), "{stderr}");
    let (code, _, stderr) = plan(&["--memory", memory, "--pack-activations", "--precision", "mixed"]);
    assert!(code == 1 && stderr.contains("in f16 already"), "{stderr}");

    let train = |name: &str, more: &[&str]| {
        let flags = ["--data", "glyphs", "--preset", "tiny", "--batch", "32", "--no-tune", "--memory", memory, "--out"];
        recurve(&[&["train"], &flags[..], &[&run(name)], more].concat())
    };
    let (code, _, stderr) = train("plain", &["--steps", "4"]);
    assert!(code == 0 && !stderr.contains("packed"), "{stderr}");
    for (name, steps) in [("whole", "4"), ("parted", "2")] {
        let (code, _, stderr) = train(name, &["--pack-activations", "--steps", steps]);
        assert!(code == 0 && stderr.contains("packed to f16"), "{stderr}");
    }
    let (code, _, stderr) = recurve(&["train", "--resume", &run("parted"), "--steps", "4"]);
    assert!(code == 0 && stderr.contains("packed to f16"), "{stderr}");
    let read = |name: &str, file: &str| std::fs::read(folder.path().join(name).join(file)).unwrap();
    assert!(read("whole", "checkpoint.safetensors") == read("parted", "checkpoint.safetensors"), "another checkpoint");
    assert!(read("whole", "checkpoint.safetensors") != read("plain", "checkpoint.safetensors"), "nothing was packed");
    let text = |name: &str, file: &str| String::from_utf8(read(name, file)).unwrap();
    assert!(text("whole", "config.toml").contains("pack_activations = true"));
    let logged = format!("\"packed_values\":{}", packed["bound"]["packed"]);
    assert!(text("whole", "metrics.jsonl").contains(&logged), "{}", text("whole", "metrics.jsonl"));
    assert!(!text("plain", "metrics.jsonl").contains("packed_values"));
    let (code, _, stderr) = recurve(&["train", "--resume", &run("plain"), "--pack-activations", "--steps", "6"]);
    assert!(code == 2 && stderr.contains("--pack-activations"), "{stderr}");
}
