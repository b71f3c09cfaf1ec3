//! `recurve bisect`: equal executions agree bit for bit, other kernel variants and passes within tolerance, and a number that is
//! changed in one tensor is found in its place. Needs an adapter.

mod own;

use assert_cmd::Command;
use own::{batch, network, open};
use pollster::FutureExt;
use recurve::bisect::{Compared, Execution, Findings, Reference, Settings, Step, Trace, bisect, direct, trace};
use recurve::dataset::Normaliser;
use recurve::gpu::Gpu;
use recurve::graph::compile::{Request, compile};
use recurve::graph::passes::Passes;
use recurve::kernels::choose::Choices;
use recurve::network::{Schedule, initialise};
use recurve::ops::Hyper;
use safetensors::SafeTensors;
use serde_json::Value;
use std::path::Path;
use std::process::Output;

const IMAGES: usize = 5;
const TIMESTEPS: usize = 3;

fn step(seed: u64) -> Step {
    let network = network("engineering", TIMESTEPS);
    Step {
        parameters: initialise(&network.parameters, 3),
        network,
        normaliser: Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]),
        batch: batch(seed, IMAGES),
        hyper: Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        what: "a step".into(),
    }
}

fn execution<'g>(gpu: &'g Gpu, passes: Passes, choices: &Choices) -> Execution<'g> {
    Execution::new(gpu, &step(1), passes, choices, "of a test").block_on().expect("compiles")
}

/// The direct method for all shapes of the step.
fn all_direct(gpu: &Gpu) -> Choices {
    let (step, schedule) = (step(1), Schedule::plain(TIMESTEPS));
    let request = Request::training(&step.network, &schedule, IMAGES, &gpu.target);
    direct(&compile(&request).expect("compiles").uses, &gpu.target)
}

fn compare(this: &mut Execution, reference: &mut Reference, settings: Settings) -> (Findings, Vec<Compared>) {
    let mut all = Vec::new();
    let findings = bisect(this, reference, settings, &mut |c| all.push(c.clone())).block_on().expect("runs");
    assert_eq!(findings.compared, all.len());
    assert_eq!(findings.beyond, all.iter().filter(|c| !c.passed).count());
    (findings, all)
}

#[test]
fn equal_executions_agree_in_all_bits() {
    let gpu = open();
    for passes in [Passes::default(), Passes { hoist: false, fuse: false, fold: false, reuse: false }] {
        let mut this = execution(&gpu, passes, Choices::TABLE);
        let tensors = this.facts().count();
        let learned = this.facts().filter(|f| f.stands_for.iter().any(|what| what.starts_with("gradient "))).count();
        assert_eq!(learned, step(1).network.parameters.len(), "the gradient of every parameter");
        assert!(this.facts().any(|f| !f.backward) && this.facts().any(|f| f.backward));
        let other = execution(&gpu, passes, Choices::TABLE);
        let mut reference = Reference::of(other, &this).block_on().expect("runs");
        assert!(matches!(reference, Reference::Beside(_)));
        let (findings, _) = compare(&mut this, &mut reference, Settings { tolerance: 0.0, drift: true });
        assert_eq!((findings.compared, findings.identical, findings.left_out), (tensors, tensors, 0));
        assert!(findings.first.is_none() && findings.largest.is_none() && findings.grown.is_none());
    }
}

#[test]
fn other_variants_and_shared_memory_are_within_tolerance() {
    let gpu = open();
    let direct = all_direct(&gpu);
    // With and without sharing of memory: what is read has not been overwritten.
    for passes in [Passes::default(), Passes { reuse: false, ..Passes::default() }] {
        for drift in [false, true] {
            let mut this = execution(&gpu, passes, Choices::TABLE);
            let other = execution(&gpu, Passes::default(), &direct);
            let mut reference = Reference::of(other, &this).block_on().expect("runs");
            let (findings, all) = compare(&mut this, &mut reference, Settings { drift, ..Settings::default() });
            assert_eq!(findings.left_out, 0);
            assert!(findings.beyond == 0, "{:?}", findings.first);
            // Winograd's method rounds differently: it is seen, and where each operation is judged alone only in convolutions.
            let differ = all.iter().filter(|c| !c.identical).count();
            assert!(differ > 0, "nothing was computed differently");
            let elsewhere = all.iter().find(|c| !c.identical && !c.facts.operation.starts_with("conv"));
            match drift {
                false => assert!(elsewhere.is_none(), "{elsewhere:?}"),
                true => assert!(elsewhere.is_some() && findings.grown.is_some()),
            }
        }
    }
}

#[test]
fn other_passes_are_compared_by_what_both_have() {
    let gpu = open();
    let with = |name: &str| Passes::without(&[name]).expect("a pass");
    for pass in ["hoist", "fuse", "fold"] {
        let mut this = execution(&gpu, with(pass), Choices::TABLE);
        let mut reference =
            Reference::of(execution(&gpu, Passes::default(), Choices::TABLE), &this).block_on().unwrap();
        assert!(matches!(reference, Reference::Traced(_)));
        let (findings, all) = compare(&mut this, &mut reference, Settings::default());
        assert!(findings.beyond == 0 && findings.left_out > 0, "{pass}: {:?}", findings.first);
        let meanings: Vec<&str> = all.iter().flat_map(|c| c.facts.stands_for.iter().map(String::as_str)).collect();
        for spec in &step(1).network.parameters {
            assert!(meanings.contains(&format!("gradient {}", spec.name).as_str()), "{pass}: {}", spec.name);
        }
        for t in 0..TIMESTEPS {
            for area in ["retina", "low", "high", "gap"] {
                assert!(meanings.contains(&format!("{area} activation t={t}").as_str()), "{pass}: {area} at {t}");
            }
        }
    }
}

/// Changes one number of a trace: the tensor, the element, what becomes of it.
fn change(path: &Path, tensor: &str, element: usize, to: impl Fn(f32) -> f32) {
    let mut bytes = std::fs::read(path).unwrap();
    let (header, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let at = 8 + header + metadata.info(tensor).unwrap().data_offsets.0 + 4 * element;
    let number: &mut [u8; 4] = (&mut bytes[at..at + 4]).try_into().unwrap();
    *number = to(f32::from_le_bytes(*number)).to_le_bytes();
    std::fs::write(path, bytes).unwrap();
}

/// An element in the second half of a tensor that is not small: what is not 0 stays so when it is changed a little.
fn large_element(path: &Path, tensor: &str, largest: f32) -> usize {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor(tensor).unwrap();
    let values: Vec<f32> = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let half = values.len() / 2;
    half + values[half..].iter().position(|v| v.abs() > 0.1 * largest).unwrap()
}

#[test]
fn a_changed_number_is_found_in_its_place() {
    let gpu = open();
    let folder = tempfile::tempdir().unwrap();
    let (good, bad) = (folder.path().join("good.safetensors"), folder.path().join("bad.safetensors"));
    let (tensors, bytes) =
        trace::write(&mut execution(&gpu, Passes::default(), Choices::TABLE), &good).block_on().unwrap();
    assert_eq!(bytes, std::fs::metadata(&good).unwrap().len());
    let against = |path: &Path, settings: Settings| {
        let mut this = execution(&gpu, Passes::default(), Choices::TABLE);
        let trace = Trace::open(path).unwrap();
        this.was_given(&trace.head.given, "the trace").unwrap();
        compare(&mut this, &mut Reference::Traced(Box::new(trace)), settings)
    };
    let (findings, all) = against(&good, Settings { tolerance: 0.0, ..Settings::default() });
    assert_eq!((findings.compared, findings.identical, findings.left_out), (tensors, tensors, 0));

    // The first, an activation, a gradient of the pass, and one that nothing reads: the gradient of a parameter.
    let inner = all.iter().filter(|c| c.facts.backward && c.facts.stands_for.is_empty()).nth(5).unwrap();
    let leaf = all.iter().find(|c| c.facts.stands_for == ["gradient low.lateral.weight"]).unwrap();
    let middle = all.iter().find(|c| c.facts.stands_for.contains(&"low activation t=1".into())).unwrap();
    for chosen in [&all[0], middle, inner, leaf] {
        let name = &chosen.facts.name;
        let element = large_element(&good, name, chosen.largest);
        let wrong: [fn(f32, f32) -> f32; 3] = [|x, m| x + 1e-2 * m, |_, _| f32::NAN, |x, _| x * (1.0 + 1e-5)];
        for (number, wrong) in wrong.iter().enumerate() {
            std::fs::copy(&good, &bad).unwrap();
            change(&bad, name, element, |x| wrong(x, chosen.largest));
            for drift in [false, true] {
                let (findings, _) = against(&bad, Settings { drift, ..Settings::default() });
                if number == 2 {
                    assert!(findings.beyond == 0 && findings.identical < tensors, "{name}: {:?}", findings.first);
                    continue;
                }
                let first = findings.first.unwrap_or_else(|| panic!("{name} is not found"));
                assert_eq!((&first.facts, first.index), (&chosen.facts, element));
                assert_eq!(first.expected.is_nan(), number == 1);
                // Alone, its readers meet the wrong number; with drift each execution has its own.
                if drift || name == &leaf.facts.name {
                    assert_eq!(findings.beyond, 1, "{name}");
                }
            }
        }
    }
}

fn recurve(arguments: &[&str]) -> Output {
    let output = Command::cargo_bin("recurve").unwrap().args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!error.contains("panicked"), "{error}");
    output
}

fn json(output: &Output, code: i32) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(arguments: &[&str], words: &[&str]) {
    let output = recurve(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in: {error}"));
}

#[test]
fn a_run_is_bisected_from_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (run, file, config) = (path("run"), path("trace.safetensors"), path("config.toml"));
    let text = "[network]\nimage_size = 16\nstem_channels = 4\narea_channels = [4, 4, 8, 8]\ntimesteps = 2\n\
                [training]\nbatch = 8\naccumulate = 2\nsteps = 3\ncheckpoint_every = 1\n";
    std::fs::write(&config, text).unwrap();
    let trained = recurve(&["train", "--data", "glyphs", "--config", &config, "--out", &run]);
    assert_eq!(trained.status.code(), Some(0), "{}", String::from_utf8_lossy(&trained.stderr));

    let written = json(&recurve(&["bisect", &run, "--write", &file, "--json"]), 0);
    let found = json(&recurve(&["bisect", &run, "--against", &file, "--tolerance", "0", "--json", "--all"]), 0);
    let members =
        ["passed", "compared", "identical", "left_out", "beyond", "first", "largest", "tolerance", "this", "against"];
    members.iter().for_each(|member| assert!(found.get(member).is_some(), "{member}: {found}"));
    assert_eq!((&found["passed"], &found["compared"]), (&Value::Bool(true), &written["tensors"]));
    assert_eq!((&found["pictures"], &found["identical"]), (&Value::from(4), &written["tensors"]));
    assert_eq!(found["all"].as_array().unwrap().len() as u64, written["tensors"].as_u64().unwrap());

    change(Path::new(&file), "forward v2.r t=1", 7, |x| x + 1.0);
    let found = json(&recurve(&["bisect", &run, "--against", &file, "--json"]), 1);
    let first = &found["first"];
    assert_eq!((&first["tensor"], &first["index"]), (&Value::from("forward v2.r t=1"), &Value::from(7)));
    assert_eq!((&first["area"], &first["timestep"]), (&Value::from("v2"), &Value::from(1)));
    let text = recurve(&["bisect", &run, "--against", &file]);
    assert_eq!(text.status.code(), Some(1));
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("the first: forward v2.r t=1 by `norm v2.r t=1` (area v2, timestep 1)"), "{text}");

    let choices = path("run/choices.toml");
    for against in ["table", "direct", "no-fuse", "no-reuse", &choices] {
        let found = json(&recurve(&["bisect", &run, "--against", against, "--json"]), 0);
        assert!(found["compared"].as_u64().unwrap() > 20, "{against}: {found}");
    }
    // Another adapter: here the same one, opened a second time.
    let found = json(&recurve(&["bisect", &run, "--against", "0", "--tolerance", "0", "--json"]), 0);
    assert_eq!(found["identical"], found["compared"]);

    refused(
        &["bisect", &run, "--checkpoint", "2", "--against", &file],
        &["trace.safetensors", "parameters", "--checkpoint"],
    );
    refused(&["bisect", &run, "--batch", "3", "--against", &file], &["trace.safetensors", "pictures", "--batch"]);
    refused(
        &["bisect", "--config", &config, "--data", "glyphs", "--against", &file],
        &["trace.safetensors", "parameters"],
    );
    refused(&["bisect", "--config", &config, "--against", "table"], &["--data"]);
    refused(&["bisect", &run, "--write", &path("trace.bin")], &["trace.bin", ".safetensors"]);
    refused(&["bisect", &run, "--against", &run], &["a folder", "--write"]);
    refused(&["bisect", &run, "--against", &path("none.toml")], &["none.toml", "no such file"]);
    refused(&["bisect", &run, "--against", &path("none.safetensors")], &["none.safetensors"]);
    refused(&["bisect", &run, "--against", "no such adapter"], &["no such adapter"]);
    refused(&["bisect", &run, "--against", "table", "--tolerance", "NaN"], &["--tolerance"]);
    refused(&["bisect", &run, "--against", "table", "--batch", "0"], &["batch"]);
    let bytes = std::fs::read(&file).unwrap();
    for length in [0, 5, 900, bytes.len() - 4] {
        std::fs::write(&file, &bytes[..length]).unwrap();
        refused(&["bisect", &run, "--against", &file], &["trace.safetensors", "--write"]);
    }
    let checkpoint = path("run/checkpoints/00000003.safetensors");
    refused(&["bisect", &run, "--against", &checkpoint], &["not a trace"]);
    assert_eq!(recurve(&["bisect", &run]).status.code(), Some(2));
    assert_eq!(recurve(&["bisect", "--against", "table"]).status.code(), Some(2));
}
