//! The commands `train` and `data`, run as a user runs them. Training needs an adapter: without one these tests fail,
//! with the program's own message.

use assert_cmd::Command;
use recurve::train::run_folder::{checkpoints, read_metrics};
use recurve::train::{Checkpoint, Event};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const DATA: &str = "glyphs:train=40,val=10,test=12,testplus=12,difficulty=0";

/// A network of a few hundred parameters; an epoch of [`DATA`] has ten steps.
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
checkpoint_every = 7
";

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("small.toml"), CONFIG).unwrap();
        Bench { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `recurve train` on the small network into the folder `name`; the last of a repeated flag's values counts not:
    /// give each flag once.
    fn train(&self, name: &str, flags: &[&str]) -> Command {
        let mut command = recurve(&["train", "--data", DATA, "--config"]);
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
}

fn recurve(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("recurve").unwrap();
    command.args(arguments);
    command
}

/// The command must fail with exit code `code` and an error that holds every one of `words`.
fn refused(mut command: Command, code: i32, words: &[&str]) {
    let output = command.assert().code(code).get_output().clone();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("panicked"), "{error}");
    for word in words {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
}

/// The events without what differs between two equal runs: speed and time.
fn events(root: &Path) -> Vec<Event> {
    let timeless = |event| match event {
        Event::Step { step, epoch, loss, grad_norm, loss_scale, .. } => {
            Event::Step { step, epoch, loss, grad_norm, loss_scale, images_per_s: 0.0, seconds: 0.0 }
        }
        Event::End { step, epoch, .. } => Event::End { step, epoch, seconds: 0.0 },
        other => other,
    };
    read_metrics(root).unwrap().into_iter().map(timeless).collect()
}

/// Rule `same-bytes`.
#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let bench = Bench::new();
    bench.train("a", &[]).assert().success();
    bench.train("b", &[]).assert().success();
    bench.train("c", &["--seed", "2"]).assert().success();
    assert_eq!(bench.newest("a"), bench.newest("b"));
    assert_eq!(events(&bench.path("a")), events(&bench.path("b")));
    assert_ne!(bench.newest("a"), bench.newest("c"));
    let saved: Vec<u64> = checkpoints(&bench.path("a")).unwrap().into_iter().map(|(step, _)| step).collect();
    assert_eq!(saved, [0, 7, 14]);
    let trained = Checkpoint::from_bytes(&bench.newest("a")).unwrap();
    let state = &trained.state;
    assert_eq!((state.step, state.adam_step, state.epoch, state.batch_in_epoch), (14, 14, 1, 4));
    let first = Checkpoint::read(&bench.path("a/checkpoints/00000000.safetensors")).unwrap();
    let network = state.network.network().unwrap();
    for (name, before) in first.parameters.iter() {
        let changed = trained.parameters.get(name) != Some(before);
        assert_eq!(changed, network.uses(name), "{name}: only used parameters change");
    }
}

#[test]
fn a_run_that_goes_on_ends_as_if_it_had_never_stopped() {
    let bench = Bench::new();
    bench.train("whole", &[]).assert().success();

    // Stopped by its length, in the middle of an epoch, and made longer.
    bench.train("longer", &["--steps", "7"]).assert().success();
    bench.resume("longer", &["--steps", "14"]).assert().success();
    assert_eq!(bench.newest("whole"), bench.newest("longer"));

    // Killed after step 7: the later checkpoints never came to be.
    bench.train("killed", &[]).assert().success();
    let root = bench.path("killed");
    std::fs::remove_file(root.join("checkpoints/00000014.safetensors")).unwrap();
    std::fs::copy(root.join("checkpoints/00000007.safetensors"), root.join("checkpoint.safetensors")).unwrap();
    bench.resume("killed", &[]).assert().success();
    assert_eq!(bench.newest("whole"), bench.newest("killed"));
    let of_val = |root: &Path| {
        let val = |e: &Event| matches!(e, Event::Epoch { split, .. } if split == "val");
        events(root).into_iter().filter(val).collect::<Vec<_>>()
    };
    assert_eq!(of_val(&root), of_val(&bench.path("whole")));

    // Nothing is left to do; and a length that is already behind.
    let done = bench.resume("killed", &[]).assert().success().get_output().clone();
    assert!(String::from_utf8(done.stdout).unwrap().contains("all 14 steps are done"));
    assert_eq!(bench.newest("whole"), bench.newest("killed"));
    refused(bench.resume("killed", &["--steps", "3"]), 1, &["14 steps are done already", "--steps"]);
}

#[test]
fn the_log_holds_what_scripts_rely_on() {
    let bench = Bench::new();
    bench.train("run", &["--seed", "3"]).assert().success();
    let text = std::fs::read_to_string(bench.path("run/metrics.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shape: Vec<(&str, u64)> =
        lines.iter().map(|l| (l["event"].as_str().unwrap(), l["step"].as_u64().unwrap())).collect();
    let expected = [
        ("start", 0),
        ("step", 1),
        ("step", 7),
        ("step", 10),
        ("epoch", 10),
        ("epoch", 10),
        ("step", 14),
        ("epoch", 14),
        ("epoch", 14),
        ("epoch", 14),
        ("end", 14),
    ];
    assert_eq!(shape, expected);
    let start = &lines[0];
    assert!(start["planned_bytes"].as_u64().unwrap() > 0);
    assert_eq!(start["planned_bytes"], start["allocated_bytes"]);
    assert!(start["host_bytes"].as_u64().unwrap() > 0);
    assert_eq!(start["seed"], 3);
    assert!(!start["adapter"].as_str().unwrap().is_empty() && !start["driver"].as_str().unwrap().is_empty());
    let of_epochs = [(4, "train", 40), (5, "val", 10), (7, "train", 16), (8, "val", 10), (9, "test", 12)];
    for (epoch, split, images) in of_epochs.map(|(line, split, images)| (&lines[line], split, images)) {
        assert_eq!((epoch["split"].as_str(), epoch["images"].as_u64()), (Some(split), Some(images)));
        let numbers = |key: &str| -> Vec<f64> { serde_json::from_value(epoch[key].clone()).unwrap() };
        assert_eq!((numbers("loss").len(), numbers("accuracy").len()), (2, 2));
        assert!(numbers("loss").iter().all(|&l| l > 0.5 && l < 23.1), "{epoch}");
        assert!(numbers("accuracy").iter().all(|&a| (0.0..=1.0).contains(&a)), "{epoch}");
    }
}

/// An epoch of 42 pictures in batches of 4: ten whole ones and one of 2.
#[test]
fn the_last_batch_of_an_epoch_is_trained_on_and_a_run_of_before_leaves_it_out() {
    let bench = Bench::new();
    let data = ["--data", "glyphs:train=42,val=10,test=12,testplus=12,difficulty=0,endless=false"];
    let train = |name: &str, flags: &[&str]| {
        let mut command = recurve(&["train", "--no-tune", "--config"]);
        command.arg(bench.path("small.toml")).arg("--out").arg(bench.path(name)).args(data).args(flags);
        command
    };
    let flags = ["--steps", "24", "--augment", "trivial"];
    train("whole", &flags).assert().success();
    let of = |name: &str, split: &str| -> Vec<(u64, u64, u64)> {
        let one = |event| match event {
            Event::Epoch { epoch, step, split: of, images, .. } if of == split => Some((epoch, step, images)),
            _ => None,
        };
        read_metrics(&bench.path(name)).unwrap().into_iter().filter_map(one).collect()
    };
    assert_eq!(of("whole", "train"), [(1, 11, 42), (2, 22, 42), (2, 24, 8)]);
    assert_eq!(of("whole", "test"), [(2, 24, 12)], "once, at the end");
    let state = Checkpoint::from_bytes(&bench.newest("whole")).unwrap().state;
    assert_eq!((state.step, state.epoch, state.batch_in_epoch), (24, 2, 2));

    // Stopped in the middle of an epoch, at its last batch, and before it.
    for stop in ["10", "11", "17"] {
        train(stop, &["--steps", stop, "--augment", "trivial"]).assert().success();
        bench.resume(stop, &["--steps", "24"]).assert().success();
        assert_eq!(bench.newest("whole"), bench.newest(stop), "stopped at {stop}");
    }
    // In parts, of which the last batch fills one and a half of two or two of four: the same but for rounding.
    let losses = |name: &str| -> Vec<f64> {
        let one = |event| match event {
            Event::Epoch { split, loss, .. } if split == "train" => Some(loss[1].unwrap()),
            _ => None,
        };
        read_metrics(&bench.path(name)).unwrap().into_iter().filter_map(one).collect()
    };
    for parts in ["2", "4"] {
        let name = format!("parts {parts}");
        train(&name, &[&flags[..], &["--accumulate", parts]].concat()).assert().success();
        assert_eq!(of(&name, "train"), of("whole", "train"));
        for (a, b) in losses(&name).iter().zip(losses("whole")) {
            assert!((a - b).abs() < 2e-3 * b, "{parts} parts: {a} and {b}");
        }
        // Stopped before the last batch and gone on with: the bytes of the run in so many parts.
        let stopped = format!("stopped {parts}");
        train(&stopped, &["--steps", "10", "--augment", "trivial", "--accumulate", parts]).assert().success();
        bench.resume(&stopped, &["--steps", "24"]).assert().success();
        assert_eq!(bench.newest(&name), bench.newest(&stopped), "in {parts} parts");
    }
    // A batch larger than the split is one that is not full.
    train("large", &["--batch", "64", "--epochs", "2"]).assert().success();
    assert_eq!(of("large", "train"), [(1, 1, 42), (2, 2, 42)]);

    // A run of before the rule: its files do not say, and it keeps to what it did.
    train("old", &["--steps", "4"]).assert().success();
    let path = bench.path("old/config.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("last_batch = \"keep\"") && text.contains("test_split = \"test\""), "{text}");
    let old: Vec<&str> =
        text.lines().filter(|l| !l.starts_with("last_batch") && !l.starts_with("test_split")).collect();
    std::fs::write(&path, old.join("\n")).unwrap();
    refused(bench.resume("old", &[]), 1, &["last_batch = drop", "in the checkpoint keep"]);
    std::fs::remove_dir_all(bench.path("old/checkpoints")).unwrap();
    std::fs::create_dir(bench.path("old/checkpoints")).unwrap();
    std::fs::remove_file(bench.path("old/checkpoint.safetensors")).unwrap();
    bench.resume("old", &["--steps", "20"]).assert().success();
    assert_eq!(of("old", "train"), [(1, 10, 40), (2, 20, 40)]);
    assert!(of("old", "test").is_empty());
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("last_batch") && !text.contains("test_split"), "{text}");
}

/// Rule `same-bytes`.
#[test]
fn augmented_runs_repeat_and_keep_their_augmentation() {
    let bench = Bench::new();
    bench.train("a", &["--augment", "trivial"]).assert().success();
    bench.train("b", &["--augment", "trivial"]).assert().success();
    bench.train("plain", &["--augment", "none"]).assert().success();
    assert_eq!(bench.newest("a"), bench.newest("b"));
    assert_ne!(bench.newest("a"), bench.newest("plain"));
    let text = std::fs::read_to_string(bench.path("a/config.toml")).unwrap();
    assert!(text.contains("augment = \"trivial\""), "{text}");

    // Replayed from its own configuration; resumed; with another word in its file.
    let mut replay = recurve(&["train", "--config"]);
    replay.arg(bench.path("a/config.toml")).arg("--out").arg(bench.path("c")).assert().success();
    assert_eq!(bench.newest("a"), bench.newest("c"));
    bench.train("d", &["--augment", "trivial", "--steps", "9"]).assert().success();
    bench.resume("d", &["--steps", "14"]).assert().success();
    assert_eq!(bench.newest("a"), bench.newest("d"));
    refused(bench.resume("d", &["--augment", "none"]), 2, &["--augment"]);
    std::fs::write(bench.path("d/config.toml"), text.replace("augment = \"trivial\"\n", "")).unwrap();
    refused(bench.resume("d", &["--steps", "15"]), 1, &["augment = none", "in the checkpoint trivial"]);
    refused(bench.train("x", &["--augment", "auto"]), 2, &["auto", "trivial"]);
}

/// Checkpoints by epoch as published: before the first step, after some epochs, at the end.
#[test]
fn checkpoints_are_kept_by_epoch() {
    let bench = Bench::new();
    let keep = ["--keep", "epoch -1,epoch 0,every 3 epochs", "--checkpoint-every", "0", "--epochs", "7"];
    bench.train("run", &keep).assert().success();
    let steps = |name: &str| -> Vec<u64> {
        checkpoints(&bench.path(name)).unwrap().into_iter().map(|(step, _)| step).collect()
    };
    assert_eq!(steps("run"), [0, 10, 30, 60, 70]);
    let text = std::fs::read_to_string(bench.path("run/config.toml")).unwrap();
    assert!(text.contains("\"epoch -1\", \"epoch 0\", \"every 3 epochs\""), "{text}");
    refused(bench.train("x", &["--keep", "epoch"]), 1, &["epoch N", "every N epochs"]);
}

#[test]
fn analysis_is_of_testplus_where_there_is_one_and_says_so() {
    let bench = Bench::new();
    bench.train("run", &["--steps", "2"]).assert().success();
    let analyse = |flags: &[&str]| -> (serde_json::Value, String) {
        let mut command = recurve(&["analyse", "--json", "--no-areas"]);
        let output = command.arg(bench.path("run")).args(flags).assert().success().get_output().clone();
        (serde_json::from_slice(&output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (found, terminal) = analyse(&[]);
    let notes = found["meta"]["notes"].to_string();
    assert_eq!(found["meta"]["split"], "testplus");
    assert!(
        notes.contains("The split is testplus") && terminal.contains("The split is testplus"),
        "{notes}\n{terminal}"
    );
    let (found, terminal) = analyse(&["--split", "test"]);
    assert_eq!(found["meta"]["split"], "test");
    assert!(!found["meta"]["notes"].to_string().contains("testplus") && !terminal.contains("testplus"), "{terminal}");
}

/// Rule `planned`.
#[test]
fn every_pass_may_be_switched_off_and_memory_stays_as_planned() {
    let bench = Bench::new();
    bench.train("all", &["--steps", "3"]).assert().success();
    let none = ["hoist", "fuse", "fold", "reuse"].map(|name| format!("--no-pass={name}"));
    let flags: Vec<&str> = ["--steps", "3"].into_iter().chain(none.iter().map(String::as_str)).collect();
    bench.train("none", &flags).assert().success();
    let facts = |name: &str| {
        let mut bytes = (0, 0);
        let mut losses = Vec::new();
        for event in read_metrics(&bench.path(name)).unwrap() {
            match event {
                Event::Start { planned_bytes, allocated_bytes, .. } => bytes = (planned_bytes, allocated_bytes),
                Event::Step { loss, .. } => losses.push(loss),
                _ => {}
            }
        }
        assert_eq!(bytes.0, bytes.1, "{name}: planned and allocated");
        (bytes.0, losses)
    };
    let ((all, with), (none, without)) = (facts("all"), facts("none"));
    assert!(all < none, "{all} bytes with all passes, {none} without any");
    assert_eq!(with.len(), 2);
    for (a, b) in with.iter().zip(&without) {
        assert!((a - b).abs() < 1e-3 * a, "{with:?} and {without:?}");
    }
    refused(bench.train("x", &["--no-pass", "magic"]), 1, &["magic", "hoist, fuse, fold, reuse"]);
}

#[test]
fn divergence_is_reported_and_never_saved() {
    let bench = Bench::new();
    let flags = ["--learning-rate", "1e38", "--checkpoint-every", "1"];
    refused(
        bench.train("run", &flags),
        1,
        &[
            "diverged",
            "step ",
            "last good checkpoint",
            "--resume",
            "--learning-rate",
            "first number that is not finite",
            "area ",
        ],
    );
    let saved = checkpoints(&bench.path("run")).unwrap();
    assert!(!saved.is_empty() && saved.len() < 15, "{saved:?}");
    for (_, path) in saved {
        Checkpoint::read(&path).unwrap(); // refuses values that are not finite
    }
}

#[test]
fn wrong_input_is_refused_before_a_device_is_opened() {
    let bench = Bench::new();
    // No driver at all: what is wrong with the input must be said first.
    let without_device = |mut command: Command| {
        command.env("VK_DRIVER_FILES", "/nonexistent.json").env("VK_ICD_FILENAMES", "/nonexistent.json");
        command
    };
    let refused = |command, code, words: &[&str]| refused(without_device(command), code, words);
    let out = bench.path("out");
    let to = |arguments: &[&str]| {
        let mut command = recurve(arguments);
        command.arg("--out").arg(&out);
        command
    };
    refused(bench.train("x", &["--batch", "0"]), 1, &["batch = 0"]);
    refused(bench.train("x", &["--steps", "0"]), 1, &["steps = 0"]);
    refused(bench.train("x", &["--learning-rate=-1"]), 1, &["learning_rate = -1"]);
    refused(to(&["train", "--data", "nowhere.h5", "--preset", "tiny"]), 1, &["nowhere.h5", "no such file"]);
    refused(to(&["train", "--preset", "tiny"]), 1, &["no data set", "--data"]);
    refused(to(&["train", "--data", "glyphs:size=3", "--preset", "tiny"]), 1, &["size", "difficulty"]);
    refused(recurve(&["train", "--data", DATA, "--preset", "tiny", "--out", "/dev/null/run"]), 1, &["/dev/null/run"]);

    std::fs::write(bench.path("small.toml"), format!("{CONFIG}[data]\neval_split = \"exam\"")).unwrap();
    refused(bench.train("x", &[]), 1, &["exam", "train, val, test, testplus"]);
    std::fs::write(bench.path("small.toml"), CONFIG.replace("stem", "stern")).unwrap();
    refused(bench.train("x", &[]), 1, &["small.toml", "stern_channels"]);
    std::fs::write(bench.path("small.toml"), CONFIG.replace("timesteps", "classes = 3\ntimesteps")).unwrap();
    refused(bench.train("x", &[]), 1, &["classes = 3", "10 classes"]);
    std::fs::write(bench.path("small.toml"), CONFIG).unwrap();
    refused(bench.train("x", &[]), 1, &["no adapter", "lavapipe"]);
    assert!(!bench.path("x").exists(), "a refused run leaves nothing");

    refused(to(&["train", "--data", DATA]), 2, &["--preset"]);
    refused(to(&["train", "--data", DATA, "--preset", "huge"]), 2, &["tiny, blt64, blt128"]);
    refused(bench.train("x", &["--preset", "tiny"]), 2, &["--config"]);
    refused(bench.train("x", &["--steps", "1", "--epochs", "1"]), 2, &["--epochs"]);
    refused(bench.resume("x", &["--seed", "1"]), 2, &["--seed"]);
    refused(bench.resume("x", &[]), 1, &["not a run folder", "config.toml"]);

    for split in ["train", "val", "test"] {
        for class in ["cat", "dog"] {
            let folder = bench.path("pictures").join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("a.png"), "not a picture").unwrap();
        }
    }
    let pictures = bench.path("pictures");
    let pictures = pictures.to_str().unwrap();
    refused(to(&["train", "--data", pictures, "--preset", "tiny"]), 1, &["a.png"]);
    std::fs::remove_file(bench.path("pictures/train/dog/a.png")).unwrap();
    refused(to(&["train", "--data", pictures, "--preset", "tiny"]), 1, &["train/dog"]);

    std::fs::write(bench.path("small.toml"), CONFIG).unwrap();
    refused(bench.train("x", &[]), 1, &["no adapter found", "VK_DRIVER_FILES"]);
}

#[test]
fn a_run_goes_on_only_with_its_own_folder_and_data() {
    let bench = Bench::new();
    bench.train("run", &["--steps", "2"]).assert().success();
    refused(bench.train("run", &["--steps", "2"]), 1, &["already holds", "--resume"]);
    let other = ["--data", "glyphs:seed=5,train=40,val=10,test=12,testplus=12,difficulty=0", "--steps", "3"];
    refused(bench.resume("run", &other), 1, &["not the data set", "channel means"]);
    bench.resume("run", &["--data", DATA, "--steps", "3"]).assert().success();

    let root = bench.path("run");
    let torn = &bench.newest("run")[..3000];
    std::fs::remove_dir_all(root.join("checkpoints")).unwrap();
    std::fs::write(root.join("checkpoint.safetensors"), torn).unwrap();
    refused(bench.resume("run", &["--steps", "4"]), 1, &["checkpoint", "torn"]);
}

#[test]
fn data_sets_are_inspected_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let output = recurve(&["data", "inspect", DATA, "--json"]).assert().success().get_output().clone();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["splits"][0]["pictures"], 40);
    assert_eq!(json["classes"].as_array().unwrap().len(), 10);
    let output = recurve(&["data", "inspect", DATA]).assert().success().get_output().clone();
    assert!(String::from_utf8(output.stdout).unwrap().contains("10 classes"));
    refused(recurve(&["data", "inspect", "nowhere.h5"]), 1, &["nowhere.h5"]);

    let png = folder.path().join("sheet.png");
    let sheet = |flags: &[&str]| {
        let mut command = recurve(&["data", "sheet", DATA, "--out"]);
        command.arg(&png).args(flags);
        command
    };
    sheet(&["--split", "val", "--per-class", "1"]).assert().success();
    let narrow = image::open(&png).unwrap();
    sheet(&["--per-class", "3"]).assert().success();
    let wide = image::open(&png).unwrap();
    assert!(wide.width() > narrow.width() && wide.height() == narrow.height());
    sheet(&["--per-class", "3", "--augment", "trivial", "--seed", "2"]).assert().success();
    let augmented = image::open(&png).unwrap();
    assert!(augmented.width() == wide.width() && augmented != wide);
    sheet(&["--per-class", "3", "--augment", "trivial", "--seed", "2", "--epoch", "1"]).assert().success();
    assert_ne!(image::open(&png).unwrap(), augmented, "another epoch");
    refused(sheet(&["--split", "exam"]), 1, &["exam", "testplus"]);
}

#[test]
fn the_step_size_falls_over_the_last_steps_only() {
    let mut training = recurve::network::Preset::Tiny.run().training;
    training.learning_rate = 8.0;
    assert!([1, 50, 100].into_iter().all(|step| training.learning_rate_at(step, 100) == 8.0));
    training.decay_steps = 3;
    let last: Vec<f64> = (96..=100).map(|step| training.learning_rate_at(step, 100)).collect();
    assert_eq!(last, [8.0, 8.0, 6.0, 4.0, 2.0]);
}
