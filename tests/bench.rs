//! `recurve bench` as users and scripts meet it. Nothing here asserts a time: only that what is printed hangs together.

use assert_cmd::Command;
use pollster::FutureExt;
use recurve::bench::cases::{preset_cases, shape_cases};
use recurve::bench::kernels::{jobs, run};
use recurve::bench::table::Row;
use recurve::check::ladder::{CHECKED, RUNGS, Task, rungs};
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
            image::RgbImage::from_fn(70, 64, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]))
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
        (&["ladder", "--shape", "1,2,3,4,4"], &["six numbers"]),
        (&["ladder", "--shape", "1,2,3,4,4,1"], &["3, 5 or 7"]),
        (&["ladder", "--shape", "1,2,0,4,4,3"], &["at least 1"]),
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

/// A small run with ceilings, for people and for scripts: what is said in both, and no line wider than a terminal.
#[test]
fn shares_follow_from_the_ceiling_beside_each_row() {
    let shape = ["2", "3", "5", "4", "4", "3", "--seconds", "0.001"];
    let conv = json(&bench(&[&["conv"][..], &shape, &["--json"]].concat()));
    let gemm = json(&bench(&["gemm", "8", "24", "16", "--seconds", "0.001", "--json"]));
    let number = |of: &Value, key: &str| of[key].as_f64().unwrap_or_else(|| panic!("{key}: {of}"));
    for row in [&conv["forward"], &conv["d_input"], &conv["d_weight"], &gemm] {
        for key in ["gflops", "ms", "ceiling_gflops", "share"] {
            assert!(number(row, key) > 0.0, "{key}: {row}");
        }
        let ratio = number(row, "gflops") / number(row, "ceiling_gflops");
        assert!((ratio / number(row, "share") - 1.0).abs() < 1e-9, "{row}");
        let list =
            |key: &str| -> Vec<f64> { row[key].as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect() };
        let (times, ceilings) = (list("samples_ms"), list("ceiling_samples"));
        assert!(times.len() >= 5 && times.len() == ceilings.len(), "{row}");
        // The share is the median of the ratios.
        let flops = number(row, "gflops") * number(row, "ms");
        let mut shares: Vec<f64> = times.iter().zip(&ceilings).map(|(ms, ceiling)| flops / ms / ceiling).collect();
        shares.sort_by(f64::total_cmp);
        assert!(shares[0] <= number(row, "share") && number(row, "share") <= shares[shares.len() - 1], "{row}");
        assert_eq!(row["processor_ms"].is_number(), cfg!(unix), "{row}");
    }
    assert!(!conv["cpu"]["model"].as_str().unwrap().is_empty() && conv["cpu"]["vector"].is_array(), "{conv}");
    let without = json(&bench(&[&["conv"][..], &shape[..6], &QUICK, &["--json"]].concat()));
    assert!(without["forward"]["share"].is_null() && without["cpu"] == conv["cpu"], "{without}");

    let text = String::from_utf8(bench(&[&["conv"][..], &shape].concat()).stdout).unwrap();
    for piece in ["CPU: ", "Ceilings, measured", "share", "conv dw 2x3x4x4-5-k3", "conv dx "] {
        assert!(text.contains(piece), "`{piece}` is not in: {text}");
    }
    assert!(text.contains(conv["cpu"]["model"].as_str().unwrap()), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let wide = String::from_utf8(bench(&[&["conv"][..], &shape, &["--wide"]].concat()).stdout).unwrap();
    assert!(wide.contains("| kernels --shape 2,3,5,4,4,3 --row conv2d/2x3x4x4-5-k3/chosen"), "{wide}");
}

#[test]
fn tables_fit_a_terminal() {
    for arguments in [
        &["kernels", "--preset", "tiny", "--batch", "1"][..],
        &["step", "--preset", "tiny", "--batch", "1"],
        &["passes", "--preset", "tiny", "--batch", "1"],
        &["analysis", "--images", "64", "--timesteps", "2", "--features", "16", "--classes", "4"],
        &["ladder", "--shape", "4,5,19,5,7,3"],
    ] {
        let output = bench(&[arguments, &QUICK].concat());
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(text.contains("CPU: "), "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 120, "{arguments:?}: {} wide: {line}", line.chars().count());
        }
    }
}

#[test]
fn shares_are_compared_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let run = |more: &[&str]| {
        let arguments = ["kernels", "--shape", "3,4,5,7", "--op", "relu", "--json", "--seconds", "0.001"];
        bench(&[&arguments[..], more].concat())
    };
    let first = json(&run(&[]));
    // A baseline from a machine so much faster that no pause of this one hides it, multiply-adds too, and one in which only the row
    // was as fast.
    let scaled = |name: &str, ceilings: f64| {
        let mut old = first.clone();
        for row in old["rows"].as_array_mut().unwrap() {
            for (key, scale) in [("samples_ms", 1e-9), ("ceiling_samples", ceilings)] {
                for sample in row[key].as_array_mut().unwrap() {
                    *sample = (scale * sample.as_f64().unwrap()).into();
                }
            }
        }
        std::fs::write(at(name), old.to_string()).unwrap();
        at(name).to_str().unwrap().to_string()
    };
    let (machine, kernel) = (scaled("machine.json", 1e9), scaled("kernel.json", 1.0));
    let wide = ["--margin", "900"]; // times of a microsecond differ from run to run
    let report = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap()["comparison"].clone();
    let found = run(&[&["--baseline", &machine][..], &wide].concat());
    assert_eq!((found.status.code(), &report(&found)["by"]), (Some(1), &Value::from("time")));
    assert!(report(&found)["machine"].as_f64().unwrap() < 0.1, "{}", report(&found));
    let found = run(&[&["--vs-ceiling", "--baseline", &machine][..], &wide].concat());
    assert_eq!((found.status.code(), &report(&found)["by"]), (Some(0), &Value::from("share")), "{}", report(&found));
    let found = run(&[&["--vs-ceiling", "--baseline", &kernel][..], &wide].concat());
    assert_eq!(found.status.code(), Some(1), "{}", report(&found));

    // Neither side may be without ceilings.
    assert_eq!(run(&["--vs-ceiling"]).status.code(), Some(2), "what to compare with?");
    assert_eq!(run(&["--vs-ceiling", "--baseline", &machine, "--no-ceilings"]).status.code(), Some(2));
    std::fs::write(at("bare.json"), run(&["--no-ceilings"]).stdout).unwrap();
    let refused = run(&["--vs-ceiling", "--baseline", at("bare.json").to_str().unwrap()]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("the baseline has no ceiling"), "{}", stderr(&refused));
}

/// Each rung of docs/kernels.md gives every result right, and spoilt operands are noticed.
/// Rule `right-first`.
#[test]
fn every_rung_of_the_ladder_is_right() {
    let gpu = Gpu::open(&Options { checked: true, ..Options::default() }).block_on().unwrap();
    for shape in [CHECKED, recurve::kernels::conv::ConvShape { n: 3, cin: 33, cout: 34, k: 5, ..CHECKED }] {
        let (task, mut names) = (Task::new(shape, true), Vec::new());
        for rung in rungs(&gpu.target, &shape) {
            let found = rung.verified(&gpu, &task).block_on().unwrap_or_else(|e| panic!("{}: {e}", rung.name));
            assert!(found.error < 1e-5, "{}: {}", rung.name, found.error);
            names.push(rung.name);
        }
        assert!(names.contains(&"plain") && names.contains(&"channels"), "{names:?}");
        let mut wrong = Task::new(shape, true);
        wrong.spoil();
        for rung in rungs(&gpu.target, &shape) {
            let error = rung.verified(&gpu, &wrong).block_on().err().expect("a wrong result is noticed").to_string();
            assert!(error.contains(rung.name) && error.contains("wrong result"), "{error}");
        }
    }
}

#[test]
fn the_ladder_tells_what_each_step_brings() {
    let found = json(&bench(&[&["ladder", "--shape", "4,5,19,5,7,3", "--json"][..], &QUICK].concat()));
    let (steps, rows) = (found["ladder"].as_array().unwrap(), found["rows"].as_array().unwrap());
    assert_eq!(steps.len(), rows.len());
    assert_eq!((&steps[0]["rung"], steps[0]["gain"].is_null()), (&Value::from("plain"), true), "{found}");
    for (step, row) in steps.iter().zip(rows) {
        assert!(RUNGS.iter().any(|(name, _)| step["rung"] == *name), "{step}");
        assert!(row["id"].as_str().unwrap().ends_with(step["rung"].as_str().unwrap()), "{row}");
        assert!(row["failure"].is_null() && step["from_first"].as_f64().unwrap() > 0.0, "{step} {row}");
    }
    let again = rows[0]["args"].as_str().unwrap();
    assert_eq!(again, "recurve bench ladder --shape 4,5,19,5,7,3");
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

/// docs/kernels.md climbs the rungs that run, in order, and shows lines that stand in the files.
#[test]
fn the_page_of_the_ladder_is_about_what_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    let page = read("docs/kernels.md");
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let rungs: Vec<(String, &str)> = RUNGS.iter().map(|(name, step)| (name.to_string(), *step)).collect();
    for (i, (name, step)) in rungs.iter().enumerate() {
        assert_eq!(headings[i], format!("{}. `{name}`: {step}", i + 1));
    }
    // The table of what was measured has each rung once.
    let rows: Vec<Vec<&str>> = page
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let named: Vec<(String, &str)> = rows.iter().map(|row| (row[0].trim_matches('`').to_string(), row[1])).collect();
    assert_eq!(named, rungs, "{rows:?}");
    for (name, _) in &rungs {
        let used: usize = page.matches(&format!("`{name}`")).count();
        assert!(used >= 2, "`{name}` is in the table and in a heading");
    }
    let mut excerpts = 0;
    for block in page.split("```wgsl\n").skip(1) {
        let block = block.split("```").next().expect("closed");
        let (file, text) = block.split_once('\n').expect("a file's name first");
        let file = file.strip_prefix("// ").expect("a comment with the file's name");
        let whole = read(file);
        let mut from = 0;
        for part in text.split("…\n").filter(|part| !part.trim().is_empty()) {
            let found = whole[from..].find(part);
            let at = found.unwrap_or_else(|| panic!("docs/kernels.md shows lines that {file} does not have:\n{part}"));
            from += at + part.len();
        }
        excerpts += 1;
    }
    assert!(excerpts >= RUNGS.len(), "{excerpts} excerpts");
}
