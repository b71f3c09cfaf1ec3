//! `recurve sweep` as a user runs it. Training needs an adapter: without one these tests fail, with the program's own message.

use assert_cmd::Command;
use recurve::sweep::runs_of;
use recurve::train::run_folder::{checkpoints, read_config};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DATA: &str = "glyphs:train=24,val=8,difficulty=0";

const CONFIG: &str = "
[network]
image_size = 16
stem_channels = 4
area_channels = [4, 4, 4, 4]
timesteps = 2

[training]
batch = 4
steps = 4
checkpoint_every = 2
";

const VARIED: [&str; 4] = ["--vary", "network.interaction=additive,multiplicative", "--vary", "training.seed=1,2"];

const NAMES: [&str; 4] = [
    "interaction=additive,seed=1",
    "interaction=additive,seed=2",
    "interaction=multiplicative,seed=1",
    "interaction=multiplicative,seed=2",
];

struct Bench(TempDir);

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("small.toml"), CONFIG).unwrap();
        Bench(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The command's arguments, into the folder `out`.
    fn arguments(&self, out: &str, more: &[&str]) -> Vec<String> {
        let (config, out) = (self.path("small.toml"), self.path(out));
        let known = ["sweep", "--no-tune", "--config", config.to_str().unwrap(), "--out", out.to_str().unwrap()];
        known.iter().chain(more).map(|word| word.to_string()).collect()
    }

    fn sweep(&self, out: &str, more: &[&str]) -> Output {
        let data = ["--data", DATA];
        let data = if more.contains(&"--data") { &[][..] } else { &data };
        recurve().args(self.arguments(out, &[data, more].concat())).output().unwrap()
    }
}

fn recurve() -> Command {
    Command::cargo_bin("recurve").unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn succeeded(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn refused(output: &Output, words: &[&str]) {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in: {error}"));
}

fn newest(run: &Path) -> Vec<u8> {
    std::fs::read(run.join("checkpoint.safetensors")).unwrap()
}

#[test]
fn a_list_before_anything_runs() {
    let bench = Bench::new();
    let listed = succeeded(&bench.sweep("s", &[&VARIED[..], &["--list"]].concat()));
    let names: Vec<&str> = listed.lines().map(|line| line.split('\t').nth(1).unwrap()).collect();
    assert_eq!(names, NAMES);
    assert!(listed.lines().all(|line| line.ends_with("\tnew")) && listed.starts_with("0\t"), "{listed}");
    assert!(!bench.path("s").exists());
}

#[test]
fn keys_and_values_are_checked_before_anything_runs() {
    let bench = Bench::new();
    for (more, words) in [
        (&["--vary", "network.interacton=additive"][..], &["interacton=additive: ", "interacton"][..]),
        (&["--vary", "network.interaction=additive,sideways"], &["interaction=sideways", "multiplicative"]),
        (&["--vary", "training.seed=1,x"], &["seed=x", "training.seed"]),
        (&["--vary", "training.batch=4,0"], &["batch=0", "1 to 16777216"]),
        (&["--vary", "training.batch=4,8", "--batch", "4"], &["--vary training.batch", "a flag"]),
        (&["--vary", "training.seed=1,2", "--vary", "training.seed=3"], &["training.seed", "twice"]),
        (&["--vary", "training.learning_rate=0.1,1e-1"], &["twice"]),
        (&["--vary", "network.kernel_size.x=1"], &["network.kernel_size"]),
        (&["--vary", "training.seed=1,2", "--only", "2"], &["--only 2", "0 to 1"]),
        (&["--vary", "seed"], &["--vary seed", "KEY=VALUE"]),
    ] {
        refused(&bench.sweep("s", more), words);
        assert!(!bench.path("s").exists(), "{more:?}");
    }
    let usage = bench.sweep("s", &[]);
    assert_eq!(usage.status.code(), Some(2), "{}", text(&usage.stderr));
}

/// Waits until a file is there.
fn until_there(path: &Path) {
    let begun = Instant::now();
    while !path.exists() {
        assert!(begun.elapsed() < Duration::from_secs(300), "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn killed_at_any_moment_it_goes_on_and_ends_with_the_bytes_of_single_runs() {
    let bench = Bench::new();
    let arguments = bench.arguments("s", &[&["--data", DATA, "--steps", "40"], &VARIED[..]].concat());
    let run = |name: &str| bench.path("s").join(name);
    for awaited in [run(NAMES[0]).join("checkpoints/00000004.safetensors"), run(NAMES[1]).join("config.toml")] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_recurve"));
        command.args(&arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        until_there(&awaited);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let first = newest(&run(NAMES[0]));
    let output = recurve().args(&arguments).output().unwrap();
    let printed = succeeded(&output);
    assert!(printed.contains(&format!("{}: 40 steps", NAMES[3])), "{printed}");
    assert_eq!(newest(&run(NAMES[0])), first, "a finished run is not repeated");
    // What was interrupted twice is what a single run gives.
    for (number, name) in NAMES.iter().enumerate().take(2) {
        let (seed, out) = ((number + 1).to_string(), bench.path(&format!("alone{number}")));
        let alone = ["train", "--no-tune", "--data", DATA, "--steps", "40", "--seed", &seed, "--config"];
        succeeded(&recurve().args(alone).arg(bench.path("small.toml")).arg("--out").arg(&out).output().unwrap());
        assert!(newest(&out) == newest(&run(name)), "{name}");
        assert_eq!(read_config(&run(name)).unwrap().training.seed, number as u64 + 1);
    }
    let again = recurve().args(&arguments).output().unwrap();
    assert_eq!(succeeded(&again).trim(), bench.path("s").to_str().unwrap(), "nothing is left to do");
    assert_eq!(text(&again.stderr).matches(": finished").count(), 4);
    let (runs, note) = runs_of(&bench.path("s")).unwrap();
    assert_eq!((runs, note), (NAMES.map(run).to_vec(), None));
}

#[test]
fn one_run_s_error_does_not_stop_the_others() {
    let bench = Bench::new();
    let missing = format!("data.path={},{DATA:?}", bench.path("missing.h5").display());
    let output = bench.sweep("s", &["--data", DATA, "--vary", &missing]);
    refused(&output, &["a flag", "data.path"]);
    let config = bench.arguments("s", &["--vary", &missing]);
    let output = recurve().args(&config).output().unwrap();
    refused(&output, &["missing.h5", "no such file", "1 of 2 runs have failed"]);
    let (finished, note) = runs_of(&bench.path("s")).unwrap();
    assert_eq!(finished.len(), 1);
    assert_eq!(checkpoints(&finished[0]).unwrap().len(), 3);
    assert!(note.unwrap().contains("not finished"));
}

#[test]
fn another_list_extends_a_sweep_and_another_run_of_its_name_is_refused() {
    let bench = Bench::new();
    succeeded(&bench.sweep("s", &["--vary", "training.seed=1"]));
    let before = newest(&bench.path("s/seed=1"));
    let extended = bench.sweep("s", &["--vary", "training.seed=2,1"]);
    succeeded(&extended);
    assert!(text(&extended.stderr).contains("extended by 1"), "{}", text(&extended.stderr));
    assert_eq!(newest(&bench.path("s/seed=1")), before);
    let fewer = bench.sweep("s", &["--vary", "training.seed=2"]);
    succeeded(&fewer);
    assert!(text(&fewer.stderr).contains("1 further runs"), "{}", text(&fewer.stderr));
    refused(
        &bench.sweep("s", &["--vary", "training.seed=1,3", "--batch", "8"]),
        &["seed=1", "training.batch was 4, is 8", "--out"],
    );
    assert!(!bench.path("s/seed=3").exists());
    // More steps are the same runs, which go on.
    succeeded(&bench.sweep("s", &["--vary", "training.seed=1,2", "--steps", "6"]));
    for run in ["s/seed=1", "s/seed=2"] {
        assert_eq!(checkpoints(&bench.path(run)).unwrap().pop().unwrap().0, 6);
    }
}

#[test]
fn a_job_array_runs_one_run_a_job() {
    let bench = Bench::new();
    let out = "it's a $(sweep)";
    let script = bench.path("job.sbatch");
    let flags = ["--slurm", script.to_str().unwrap()];
    let printed = succeeded(&bench.sweep(out, &[&VARIED[..], &flags].concat()));
    assert_eq!(printed.trim(), script.to_str().unwrap());
    assert!(!bench.path(out).exists());
    let written = std::fs::read_to_string(&script).unwrap();
    assert!(
        written.contains("\n#SBATCH --array=0-3\n") && written.contains(&format!("\n# 2: {}\n", NAMES[2])),
        "{written}"
    );
    assert!(!written.contains("--slurm"), "{written}");
    let checked = std::process::Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let job = |number: &str| {
        let mut job = std::process::Command::new("bash");
        job.arg(&script).env("SLURM_ARRAY_TASK_ID", number).output().unwrap()
    };
    succeeded(&job("2"));
    let there: Vec<bool> = NAMES.iter().map(|name| bench.path(out).join(name).exists()).collect();
    assert_eq!(there, [false, false, true, false]);
    let without = std::process::Command::new("bash").arg(&script).env_remove("SLURM_ARRAY_TASK_ID").output().unwrap();
    assert!(!without.status.success());
}
