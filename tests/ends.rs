//! How a run ends before its end, and that nothing is lost by it: signals, errors, a lost device, checkpoints that are kept by
//! a rule. Each test trains as a user does, as a process of its own, on an adapter; without one these tests fail.

use recurve::train::run_folder::{checkpoints, read_metrics};
use recurve::train::{Checkpoint, Event};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// An epoch of this has ten steps of the network below.
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
steps = 14
checkpoint_every = 5
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

    fn train(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = recurve(&["train", "--no-tune", "--data", DATA, "--config"]);
        command.arg(self.path("small.toml")).arg("--out").arg(self.path(name)).args(flags);
        command
    }

    fn resume(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = recurve(&["train", "--resume"]);
        command.arg(self.path(name)).args(flags);
        command
    }

    fn newest(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name).join("checkpoint.safetensors")).unwrap()
    }

    fn steps(&self, name: &str) -> Vec<u64> {
        checkpoints(&self.path(name)).unwrap().into_iter().map(|(step, _)| step).collect()
    }

    /// Every file of the run folder that is no part of a run: what an interrupted write has left.
    fn strange(&self, name: &str) -> Vec<String> {
        let known = ["config.toml", "choices.toml", "metrics.jsonl", "checkpoints", "checkpoint.safetensors", ".lock"];
        let names = |folder: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(folder).unwrap();
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
        };
        let mut found = names(&self.path(name));
        found.extend(names(&self.path(name).join("checkpoints")));
        found.retain(|f| !known.contains(&f.as_str()) && (f.starts_with('.') || !f.ends_with(".safetensors")));
        found
    }
}

fn recurve(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recurve"));
    command.args(arguments).env_remove("RECURVE_FAULT");
    command
}

fn stderr(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Runs to the end, which must be a good one; gives stderr.
fn succeeds(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert!(output.status.success(), "{}: {text}", output.status);
    text
}

/// Runs to an end with exit code 1 and a stderr that holds every one of `words`.
fn fails(mut command: Command, words: &[&str]) -> String {
    let output = command.output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "`{word}` is missing in: {text}"));
    text
}

/// Events of a run without what differs between two equal ones, and without its starts and ends and single steps, of which
/// one that went on has others.
fn epochs(root: &Path) -> Vec<Event> {
    let of_val = |e: &Event| matches!(e, Event::Epoch { split, .. } if split == "val");
    read_metrics(root).unwrap().into_iter().filter(of_val).collect()
}

/// Waits until the log of a running training holds so many `step` events.
fn wait_for_steps(child: &mut Child, root: &Path, events: usize) {
    let deadline = Instant::now() + Duration::from_secs(120);
    let log = root.join("metrics.jsonl");
    while std::fs::read_to_string(&log).unwrap_or_default().matches("\"event\":\"step\"").count() < events {
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        assert!(Instant::now() < deadline, "no progress");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
mod signals {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn send(signal: &str, child: &Child) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        assert!(sent.success(), "kill -{signal}");
    }

    /// With the signals as a terminal gives them, whatever the test runner ignores; `ignored` with one of them ignored.
    fn start(command: Command, ignored: Option<&str>) -> Child {
        let mut shell = Command::new("sh");
        let ignore = ignored.map_or(String::new(), |signal| format!("trap '' {signal}; "));
        shell
            .arg("-c")
            .arg(format!("{ignore}exec \"$@\""))
            .arg("sh")
            .arg(command.get_program())
            .args(command.get_args());
        shell.env_remove("RECURVE_FAULT");
        shell.stdin(Stdio::null());
        shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    #[test]
    fn a_signal_saves_and_ends_and_the_run_goes_on_to_the_same_bytes() {
        let bench = Bench::new();
        for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
            let root = bench.path(signal);
            let flags = ["--steps", "1000000", "--checkpoint-every", "0"];
            let mut child = start(bench.train(signal, &flags), None);
            wait_for_steps(&mut child, &root, 4);
            send(signal, &child);
            let output = child.wait_with_output().unwrap();
            let text = stderr(&output);
            assert_eq!(output.status.code(), Some(code), "{signal}: {text}");
            assert!(text.contains(&format!("--resume {}", root.display())), "{text}");
            let (steps, stopped) = (bench.steps(signal), Checkpoint::from_bytes(&bench.newest(signal)).unwrap());
            let step = stopped.state.step;
            assert!(step >= 30 && steps == [0, step], "{signal}: {steps:?}, {step}");
            assert!(bench.strange(signal).is_empty());
            // On to the end of the epoch after the next, in which the signal may have come.
            let more = (step / 10 * 10 + 20).to_string();
            succeeds(bench.resume(signal, &["--steps", &more]));
            let whole = format!("{signal}-whole");
            succeeds(bench.train(&whole, &["--steps", &more, "--checkpoint-every", "0"]));
            assert_eq!(bench.newest(signal), bench.newest(&whole), "{signal} at step {step}");
            assert_eq!(epochs(&root), epochs(&bench.path(&whole)), "{signal} at step {step}");
        }
    }

    #[test]
    fn a_second_signal_ends_at_once() {
        let bench = Bench::new();
        let mut child = start(bench.train("run", &["--steps", "1000000", "--checkpoint-every", "1"]), None);
        wait_for_steps(&mut child, &bench.path("run"), 4);
        // Both before a step can end: the process sleeps when they come.
        send("STOP", &child);
        send("TERM", &child);
        send("INT", &child);
        send("CONT", &child);
        let status = child.wait().unwrap();
        assert!(matches!(status.code(), Some(130 | 143)), "{status:?}, {:?}", status.signal());
        // Whatever it was writing: the run goes on.
        let step = *bench.steps("run").last().unwrap();
        succeeds(bench.resume("run", &["--steps", &(step + 1).to_string()]));
        assert!(bench.strange("run").is_empty());
    }

    #[test]
    fn a_sleep_changes_nothing() {
        let bench = Bench::new();
        succeeds(bench.train("whole", &["--steps", "60"]));
        let mut child = start(bench.train("slept", &["--steps", "60"]), None);
        for events in [1, 3] {
            wait_for_steps(&mut child, &bench.path("slept"), events);
            send("STOP", &child);
            std::thread::sleep(Duration::from_millis(300));
            send("CONT", &child);
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(bench.newest("whole"), bench.newest("slept"));
    }

    /// As `nohup` and a script's `&` start programs.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
        let bench = Bench::new();
        for signal in ["HUP", "INT"] {
            let mut child = start(bench.train(signal, &["--steps", "60"]), Some(signal));
            wait_for_steps(&mut child, &bench.path(signal), 2);
            send(signal, &child);
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{signal}: {}", stderr(&output));
            assert_eq!(bench.steps(signal).last(), Some(&60));
        }
    }

    #[test]
    fn a_run_goes_on_when_nobody_reads_what_it_says() {
        let bench = Bench::new();
        let mut child = start(bench.train("run", &["--steps", "40"]), None);
        drop((child.stderr.take(), child.stdout.take()));
        child.wait().unwrap();
        assert_eq!(bench.steps("run").last(), Some(&40));
        assert!(matches!(read_metrics(&bench.path("run")).unwrap().last(), Some(Event::End { step: 40, .. })));
    }
}

#[test]
fn a_lost_device_is_opened_again_and_changes_no_byte() {
    let bench = Bench::new();
    succeeds(bench.train("whole", &[]));
    // In the middle of a step; at the first and the last; at one whose checkpoint is due; more than once; in parts.
    for (i, faults) in ["7", "1", "14", "5", "3,12", "7,7,7"].iter().enumerate() {
        let name = format!("lost-{i}");
        let mut command = bench.train(&name, &[]);
        command.env(
            "RECURVE_FAULT",
            faults.split(',').map(|at| format!("device-lost@{at}")).collect::<Vec<_>>().join(","),
        );
        let text = succeeds(command);
        let times = faults.split(',').count();
        assert_eq!(text.matches("was lost").count(), times, "{faults}: {text}");
        assert_eq!(bench.newest("whole"), bench.newest(&name), "{faults}");
        assert_eq!(epochs(&bench.path("whole")), epochs(&bench.path(&name)), "{faults}");
        assert_eq!(bench.steps("whole"), bench.steps(&name), "{faults}");
    }
    succeeds(bench.train("parts", &["--accumulate", "2"]));
    let mut command = bench.train("parts-lost", &["--accumulate", "2"]);
    command.env("RECURVE_FAULT", "device-lost@7");
    succeeds(command);
    assert_eq!(bench.newest("parts"), bench.newest("parts-lost"));
}

#[test]
fn a_device_that_is_lost_again_and_again_ends_the_run_with_what_it_has() {
    let bench = Bench::new();
    let mut command = bench.train("run", &[]);
    command.env("RECURVE_FAULT", ["device-lost@7"; 4].join(","));
    fails(command, &["lost 4 times", "the device was lost", "--resume"]);
    assert_eq!(bench.steps("run"), [0, 5]);
    succeeds(bench.train("whole", &[]));
    succeeds(bench.resume("run", &[]));
    assert_eq!(bench.newest("whole"), bench.newest("run"));
}

#[test]
fn parts_that_fit_are_found_and_give_the_bytes_of_accumulate() {
    let bench = Bench::new();
    let accumulate = |name: &str| {
        let config = std::fs::read_to_string(bench.path(name).join("config.toml")).unwrap();
        config.lines().find_map(|line| line.strip_prefix("accumulate = ")).map(str::to_string)
    };
    succeeds(bench.train("whole", &[]));
    let text = succeeds(bench.train("fits", &["--fit"]));
    assert!(text.contains("one part of 4 images"), "{text}");
    assert_eq!((accumulate("fits"), bench.newest("fits")), (None, bench.newest("whole")));

    // Memory that is not there: more parts are tried, and the run that goes on has them.
    for (parts, times) in [("2", 1), ("4", 2)] {
        let (name, same) = (format!("fit-{parts}"), format!("accumulate-{parts}"));
        succeeds(bench.train(&same, &["--accumulate", parts]));
        let mut command = bench.train(&name, &["--fit", "--steps", "7"]);
        command.env("RECURVE_FAULT", vec!["out-of-memory@1"; times].join(","));
        let text = succeeds(command);
        assert!(text.matches("out of memory").count() == times && text.contains("--fit"), "{text}");
        assert!(text.contains(&format!("in {parts} parts of")), "{text}");
        assert_eq!(accumulate(&name), Some(parts.to_string()));
        let first = |name: &str| std::fs::read(bench.path(name).join("checkpoints/00000000.safetensors")).unwrap();
        succeeds(bench.resume(&name, &["--steps", "14"]));
        assert_eq!((accumulate(&name), bench.newest(&name)), (Some(parts.to_string()), bench.newest(&same)));
        succeeds(bench.train("first", &["--accumulate", parts, "--steps", "7"]));
        assert_eq!(first(&name), first("first"), "{parts} parts: the untrained network's checkpoint");
        std::fs::remove_dir_all(bench.path("first")).unwrap();
    }
    // Not even single images.
    let mut command = bench.train("none", &["--fit"]);
    command.env("RECURVE_FAULT", ["out-of-memory@1"; 3].join(","));
    fails(command, &["out of memory", "largest tensors", "needs"]);
    // Without --fit.
    let mut command = bench.train("without", &[]);
    command.env("RECURVE_FAULT", "out-of-memory@1");
    fails(command, &["out of memory", "largest tensors", "area ", "timestep", "MiB", "--accumulate", "--fit"]);
}

#[test]
fn an_error_keeps_the_steps_before_it() {
    let bench = Bench::new();
    succeeds(bench.train("whole", &[]));
    for (fault, saved, words) in [
        ("read-error@9", 8, ["pictures of step 9", "its 8 steps are saved"]),
        ("read-error@11", 10, ["pictures of step 11", "its 10 steps are saved"]),
        ("disk-full@10", 10, ["checkpoint of step 10 not written: no storage space", "its 10 steps are saved"]),
        ("disk-full@10,disk-full@10", 5, ["no storage space", "step 10 could not be saved"]),
        ("read-error@1", 0, ["pictures of step 1 ", "error"]),
    ] {
        let name = fault.replace(['@', ','], "-");
        let mut command = bench.train(&name, &[]);
        command.env("RECURVE_FAULT", fault);
        fails(command, &words);
        assert_eq!(bench.steps(&name).last(), Some(&saved), "{fault}");
        assert!(bench.strange(&name).is_empty(), "{fault}: {:?}", bench.strange(&name));
        succeeds(bench.resume(&name, &[]));
        assert_eq!(bench.newest("whole"), bench.newest(&name), "{fault}");
        assert_eq!(epochs(&bench.path("whole")), epochs(&bench.path(&name)), "{fault}");
    }
    let mut command = bench.train("x", &[]);
    command.env("RECURVE_FAULT", "fire@3");
    fails(command, &["RECURVE_FAULT", "fire@3", "device-lost"]);
}

#[test]
fn checkpoints_are_kept_by_a_rule() {
    let bench = Bench::new();
    let flags = ["--steps", "34", "--checkpoint-every", "3"];
    succeeds(bench.train("all", &flags));
    assert_eq!(bench.steps("all"), [0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 33, 34]);
    let kept = |name: &str, keep: &str| {
        succeeds(bench.train(name, &[&flags[..], &["--keep", keep]].concat()));
        bench.steps(name)
    };
    assert_eq!(kept("first", "first"), [0, 33, 34]);
    assert_eq!(kept("several", "last 3,every 9"), [0, 9, 18, 27, 30, 33, 34]);
    let best = kept("best", "best");
    // Evaluations are at steps 10, 20, 30 and 34; the best one's step is saved although no checkpoint is due.
    let accuracy = |event: &Event| match event {
        Event::Epoch { step, accuracy, loss, .. } => {
            (accuracy.last().unwrap().unwrap(), -loss.iter().flatten().sum::<f64>(), *step)
        }
        other => panic!("{other:?}"),
    };
    let of_val = epochs(&bench.path("best"));
    assert_eq!(of_val.len(), 4);
    let first_best = of_val.iter().map(accuracy).reduce(|a, b| if (b.0, b.1) > (a.0, a.1) { b } else { a }).unwrap().2;
    let mut expected = vec![first_best, 33, 34];
    expected.sort();
    expected.dedup();
    assert_eq!(best, expected);

    // The rule stands in the configuration file, and changes nothing else.
    let toml = format!("{CONFIG}keep = [\"last\"]\n");
    std::fs::write(bench.path("small.toml"), toml).unwrap();
    succeeds(bench.train("file", &flags));
    assert_eq!(bench.steps("file"), [33, 34]);
    for name in ["first", "several", "best", "file"] {
        assert_eq!(bench.newest("all"), bench.newest(name), "{name}");
    }
    succeeds(bench.resume("file", &["--steps", "40", "--keep", "first,every 39"]));
    assert_eq!(bench.steps("file"), [33, 39, 40]);
    fails(bench.train("x", &["--keep", "newest"]), &["keep", "newest", "every N"]);
}

#[test]
fn a_damaged_checkpoint_is_named_with_the_one_that_is_used() {
    let bench = Bench::new();
    succeeds(bench.train("whole", &[]));
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage); 4] = [
        ("torn", |bytes| bytes[..bytes.len() * 2 / 3].to_vec()),
        ("flipped", |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 0x10;
            bytes
        }),
        ("foreign", |_| [b"\x89PNG\r\n\x1a\n".to_vec(), vec![0; 5000]].concat()),
        ("empty", |_| Vec::new()),
    ];
    for (name, damage) in damages {
        succeeds(bench.train(name, &[]));
        for file in ["checkpoint.safetensors", "checkpoints/00000014.safetensors"] {
            let file = bench.path(name).join(file);
            std::fs::write(&file, damage(std::fs::read(&file).unwrap())).unwrap();
        }
        let mut export = recurve(&["export"]);
        export.arg(bench.path(name)).args(["--to", "safetensors", "--out"]).arg(bench.path("weights.safetensors"));
        for command in [export, bench.resume(name, &[])] {
            let text = succeeds(command);
            for word in ["00000014.safetensors", "newest good checkpoint", "00000010.safetensors"] {
                assert!(text.contains(word), "{name}: `{word}` is missing in: {text}");
            }
        }
        assert_eq!(bench.newest("whole"), bench.newest(name), "{name}");
    }
}

#[test]
fn going_back_to_the_untrained_network_is_said() {
    let bench = Bench::new();
    succeeds(bench.train("whole", &[]));
    succeeds(bench.train("left", &[]));
    let numbered = bench.steps("left").into_iter().skip(1).map(|step| format!("checkpoints/{step:08}.safetensors"));
    for file in numbered.chain(["checkpoint.safetensors".into()]) {
        std::fs::write(bench.path("left").join(file), b"torn").unwrap();
    }
    let mut export = recurve(&["export"]);
    export.arg(bench.path("left")).args(["--to", "safetensors", "--out"]).arg(bench.path("weights.safetensors"));
    for command in [export, bench.resume("left", &[])] {
        let text = succeeds(command);
        assert!(text.contains("00000000.safetensors, of step 0, before any training"), "{text}");
    }
    assert_eq!(bench.newest("whole"), bench.newest("left"));
}
