//! The commands as users meet them: help, plans, refusals, exit codes. Those that open a device need an adapter.

use assert_cmd::Command;
use safetensors::{Dtype, tensor::TensorView};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::process::Output;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recurve")).args(arguments).output().unwrap()
}

fn run_without_adapter(arguments: &[&str]) -> Output {
    let nowhere = "/nonexistent.json";
    let mut command = Command::new(env!("CARGO_BIN_EXE_recurve"));
    command.env("VK_DRIVER_FILES", nowhere).env("VK_ICD_FILENAMES", nowhere).env("WGPU_BACKEND", "vulkan");
    command.args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What the command printed, which must be one JSON value and nothing else.
fn json(output: &Output) -> Value {
    json_with(0, output)
}

/// The same of a command that ends with another exit code.
fn json_with(code: i32, output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(code), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", stdout(output)))
}

/// Asserts exit code 1, nothing on stdout, and an error, no panic, that holds all `words`.
fn assert_refused(output: &Output, words: &[&str]) {
    let error = stderr(output);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: ") && !error.contains("panicked"), "{error}");
    assert_eq!(stdout(output), "");
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

#[test]
fn every_command_has_a_help_text() {
    let all = stdout(&run(&["--help"]));
    for command in [
        "train", "analyse", "extract", "import", "export", "demo", "data", "devices", "check", "plan", "shaders",
        "bench", "compare", "bisect", "sweep",
    ] {
        assert!(all.contains(&format!("\n  {command} ")), "{command} is not in: {all}");
        let output = run(&[command, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{command}");
        assert!(stdout(&output).contains("--adapter <TEXT>"), "{command}: {}", stdout(&output));
    }
    for (command, flags) in [
        ("check", &["--goldens", "--repeat", "--json"][..]),
        (
            "plan",
            &["--preset", "--config", "--batch", "--timesteps", "--fit", "--no-pass", "--inference", "--json", "--dot"],
        ),
        ("devices", &["--json"]),
        (
            "sweep",
            &["--data", "--preset", "--config", "--vary", "--out", "--list", "--slurm", "--only", "--steps", "--batch"],
        ),
        ("analyse", &["FILE.npz", "--init", "--split", "--protocol", "--json"]),
        ("compare", &["RUN", "--split", "--data", "--out", "--json"]),
        ("bisect", &["RUN", "--preset", "--against", "--write", "--tolerance", "--drift", "--all", "--json"]),
        ("extract", &["--areas", "--timesteps", "--images", "--ids", "--half", "float32", "log-probabilities"]),
    ] {
        let help = stdout(&run(&[command, "--help"]));
        flags.iter().for_each(|flag| assert!(help.contains(flag), "{flag} is not in: {help}"));
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["plan"][..],
        &["plan", "--preset", "huge"],
        &["plan", "--preset", "tiny", "--config", "a.toml"],
        &["check", "--repeat", "0"],
        &["levitate"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
    assert!(stderr(&run(&["plan", "--preset", "huge"])).contains("tiny, blt64, blt128"));
}

#[test]
fn a_plan_in_parts_that_fit() {
    let plan = |more: &[&str]| {
        let output = run_without_adapter(&[&["plan", "--preset", "blt64", "--json"], more].concat());
        let plan: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
        assert_eq!(output.status.success(), plan["fits"] == true, "{plan}");
        plan
    };
    let whole = plan(&["--batch", "1024"]);
    let largest = whole["largest_batch"].as_u64().unwrap();
    assert!(whole["fits"] == false && largest < 1024, "{whole}");
    let fit = plan(&["--batch", "1024", "--fit"]);
    let parts = fit["accumulate"].as_u64().unwrap();
    assert!(fit["fits"] == true && 1024 / parts <= largest && 2048 / parts > largest, "{fit}");
    assert_eq!(fit, plan(&["--batch", "1024", "--accumulate", &parts.to_string()]));
    assert_eq!(plan(&["--batch", "2", "--fit"])["accumulate"], 1);
}

#[test]
fn a_plan_in_figures() {
    let plan = json(&run_without_adapter(&["plan", "--preset", "tiny", "--batch", "8", "--json"]));
    for key in ["peak_bytes", "parameters", "dispatches", "nodes", "largest_batch"] {
        assert!(plan[key].as_u64().is_some_and(|n| n > 0), "{key}: {plan}");
    }
    // 3x3 convolutions 3-16-16-32-64-128, lateral ones in v2, v4, it; norms; lateral gap; readout of 10 classes.
    let convolutions = 9 * (3 * 16 + 16 * 16 + 16 * 32 + 32 * 64 + 64 * 128 + 32 * 32 + 64 * 64 + 128 * 128);
    let norms = 2 * (16 * 32 * 32 + 32 * 16 * 16 + 64 * 8 * 8 + 128 * 4 * 4 + 128);
    let parameters = plan["parameters"].as_u64().unwrap() as usize;
    assert_eq!(parameters - convolutions - norms - 128 * 128 - 128 * 10, 16, "the retina's bias is what remains");
    assert_eq!((&plan["fits"], &plan["why_not"]), (&Value::Bool(true), &Value::Null));
    for (pass, key) in [("hoist", "nodes"), ("fuse", "dispatches"), ("fold", "dispatches"), ("reuse", "peak_bytes")] {
        let off =
            json(&run_without_adapter(&["plan", "--preset", "tiny", "--batch", "8", "--json", "--no-pass", pass]));
        assert_eq!(plan["without_pass"][pass][key], off[key], "{pass}");
        assert!(off[key].as_u64() > plan[key].as_u64(), "without {pass}: {key} {} and {}", off[key], plan[key]);
    }
    let forward = json(&run_without_adapter(&["plan", "--preset", "tiny", "--batch", "8", "--json", "--inference"]));
    assert!(forward["peak_bytes"].as_u64() < plan["peak_bytes"].as_u64());
    let short = json(&run_without_adapter(&["plan", "--preset", "tiny", "--batch", "8", "--json", "--timesteps", "2"]));
    assert!(short["nodes"].as_u64() < plan["nodes"].as_u64());
}

#[test]
fn a_plan_for_people_and_as_a_graph() {
    let folder = tempfile::tempdir().unwrap();
    let dot = folder.path().join("graph.dot");
    let output = run_without_adapter(&["plan", "--preset", "tiny", "--dot", dot.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for piece in ["372416 parameters", "without", "hoist", "Largest buffers", "Batch 32 fits WebGPU defaults"] {
        assert!(stdout(&output).contains(piece), "`{piece}` is not in: {}", stdout(&output));
    }
    // Areas stand in the order in which the network has them.
    let text = stdout(&output);
    let places: Vec<_> =
        ["retina", "v1", "v2", "v4", "it", "gap", "readout"].map(|area| text.find(&format!("\n {area} "))).to_vec();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?} in: {text}");
    let graph = std::fs::read_to_string(dot).unwrap();
    assert!(graph.starts_with("digraph") && graph.contains("t = 4") && graph.contains("conv2d"));
    assert_refused(&run_without_adapter(&["plan", "--preset", "tiny", "--no-pass", "x"]), &["`x`", "hoist"]);
}

#[test]
fn what_does_not_fit_is_said_with_the_largest_that_does() {
    let run_plan = |batch: &str| run_without_adapter(&["plan", "--preset", "blt128", "--json", "--batch", batch]);
    let large = json_with(1, &run_plan("1024"));
    assert_eq!(large["fits"], false);
    assert!(large["why_not"].as_str().unwrap().contains("MiB"), "{large}");
    let largest = large["largest_batch"].as_u64().unwrap();
    assert!(largest > 0, "{large}");
    assert_eq!(json(&run_plan(&largest.to_string()))["fits"], true);
    assert_eq!(json_with(1, &run_plan(&(largest + 1).to_string()))["fits"], false);
    let text = run_without_adapter(&["plan", "--preset", "blt128", "--batch", "1024"]);
    assert_eq!(text.status.code(), Some(1), "{}", stderr(&text));
    for piece in ["Batch 1024 does not fit: ", &format!("within the adapter's limits is {largest}\n")] {
        assert!(stdout(&text).contains(piece), "`{piece}` is not in: {}", stdout(&text));
    }
    assert_refused(
        &run(&["plan", "--preset", "tiny", "--batch", "16777216"]),
        &["batch 16777216", "32-bit", "the largest batch that fits is "],
    );
}

/// Thousands of timesteps are planned as readily as five, and the table of bytes does not grow as wide.
#[test]
fn a_plan_of_many_timesteps() {
    let output =
        run_without_adapter(&["plan", "--preset", "tiny", "--timesteps", "3000", "--batch", "1", "--inference"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(text.contains("3000 timesteps") && text.contains("the other 2988"), "{text}");
    let widest = text.lines().map(|line| line.chars().count()).max();
    assert!(widest < Some(300), "{widest:?} characters in a line");
}

#[test]
fn errors_of_a_configuration_name_file_key_found_and_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("network.toml");
    for (text, words) in [
        ("[network]\nlaterall = true\n", &["network.toml", "laterall", "line 2", "lateral"][..]),
        ("[network]\nkernel_size = 4\n", &["network.toml", "kernel_size = 4", "odd"]),
        ("[network]\nimage_size = 30\n", &["network.toml", "image_size = 30", "multiple of 8"]),
        ("[network]\ntimesteps = \"two\"\n", &["network.toml", "network.timesteps", "two"]),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_refused(&run(&["plan", "--config", path.to_str().unwrap()]), words);
    }
    assert_refused(&run(&["plan", "--config", "nowhere.toml"]), &["nowhere.toml"]);
}

#[test]
fn without_an_adapter() {
    for arguments in [&["devices"][..], &["devices", "--json"], &["check"], &["bench", "gemm", "8", "8", "8"]] {
        assert_refused(&run_without_adapter(arguments), &["no adapter found", "lavapipe", "VK_DRIVER_FILES"]);
    }
}

#[test]
fn adapters() {
    let list = json(&run(&["devices", "--json"]));
    let list = list.as_array().unwrap();
    assert!(!list.is_empty());
    for key in ["name", "driver", "backend", "kind", "subgroup_min", "subgroup_max", "features", "limits"] {
        assert!(list.iter().all(|device| !device[key].is_null()), "{key}: {list:?}");
    }
    let text = stdout(&run(&["devices"]));
    assert!(list.iter().all(|device| text.contains(device["name"].as_str().unwrap())), "{text}");
    assert_refused(&run(&["check", "--adapter", "zzz"]), &["`zzz`", list[0]["name"].as_str().unwrap()]);
}

/// A golden file of the ReLU of -1, 0, 2, of which the last is expected to be `last`.
/// A device can be held to less than it offers, and what is planned for it follows.
#[test]
fn a_smaller_device_than_there_is() {
    let less = json(&run(&["devices", "--json", "--limits", "webgpu", "--without", "subgroups,f16,timestamps"]));
    let of = |list: &Value, key: &str| list[0]["limits"][key].as_u64().unwrap();
    assert_eq!(of(&less, "max_storage_buffer_binding_size"), 128 << 20);
    assert_eq!(of(&less, "max_buffer_size"), 256 << 20);
    assert_eq!(of(&less, "max_compute_workgroups_per_dimension"), 65_535);
    let features = less[0]["features"].as_array().unwrap();
    for absent in ["SUBGROUP", "SHADER_F16", "TIMESTAMP_QUERY"] {
        assert!(features.iter().all(|name| name != absent), "{absent} in {features:?}");
    }
    let plan = ["plan", "--preset", "blt64", "--batch", "1024", "--json", "--limits", "webgpu"];
    let plan = json_with(1, &run(&plan));
    assert_eq!(plan["fits"], false);
    assert!(plan["adapter"].as_str().unwrap().ends_with(", held to WebGPU's default limits"), "{}", plan["adapter"]);
    let shaders = run(&["shaders", "--without", "subgroups"]);
    assert!(stdout(&shaders).contains(", without subgroups"));
    for wrong in [["devices", "--limits", "large"], ["devices", "--without", "colours"]] {
        assert_eq!(run(&wrong).status.code(), Some(2), "{wrong:?}");
    }
}

fn write_relu(path: &Path, last: f32) {
    let bytes = |values: [f32; 3]| -> Vec<u8> { values.iter().flat_map(|v| v.to_le_bytes()).collect() };
    let tensors = [("x", [-1.0, 0.0, 2.0]), ("gy", [5.0, 6.0, 7.0]), ("y", [0.0, 0.0, last]), ("gx", [0.0, 0.0, 7.0])];
    let tensors = tensors.map(|(name, values)| (format!("c0/{name}"), bytes(values)));
    let view = |bytes| TensorView::new(Dtype::F32, vec![1, 3], bytes).unwrap();
    let cases = r#"[{"name": "c0", "x": [1, 3]}]"#;
    let metadata = HashMap::from([("op", "relu"), ("cases", cases)].map(|(k, v)| (k.to_string(), v.to_string())));
    safetensors::serialize_to_file(tensors.iter().map(|(name, b)| (name, view(b))), Some(metadata), path).unwrap();
}

#[test]
fn golden_files_by_their_contents() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    let check = || run(&["check", "--goldens", root, "--repeat", "2"]);
    let last_line = |output: &Output| stdout(output).lines().last().unwrap().to_string();

    let none = check();
    assert_eq!((none.status.code(), last_line(&none).as_str()), (Some(1), "0 passed, 0 failed"), "{}", stderr(&none));

    std::fs::create_dir(folder.path().join("deep")).unwrap();
    write_relu(&folder.path().join("deep/any name"), 2.0);
    std::fs::write(folder.path().join("notes.md"), "not a golden file").unwrap();
    std::fs::write(folder.path().join("old.pth"), "PK").unwrap();
    let good = check();
    assert_eq!((good.status.code(), last_line(&good).as_str()), (Some(0), "1 passed, 0 failed"), "{}", stdout(&good));
    for piece in ["ok   deep/any name [op relu, 1 cases, equal bits]", "notes.md: not", "old.pth: a pickled"] {
        assert!(stdout(&good).contains(piece), "`{piece}` is not in: {}", stdout(&good));
    }

    write_relu(&folder.path().join("spoilt.safetensors"), 2.0 * 1.003);
    std::fs::write(folder.path().join("cut.json"), "{\"accuracy\": [").unwrap();
    std::fs::write(folder.path().join("cut.safetensors"), "").unwrap();
    std::fs::write(folder.path().join("cut.h5"), "").unwrap();
    let bad = check();
    assert_eq!((bad.status.code(), last_line(&bad).as_str()), (Some(1), "1 passed, 4 failed"), "{}", stdout(&bad));
    for piece in ["FAIL spoilt.safetensors", "c0/y[2]", "FAIL cut.json", "FAIL cut.safetensors", "FAIL cut.h5"] {
        assert!(stdout(&bad).contains(piece), "`{piece}` is not in: {}", stdout(&bad));
    }
    let output = run(&["check", "--goldens", root, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&1.into(), &4.into()));
    assert_refused(&run(&["check", "--goldens", "nowhere", "--json"]), &["nowhere"]);
}

#[test]
fn a_reader_that_leaves_early_ends_the_program_quietly() {
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_recurve"))
        .args(["plan", "--preset", "tiny"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), ""));
}

#[test]
fn a_cause_is_said_once() {
    let output = run(&["plan", "--config", "no/such/file.toml"]);
    assert_refused(&output, &["no/such/file.toml"]);
    assert_eq!(stderr(&output).matches("os error").count(), 1, "{}", stderr(&output));
}
