//! Activity onto disk and back: `recurve extract` against twins, `recurve analyse FILE.npz` against the statistics in f64, and
//! what is refused.

mod golden_folder;

use assert_cmd::Command;
use golden_folder::golden_folder;
use recurve::dataset::{Normaliser, open};
use recurve::reference::Tensor;
use recurve::reference::network::architecture::network as described;
use recurve::reference::network::protocol::Protocol;
use recurve::reference::network::run;
use recurve::train::Checkpoint;
use recurve::trajectory::Statistics;
use recurve::trajectory::exact::{self, Silent};
use recurve::trajectory::goldens::{Golden, TOLERANCE_F32, compare};
use recurve::trajectory::npz::{Extraction, StoredBatch, StoredExtraction};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::LazyLock;
use tempfile::TempDir;

const DATA: &str = "glyphs:train=48,val=6,test=70,difficulty=0";

/// The readout sees a map: its representation is the pixel average.
const CONFIG: &str = "
[architecture]
image_size = 16
timesteps = 3
readout_bias = true
areas = [
    { name = \"eye\", channels = 4, norm = \"none\" },
    { name = \"Low\", channels = 6 },
    { name = \"high\", channels = 8, norm = \"group\", groups = 2, interaction = \"multiplicative\" },
]
connections = [
    { from = \"input\", to = \"eye\", kind = \"bottom_up\" },
    { from = \"eye\", to = \"Low\", kind = \"bottom_up\", stride = 2 },
    { from = \"Low\", to = \"high\", kind = \"bottom_up\", pool = 2 },
    { from = \"Low\", to = \"Low\", kind = \"lateral\" },
    { from = \"high\", to = \"Low\", kind = \"top_down\", stride = 2, name = \"back\" },
]

[training]
batch = 12
steps = 4
";

fn recurve(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("recurve").unwrap();
    command.args(arguments);
    command
}

/// A folder with a trained run, `run`.
static TRAINED: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.toml"), CONFIG).unwrap();
    let mut train = recurve(&["train", "--data", DATA, "--no-tune", "--config"]);
    train.arg(folder.path().join("own.toml")).arg("--out").arg(folder.path().join("run")).assert().success();
    folder
});

/// `recurve extract` of that run.
fn extract(out: &Path, more: &[&str]) -> Command {
    let mut command = recurve(&["extract"]);
    command.arg(TRAINED.path().join("run")).arg("--out").arg(out).args(more);
    command
}

fn refused(mut command: Command, words: &[&str]) {
    let output = command.assert().code(1).get_output().clone();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!error.contains("panicked"), "{error}");
    for word in words {
        assert!(error.contains(word), "`{word}` is missing in: {error}");
    }
}

fn npy<T: npyz::Deserialize>(path: &Path) -> (Vec<u64>, Vec<T>) {
    let npy = npyz::NpyFile::new(std::fs::File::open(path).unwrap()).unwrap();
    (npy.shape().to_vec(), npy.into_vec().unwrap())
}

fn half_npy(path: &Path) -> (Vec<u64>, Vec<half::f16>) {
    let bytes = std::fs::read(path).unwrap();
    let mut numbers = &bytes[..];
    let header = npyz::NpyHeader::from_reader(&mut numbers).unwrap();
    assert_eq!(header.dtype().descr(), "'<f2'");
    let numbers = numbers.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]])).collect();
    (header.shape().to_vec(), numbers)
}

fn close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 3e-5 * (1.0 + expected.abs()), "{what}[{i}]: {found}, expected {expected}");
    }
}

/// Pictures of the split `test` and what twins make of them, under the names of golden files.
fn twins(ids: &[usize]) -> (Vec<usize>, BTreeMap<String, Vec<f32>>) {
    let checkpoint = Checkpoint::read(&TRAINED.path().join("run/checkpoint.safetensors")).unwrap();
    let config: toml::Value = toml::from_str(CONFIG).unwrap();
    let mut description = serde_json::to_value(&config["architecture"]).unwrap();
    description["classes"] = 10.into();
    let network = described(&description).unwrap();
    let pictures = open(DATA, Some(16)).unwrap().read("test", ids).unwrap();
    let normaliser =
        Normaliser::new(checkpoint.state.data.channel_mean.unwrap(), checkpoint.state.data.channel_std.unwrap());
    let x: Vec<f32> = (0..ids.len())
        .flat_map(|n| (0..3).flat_map(move |c| (0..256).map(move |p| (n, c, p))))
        .map(|(n, c, p)| normaliser.value(c, pictures.data[(n * 256 + p) * 3 + c]))
        .collect();
    let labels: Vec<usize> = pictures.labels.iter().map(|&label| label as usize).collect();
    let parameters = checkpoint.parameters.iter();
    let parameters: BTreeMap<String, Tensor> = parameters
        .map(|(name, of)| (name.clone(), Tensor { shape: of.shape.clone(), values: of.values.clone() }))
        .collect();
    let protocol = Protocol::from_json(&serde_json::json!({}), &network).unwrap();
    (labels.clone(), run(&network, &protocol, &parameters, &x, &labels).unwrap())
}

#[test]
fn areas_are_those_of_the_twins() {
    let folder = tempfile::tempdir().unwrap();
    // More pictures than one batch, in an order of their own.
    let ids: Vec<usize> = (0..70).rev().filter(|id| id % 33 != 5).collect();
    let file = folder.path().join("ids.txt");
    std::fs::write(&file, ids.iter().map(|id| format!("{id}\n")).collect::<String>()).unwrap();
    let (labels, expected) = twins(&ids);
    let (all, some) = (folder.path().join("all"), folder.path().join("deep/some"));
    extract(&all, &["--ids", file.to_str().unwrap()]).assert().success();
    extract(&some, &["--areas", "low,high", "--timesteps", "2,0", "--images", "3", "--half"]).assert().success();
    for (area, channels, side) in [("eye", 4, 16), ("Low", 6, 8), ("high", 8, 4)] {
        let (shape, found) = npy::<f32>(&all.join(format!("{area}.npy")));
        assert_eq!(shape, [3, 68, channels, side, side]);
        let steps: Vec<f32> = (0..3).flat_map(|t| expected[&format!("act/{area}/{t}")].clone()).collect();
        close(&found, &steps, area);
        if area != "eye" {
            // Float16 keeps 11 bits.
            let (shape, half) = half_npy(&some.join(format!("{area}.npy")));
            assert_eq!(shape, [2, 3, channels, side, side]);
            let row = (channels * side * side) as usize;
            for (i, found) in half.into_iter().enumerate() {
                let (t, n, at) = ([2, 0][i / (3 * row)], i / row % 3, i % row);
                let place = ids.iter().position(|&id| id == n).unwrap();
                let whole = steps[(t * ids.len() + place) * row + at];
                assert!((found.to_f32() - whole).abs() <= 6e-4 * whole.abs() + 4e-5, "{area}: {found}, {whole}");
            }
        }
    }
    assert!(!some.join("eye.npy").exists() && !folder.path().join("deep/some.partial").exists());
    let (shape, logits) = npy::<f32>(&all.join("logits.npy"));
    assert_eq!(shape, [3, 68, 10]);
    close(&logits, &(0..3).flat_map(|t| expected[&format!("logits/{t}")].clone()).collect::<Vec<_>>(), "logits");
    let (_, found) = npy::<i64>(&all.join("labels.npy"));
    assert_eq!(found, labels.iter().map(|&label| label as i64).collect::<Vec<_>>());

    let index: Value = serde_json::from_slice(&std::fs::read(some.join("index.json")).unwrap()).unwrap();
    assert_eq!((&index["ids"], &index["timesteps"]), (&serde_json::json!([0, 1, 2]), &serde_json::json!([2, 0])));
    assert_eq!(index["areas"][0]["name"], "Low");
    assert_eq!(index["areas"][0]["shape"], serde_json::json!([2, 3, 6, 8, 8]));
    assert_eq!((&index["areas"][0]["dtype"], &index["logits"]["dtype"]), (&"float16".into(), &"float32".into()));
    assert!(index["command"].as_str().unwrap().contains("--areas low,high"));
    for key in ["checkpoint_hash", "dataset", "split"] {
        assert!(index[key].is_string(), "{key}: {index}");
    }
    assert_eq!(index["normalisation"]["mean"].as_array().unwrap().len(), 3);
    assert_eq!(index["classes"].as_array().unwrap().len(), 10);

    // Pictures whose classes the network never learned have activity too, but no labels for an analysis.
    for class in ('a'..='o').map(String::from) {
        for split in ["train", "test"] {
            let place = folder.path().join("data").join(split).join(&class);
            std::fs::create_dir_all(&place).unwrap();
            let picture = image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([x as u8, 9 * y as u8, 3 * x as u8]));
            picture.save(place.join("1.png")).unwrap();
        }
    }
    let (data, others) = (folder.path().join("data"), folder.path().join("others"));
    extract(&others, &["--data", data.to_str().unwrap()]).assert().success();
    assert_eq!(npy::<i64>(&others.join("labels.npy")).1, (0..15).collect::<Vec<i64>>());
    let npz = folder.path().join("others.npz");
    refused(
        extract(&npz, &["--data", data.to_str().unwrap()]),
        &["classes", "has a, b, c, d, e and 10 more", "0, 1, 2, 3, 4 and 5 more"],
    );
}

#[test]
fn the_published_layout_is_what_the_network_says_and_can_be_analysed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.npz");
    extract(&file, &[]).assert().success();
    let stored = Extraction::read(&file).unwrap();
    let (labels, expected) = twins(&(0..70).collect::<Vec<_>>());
    assert_eq!((stored.timesteps, stored.samples, stored.classes, stored.features), (3, 70, 10, 8));
    assert_eq!(stored.labels, labels);
    let f32s = |of: &[f64]| of.iter().map(|&x| x as f32).collect::<Vec<_>>();
    let of = |name: &str| (0..3).flat_map(|t| expected[&format!("{name}/{t}")].clone()).collect::<Vec<_>>();
    close(&f32s(&stored.outputs), &of("logprob"), "outputs_all");
    // What the readout sees, by the readout, are the logits.
    let bias = stored.readout_bias.as_ref().expect("this network has one");
    let logits: Vec<f32> = stored
        .representations
        .chunks_exact(8)
        .flat_map(|r| {
            let dot = |w: &[f64]| r.iter().zip(w).map(|(r, w)| r * w).sum::<f64>();
            stored.readout_weight.chunks_exact(8).zip(bias).map(move |(w, b)| (dot(w) + b) as f32)
        })
        .collect();
    close(&logits, &of("logits"), "representations_all times the readout");

    // The analysis of the file is that of the run, and that in f64 of what the file holds.
    let json = |arguments: &[&str], subject: &Path, out: &str| -> Value {
        let mut command = recurve(arguments);
        command.arg(subject).arg("--out").arg(folder.path().join(out));
        serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap()
    };
    let of_run = json(&["analyse", "--split", "test", "--json"], &TRAINED.path().join("run"), "report");
    let of_file = json(&["analyse", "--json"], &file, "report-file");
    let expected = exact::statistics(&stored, None, Silent::LeftOut).unwrap();
    let found: Statistics = serde_json::from_value(of_file["statistics"].clone()).unwrap();
    let agreement = compare(&found, &serde_json::to_value(&expected).unwrap(), TOLERANCE_F32).unwrap();
    assert!(agreement.offence.is_none(), "{agreement:?}");
    for key in ["group", "t_stable", "accuracy", "counts", "readout_leaves"] {
        assert_eq!(of_run["statistics"][key], of_file["statistics"][key], "{key}");
    }
    let of_run: Statistics = serde_json::from_value(of_run["statistics"].clone()).unwrap();
    let norms = |of: &Statistics| of.norm_now_later.concat();
    for (run, file) in norms(&of_run).into_iter().zip(norms(&found)) {
        assert_eq!(run.is_some(), file.is_some());
        assert!(run.is_none() || (run.unwrap() - file.unwrap()).abs() < 1e-5, "{run:?}, {file:?}");
    }
}

#[test]
fn what_cannot_be_extracted_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    for (more, words) in [
        (vec!["--areas", "v4"], vec!["`v4`", "eye, Low, high"]),
        (vec!["--timesteps", "0,3"], vec!["timestep 3", "0 to 2"]),
        (vec!["--images", "71"], vec!["71 pictures", "0 to 69"]),
        (vec!["--split", "nowhere"], vec!["nowhere", "test"]),
        (vec!["--checkpoint", "3"], vec!["no checkpoint of step 3"]),
    ] {
        refused(extract(&out, &more), &words);
    }
    let npz = folder.path().join("a.npz");
    refused(extract(&npz, &["--areas", "high"]), &["a.npz", "name a folder"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    // A folder with something in it is not touched.
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("mine"), "x").unwrap();
    refused(extract(&out, &[]), &["no empty folder"]);
    std::fs::write(folder.path().join("file"), "x").unwrap();
    refused(extract(&folder.path().join("file"), &[]), &[".npz"]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_killed_extraction_leaves_nothing_that_looks_complete() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["maps", "a.npz"] {
        let out = folder.path().join(name);
        let partial = folder.path().join(format!("{name}.partial"));
        let run = TRAINED.path().join("run");
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_recurve"))
            .args(["extract", "--data", "glyphs:train=48,val=6,test=100000,difficulty=0", "--out"])
            .arg(&out)
            .arg(&run)
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let growing = || name == "a.npz" || partial.exists();
        for _ in 0..1200 {
            if growing() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it was done before it was killed");
        assert!(!out.exists());
        extract(&out, &["--images", "2"]).assert().success();
        assert!(out.exists() && !partial.exists());
    }
}

/// How arrays are stored.
#[derive(Clone, Copy, Debug)]
struct Form {
    descr: &'static str,
    fortran: bool,
    deflated: bool,
}

/// An array's name, shape and numbers.
type Stored = (&'static str, Vec<usize>, Vec<f64>);

/// Writes whole numbers in a form, by hand.
fn write(path: &Path, arrays: &[Stored], form: Form) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    for (name, shape, values) in arrays {
        let method = if form.deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
        zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default().compression_method(method))
            .unwrap();
        let extents: String = shape.iter().map(|n| format!("{n},")).collect();
        let order = if form.fortran { "True" } else { "False" };
        let text = format!("{{'descr': '{}', 'fortran_order': {order}, 'shape': ({extents})}}\n", form.descr);
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        let mut put = |x: f64| {
            let mut one = match &form.descr[1..] {
                "f8" => x.to_le_bytes().to_vec(),
                "f4" => (x as f32).to_le_bytes().to_vec(),
                "f2" => half::f16::from_f64(x).to_le_bytes().to_vec(),
                "i8" | "u8" => (x as i64).to_le_bytes().to_vec(),
                "i4" | "u4" => (x as i32).to_le_bytes().to_vec(),
                "i2" | "u2" => (x as i16).to_le_bytes().to_vec(),
                _ => (x as i8).to_le_bytes().to_vec(),
            };
            if form.descr.starts_with('>') {
                one.reverse();
            }
            bytes.extend(one);
        };
        match (form.fortran, shape.as_slice()) {
            (true, &[a, b]) => (0..b).for_each(|j| (0..a).for_each(|i| put(values[i * b + j]))),
            (true, &[a, b, c]) => (0..c).for_each(|k| {
                (0..b).for_each(|j| (0..a).for_each(|i| put(values[(i * b + j) * c + k])));
            }),
            _ => values.iter().for_each(|&x| put(x)),
        }
        zip.write_all(&bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// Trajectories of whole numbers from 0 to 100, of 150 samples.
fn made_up(seed: u64) -> Extraction {
    let (timesteps, samples, classes, features) = (4, 150, 3, 5);
    let mut state = seed;
    let mut random = move |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    let labels: Vec<usize> = (0..samples).map(|_| random(3) as usize).collect();
    let mut numbers = |count: usize| (0..count).map(|_| random(100) as f64).collect::<Vec<_>>();
    let mut outputs = numbers(timesteps * samples * classes);
    for t in 1..timesteps {
        for (n, &label) in labels.iter().enumerate().filter(|(n, _)| n % 3 > 0) {
            outputs[(t * samples + n) * classes + label] = 101.0;
        }
    }
    let (representations, readout_weight) = (numbers(timesteps * samples * features), numbers(classes * features));
    Extraction {
        timesteps,
        samples,
        classes,
        features,
        outputs,
        labels,
        representations,
        readout_weight,
        readout_bias: None,
    }
}

fn arrays(of: &Extraction) -> Vec<Stored> {
    let (t, n, k, d) = (of.timesteps, of.samples, of.classes, of.features);
    vec![
        ("outputs_all", vec![t, n, k], of.outputs.clone()),
        ("labels_all", vec![n], of.labels.iter().map(|&label| label as f64).collect()),
        ("representations_all", vec![t, n, d], of.representations.clone()),
        ("readout_weight", vec![k, d], of.readout_weight.clone()),
        ("readout_bias", vec![0], vec![]),
    ]
}

const PLAIN: Form = Form { descr: "<f8", fortran: false, deflated: false };

#[test]
fn every_form_holds_the_same_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let (path, expected) = (folder.path().join("a.npz"), made_up(7));
    for descr in
        ["<f8", ">f8", "<f4", ">f4", "<f2", ">f2", "<i8", ">i8", "<u8", "<i4", ">u4", "<i2", ">u2", "|i1", "|u1"]
    {
        for (fortran, deflated) in [(false, false), (false, true), (true, false), (true, true)] {
            let form = Form { descr, fortran, deflated };
            write(&path, &arrays(&expected), form);
            assert_eq!(Extraction::read(&path).unwrap(), expected, "{form:?}");
            let mut stored = StoredExtraction::open(&path).unwrap();
            let mut batch = StoredBatch::default();
            let ids = [149, 0, 3, 4, 77];
            stored.read(&ids, 6, &mut batch).unwrap();
            for t in 0..expected.timesteps {
                for (n, &id) in ids.iter().enumerate() {
                    for (k, &x) in expected.output(t, id as usize).iter().enumerate() {
                        assert_eq!(f64::from(batch.outputs[(t * 3 + k) * 6 + n]), x, "{form:?}");
                    }
                    for (d, &x) in expected.representation(t, id as usize).iter().enumerate() {
                        assert_eq!(f64::from(batch.representations[(t * 5 + d) * 6 + n]), x, "{form:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn classes_are_those_of_the_file_where_f32_cannot_tell_outputs_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.npz");
    let mut one = made_up(1);
    one.outputs = one.outputs.iter().map(|x| -1.0 - x * 1e-12).collect();
    write(&path, &arrays(&one), PLAIN);
    let mut batch = StoredBatch::default();
    let ids: Vec<u32> = (0..150).collect();
    StoredExtraction::open(&path).unwrap().read(&ids, 150, &mut batch).unwrap();
    let arg_max = |of: &dyn Fn(usize) -> f64| (0..3).fold(0, |best, k| if of(k) > of(best) { k } else { best });
    let mut alike = 0;
    for t in 0..4 {
        for n in 0..150 {
            let rounded = |k: usize| f64::from(batch.outputs[(t * 3 + k) * 150 + n]);
            assert_eq!(arg_max(&rounded), arg_max(&|k| one.output(t, n)[k]), "[{t}, {n}]");
            alike += usize::from(one.output(t, n)[0] as f32 == one.output(t, n)[1] as f32);
        }
    }
    assert!(alike > 500, "the example is to be one of near ties: {alike}");
}

fn analyse(file: &Path, more: &[&str]) -> Command {
    let mut command = recurve(&["analyse", "--json"]);
    command.arg(file).args(more);
    command
}

#[test]
fn statistics_are_those_in_f64_whatever_the_form() {
    let folder = tempfile::tempdir().unwrap();
    let (trained, untrained) = (made_up(7), Extraction { labels: made_up(7).labels, ..made_up(8) });
    let (file, init) = (folder.path().join("activity of <b>.npz"), folder.path().join("init.npz"));
    let with = ["--init", init.to_str().unwrap()];
    let mut seen: Vec<Value> = Vec::new();
    for (descr, fortran, deflated) in [("<f8", false, false), (">f2", true, true), ("|u1", true, false)] {
        write(&file, &arrays(&trained), Form { descr, fortran, deflated });
        write(&init, &arrays(&untrained), Form { descr: "<f4", fortran: !fortran, deflated: !deflated });
        let printed = analyse(&file, &with).assert().success().get_output().stdout.clone();
        let printed: Value = serde_json::from_slice(&printed).unwrap();
        assert!(["meta", "statistics"].iter().all(|key| printed[key].is_object()), "{printed}");
        assert_eq!(
            (&printed["meta"]["checkpoint"], &printed["meta"]["name"]),
            (&"activity of <b>.npz".into(), &"activity of <b>".into())
        );
        seen.push(printed["statistics"].clone());
    }
    assert!(seen.iter().all(|of| *of == seen[0]), "the same bits from every form");
    let expected = exact::statistics(&trained, &untrained, Silent::LeftOut).unwrap();
    assert!(expected.counts.stable_correct > 20 && expected.counts.unstable_incorrect > 0, "{:?}", expected.counts);
    let found: Statistics = serde_json::from_value(seen[0].clone()).unwrap();
    let agreement = compare(&found, &serde_json::to_value(&expected).unwrap(), TOLERANCE_F32).unwrap();
    assert!(agreement.offence.is_none(), "{agreement:?}");

    // Without the untrained network: the same but for its numbers, which are null, and left out of the page.
    let out = folder.path().join("activity of <b>-report");
    let page = || std::fs::read_to_string(out.join("report.html")).unwrap();
    assert!(page().contains("class 2") && page().contains("activity of &#60;b&#62;"), "names are text");
    assert!(!page().contains("was given: its numbers are left out"));
    let alone = analyse(&file, &[]).assert().success().get_output().stdout.clone();
    let alone: Value = serde_json::from_slice::<Value>(&alone).unwrap()["statistics"].clone();
    for (key, value) in seen[0].as_object().unwrap() {
        let expected = if key.ends_with("_init") { &Value::Null } else { value };
        assert_eq!(&alone[key], expected, "{key}");
    }
    assert!(page().contains("was given: its numbers are left out"));
}

/// Outputs of another readout than the one in the file are warned of, on the terminal and in the report.
#[test]
fn outputs_of_another_readout_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.npz");
    let mut of = arrays(&made_up(7));
    of[3].2.iter_mut().for_each(|weight| *weight = -*weight);
    write(&file, &of, PLAIN);
    let output = analyse(&file, &[]).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("the outputs are not those of this readout"), "{said}");
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(printed["meta"]["notes"].to_string().contains("are not those of this readout"));
}

/// What an export is to be written to is no file of a run.
#[test]
fn files_of_a_run_are_not_written_over() {
    let config = TRAINED.path().join("run/config.toml");
    let before = std::fs::read(&config).unwrap();
    for form in ["pth", "safetensors"] {
        let mut export = recurve(&["export"]);
        export.arg(TRAINED.path().join("run")).args(["--to", form, "--out"]).arg(&config);
        refused(export, &["config.toml", "is a file of the run", "--out"]);
    }
    refused(extract(&TRAINED.path().join("run/checkpoint.safetensors"), &[]), &["checkpoint.safetensors"]);
    assert_eq!(std::fs::read(&config).unwrap(), before);
}

#[test]
fn files_that_cannot_be_analysed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, init) = (folder.path().join("broken.npz"), folder.path().join("init.npz"));
    let good = arrays(&made_up(7));
    let spoilt = |array: usize, spoil: &dyn Fn(&mut Stored)| {
        let mut spoilt = good.clone();
        spoil(&mut spoilt[array]);
        spoilt
    };
    let says = |arrays: &[Stored], form: Form, words: &[&str]| {
        write(&file, arrays, form);
        refused(analyse(&file, &[]), &[&["broken.npz"], words].concat());
        assert!(!folder.path().join("broken-report").exists());
    };
    let deflated = Form { deflated: true, fortran: true, ..PLAIN };
    for form in [PLAIN, deflated] {
        says(&spoilt(0, &|a| a.2[5] = f64::NAN), form, &["outputs_all", "NaN at [0, 1, 2]"]);
        says(&spoilt(2, &|a| a.2[751] = f64::INFINITY), form, &["representations_all", "inf at [1, 0, 1]"]);
        says(&spoilt(2, &|a| a.2[0] = 1e300), form, &["representations_all", "1e300 at [0, 0, 0]", "f32"]);
        let probabilities =
            |a: &mut Stored| a.2.chunks_exact_mut(3).for_each(|row| row.copy_from_slice(&[0.25, 0.125, 0.625]));
        says(&spoilt(0, &probabilities), form, &["outputs_all", "found probabilities", "numpy.log"]);
        says(&spoilt(1, &|a| a.2[9] = 3.0), form, &["labels_all", "below 3", "found 3 at [9]"]);
        says(&spoilt(3, &|a| a.2[4] = f64::NAN), form, &["readout_weight", "NaN at [0, 4]"]);
        says(&spoilt(3, &|a| a.2[5..10].fill(0.0)), form, &["readout_weight", "class 1"]);
        says(&spoilt(0, &|a| (a.1, a.2) = (vec![4, 151, 3], vec![0.0; 1812])), form, &["labels_all", "[151]", "[150]"]);
        says(&spoilt(0, &|a| a.1 = vec![4, 450]), form, &["outputs_all", "3 dimensions", "[4, 450]"]);
        says(&[&good[..2], &good[3..]].concat(), form, &["array representations_all is missing", "found labels_all"]);
    }
    says(&good, Form { descr: "<c8", ..PLAIN }, &["<c8"]);

    // Headers that lie.
    let raw = |header: &[u8]| {
        write(&file, &[&good[..1], &good[2..]].concat(), PLAIN);
        let open = std::fs::OpenOptions::new().read(true).write(true).open(&file).unwrap();
        let mut zip = zip::ZipWriter::new_append(open).unwrap();
        zip.start_file("labels_all.npy", zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(header).unwrap();
        zip.finish().unwrap();
    };
    let header = |text: &str| [b"\x93NUMPY\x01\x00", &(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat();
    let huge = header("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 0)}");
    for (bytes, word) in [
        (huge, "is none that an array can have"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999999999,)}"), "labels_all"),
        (header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"), "asks for 8000000000000 bytes"),
        (header(&"(".repeat(60000)), "no npy array"),
        (header("{'descr': '<f8'}"), "fortran_order"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff".to_vec(), "found 4294967295"),
        (Vec::new(), "no npy array"),
    ] {
        raw(&bytes);
        refused(analyse(&file, &[]), &["broken.npz", "labels_all", word]);
    }

    // A byte of a stored array that has changed since it was written.
    write(&file, &good, PLAIN);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[3000] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    refused(analyse(&file, &[]), &["broken.npz", "outputs_all", "damaged"]);
    std::fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    refused(analyse(&file, &[]), &["broken.npz", "npz"]);
    refused(analyse(&folder.path().join("gone.npz"), &[]), &["gone.npz"]);

    // Two files that do not belong together.
    write(&file, &good, PLAIN);
    let with = |arrays: &[Stored], words: &[&str]| {
        write(&init, arrays, PLAIN);
        refused(analyse(&file, &["--init", init.to_str().unwrap()]), &[&["init.npz"], words].concat());
    };
    with(&spoilt(1, &|a| a.2[4] = (a.2[4] + 1.0) % 3.0), &["labels_all", "[4]", "broken.npz"]);
    let fewer = Extraction { samples: 149, ..made_up(7) };
    let fewer = Extraction {
        outputs: fewer.outputs[..4 * 149 * 3].to_vec(),
        labels: fewer.labels[..149].to_vec(),
        representations: fewer.representations[..4 * 149 * 5].to_vec(),
        ..fewer
    };
    with(&arrays(&fewer), &["150 samples", "149 samples"]);

    // What a network is shown was decided when the activity was stored.
    for flag in ["--data", "--split", "--checkpoint", "--protocol"] {
        refused(analyse(&file, &[flag, "1"]), &[flag, "stored already"]);
    }
    refused(analyse(&TRAINED.path().join("run"), &["--init", "x.npz"]), &["--init"]);
}

#[test]
fn no_room_for_unpacking_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.npz");
    write(&file, &arrays(&made_up(7)), Form { deflated: true, ..PLAIN });
    let mut command = analyse(&file, &[]);
    command.env("TMPDIR", folder.path().join("nowhere"));
    refused(command, &["a.npz", "outputs_all", "compressed", "nowhere", "TMPDIR"]);
}

#[test]
#[ignore = "reads the golden files of ../shared: scripts/test.sh runs it where they are"]
fn golden_files_of_analyses_through_the_command() {
    let folder = tempfile::tempdir().unwrap();
    let mut found = 0;
    let mut paths: Vec<_> =
        std::fs::read_dir(golden_folder("golden")).unwrap().map(|file| file.unwrap().path()).collect();
    paths.sort();
    for path in paths.into_iter().filter(|path| path.is_file()) {
        let Some(golden) = Golden::open(&path).unwrap() else { continue };
        found += 1;
        let (file, init) = (path.with_extension("npz"), path.to_string_lossy().replace(".json", "_init.npz"));
        let printed = analyse(&file, &["--init", &init, "--out", folder.path().to_str().unwrap()]);
        let printed: Value = serde_json::from_slice(&{ printed }.assert().success().get_output().stdout).unwrap();
        let statistics: Statistics = serde_json::from_value(printed["statistics"].clone()).unwrap();
        let agreement = golden.check(&statistics).unwrap();
        println!("{}: {:.1e} ({})", path.display(), agreement.largest_error, agreement.largest_at);
        assert!(agreement.offence.is_none(), "{}: {agreement:?}", path.display());
    }
    assert!(found >= 12, "{found} analyses");
}
