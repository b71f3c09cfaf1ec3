//! A run and its data, as a user meets them: classes in another order, other classes, statistics that are not the pictures', data
//! that were moved, and a terminal that is full, closed or could be driven. Needs an adapter.

mod hdf5_file;

use assert_cmd::Command;
use hdf5_file::{Spec, Type, good, write};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

/// A small network on 8 x 8 pictures of three classes.
const CONFIG: &str = "
[network]
image_size = 8
stem_channels = 4
area_channels = [4, 4, 8, 8]
timesteps = 2

[training]
batch = 4
steps = 30
learning_rate = 0.01
checkpoint_every = 0
";

fn recurve(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("recurve").unwrap();
    command.args(arguments);
    command
}

fn output(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(!text(&output.stderr).contains("panicked"), "{}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a command that succeeds says on stderr.
fn said(command: Command) -> String {
    let output = output(command);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stderr)
}

fn refused(command: Command, words: &[&str]) {
    let output = output(command);
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is not in: {error}"));
}

/// Pictures of one colour a class, with a little that differs: red ants, green bees, blue cows, by the names of the classes.
fn colourful(classes: [&'static str; 3]) -> Spec {
    let mut spec = good();
    // The label of ant, bee and cow.
    let of = ["ant", "bee", "cow"].map(|name| classes.iter().position(|class| *class == name).unwrap());
    spec.categories = Some(classes.to_vec());
    spec.byte = match of {
        [0, 1, 2] => |_, k, label| colour(k, label),
        [1, 2, 0] => |_, k, label| colour(k, [2, 0, 1][label]),
        _ => unreachable!("an order that the tests use"),
    };
    for split in &mut spec.splits {
        let count = 12;
        split.shape = vec![count, 8, 8, 3];
        let labels = (0..count as usize).map(|i| of[i % 3] as f64).collect();
        split.labels = Some((labels, vec![count], Type::I64));
    }
    (spec.mean, spec.std) = statistics(&spec);
    spec
}

fn colour(k: usize, kind: usize) -> u8 {
    if k % 3 == kind { 200 + (k % 7) as u8 } else { 20 + (k % 11) as u8 }
}

/// Mean and deviation of the training pictures.
fn statistics(spec: &Spec) -> (Vec<f64>, Vec<f64>) {
    let labels = &spec.splits[0].labels.as_ref().unwrap().0;
    let of = |c: usize| -> (f64, f64) {
        let values: Vec<f64> = (0..labels.len() * 192)
            .filter(|k| k % 3 == c)
            .map(|k| f64::from((spec.byte)("train", k, labels[k / 192] as usize)))
            .collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / values.len() as f64;
        (mean, variance.sqrt())
    };
    (0..3).map(of).unzip()
}

fn train(folder: &Path, data: &str, more: &[&str]) -> Command {
    fs::write(folder.join("small.toml"), CONFIG).unwrap();
    let mut command = recurve(&["train", "--data", data, "--config", "small.toml", "--out", "run"]);
    command.args(more).current_dir(folder);
    command
}

fn analyse(folder: &Path, more: &[&str]) -> Command {
    let mut command = recurve(&["analyse", "run", "--split", "test", "--json", "--no-areas"]);
    command.args(more).current_dir(folder);
    command
}

fn accuracy(command: Command) -> (Vec<f64>, String) {
    let output = output(command);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["accuracy"], json["statistics"]["accuracy"]);
    (json["accuracy"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect(), text(&output.stderr))
}

/// The pictures of a split as a folder of PNG files.
fn as_folder(spec: &Spec, root: &Path) {
    for split in &spec.splits {
        for (i, &label) in split.labels.as_ref().unwrap().0.iter().enumerate() {
            let class = root.join(split.name).join(spec.categories.as_ref().unwrap()[label as usize]);
            fs::create_dir_all(&class).unwrap();
            let bytes = (i * 192..(i + 1) * 192).map(|k| (spec.byte)(split.name, k, label as usize)).collect();
            image::RgbImage::from_raw(8, 8, bytes).unwrap().save(class.join(format!("{i}.png"))).unwrap();
        }
    }
}

#[test]
fn classes_are_matched_by_name() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let spec = colourful(["cow", "ant", "bee"]);
    assert_eq!(spec.splits[0].labels.as_ref().unwrap().0[..3], [1.0, 2.0, 0.0]);
    write(folder, "in.h5", &colourful(["ant", "bee", "cow"]));
    said(train(folder, "in.h5", &[]));
    let (own, _) = accuracy(analyse(folder, &[]));
    assert!(own.last().unwrap() > &0.6, "the network learned nothing: {own:?}");

    write(folder, "other.h5", &spec);
    let (found, notes) = accuracy(analyse(folder, &["--data", "other.h5", "--out", "report-2"]));
    assert_eq!(found, own);
    assert!(notes.contains("matched by name"), "{notes}");
    as_folder(&spec, &folder.join("pictures"));
    let (found, _) = accuracy(analyse(folder, &["--data", "pictures", "--out", "report-3"]));
    assert_eq!(found, own);
    let mut compare = recurve(&["compare", "run", "--data", "other.h5", "--out", "comparison"]);
    compare.current_dir(folder);
    assert!(said(compare).contains("matched by name"));

    // Outputs of networks whose classes have another order cannot be set side by side.
    let mut turned =
        recurve(&["train", "--data", "other.h5", "--config", "small.toml", "--out", "turned", "--steps", "2"]);
    turned.current_dir(folder);
    said(turned);
    let mut compare = recurve(&["compare", "run", "turned", "--out", "comparison-2"]);
    compare.current_dir(folder);
    refused(compare, &["turned", "another order", "cow, ant, bee"]);

    // Whoever goes on sees the same labels.
    let mut resume = recurve(&["train", "--resume", "run", "--data", "other.h5", "--steps", "31"]);
    resume.current_dir(folder);
    assert!(said(resume).contains("matched by name"));

    let mut others = colourful(["ant", "bee", "cow"]);
    others.categories = Some(vec!["ant", "bee", "dog"]);
    write(folder, "others.h5", &others);
    refused(analyse(folder, &["--data", "others.h5"]), &["others.h5", "dog", "cow", "by name"]);
    let mut resume = recurve(&["train", "--resume", "run", "--data", "others.h5", "--steps", "32"]);
    resume.current_dir(folder);
    refused(resume, &["others.h5", "not the data set", "dog"]);
    // Activity of areas needs no classes: the labels are the data set's, and that is said.
    let mut extract = recurve(&["extract", "run", "--data", "others.h5", "--out", "activity"]);
    extract.current_dir(folder);
    said(extract);
    let index: Value = serde_json::from_str(&fs::read_to_string(folder.join("activity/index.json")).unwrap()).unwrap();
    assert!(index["notes"].to_string().contains("not the network's classes"), "{index}");
    assert_eq!(index["classes"][2], "dog");
    let mut extract = recurve(&["extract", "run", "--data", "others.h5", "--out", "activity.npz"]);
    extract.current_dir(folder);
    refused(extract, &["others.h5", "dog"]);
}

#[test]
fn statistics_that_are_not_the_pictures_are_refused_or_said() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let right = colourful(["ant", "bee", "cow"]);
    let spoilt = |spoil: fn(&mut Spec)| {
        let mut spec = right.clone();
        spoil(&mut spec);
        write(folder, "in.h5", &spec);
    };
    spoilt(|s| s.mean.iter_mut().chain(&mut s.std).for_each(|x| *x /= 255.0));
    refused(train(folder, "in.h5", &[]), &["in.h5", "stored channel mean", "scale 0 to 1", "found"]);
    assert!(!folder.join("run").exists());
    spoilt(|s| s.std.iter_mut().for_each(|x| *x *= *x));
    refused(train(folder, "in.h5", &[]), &["in.h5", "variances"]);
    spoilt(|s| s.mean = vec![20.0, 90.0, 160.0]);
    let said = said(train(folder, "in.h5", &["--steps", "2"]));
    assert!(said.contains("warning: ") && said.contains("20.0 90.0 160.0"), "{said}");
    let inspected = output(recurve(&["data", "inspect", folder.join("in.h5").to_str().unwrap()]));
    assert!(text(&inspected.stdout).contains("20.0 90.0 160.0 and"), "{}", text(&inspected.stdout));
    let (_, notes) = accuracy(analyse(folder, &[]));
    assert!(notes.contains("20.0 90.0 160.0"), "{notes}");
}

#[test]
fn a_run_finds_its_data_from_anywhere() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("first");
    fs::create_dir(&folder).unwrap();
    write(&folder, "in.h5", &colourful(["ant", "bee", "cow"]));
    said(train(&folder, "in.h5", &["--steps", "2"]));
    let config = fs::read_to_string(folder.join("run/config.toml")).unwrap();
    assert!(config.contains("from_run = \"../in.h5\"") && config.contains("fingerprint = \"train:"), "{config}");

    // From another folder, in which something else has the name.
    let deeper = folder.join("deeper");
    fs::create_dir(&deeper).unwrap();
    let mut other = colourful(["ant", "bee", "cow"]);
    other.splits[0].labels.as_mut().unwrap().0[0] = 2.0;
    write(&deeper, "in.h5", &other);
    let resume = |from: &Path, run: &str, steps: &str| {
        let mut command = recurve(&["train", "--resume", run, "--steps", steps]);
        command.current_dir(from);
        command
    };
    said(resume(&deeper, "../run", "3"));

    // A split that was added does no harm.
    let mut more = colourful(["ant", "bee", "cow"]);
    let plus = more.splits.pop().unwrap();
    write(&folder, "in.h5", &more);
    fs::remove_dir_all(folder.join("run")).unwrap();
    said(train(&folder, "in.h5", &["--steps", "2"]));
    more.splits.push(plus);
    write(&folder, "in.h5", &more);
    said(resume(&deeper, "../run", "3"));

    // Moved together with the data.
    let second = temporary.path().join("second");
    fs::rename(&folder, &second).unwrap();
    let notes = said(resume(temporary.path(), "second/run", "4"));
    assert!(notes.contains("seen from the run folder"), "{notes}");

    // Other data in their place, then none.
    write(&second, "in.h5", &other);
    refused(resume(&second, "run", "5"), &["in.h5", "holds other data", "config.toml", "--data"]);
    fs::remove_file(second.join("in.h5")).unwrap();
    refused(resume(&second, "run", "5"), &["in.h5", "no such file", "config.toml", "--data"]);
    refused(analyse(&second, &[]), &["in.h5", "--data"]);
    let mut given = resume(&second, "run", "5");
    write(temporary.path(), "new.h5", &colourful(["ant", "bee", "cow"]));
    given.args(["--data", "../new.h5"]);
    said(given);
    said(resume(temporary.path(), "second/run", "6"));
}

#[test]
fn a_run_of_an_older_version_says_where_it_takes_its_data_from() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    write(folder, "in.h5", &colourful(["ant", "bee", "cow"]));
    said(train(folder, "in.h5", &["--steps", "2"]));
    let path = folder.join("run/config.toml");
    let config: String = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("from_run") && !line.starts_with("fingerprint"))
        .map(|line| if line.starts_with("path = ") { "path = \"in.h5\"\n".into() } else { format!("{line}\n") })
        .collect();
    fs::write(&path, config).unwrap();
    let (_, notes) = accuracy(analyse(folder, &[]));
    assert!(notes.contains("does not record"), "{notes}");
    let mut elsewhere = recurve(&["analyse", "../run", "--split", "test", "--json", "--no-areas"]);
    elsewhere.current_dir(folder.join("run"));
    let (_, notes) = accuracy(elsewhere);
    assert!(notes.contains("seen from the run folder"), "{notes}");
}

#[test]
fn sizes_that_are_possible_are_said() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let mut spec = colourful(["ant", "bee", "cow"]);
    spec.splits.iter_mut().for_each(|split| split.shape = vec![12, 28, 28, 3]);
    write(folder, "in.h5", &spec);
    let mut command = recurve(&["train", "--data", "in.h5", "--preset", "tiny", "--batch", "4", "--out", "run"]);
    command.current_dir(folder);
    refused(command, &["in.h5", "28 x 28", "multiple of 8", "not possible"]);
    spec.splits.iter_mut().for_each(|split| split.shape = vec![12, 16, 16, 3]);
    write(folder, "in.h5", &spec);
    refused(train(folder, "in.h5", &[]), &["in.h5", "16 x 16", "set image_size = 16"]);
}

#[test]
fn numbers_that_single_precision_does_not_hold_are_refused_by_key() {
    for (flag, words) in [("1e-50", &["learning_rate", "1e-50"]), ("1e39", &["learning_rate", "1e39"])] {
        let command =
            recurve(&["train", "--data", "glyphs", "--preset", "tiny", "--out", "x", "--learning-rate", flag]);
        refused(command, words);
    }
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("c.toml");
    for (key, number) in [("epsilon", "1e-46"), ("beta1", "0.99999999999"), ("beta2", "1e-60"), ("epsilon", "nan")] {
        fs::write(&file, format!("[training]\n{key} = {number}\n")).unwrap();
        refused(recurve(&["plan", "--config", file.to_str().unwrap()]), &["c.toml", key]);
    }
    refused(recurve(&["data", "inspect", "glyphs:train=10,noise=1e-50"]), &["noise", "1e-50"]);
}

#[test]
fn variables_that_mean_nothing_are_refused() {
    let mut command = recurve(&["devices"]);
    command.env("WGPU_BACKEND", "vulkna");
    refused(command, &["WGPU_BACKEND", "vulkna"]);
}

#[test]
fn nothing_that_others_named_drives_the_terminal() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let hostile = "x\u{1b}[31m\u{202e}";
    let file = folder.join(format!("{hostile}.toml"));
    fs::write(&file, format!("[network]\n\"{hostile}\" = 1\n")).unwrap();
    let file = file.to_str().unwrap();
    let nowhere = folder.join(hostile);
    for arguments in [
        &["plan", "--config", file][..],
        &["data", "inspect", nowhere.to_str().unwrap()],
        &["devices", "--adapter", hostile],
        &["plan", "--preset", hostile],
        &["check", "--adapter", hostile],
        &[hostile],
    ] {
        let output = output(recurve(arguments));
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.contains(['\u{1b}', '\u{202e}']), "{all:?}");
    }
    let mut spec = colourful(["ant", "bee", "cow"]);
    spec.categories = Some(vec!["ant", "b\n\u{1b}[1m", "cow"]);
    write(folder, "in.h5", &spec);
    let inspected = output(recurve(&["data", "inspect", folder.join("in.h5").to_str().unwrap()]));
    assert!(!text(&inspected.stdout).contains('\u{1b}') && text(&inspected.stdout).contains("b\\n\\u{1b}[1m"));
}

/// Every command whose output is a result says so with exit code 1 where that cannot be written.
#[cfg(target_os = "linux")]
#[test]
fn a_full_stdout_is_an_error_and_a_full_stderr_none() {
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    let program = env!("CARGO_BIN_EXE_recurve");
    for arguments in [
        &["data", "inspect", "glyphs:train=10,val=10,test=10"][..],
        &["data", "inspect", "glyphs:train=10,val=10,test=10", "--json"],
        &["devices"],
        &["devices", "--json"],
        &["plan", "--preset", "tiny", "--json"],
        &["shaders"],
        &["--help"],
        &["--version"],
        &["train", "--help"],
    ] {
        let run = std::process::Command::new(program).args(arguments).stdout(full()).output().unwrap();
        let error = text(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(
            error.contains("error: failed printing to stdout: No space left") && !error.contains("panicked"),
            "{error}"
        );
        let run = std::process::Command::new(program).args(arguments).stderr(full()).output().unwrap();
        assert_eq!(run.status.code(), Some(0), "{arguments:?}");
    }
    let run = std::process::Command::new(program).args(["plan"]).stdout(full()).stderr(full()).status().unwrap();
    assert_eq!(run.code(), Some(2));
}

#[test]
fn a_run_whose_progress_nobody_reads_goes_on_to_its_end() {
    let temporary = tempfile::tempdir().unwrap();
    fs::write(temporary.path().join("small.toml"), CONFIG.replace("image_size = 8", "image_size = 16")).unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_recurve"))
        .args([
            "train",
            "--data",
            "glyphs:train=16,val=10,test=10,testplus=10",
            "--config",
            "small.toml",
            "--out",
            "run",
        ])
        .current_dir(temporary.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(temporary.path().join("run/checkpoints/00000030.safetensors").exists());
}
