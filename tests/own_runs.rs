//! Runs of a network of one's own, in parts and under protocols, as a user runs them.

use assert_cmd::Command;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use tempfile::TempDir;

const DATA: &str = "glyphs:train=48,val=6,test=21,difficulty=0";

const CONFIG: &str = "
[architecture]
image_size = 16
timesteps = 3
areas = [
    { name = \"eye\", channels = 4, norm = \"none\" },
    { name = \"low\", channels = 6 },
    { name = \"high\", channels = 8, norm = \"group\", groups = 2, interaction = \"multiplicative\" },
]
connections = [
    { from = \"input\", to = \"eye\", kind = \"bottom_up\" },
    { from = \"eye\", to = \"low\", kind = \"bottom_up\", stride = 2 },
    { from = \"low\", to = \"high\", kind = \"bottom_up\", pool = 2 },
    { from = \"low\", to = \"low\", kind = \"lateral\" },
    { from = \"high\", to = \"low\", kind = \"top_down\", stride = 2, name = \"back\" },
    { from = \"high\", to = \"high\", kind = \"lateral\" },
]

[training]
batch = 12
steps = 6
checkpoint_every = 3
accumulate = 3
";

/// A folder with the configuration and one finished run, `whole`.
static TRAINED: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.toml"), CONFIG).unwrap();
    train(folder.path(), "whole", &[]).assert().success();
    folder
});

fn recurve(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("recurve").unwrap();
    command.args(arguments);
    command
}

fn train(folder: &Path, name: &str, flags: &[&str]) -> Command {
    let mut command = recurve(&["train", "--data", DATA, "--no-tune", "--config"]);
    command.arg(folder.join("own.toml")).arg("--out").arg(folder.join(name)).args(flags);
    command
}

fn newest(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name).join("checkpoint.safetensors")).unwrap()
}

/// `recurve analyse` of the trained run under a protocol.
fn analysis(out: &Path, protocol: Option<&str>) -> Command {
    let mut command = recurve(&["analyse", "--json"]);
    command.arg(TRAINED.path().join("whole")).arg("--out").arg(out);
    if let Some(protocol) = protocol {
        let file = out.with_extension("toml");
        std::fs::write(&file, protocol).unwrap();
        command.arg("--protocol").arg(file);
    }
    command
}

/// The statistics that it prints, which are those of `report.json`.
fn statistics(protocol: Option<&str>) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let out: PathBuf = folder.path().join("report");
    let printed = analysis(&out, protocol).assert().success().get_output().stdout.clone();
    let printed: Value = serde_json::from_slice(&printed).unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    for key in ["meta", "statistics"] {
        assert_eq!(report[key], printed[key], "{key}");
    }
    // A report says what the network ran under, and none where it was left to itself.
    assert_eq!(report["meta"]["protocol"].is_null(), protocol.is_none());
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert_eq!(page.contains("under a protocol"), protocol.is_some());
    assert!(page.contains("This network has areas and connections of its own; none of the four published"));
    printed["statistics"].clone()
}

fn refused(mut command: Command, words: &[&str]) {
    let output = command.assert().code(1).get_output().clone();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("panicked"), "{error}");
    for word in words {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
}

fn gain(connection: &str, gain: f64, more: &str) -> String {
    format!("[[protocol.gains]]\nconnection = \"{connection}\"\ngain = {gain:?}\n{more}\n")
}

#[test]
fn a_run_in_parts_that_goes_on_ends_as_if_it_had_never_stopped() {
    let folder = TRAINED.path();
    train(folder, "longer", &["--steps", "3"]).assert().success();
    recurve(&["train", "--steps", "6", "--resume"]).arg(folder.join("longer")).assert().success();
    assert_eq!(newest(folder, "longer"), newest(folder, "whole"));

    // Killed after step 3: the later checkpoints never came to be.
    train(folder, "killed", &[]).assert().success();
    let root = folder.join("killed");
    std::fs::remove_file(root.join("checkpoints/00000006.safetensors")).unwrap();
    std::fs::copy(root.join("checkpoints/00000003.safetensors"), root.join("checkpoint.safetensors")).unwrap();
    recurve(&["train", "--resume"]).arg(&root).assert().success();
    assert_eq!(newest(folder, "killed"), newest(folder, "whole"));

    // In one part sums round otherwise, and in no more than that.
    train(folder, "one", &["--accumulate", "1"]).assert().success();
    let losses = ["whole", "one"].map(|name| -> Vec<f64> {
        let log = std::fs::read_to_string(folder.join(name).join("metrics.jsonl")).unwrap();
        let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        events.filter(|event| event["event"] == "step").map(|event| event["loss"].as_f64().unwrap()).collect()
    });
    assert!(losses[0].len() >= 2 && losses[0].len() == losses[1].len(), "{losses:?}");
    for (parts, one) in losses[0].iter().zip(&losses[1]) {
        assert!((parts - one).abs() < 1e-3 * one, "{losses:?}");
    }
}

#[test]
fn parts_that_do_not_divide_a_batch_are_refused_with_those_that_do() {
    let folder = TRAINED.path();
    refused(train(folder, "five", &["--accumulate", "5"]), &["accumulate", "5", "1, 2, 3, 4, 6, 12"]);
    refused(train(folder, "none", &["--accumulate", "0"]), &["accumulate", "0"]);
    assert!(!folder.join("five").exists() && !folder.join("none").exists(), "nothing is left behind");
}

#[test]
fn a_gain_of_1_changes_nothing_and_a_longer_run_begins_the_same() {
    let plain = statistics(None);
    let none =
        [gain("*.lateral", 1.0, ""), gain("low.back", 1.0, "from = 1"), gain("*.top_down", 2.0, "from = 3")].concat();
    assert_eq!(statistics(Some(&none)), plain);
    assert_eq!(statistics(Some("[protocol]\n")), plain);
    // Gains on one connection multiply: together 1 at every step, each acting.
    let together = [gain("low.back", 4.0, ""), gain("*.top_down", 0.25, "")].concat();
    assert_eq!(statistics(Some(&together)), plain);

    let longer = statistics(Some("[protocol]\ntimesteps = 8\n"));
    for key in ["accuracy", "accuracy_init"] {
        let [plain, longer] = [&plain, &longer].map(|s| s[key].as_array().unwrap());
        assert_eq!((plain.len(), longer.len()), (3, 8));
        assert_eq!(longer[..3], plain[..], "{key}");
    }
    // The same with the gains of a lesion that begins after the end of the trained run.
    let late = format!("[protocol]\ntimesteps = 8\n{}", gain("*.lateral", 0.0, "from = 3"));
    let late = statistics(Some(&late));
    assert_eq!(late["accuracy"].as_array().unwrap()[..3], plain["accuracy"].as_array().unwrap()[..]);
    assert_ne!(late, longer, "the lesion shows in the later steps");
}

#[test]
fn lesions_and_masks_do_what_they_say() {
    let plain = statistics(None);
    let cut = statistics(Some(&gain("low.back", 0.0, "")));
    assert_ne!(cut, plain);
    assert_eq!(statistics(Some(&gain("*.top_down", 0.0, ""))), cut, "the only top-down connection");

    // Without anything recurrent the network stands still.
    let still = statistics(Some(&[gain("*.lateral", 0.0, ""), gain("*.top_down", 0.0, "")].concat()));
    let accuracy = still["accuracy"].as_array().unwrap();
    assert!(accuracy.iter().all(|a| *a == accuracy[0]), "{accuracy:?}");
    let changes = still["change_by_t_stable"].as_array().unwrap().iter().flat_map(|row| row.as_array().unwrap());
    assert!(changes.filter_map(Value::as_f64).all(|change| change == 0.0), "{still}");

    // With everything but the picture cut off, all pictures are answered alike from the first step on.
    let blind = statistics(Some("[[protocol.inputs]]\nfrom = 0\nshow = \"blank\"\n"));
    let expected = 2.0 / 21.0; // 21 pictures of ten classes in turn: one class has three, the others two
    let seen: Vec<f64> = blind["accuracy"].as_array().unwrap().iter().map(|a| a.as_f64().unwrap()).collect();
    assert!(seen.iter().all(|a| (a - expected).abs() < 1e-9 || (a - 3.0 / 21.0).abs() < 1e-9), "{seen:?}");
    // Shown from the end on, or over by something else in the same step, an input changes nothing.
    assert_eq!(statistics(Some("[[protocol.inputs]]\nfrom = 3\nshow = \"blank\"\n")), plain);
    let next = statistics(Some("[[protocol.inputs]]\nfrom = 1\nshow = \"next\"\n"));
    assert_eq!(next["accuracy"][0], plain["accuracy"][0]);
    assert_ne!(next, plain);
}

#[test]
fn what_never_acts_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let protocol = gain("low.back", 0.0, "from = 3") + "[[protocol.inputs]]\nfrom = 7\nshow = \"blank\"\n";
    let output = analysis(&folder.path().join("report"), Some(&protocol)).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    let expected = ["the gain on low.back from step 3 on never acts", "what is shown from step 7 on never acts"];
    assert!(
        expected.iter().all(|words| said.contains(words)) && said.contains("the last step of the run is 2"),
        "{said}"
    );
}

#[test]
fn errors_of_a_protocol_name_what_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |protocol: &str, words: &[&str]| {
        let out = folder.path().join("report");
        refused(analysis(&out, Some(protocol)), words);
        assert!(!out.exists(), "nothing is written");
    };
    refuse(&gain("v1.lateral", 0.0, ""), &["v1.lateral", "low.lateral", "low.back", "*.top_down"]);
    refuse(&gain("high.top_down", 0.0, ""), &["high.top_down", "high.lateral"]);
    refuse(&gain("low.lateral", 0.0, "from = 2\nuntil = 2"), &["low.lateral", "until = 2", "from = 2"]);
    refuse(&gain("low.lateral", f64::INFINITY, ""), &["low.lateral", "inf", "finite"]);
    refuse(&gain("low.lateral", 0.0, "form = 2"), &["form", "from"]);
    refuse("[protocol]\ntimesteps = 0\n", &["timesteps", "0", "1 to 10000"]);
    refuse("[[protocol.inputs]]\nfrom = 1\nshow = \"picture\"\n", &["picture", "blank", "next"]);
    refuse(
        "[[protocol.inputs]]\nfrom = 1\nshow = \"next\"\n[[protocol.inputs]]\nfrom = 1\nshow = \"blank\"\n",
        &["from = 1"],
    );
    refuse("", &["protocol"]);
}
