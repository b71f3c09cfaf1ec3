//! A network that was trained elsewhere, from its file to reports and to further training, as a user does it.

use assert_cmd::Command;
use recurve::network::*;
use recurve::train::run_folder::chosen;
use recurve::train::{Checkpoint, DataState};
use recurve::weights::{Form, encode, write};
use serde_json::Value;
use std::path::Path;

const DATA: &str = "glyphs:train=32,val=6,test=12,difficulty=0";

fn recurve(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("recurve").unwrap();
    command.args(arguments);
    command
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What the command says on stderr, which must succeed.
fn said(mut command: Command) -> String {
    String::from_utf8(command.assert().success().get_output().stderr.clone()).unwrap()
}

fn refused(mut command: Command, words: &[&str]) {
    let output = command.assert().code(1).get_output().clone();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("error: ") && !error.contains("panicked"), "{error}");
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in: {error}"));
}

/// A network as if it came from elsewhere.
fn elsewhere(seed: u64) -> Checkpoint {
    let mut run = Preset::Tiny.run();
    let network = NetworkConfig {
        image_size: 16,
        stem_channels: 2,
        area_channels: [2, 4, 4, 6],
        timesteps: 3,
        classes: 10,
        ..Preset::Tiny.network()
    };
    run.network = network.into();
    run.training.seed = seed;
    Checkpoint::initial(&run, DataState::unknown(10))
}

#[test]
fn an_imported_network_is_analysed_and_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let (file, twin) = (folder.path().join("net.pth"), folder.path().join("init.safetensors"));
    write(&elsewhere(5), Form::Pth, &file).unwrap();
    write(&elsewhere(6), Form::Safetensors, &twin).unwrap();
    let (run, report) = (folder.path().join("run"), folder.path().join("report"));
    let flags = ["--interaction", "additive", "--timesteps", "3", "--batch", "8"];

    let mut import = recurve(&["import", path(&file), "--out", path(&run)]);
    import.args(flags);
    let output = import.assert().success().get_output().clone();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), path(&run));
    let notes = String::from_utf8(output.stderr).unwrap();
    for word in ["V1's recurrent weights", "no untrained network", "--data", "--classes", "Adam's moments are zero"] {
        assert!(notes.contains(word), "`{word}` is not in: {notes}");
    }
    refused(recurve(&["import", path(&file), "--out", path(&run), "--timesteps", "3"]), &["--interaction"]);
    recurve(&["import", path(&file), "--out", "x", "--interaction", "sum"]).assert().code(2);
    recurve(&["export", path(&run), "--to", "onnx", "--out", "x"]).assert().code(2);

    // The data set is not known: it must be given, and what follows from it is said.
    let analyse = |run: &Path, more: &[&str]| {
        let mut command = recurve(&["analyse", path(run), "--split", "test", "--out", path(&report)]);
        command.args(more);
        command
    };
    refused(analyse(&run, &[]), &["--data"]);
    let terminal = said(analyse(&run, &["--data", DATA]));
    let json = |report: &Path| -> Value {
        serde_json::from_slice(&std::fs::read(report.join("report.json")).unwrap()).unwrap()
    };
    let notes = json(&report)["meta"]["notes"].to_string();
    for word in ["imported from net.pth (fnv1a:", "another initialisation", "normalised with those of", "Class names"] {
        assert!(notes.contains(word) && terminal.contains(word), "`{word}` is not in: {notes}, {terminal}");
    }

    // With its untrained twin.
    let both = folder.path().join("both");
    let mut import = recurve(&["import", path(&file), "--out", path(&both), "--init", path(&twin)]);
    import.args(flags);
    assert!(said(import).contains("init.safetensors"));
    said(analyse(&both, &["--data", DATA]));
    let meta = json(&report)["meta"].clone();
    assert_eq!(meta["init_checkpoint"], "00000000.safetensors");
    assert!(!meta["notes"].to_string().contains("another initialisation"), "{meta}");

    // Going on: Adam begins with its first step, whose updates are as long as the learning rate.
    let resume = |steps: &str, data: &[&str]| {
        let mut command = recurve(&["train", "--resume", path(&run), "--checkpoint-every", "1", "--steps", steps]);
        command.args(data);
        command
    };
    refused(resume("3", &[]), &["--data"]);
    let terminal = said(resume("3", &["--data", DATA]));
    assert!(terminal.contains("Adam starts at zero") && terminal.contains("not known"), "{terminal}");
    let [before, after, last] = [1, 2, 3].map(|step| chosen(&run, Some(step)).unwrap().0);
    let moved = before.parameters.iter().flat_map(|(name, tensor)| {
        let now = after.parameters.values(name).unwrap();
        tensor.values.iter().zip(now).map(|(a, b)| f64::from((a - b).abs())).collect::<Vec<_>>()
    });
    let farthest = moved.fold(0.0, f64::max);
    assert!((farthest / 1e-3 - 1.0).abs() < 1e-3, "the farthest weight moved by {farthest}");
    assert_eq!((last.state.step, last.state.adam_step), (3, 2));
    assert!(last.state.data.channel_mean.is_some() && !last.state.data.names_unknown());
    assert!(last.state.origin.as_ref().unwrap().starts_with("net.pth"));
    assert_eq!(before.parameters, elsewhere(5).parameters);

    // Stopped and gone on again, it is the same run; with another data set it is none.
    let whole = folder.path().join("whole");
    let mut import = recurve(&["import", path(&file), "--out", path(&whole)]);
    import.args(flags);
    said(import);
    said(recurve(&["train", "--resume", path(&whole), "--data", DATA, "--steps", "4", "--checkpoint-every", "1"]));
    said(resume("4", &[]));
    let newest = |run: &Path| chosen(run, None).unwrap().0;
    assert_eq!(newest(&run).parameters, newest(&whole).parameters);
    assert_eq!(newest(&run).adam_v, newest(&whole).adam_v);
    refused(resume("5", &["--data", "glyphs:train=40,val=6,test=12,seed=9,difficulty=1"]), &["not the data set"]);

    // Out again, as it came in.
    let out = folder.path().join("out.pth");
    said(recurve(&["export", path(&run), "--to", "pth", "--checkpoint", "1", "--out", path(&out)]));
    assert_eq!(std::fs::read(&out).unwrap(), encode(&elsewhere(5), Form::Pth).unwrap());
    refused(recurve(&["export", path(&run), "--to", "pth", "--checkpoint", "9", "--out", path(&out)]), &["1, 2, 3, 4"]);
    refused(recurve(&["export", path(folder.path()), "--to", "pth", "--out", path(&out)]), &["config.toml"]);
}
