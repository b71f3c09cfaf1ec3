//! `recurve bench` as users and scripts meet it. Nothing here asserts a time: only that what is printed hangs together.

use assert_cmd::Command;
use pollster::FutureExt;
use recurve::bench::cases::{preset_cases, shape_cases};
use recurve::bench::kernels::{jobs, run};
use recurve::bench::table::Row;
use recurve::check::probes::probes;
use recurve::gpu::{Gpu, Options};
use recurve::graph::compile::{Request, compile};
use recurve::kernels::Target;
use recurve::kernels::choose::Choices;
use recurve::network::{Preset, Schedule};
use serde_json::Value;
use std::path::Path;
use std::process::Output;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_recurve")).arg("bench").args(arguments).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

const QUICK: [&str; 3] = ["--no-ceilings", "--seconds", "0.001"];

#[test]
fn keys_that_scripts_rely_on() {
    let conv = json(&bench(&[&["conv", "2", "3", "5", "4", "4", "3", "--json"][..], &QUICK].concat()));
    for product in ["forward", "d_input", "d_weight"] {
        let rate = &conv[product];
        assert!(rate["gflops"].as_f64().unwrap() > 0.0 && rate["ms"].as_f64().unwrap() > 0.0, "{conv}");
        assert!(rate["variant"].as_str().unwrap().starts_with("conv2d"), "{conv}");
    }
    let gemm = json(&bench(&[&["gemm", "8", "24", "16", "--json"][..], &QUICK].concat()));
    assert!(gemm["gflops"].as_f64().unwrap() > 0.0 && gemm["ms"].as_f64().unwrap() > 0.0, "{gemm}");
    let flops = gemm["gflops"].as_f64().unwrap() * gemm["ms"].as_f64().unwrap() * 1e6;
    assert!((flops - 2.0 * 8.0 * 24.0 * 16.0).abs() < 1.0, "{gemm}");
    for value in [&conv, &gemm] {
        assert!(value["adapter"].is_string() && value["driver"].is_string() && value["variant"] != "", "{value}");
    }
}

#[test]
fn pictures_are_measured_step_by_step() {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for class in ["ant", "bee"] {
            let place = folder.path().join(split).join(class);
            std::fs::create_dir_all(&place).unwrap();
            image::RgbImage::from_fn(70, 64, |x, y| image::Rgb([x as u8, y as u8, 3]))
                .save(place.join("1.png"))
                .unwrap();
        }
    }
    let of = |data: &str| {
        let found = json(&bench(&[&["data", "--data", data, "--batch", "2", "--json"][..], &QUICK].concat()));
        assert!(found["step_images_per_s"].as_f64().unwrap() > 0.0 && found["step_batch"] == 2, "{found}");
        assert!(found["loader_threads"].as_u64().unwrap() > 0 && found["driver"].is_string(), "{found}");
        let rows = found["rows"].as_array().unwrap().clone();
        assert!(rows.iter().all(|r| ["per_core", "threads"].iter().all(|k| r[k].as_f64().unwrap() > 0.0)), "{found}");
        rows.iter().map(|row| row["name"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of("glyphs:train=40"), ["read", "augment", "all", "batches of training"]);
    assert_eq!(of(folder.path().to_str().unwrap()), ["read", "decode", "augment", "all", "batches of training"]);
}

#[test]
fn a_step_adds_up_and_its_trace_holds_every_launch() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.json");
    let arguments = ["step", "--preset", "tiny", "--batch", "2", "--json", "--trace", file.to_str().unwrap()];
    let step = json(&bench(&[&arguments[..], &QUICK].concat()));
    for key in ["images_per_s", "ms", "dispatches", "peak_bytes", "allocated_bytes", "cpu_ms", "barriers"] {
        assert!(step[key].as_f64().unwrap() > 0.0, "{key}: {step}");
    }
    assert_eq!(step["peak_bytes"], step["allocated_bytes"]);
    assert!(step["barriers"].as_u64() < step["dispatches"].as_u64());
    for shares in ["ops", "areas", "kernels"] {
        let launches: u64 = step[shares].as_object().unwrap().values().map(|s| s["launches"].as_u64().unwrap()).sum();
        assert_eq!(Some(launches), step["dispatches"].as_u64(), "{shares}");
    }
    let rows = step["rows"].as_array().unwrap();
    assert_eq!(rows[0]["id"], "step/tiny-b2");
    assert_eq!(rows.len(), 1 + step["ops"].as_object().unwrap().len());
    let flops = |row: &Value| row["gflops"].as_f64().unwrap() * row["ms"].as_f64().unwrap();
    let parts: f64 = rows[1..].iter().map(flops).sum();
    assert!((parts / flops(&rows[0]) - 1.0).abs() < 1e-9, "the operations' flops make up the step's");

    let trace: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let events: Vec<&Value> = trace["traceEvents"].as_array().unwrap().iter().filter(|e| e["ph"] == "X").collect();
    assert_eq!(Some(events.len() as u64), step["dispatches"].as_u64());
    assert!(events.iter().all(|e| e["ts"].as_f64().unwrap() >= 0.0 && e["dur"].as_f64().unwrap() >= 0.0));
    assert!(events.iter().any(|e| e["cat"] == "conv2d_d_weight" && e["args"]["area"] == "v2"));
}

#[test]
fn passes_show_their_effect() {
    let passes = json(&bench(&["passes", "--preset", "tiny", "--batch", "1", "--json", "--seconds", "0.001"]));
    assert_eq!(passes["rows"].as_array().unwrap().len(), 5);
    let passes = passes["passes"].as_array().unwrap();
    let number = |i: usize, key: &str| passes[i][key].as_f64().unwrap();
    assert_eq!((&passes[0]["without"], number(0, "ratio")), (&Value::from(""), 1.0));
    let more = |name: &str, key: &str| {
        let i = passes.iter().position(|p| p["without"] == name).unwrap();
        assert!(number(i, key) > number(0, key), "{key} without {name}: {passes:?}");
    };
    more("hoist", "dispatches");
    more("fuse", "dispatches");
    more("fold", "dispatches");
    more("reuse", "peak_bytes");
}

/// A run of `kernels` on one map, as a file.
fn run_kernels(to: &Path, more: &[&str]) -> Output {
    let arguments = ["kernels", "--shape", "3,4,5,7", "--op", "relu", "--op", "max_pool", "--json"];
    let output = bench(&[&arguments[..], &QUICK, more].concat());
    std::fs::write(to, &output.stdout).unwrap();
    output
}

#[test]
fn files_rows_and_baselines() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let path = |name: &str| at(name).to_str().unwrap().to_string();
    let first = json(&run_kernels(&at("a.json"), &["--csv", &path("a.csv"), "--html", &path("a.html")]));
    let rows = first["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{first}");
    let csv = std::fs::read_to_string(at("a.csv")).unwrap();
    assert_eq!(csv.lines().next().unwrap(), Row::COLUMNS.join(","));
    assert_eq!(csv.lines().count(), 3);
    assert!(std::fs::read_to_string(at("a.html")).unwrap().contains("relu/3x4x5x7/chosen"));

    // What a row prints repeats it.
    let args = rows[0]["args"].as_str().unwrap().strip_prefix("recurve bench ").unwrap();
    let again = json(&bench(&[args.split(' ').collect::<Vec<_>>(), QUICK.to_vec(), vec!["--json"]].concat()));
    assert_eq!(again["rows"][0]["id"], rows[0]["id"]);
    assert_eq!(again["rows"].as_array().unwrap().len(), 1);

    // Half of the baseline's time is a regression now, and twice of it none.
    let scaled = |scale: f64, name: &str| {
        let mut old = first.clone();
        for row in old["rows"].as_array_mut().unwrap() {
            for sample in row["samples_ms"].as_array_mut().unwrap() {
                *sample = (scale * sample.as_f64().unwrap()).into();
            }
        }
        std::fs::write(at(name), old.to_string()).unwrap();
    };
    scaled(1e-3, "fast.json");
    scaled(1e3, "slow.json");
    let worse = run_kernels(&at("b.json"), &["--baseline", &path("fast.json")]);
    assert_eq!(worse.status.code(), Some(1), "{}", stderr(&worse));
    assert!(stderr(&worse).contains("2 rows are slower"), "{}", stderr(&worse));
    let report: Value = serde_json::from_slice(&worse.stdout).unwrap();
    assert_eq!(report["comparison"]["rows"][0]["verdict"], "regression");
    let better = json(&run_kernels(&at("c.json"), &["--baseline", &path("slow.json")]));
    assert_eq!(better["comparison"]["rows"][0]["verdict"], "improvement");

    let mut other = first.clone();
    other["driver"] = "another".into();
    std::fs::write(at("other.json"), other.to_string()).unwrap();
    let refused = run_kernels(&at("d.json"), &["--baseline", &path("other.json")]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("another") && stderr(&refused).contains("--any-adapter"), "{}", stderr(&refused));
    std::fs::write(at("broken.json"), "{}").unwrap();
    let refused = run_kernels(&at("e.json"), &["--baseline", &path("broken.json")]);
    assert!(refused.status.code() == Some(1) && stderr(&refused).contains("broken.json"), "{}", stderr(&refused));
}

#[test]
fn bad_sizes_and_names_are_refused() {
    for (arguments, words) in [
        (&["kernels", "--shape", "1,2"][..], &["[1, 2]", "six numbers"][..]),
        (&["kernels", "--shape", "1,2,x"], &["1,2,x", "whole numbers"]),
        (&["kernels", "--shape", "1,2,3,4,4,2"], &["must be odd"]),
        (&["conv", "1", "2", "0", "4", "4", "3"], &["at least 1"]),
        (&["step", "--preset", "tiny", "--batch", "0"], &["at least 1"]),
        (&["kernels", "--shape", "1,2,3,4", "--op", "conv3d"], &["`conv3d`", "max_pool"]),
        (&["kernels", "--shape", "1,2,3,4", "--row", "relu"], &["no row `relu`"]),
        (&["variants", "--k", "4"], &["odd"]),
    ] {
        let output = bench(arguments);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.starts_with("error: ") && !error.contains("panicked"), "{arguments:?}: {error}");
        words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in: {error}"));
    }
}

#[test]
fn variants_need_no_adapter() {
    let nowhere = "/nonexistent.json";
    let mut command = Command::new(env!("CARGO_BIN_EXE_recurve"));
    command.env("VK_DRIVER_FILES", nowhere).env("VK_ICD_FILENAMES", nowhere).env("WGPU_BACKEND", "vulkan");
    let output = command.args(["bench", "variants"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for piece in ["PREDICTIONS", "RTX 4090", "shared l64", "conv2d_d_weight"] {
        assert!(text.contains(piece), "`{piece}` is not in: {text}");
    }
}

#[test]
fn a_step_is_the_sum_of_its_cases() {
    let target = Target { cpu: true, subgroup: 8, ..Target::minimum() };
    let cases = preset_cases(&target, Preset::Tiny, 2).unwrap();
    let uses = |op: &str| cases.iter().filter(|c| c.op == op).map(|c| c.uses).sum::<usize>();
    // Bottom-up drives of retina, V1 and V2 once; V4, IT and the readout 5 times; lateral ones of V2, V4, IT, GAP 4 times.
    assert_eq!(uses("conv2d"), 3 + 3 * 5 + 4 * 4);
    assert_eq!((uses("adam"), uses("softmax_ce")), (1, 5));
    let mut ids: Vec<String> = cases.iter().map(|c| c.id()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), cases.len(), "ids are unique");
    let folded = cases.iter().find(|c| c.id() == "conv2d_d_weight/2x64x8x8-64-k3-t4").expect("V4's lateral weights");
    let launches = folded.program(&target, Choices::TABLE).unwrap().launches;
    let products = launches.iter().filter(|l| ["product", "conv2d_d_weight_channels"].contains(&l.kernel.name)).count();
    assert_eq!(products, 1, "one reduction over time, as in the step");
}

/// On the adapter: every operation in shapes that divide by nothing agrees with its twin, and a spoilt one is not timed.
/// Rule `right-first`.
#[test]
fn cases_agree_with_their_twins() {
    let gpu = Gpu::open(&Options { checked: true, ..Options::default() }).block_on().unwrap();
    for sizes in [&[3, 5, 9, 5, 7, 3][..], &[3, 6, 4, 7], &[5, 10, 1, 1], &[9, 21, 13]] {
        let cases = shape_cases(sizes).unwrap();
        for job in jobs(&gpu.target, &cases, false) {
            let row = run(&gpu, &job, None, 0.001).block_on().unwrap();
            assert_eq!(row.failure, None, "{}", row.id);
            assert!(row.error < 2e-6 && row.ms > 0.0 && row.ci_ms[0] <= row.ms && row.ms <= row.ci_ms[1], "{row:?}");
        }
        for case in &cases {
            let prepared = case.prepared(&gpu.target, Choices::TABLE).unwrap();
            let wrong: Vec<Vec<f32>> = prepared.outputs.iter().map(|view| vec![1e3; view.bytes as usize / 4]).collect();
            assert!(case.error(&wrong) > 0.5, "{}: a wrong result is an error", case.id());
        }
    }
    for probe in probes(&gpu.target).unwrap() {
        probe.verified(&gpu).block_on().unwrap();
    }
}

#[test]
fn launches_say_what_they_belong_to_and_labels_follow() {
    let config = Preset::Tiny.network();
    let target = &Target { cpu: true, subgroup: 8, max_binding: 1 << 30, max_buffer: 1 << 30, ..Target::minimum() };
    let (network, schedule) = (config.network(), Schedule::plain(config.timesteps));
    let launches = compile(&Request::training(&network, &schedule, 32, target)).unwrap().program.launches;
    let (mut packs, mut timesteps) = (0, std::collections::BTreeSet::new());
    for launch in &launches {
        let label = &launch.label;
        assert_eq!(label.split(' ').next(), Some(launch.op), "{label}");
        let said = label.split(' ').find_map(|word| word.strip_prefix("t=")).map(|t| t.parse::<usize>().unwrap());
        assert_eq!(said, launch.timestep, "{label}");
        assert_eq!(launch.timestep.is_none(), ["adam", "normalise"].contains(&launch.op), "{label}");
        assert_eq!(launch.packs_weight, ["pack_weight", "winograd_weight"].contains(&launch.kernel.name), "{label}");
        assert_eq!(launch.packs_weight, label.ends_with(" pack"), "{label}");
        packs += usize::from(launch.packs_weight);
        timesteps.extend(launch.timestep);
    }
    assert!(packs > 10 && timesteps.len() == config.timesteps, "{packs} of {}, {timesteps:?}", launches.len());
}
