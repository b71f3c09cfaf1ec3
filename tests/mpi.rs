//! Processes that MPI connects, started by `mpirun` as a user starts them. Only with the feature `mpi`, which needs Open MPI:
//! `cargo test --release --features mpi --test mpi`. `tests/ranks.rs` has what does not depend on processes.
#![cfg(feature = "mpi")]

use recurve::train::run_folder::{checkpoints, read_metrics};
use recurve::train::{Checkpoint, Event};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CONFIG: &str = "
[network]
image_size = 16
stem_channels = 4
area_channels = [4, 8, 8, 16]
topdown = true
timesteps = 3

[data]
path = 'glyphs:train=64,val=22,difficulty=0'

[training]
batch = 8
steps = 6
checkpoint_every = 2
";

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

    /// A new run on so many ranks.
    fn train(&self, ranks: usize, name: &str, more: &[&str]) -> Command {
        let mut command = launched(ranks);
        command.args(["train", "--no-tune", "--config"]).arg(self.path("small.toml")).arg("--out").arg(self.path(name));
        command.args(more);
        command
    }

    fn resume(&self, ranks: usize, name: &str, steps: &str) -> Command {
        let mut command = launched(ranks);
        command.args(["train", "--resume"]).arg(self.path(name)).args(["--steps", steps]);
        command
    }
}

/// The program on so many ranks; 0: without the launcher.
fn launched(ranks: usize) -> Command {
    let program = env!("CARGO_BIN_EXE_recurve");
    if ranks == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("mpirun");
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.args(["--oversubscribe", "-n", &ranks.to_string(), program]);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn done(mut command: Command) -> Output {
    let output = command.output().expect("mpirun; Debian: openmpi-bin");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    output
}

fn newest(root: &Path) -> Checkpoint {
    Checkpoint::read(&root.join("checkpoint.safetensors")).unwrap()
}

fn median_difference(a: &Path, b: &Path) -> f32 {
    let (a, b) = (newest(a), newest(b));
    assert_eq!(a.state.step, b.state.step);
    let differences = a.parameters.iter().flat_map(|(name, tensor)| {
        let other = b.parameters.values(name).unwrap();
        tensor.values.iter().zip(other).map(|(a, b)| (a - b).abs()).collect::<Vec<f32>>()
    });
    let mut all: Vec<f32> = differences.collect();
    assert!(all.len() > 1000 && all.iter().all(|d| d.is_finite()));
    all.sort_by(f32::total_cmp);
    all[all.len() / 2]
}

fn wait(mut child: Child, what: &str) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code().unwrap_or(-1);
        }
        if begun.elapsed() > Duration::from_secs(30) {
            child.kill().ok();
            panic!("{what}: the job does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that a process has started, directly or not.
fn below(of: u32) -> Vec<u32> {
    let parent = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit(") ").next()?.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let mut found: Vec<u32> = all.filter(|&pid| parent(pid) == Some(of)).collect();
    found.sort_unstable();
    found
}

/// Starts a long run on two ranks, waits for a checkpoint, sends a signal to a rank, and gives mpirun's exit status.
fn interrupted(bench: &Bench, name: &str, rank: usize, signal: &str) -> i32 {
    let mut command = bench.train(2, name, &["--steps", "100000"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mpirun");
    let begun = Instant::now();
    while !bench.path(name).join("checkpoints/00000004.safetensors").exists() {
        assert!(begun.elapsed() < Duration::from_secs(300), "no checkpoint comes");
        std::thread::sleep(Duration::from_millis(20));
    }
    let ranks = below(child.id());
    assert_eq!(ranks.len(), 2, "{ranks:?}");
    let killed = Command::new("kill").args([signal, &ranks[rank].to_string()]).status().unwrap();
    assert!(killed.success());
    wait(child, name)
}

#[test]
fn ranks_end_where_one_does_and_rank_0_alone_speaks() {
    let bench = Bench::new();
    done(bench.train(0, "1", &[]));
    for ranks in [2, 4] {
        let name = ranks.to_string();
        let output = done(bench.train(ranks, &name, &[]));
        let median = median_difference(&bench.path("1"), &bench.path(&name));
        assert!(median <= 1e-6, "{ranks} ranks: {median:e}");
        assert_eq!(text(&output.stdout).matches("6 steps, val").count(), 1, "{}", text(&output.stdout));
        let errors = text(&output.stderr);
        assert_eq!(errors.matches("parameters, ").count(), 1, "{errors}");
        assert!(errors.contains(&format!("{ranks} ranks: ")), "{errors}");
        let log = read_metrics(&bench.path(&name)).unwrap();
        assert_eq!(log.iter().filter(|event| matches!(event, Event::Start { .. })).count(), 1);
    }
    let mixed = ["--precision", "mixed"];
    done(bench.train(0, "1 mixed", &mixed));
    for ranks in [2, 4] {
        let name = format!("{ranks} mixed");
        done(bench.train(ranks, &name, &mixed));
        let median = median_difference(&bench.path("1 mixed"), &bench.path(&name));
        assert!(median <= 1e-6, "{ranks} ranks in mixed precision: {median:e}");
    }
    done(bench.resume(2, "4", "8"));
    done(bench.resume(0, "2", "8"));
    assert!(median_difference(&bench.path("2"), &bench.path("4")) <= 1e-6);
}

#[test]
fn a_rank_that_dies_ends_the_job_and_the_run_goes_on() {
    let bench = Bench::new();
    for rank in [0, 1] {
        let name = format!("dies{rank}");
        assert_ne!(interrupted(&bench, &name, rank, "-KILL"), 0);
        let saved = checkpoints(&bench.path(&name)).unwrap().pop().unwrap().0;
        assert!(saved >= 4);
        done(bench.resume(0, &name, &(saved + 2).to_string()));
        assert_eq!(newest(&bench.path(&name)).state.step, saved + 2);
    }
}

#[test]
fn a_signal_to_any_rank_saves_and_stops_all() {
    let bench = Bench::new();
    for rank in [0, 1] {
        let name = format!("stops{rank}");
        assert_eq!(interrupted(&bench, &name, rank, "-TERM"), 143);
        let log = read_metrics(&bench.path(&name)).unwrap();
        let last = log.iter().map(Event::step).max().unwrap();
        assert!(newest(&bench.path(&name)).state.step >= last, "the last finished step is saved");
    }
}

#[test]
fn errors_end_all_ranks_and_are_said_once() {
    let bench = Bench::new();
    let mut command = bench.train(3, "s", &[]);
    let output = command.output().expect("mpirun");
    let error = text(&output.stderr);
    assert_ne!(output.status.code(), Some(0));
    assert_eq!(error.matches("error: ").count(), 1, "{error}");
    assert!(error.contains("a batch of 8 cannot be divided among 3 ranks: use --batch 6 or 9"), "{error}");
    assert!(!bench.path("s").exists());
    // One that strikes in the middle of the run.
    let mut command = bench.train(2, "t", &[]);
    let output = command.env("RECURVE_FAULT", "read-error@5").output().expect("mpirun");
    assert_ne!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("the pictures of step 5 cannot be read"), "{}", text(&output.stderr));
    assert_eq!(newest(&bench.path("t")).state.step, 4);
}
