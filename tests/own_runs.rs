//! Runs of a network of one's own, in parts and under protocols, as a user runs them.

use assert_cmd::Command;
use serde_json::Value;
use std::path::Path;
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
    let mut command = recurve(&["analyse", "--split", "test", "--json"]);
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
    printed(&folder.path().join("report"), protocol)["statistics"].clone()
}

/// All that it prints, which is what `report.json` has.
fn printed(out: &Path, protocol: Option<&str>) -> Value {
    let printed = analysis(out, protocol).assert().success().get_output().stdout.clone();
    let printed: Value = serde_json::from_slice(&printed).unwrap();
    let report: Value = serde_json::from_slice(&std::fs::read(out.join("report.json")).unwrap()).unwrap();
    for key in ["meta", "statistics", "disturbance"] {
        assert_eq!(report[key], printed[key], "{key}");
    }
    // A report says what the network ran under, and none where it was left to itself.
    assert_eq!(report["meta"]["protocol"].is_null(), protocol.is_none());
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    assert_eq!(page.contains("under a protocol"), protocol.is_some());
    assert!(page.contains("This network has areas and connections of its own; none of the four published"));
    printed
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

/// Norms of the gradients, as the log has them of each logged step.
fn norms(folder: &Path, name: &str) -> Vec<Option<f64>> {
    let log = std::fs::read_to_string(folder.join(name).join("metrics.jsonl")).unwrap();
    let events = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(|event| event["event"] == "step").map(|event| event["grad_norm"].as_f64()).collect()
}

#[test]
fn clipped_gradients_have_their_norm_in_the_log() {
    let folder = TRAINED.path();
    assert!(norms(folder, "whole").iter().all(Option::is_none));
    train(folder, "clipped", &["--clip-norm", "0.25"]).assert().success();
    let found = norms(folder, "clipped");
    assert!(found.len() >= 2 && found.iter().all(|norm| norm.is_some_and(|n| n > 0.25 && n < 1e3)), "{found:?}");
    let config = std::fs::read_to_string(folder.join("clipped/config.toml")).unwrap();
    assert!(config.contains("clip_norm = 0.25"), "{config}");
    // The run that goes on clips too; the norm of the first gradients is that without clipping.
    train(folder, "clipped-longer", &["--clip-norm", "0.25", "--steps", "3"]).assert().success();
    recurve(&["train", "--steps", "6", "--resume"]).arg(folder.join("clipped-longer")).assert().success();
    assert_eq!(newest(folder, "clipped-longer"), newest(folder, "clipped"));
    train(folder, "clipped-loosely", &["--clip-norm", "1e6"]).assert().success();
    assert_eq!(norms(folder, "clipped-loosely")[0], found[0]);
    assert_ne!(norms(folder, "clipped-loosely").last(), found.last(), "another network by then");
    for wrong in ["0", "-1", "nan", "inf", "1e300"] {
        refused(train(folder, "refused", &[&format!("--clip-norm={wrong}")]), &["clip_norm", "above 0"]);
    }
    assert!(!folder.join("refused").exists());
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

/// A table of a report, a row each, with the head.
fn table(out: &Path, name: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(out.join("tables").join(name)).unwrap();
    text.lines().map(|line| line.split(',').map(str::to_string).collect()).collect()
}

fn numbers(of: &Value) -> Vec<f64> {
    of.as_array().unwrap_or_else(|| panic!("{of}")).iter().map(|v| v.as_f64().unwrap_or(f64::NAN)).collect()
}

#[test]
fn where_nothing_is_disturbed_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let none = [gain("*.lateral", 1.0, ""), gain("low.back", 4.0, ""), gain("*.top_down", 0.25, "from = 0")].concat();
    let found = &printed(&out, Some(&none))["disturbance"];
    let c = &found["comparison"];
    assert_eq!(c["accuracy"], c["accuracy_undisturbed"]);
    for key in ["changed", "lost", "gained", "difference", "se"] {
        assert_eq!(numbers(&c["answers"][key]), [0.0; 3], "{key}");
    }
    assert_eq!(numbers(&c["answers"]["mcnemar_p"]), [1.0; 3]);
    assert_eq!(numbers(&c["distance"]["mean"]), [0.0; 3]);
    assert_eq!(numbers(&c["distance"]["relative"]), [0.0; 3]);
    assert_eq!(numbers(&c["distance"]["cosine"]), [1.0; 3]);
    assert_eq!(c["distance"]["norm_disturbed"], c["distance"]["norm_undisturbed"]);
    for key in ["rdm_spearman", "cka"] {
        for (t, row) in c[key].as_array().unwrap().iter().enumerate() {
            assert!((numbers(row)[t] - 1.0).abs() < 1e-6, "{key}: {row}");
        }
    }
    let groups = c["transitions"]["groups"].as_array().unwrap();
    let sums: Vec<f64> = groups.iter().map(|row| numbers(row).iter().sum()).collect();
    assert!(groups.iter().zip(&sums).enumerate().all(|(g, (row, sum))| numbers(row)[g] == *sum), "{groups:?}");
    assert_eq!(sums.iter().sum::<f64>(), 21.0);
    assert_eq!(c["changed_images"], Value::Array(vec![]));
    assert_eq!(table(&out, "changed_images.csv").len(), 1, "the head alone");
    assert!(found["settling"].is_null());
    assert!(printed(&folder.path().join("plain"), None)["disturbance"].is_null());
}

#[test]
fn without_anything_recurrent_every_step_is_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let still = [gain("*.lateral", 0.0, ""), gain("*.top_down", 0.0, "")].concat();
    let found = &printed(&out, Some(&still))["disturbance"];
    let c = &found["comparison"];
    let first = numbers(&c["accuracy_undisturbed"])[0];
    assert_eq!(numbers(&c["accuracy"]), [first; 3]);
    let d = &c["distance"];
    assert_eq!(numbers(&d["mean"])[0], 0.0, "nothing recurrent has come yet");
    assert!(numbers(&d["mean"])[1..].iter().all(|d| *d > 0.0), "{d}");
    assert_eq!(numbers(&d["norm_disturbed"]), [numbers(&d["norm_undisturbed"])[0]; 3]);
    let rows: Vec<Vec<f64>> = c["rdm_spearman"].as_array().unwrap().iter().map(numbers).collect();
    assert!(rows.iter().all(|row| *row == rows[0]) && (rows[0][0] - 1.0).abs() < 1e-12, "{rows:?}");

    // A report whose lists do not fit each other is refused.
    let text = std::fs::read_to_string(out.join("report.json")).unwrap();
    let mut report: Value = serde_json::from_str(&text).unwrap();
    report["disturbance"]["comparison"]["distance"]["mean"].as_array_mut().unwrap().pop();
    std::fs::write(out.join("report.json"), report.to_string()).unwrap();
    let error = recurve::report::Report::read(&out.join("report.json")).unwrap_err().to_string();
    assert!(error.contains("distance.mean") && error.contains("expected 3") && error.contains("found 2"), "{error}");
}

#[test]
fn images_that_change_their_answer_are_listed_with_both_answers() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("report");
    let found = &printed(&out, Some(&gain("high.bottom_up", -1.0, "from = 1")))["disturbance"];
    let c = &found["comparison"];
    // Each image that changes has its row, and only such images have one.
    let changed = table(&out, "changed_images.csv");
    let ids: Vec<f64> = changed[1..].iter().map(|row| row[0].parse().unwrap()).collect();
    assert!(!ids.is_empty(), "what is seen the wrong way round is answered otherwise");
    assert_eq!(ids, numbers(&c["changed_images"]));
    assert_eq!(
        changed[0][3..],
        ["undisturbed", "disturbed"].map(|run| [0, 1, 2].map(|t| format!("class_{run}_t{t}"))).concat()
    );
    for row in &changed[1..] {
        assert!(row[3..6] != row[6..9] && row[3] == row[6], "{row:?}");
    }
    for t in 0..3 {
        let differ = changed[1..].iter().filter(|row| row[3 + t] != row[6 + t]).count();
        assert_eq!(numbers(&c["answers"]["changed"])[t], differ as f64);
        let lost = changed[1..].iter().filter(|row| row[3 + t] == row[1] && row[6 + t] != row[1]).count();
        assert_eq!(numbers(&c["answers"]["lost"])[t], lost as f64);
    }
    let page = std::fs::read_to_string(out.join("report.html")).unwrap();
    for words in ["What the protocol changes", "Accuracy with and without the disturbance", "tables/changed_images.csv"]
    {
        assert!(page.contains(words), "{words}");
    }
    assert!(out.join("figures/disturbance_difference.svg").exists());
}

#[test]
fn a_longer_run_is_compared_with_its_last_trained_step() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("longer");
    let longer = printed(&out, Some("[protocol]\ntimesteps = 8\n"));
    let found = &longer["disturbance"];
    assert!(found["comparison"].is_null() && !out.join("tables/changed_images.csv").exists());
    let s = &found["settling"];
    assert_eq!(numbers(&s["steps"]), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    assert_eq!(numbers(&s["accuracy"]), numbers(&longer["statistics"]["accuracy"])[2..]);
    assert_eq!(numbers(&s["answers"]["changed"])[0], 0.0);
    assert_eq!(table(&out, "settling.csv").len(), 7);
    assert!(std::fs::read_to_string(out.join("report.html")).unwrap().contains("Beyond the trained timesteps"));

    // Disturbed as well, the undisturbed run is as long.
    let cut = format!("[protocol]\ntimesteps = 8\n{}", gain("*.lateral", 0.0, "from = 5"));
    let cut = printed(&folder.path().join("cut"), Some(&cut));
    let c = &cut["disturbance"]["comparison"];
    assert_eq!(c["accuracy_undisturbed"], longer["statistics"]["accuracy"]);
    let apart = numbers(&c["distance"]["mean"]);
    assert!(apart[..5].iter().all(|d| *d == 0.0) && apart[5..].iter().all(|d| *d > 0.0), "{apart:?}");
    assert_eq!(numbers(&cut["disturbance"]["settling"]["steps"]).len(), 6);

    // A mask: the picture that follows, from step 1 on.
    let masked = printed(&folder.path().join("masked"), Some("[[protocol.inputs]]\nfrom = 1\nshow = \"next\"\n"));
    let apart = numbers(&masked["disturbance"]["comparison"]["distance"]["mean"]);
    assert!(apart[0] == 0.0 && apart[1..].iter().all(|d| *d > 0.0), "{apart:?}");
    assert_eq!(masked["disturbance"]["comparison"]["accuracy_undisturbed"], numbers_of(&longer, 3));
    let none = printed(&folder.path().join("none"), Some("[protocol]\ntimesteps = 2\n"));
    assert!(none["disturbance"].is_null() && none["meta"]["notes"].to_string().contains("nothing to compare"));
}

/// The accuracy at the first steps.
fn numbers_of(printed: &Value, steps: usize) -> Value {
    Value::Array(printed["statistics"]["accuracy"].as_array().unwrap()[..steps].to_vec())
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
