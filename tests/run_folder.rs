//! Checkpoints, run folders and logs: round trips, damage, being killed.

use recurve::dataset::LastBatch;
use recurve::network::*;
use recurve::train::run_folder::{checkpoints, latest, read_config, read_metrics};
use recurve::train::*;
use std::path::{Path, PathBuf};

/// A small network, so that every byte of its checkpoint can be tried.
fn config() -> RunConfig {
    let mut run = Preset::Tiny.run();
    let network = NetworkConfig {
        image_size: 8,
        stem_channels: 1,
        area_channels: [1, 2, 2, 3],
        kernel_size: 1,
        topdown: true,
        timesteps: 2,
        norm: Normalisation::Group,
        ..Preset::Tiny.network()
    };
    run.network = network.into();
    run.data.path = Some("pictures.h5".into());
    run.training.set_steps(40);
    run.training.batch = 4;
    run.set_classes(3).unwrap();
    run
}

fn family(config: &RunConfig) -> NetworkConfig {
    match &config.network {
        Description::Family(network) => network.clone(),
        Description::Own(_) => panic!("a network of one's own"),
    }
}

fn data() -> DataState {
    DataState {
        channel_mean: Some([0.1 + 0.2, 127.5, 1.0 / 3.0]),
        channel_std: Some([57.1 + 1e-14, 1e-9, 255.0]),
        class_names: vec!["fish".into(), "röad \"sign\"".into(), String::new()],
    }
}

/// The run after `step` steps, every value different from the other steps'.
fn checkpoint(step: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::initial(&config(), data());
    let state = &mut checkpoint.state;
    (state.step, state.adam_step, state.epoch, state.batch_in_epoch) = (step, step, step / 10, step % 10);
    for (i, v) in checkpoint.adam_m.iter_mut().flat_map(|(_, t)| &mut t.values).enumerate() {
        *v = (step as f32 + i as f32).sin() * 1e-3;
    }
    for v in checkpoint.adam_v.iter_mut().flat_map(|(_, t)| &mut t.values) {
        *v = f32::MIN_POSITIVE * step as f32;
    }
    checkpoint
}

/// What a run's configuration lacks is not taken from a preset, and a log that is gone is called so.
#[test]
fn a_run_folder_without_description_or_log_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("run");
    std::fs::create_dir(&root).unwrap();
    let refused = |error: String, words: &[&str]| {
        words.iter().for_each(|word| assert!(error.contains(word), "`{word}` is missing in: {error}"));
        assert!(!error.contains("os error"), "{error}");
    };
    for (text, found) in [("", "an empty file"), ("\n", "an empty file"), ("preset = \"blt64\"\n", "neither")] {
        std::fs::write(root.join("config.toml"), text).unwrap();
        let error = read_config(&root).unwrap_err().to_string();
        refused(
            error,
            &["config.toml", "describes no network", "[network] or [architecture]", found, "put the file back"],
        );
    }
    std::fs::write(root.join("config.toml"), config().to_toml()).unwrap();
    assert_eq!(read_config(&root).unwrap(), config());
    refused(read_metrics(&root).unwrap_err().to_string(), &["metrics.jsonl is missing", "touch", "put it back"]);
    std::fs::write(root.join("metrics.jsonl"), "").unwrap();
    assert!(read_metrics(&root).unwrap().is_empty());
    let file = root.join("metrics.jsonl");
    let error = read_config(&file).unwrap_err().to_string();
    refused(error.clone(), &["is a file, not a run folder", "recurve train --out"]);
    assert!(!error.contains("start a run there") && !error.contains("recurve analyse"), "{error}");
}

fn step_event(step: u64) -> Event {
    Event::Step {
        step,
        epoch: step / 10,
        loss: 1.0 / (step + 1) as f64,
        grad_norm: None,
        loss_scale: None,
        images_per_s: 12.5,
        seconds: 0.5,
    }
}

fn epoch_event(step: u64) -> Event {
    Event::Epoch {
        epoch: step / 10,
        step,
        split: "val".into(),
        loss: vec![None, Some(1.5), Some(0.1 + 0.2)],
        accuracy: vec![None, Some(0.0), Some(1.0)],
        images: 7,
    }
}

fn start_event(step: u64) -> Event {
    Event::Start {
        step,
        seed: 1,
        adapter: "a".into(),
        driver: "d".into(),
        planned_bytes: 10,
        allocated_bytes: 10,
        host_bytes: 20,
        parameters: 3,
        packed_values: 0,
    }
}

fn end_event(step: u64) -> Event {
    Event::End { step, epoch: step / 10, seconds: 3.25 }
}

/// A run folder with checkpoints at steps 0, 2, 4, 6 and events up to step 7.
fn run_of_seven_steps(root: &Path) {
    let mut folder = RunFolder::create(root, &config()).unwrap();
    folder.log(&start_event(0)).unwrap();
    folder.save(&checkpoint(0)).unwrap();
    for step in 1..=7 {
        folder.log(&step_event(step)).unwrap();
        if step % 2 == 0 {
            folder.log(&epoch_event(step)).unwrap();
            folder.save(&checkpoint(step)).unwrap();
        }
    }
}

fn numbered(root: &Path, step: u64) -> PathBuf {
    root.join(format!("checkpoints/{step:08}.safetensors"))
}

fn newest(root: &Path) -> PathBuf {
    root.join("checkpoint.safetensors")
}

fn truncate(path: &Path, len: usize) {
    let bytes = std::fs::read(path).unwrap();
    std::fs::write(path, &bytes[..len]).unwrap();
}

#[test]
fn a_checkpoint_reads_back_bit_for_bit_and_is_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    let written = checkpoint(17);
    written.write(&path).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    assert_eq!(read, written);
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(read.to_bytes().unwrap(), bytes);
    assert_eq!(checkpoint(17).to_bytes().unwrap(), bytes);
    assert_ne!(checkpoint(18).to_bytes().unwrap(), bytes);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn any_safetensors_reader_finds_the_documented_content() {
    let written = checkpoint(17);
    let bytes = written.to_bytes().unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["recurve"]);
    let json: serde_json::Value = serde_json::from_str(&metadata["recurve"]).unwrap();
    assert_eq!(json["state"]["step"], 17);
    assert_eq!(json["state"]["network"]["area_channels"], serde_json::json!([1, 2, 2, 3]));
    assert_eq!(json["state"]["training"]["seed"], 1);
    assert_eq!(json["state"]["training"]["checkpoint_every"], 0);
    let specs = written.specs();
    assert_eq!(file.len(), 3 * specs.len());
    for spec in &specs {
        for kind in ["param", "adam_m", "adam_v"] {
            assert_eq!(file.tensor(&format!("{kind}/{}", spec.name)).unwrap().shape(), spec.shape);
        }
    }
    assert!(file.tensor("param/v1.lateral.weight").is_ok(), "unused parameters are saved as well");
    let readout = written.parameter("readout.weight").unwrap();
    assert_eq!(file.tensor("param/readout.weight").unwrap().data(), bytemuck::cast_slice::<f32, u8>(readout));
    assert!(written.parameter("nosuch").is_none());
}

/// The JSON of checkpoints of the published family, to the byte, as every earlier version wrote it.
#[test]
fn the_state_s_text_is_that_of_earlier_checkpoints() {
    let mut state = checkpoint(17).state;
    state.training.checkpoint_every = 500; // 0 in what is written today, as it changes no number
    state.training.last_batch = LastBatch::Drop; // as all of them did, without a word
    let expected = r#"{"step":17,"adam_step":17,"epoch":1,"batch_in_epoch":7,"data":{"channel_mean":[0.30000000000000004,127.5,0.3333333333333333],"channel_std":[57.10000000000001,1e-9,255.0],"class_names":["fish","röad \"sign\"",""]},"network":{"image_size":8,"stem_channels":1,"area_channels":[1,2,2,3],"kernel_size":1,"lateral":true,"topdown":true,"interaction":"additive","lt_position":"all","recurrent_from":"v2","norm":"group","groups":1,"readout_bias":false,"timesteps":2,"classes":3},"training":{"batch":4,"steps":40,"learning_rate":0.001,"decay_steps":0,"beta1":0.9,"beta2":0.999,"epsilon":1e-8,"seed":1,"checkpoint_every":500}}"#;
    assert_eq!(serde_json::to_string(&state).unwrap(), expected);
    assert_eq!(serde_json::from_str::<CheckpointState>(expected).unwrap(), state);
}

const OWN: &str = r#"[architecture]
image_size = 4
classes = 3
timesteps = 2
areas = [{ name = "v1", channels = 2 }, { name = "v2", channels = 3, norm = "none" }]
connections = [
    { from = "input", to = "v1", kind = "bottom_up", kernel = 1 },
    { from = "v1", to = "v2", kind = "bottom_up", stride = 2 },
    { from = "v2", to = "v1", kind = "top_down", stride = 2, name = "feedback" },
]
"#;

#[test]
fn a_checkpoint_keeps_a_network_of_one_s_own() {
    let own = RunConfig::parse(OWN).unwrap();
    let written = Checkpoint::initial(&own, data());
    let bytes = written.to_bytes().unwrap();
    let read = Checkpoint::from_bytes(&bytes).unwrap();
    assert_eq!(read, written);
    assert_eq!(read.to_bytes().unwrap(), bytes);
    assert_eq!(read.state.network, own.network);
    assert!(read.parameter("v1.feedback.weight").is_some());
    let json: serde_json::Value = serde_json::to_value(&read.state).unwrap();
    assert!(json.get("network").is_none() && json["architecture"]["areas"][1]["norm"] == "none", "{json}");
    let mut both = json.clone();
    both["network"] = serde_json::to_value(family(&config())).unwrap();
    let error = serde_json::from_value::<CheckpointState>(both).unwrap_err().to_string();
    assert!(error.contains("[network]") && error.contains("[architecture]"), "{error}");
    let mut neither = json;
    neither.as_object_mut().unwrap().remove("architecture");
    let error = serde_json::from_value::<CheckpointState>(neither).unwrap_err().to_string();
    assert!(error.contains("[network]") && error.contains("[architecture]"), "{error}");
}

#[test]
fn a_run_of_one_s_own_network_goes_on_unless_the_network_was_edited() {
    let temp = tempfile::tempdir().unwrap();
    let own = RunConfig::parse(OWN).unwrap();
    let mut folder = RunFolder::create(temp.path(), &own).unwrap();
    folder.save(&Checkpoint::initial(&own, data())).unwrap();
    drop(folder);
    assert_eq!(RunFolder::resume(temp.path()).unwrap().config, own);
    for (from, to, words) in [
        ("channels = 2", "channels = 4", ["architecture.areas[0].channels = 4", "in the checkpoint 2"]),
        ("kernel = 1", "kernel = 1, bias = false", ["connections[0].bias = false", "in the checkpoint absent"]),
        ("norm = \"none\"", "activation = \"none\"", ["areas[1].activation", "areas[1].norm = absent"]),
    ] {
        assert!(OWN.contains(from));
        std::fs::write(temp.path().join("config.toml"), OWN.replace(from, to)).unwrap();
        let error = RunFolder::resume(temp.path()).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?}: {error}");
    }
    std::fs::write(temp.path().join("config.toml"), config().to_toml()).unwrap();
    let error = RunFolder::resume(temp.path()).unwrap_err().to_string();
    assert!(error.contains("[network]") && error.contains("[architecture]"), "{error}");
}

#[test]
fn the_initial_checkpoint_holds_the_drawn_parameters() {
    let initial = Checkpoint::initial(&config(), data());
    assert_eq!(initial.parameters, initialise(&initial.specs(), 1));
    assert!(initial.adam_m.iter().chain(initial.adam_v.iter()).all(|(_, t)| t.values.iter().all(|&v| v == 0.0)));
    assert_eq!((initial.state.step, initial.state.adam_step), (0, 0));
}

/// Whatever single byte is changed, the file is refused, or it is one of the few that carry no information.
#[test]
fn every_changed_byte_is_noticed() {
    let original = checkpoint(12);
    let bytes = original.to_bytes().unwrap();
    let mut refused = 0;
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80] {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            match Checkpoint::from_bytes(&damaged) {
                Err(_) => refused += 1,
                Ok(read) => assert_eq!(read, original, "byte {at} changed by {flip:#x} goes unnoticed"),
            }
        }
    }
    assert!(refused > 2 * bytes.len() - 100, "{refused} of {} refused", 2 * bytes.len());
}

#[test]
fn every_torn_length_is_refused() {
    let bytes = checkpoint(12).to_bytes().unwrap();
    for len in 0..bytes.len() {
        assert!(Checkpoint::from_bytes(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let mut longer = bytes;
    longer.push(0);
    assert!(Checkpoint::from_bytes(&longer).is_err(), "a byte too many");
}

/// Writes safetensors with the given tensors and metadata.
fn safetensors_bytes(tensors: &[(String, Vec<usize>, safetensors::Dtype, Vec<u8>)], json: Option<&str>) -> Vec<u8> {
    let views = tensors.iter().map(|(name, shape, dtype, data)| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, json.map(|j| [("recurve".to_string(), j.to_string())].into())).unwrap()
}

#[test]
fn a_wrong_checkpoint_is_refused_with_what_is_wrong() {
    let good = checkpoint(12).to_bytes().unwrap();
    let file = safetensors::SafeTensors::deserialize(&good).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&good).unwrap();
    let json = header.metadata().as_ref().unwrap()["recurve"].clone();
    let mut tensors: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.dtype(), view.data().to_vec()))
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let find = |name: &str| tensors.iter().position(|t| t.0 == name).unwrap();
    let refused = |tensors: &[_], json: Option<&str>, words: &[&str]| {
        let error = Checkpoint::from_bytes(&safetensors_bytes(tensors, json)).expect_err(words[0]);
        for word in words {
            assert!(error.contains(word), "'{word}' is missing from: {error}");
        }
    };
    assert_eq!(safetensors_bytes(&tensors, Some(&json)), good, "the helper writes the same file");

    refused(&tensors, None, &["not a checkpoint", "recurve"]);
    refused(&tensors, Some("{}"), &["recurve", "format"]);
    refused(&tensors, Some(&json.replace("\"format\":1", "\"format\":2")), &["format 2", "format 1"]);
    refused(&tensors, Some(&json.replace("\"step\":12", "\"step\":13")), &["checksum"]);
    refused(&tensors, Some(&json.replace("\"step\":12", "\"stop\":12")), &["stop", "step"]);
    refused(&tensors, Some(&json.replace("\"image_size\":8", "\"image_size\":9")), &["image_size", "9"]);
    refused(
        &tensors,
        Some(&json.replace("\"classes\":3", "\"classes\":4")),
        &["param/readout.weight", "[4, 3]", "[3, 3]"],
    );

    let mut missing = tensors.clone();
    missing.remove(find("adam_v/it.lateral.weight"));
    refused(&missing, Some(&json), &["75", "74"]);
    let mut renamed = tensors.clone();
    renamed[find("adam_v/it.lateral.weight")].0 = "adam_v/it.lateral.waste".into();
    refused(&renamed, Some(&json), &["adam_v/it.lateral.weight", "missing"]);
    let mut halves = tensors.clone();
    let at = find("param/retina.weight");
    halves[at].2 = safetensors::Dtype::F16;
    let half = halves[at].3.len() / 2;
    halves[at].3.truncate(half);
    refused(&halves, Some(&json), &["param/retina.weight", "F32", "F16"]);
    let mut swapped = tensors.clone();
    let (a, b) = (find("adam_m/retina.weight"), find("param/retina.weight"));
    (swapped[a].3, swapped[b].3) = (tensors[b].3.clone(), tensors[a].3.clone());
    refused(&swapped, Some(&json), &["checksum"]);
}

#[test]
fn values_that_are_not_finite_are_never_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.safetensors");
    checkpoint(4).write(&path).unwrap();
    let good = std::fs::read(&path).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut diverged = checkpoint(5);
        *diverged.parameters.get_mut("retina.weight").unwrap().values.last_mut().unwrap() = bad;
        let error = diverged.write(&path).unwrap_err().to_string();
        let place = "param/retina.weight holds";
        assert!(
            error.contains("checkpoint of step 5") && error.contains(place) && error.contains("index 2"),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), good);
    }
}

#[test]
fn a_checkpoint_of_wrong_sizes_is_not_written() {
    let mut wrong = checkpoint(5);
    wrong.adam_m.get_mut("retina.bias").unwrap().values.pop();
    let error = wrong.to_bytes().unwrap_err().to_string();
    assert!(error.contains("adam_m/retina.bias") && error.contains('0') && error.contains('1'), "{error}");
    wrong.adam_m.remove("retina.bias");
    assert!(wrong.to_bytes().unwrap_err().to_string().contains("adam_m"));
}

#[test]
fn errors_of_the_file_system_name_the_checkpoint_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Checkpoint::read(&folder.path().join("none.safetensors")).unwrap_err().to_string();
    assert!(missing.contains("checkpoint") && missing.contains("none.safetensors"), "{missing}");
    let unwritable = checkpoint(1).write(&folder.path().join("no/folder/c.safetensors")).unwrap_err().to_string();
    assert!(unwritable.contains("checkpoint") && unwritable.contains("could not be written"), "{unwritable}");
}

#[test]
fn a_new_run_folder_is_complete_and_replayable() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("deep/er/run");
    run_of_seven_steps(&root);
    assert_eq!(read_config(&root).unwrap(), config());
    assert_eq!(RunConfig::read(&root.join("config.toml")).unwrap(), config());
    let steps: Vec<u64> = checkpoints(&root).unwrap().into_iter().map(|c| c.0).collect();
    assert_eq!(steps, [0, 2, 4, 6]);
    assert_eq!(std::fs::read(newest(&root)).unwrap(), std::fs::read(numbered(&root, 6)).unwrap());
    let events = read_metrics(&root).unwrap();
    assert_eq!(events[0], start_event(0));
    assert_eq!(events[3], epoch_event(2));
    assert_eq!(events.len(), 1 + 7 + 3);
    let line = std::fs::read_to_string(root.join("metrics.jsonl")).unwrap().lines().next().unwrap().to_string();
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&json["event"], &json["planned_bytes"], &json["seed"]), (&"start".into(), &10.into(), &1.into()));
}

#[test]
fn a_folder_that_holds_a_run_is_not_overwritten() {
    let temp = tempfile::tempdir().unwrap();
    run_of_seven_steps(temp.path());
    let before = std::fs::read(newest(temp.path())).unwrap();
    let error = RunFolder::create(temp.path(), &config()).unwrap_err().to_string();
    assert!(error.contains("--resume") && error.contains(&temp.path().display().to_string()), "{error}");
    assert_eq!(std::fs::read(newest(temp.path())).unwrap(), before);
    assert_eq!(read_metrics(temp.path()).unwrap().len(), 11);
}

#[test]
fn a_run_without_a_checkpoint_can_be_created_again_or_resumed() {
    let temp = tempfile::tempdir().unwrap();
    let mut folder = RunFolder::create(temp.path(), &config()).unwrap();
    folder.log(&start_event(0)).unwrap();
    drop(folder);
    let resumed = RunFolder::resume(temp.path()).unwrap();
    assert!(resumed.checkpoint.is_none());
    assert_eq!(resumed.config, config());
    assert_eq!(read_metrics(temp.path()).unwrap(), []);
    drop(resumed);
    RunFolder::create(temp.path(), &config()).unwrap();
}

#[test]
fn a_users_own_config_file_is_not_overwritten() {
    let temp = tempfile::tempdir().unwrap();
    let own = temp.path().join("config.toml");
    std::fs::write(&own, "[network]\ntimesteps = 3\n").unwrap();
    let error = RunFolder::create(temp.path(), &config()).unwrap_err().to_string();
    assert!(error.contains("config.toml") && error.contains("--out"), "{error}");
    assert_eq!(std::fs::read_to_string(&own).unwrap(), "[network]\ntimesteps = 3\n");
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("file"), "").unwrap();
    let error = RunFolder::create(&temp.path().join("file/run"), &config()).unwrap_err().to_string();
    assert!(error.contains("run folder") && error.contains("--out"), "{error}");
    let error = RunFolder::resume(&temp.path().join("nowhere")).unwrap_err().to_string();
    assert!(error.contains("nowhere") && error.contains("checkpoint"), "{error}");
    let mut wrong = config();
    wrong.network = NetworkConfig { kernel_size: 2, ..family(&wrong) }.into();
    assert!(RunFolder::create(&temp.path().join("x"), &wrong).unwrap_err().to_string().contains("kernel_size"));
    assert!(!temp.path().join("x").exists());
}

#[test]
fn two_processes_cannot_train_in_one_folder() {
    let temp = tempfile::tempdir().unwrap();
    let mut folder = RunFolder::create(temp.path(), &config()).unwrap();
    folder.save(&checkpoint(0)).unwrap();
    for error in [RunFolder::resume(temp.path()).err(), RunFolder::create(temp.path(), &config()).err()] {
        let error = error.expect("the folder is locked").to_string();
        assert!(error.contains("another process"), "{error}");
    }
    drop(folder);
    RunFolder::resume(temp.path()).unwrap();
}

#[test]
fn a_resumed_run_logs_each_step_once() {
    let temp = tempfile::tempdir().unwrap();
    run_of_seven_steps(temp.path());
    let mut resumed = RunFolder::resume(temp.path()).unwrap();
    assert_eq!(resumed.checkpoint.as_ref(), Some(&checkpoint(6)));
    assert_eq!(resumed.warnings, Vec::<String>::new());
    resumed.folder.log(&start_event(6)).unwrap();
    drop(resumed); // killed at once, so that a third attempt starts at the same step
    let mut resumed = RunFolder::resume(temp.path()).unwrap();
    resumed.folder.log(&start_event(6)).unwrap();
    for step in 7..=8 {
        resumed.folder.log(&step_event(step)).unwrap();
    }
    resumed.folder.save(&checkpoint(8)).unwrap();
    resumed.folder.log(&end_event(8)).unwrap();
    let events = read_metrics(temp.path()).unwrap();
    let steps: Vec<u64> = events.iter().filter(|e| matches!(e, Event::Step { .. })).map(Event::step).collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7, 8]);
    let starts: Vec<u64> = events.iter().filter(|e| matches!(e, Event::Start { .. })).map(Event::step).collect();
    assert_eq!(starts, [0, 6]);
    assert_eq!(events.iter().filter(|e| matches!(e, Event::Epoch { .. })).count(), 3);
    assert_eq!(events.last(), Some(&end_event(8)));
    drop(resumed);

    // Opened once more, perhaps to find that all is done: the end is still logged.
    drop(RunFolder::resume(temp.path()).unwrap());
    assert_eq!(read_metrics(temp.path()).unwrap(), events);
}

#[test]
fn keys_that_others_add_to_the_log_survive_a_resume() {
    let temp = tempfile::tempdir().unwrap();
    run_of_seven_steps(temp.path());
    let path = temp.path().join("metrics.jsonl");
    let log = std::fs::read_to_string(&path).unwrap().replacen(
        "{\"event\":\"step\"",
        "{\"note\":\"ü\",\"event\":\"step\"",
        1,
    );
    std::fs::write(&path, &log).unwrap();
    drop(RunFolder::resume(temp.path()).unwrap());
    assert!(std::fs::read_to_string(&path).unwrap().contains("\"note\":\"ü\""));
}

#[test]
fn a_torn_last_line_of_the_log_is_left_out_and_any_other_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    run_of_seven_steps(temp.path());
    let path = temp.path().join("metrics.jsonl");
    let whole = std::fs::read(&path).unwrap();
    let last_line = whole[..whole.len() - 1].iter().rposition(|&b| b == b'\n').unwrap() + 1;
    for len in last_line..=whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let expected = if len + 1 < whole.len() { 10 } else { 11 };
        assert_eq!(read_metrics(temp.path()).unwrap().len(), expected, "{len} of {} bytes", whole.len());
    }
    std::fs::write(&path, [&whole[..], &[0_u8; 300]].concat()).unwrap(); // as after a power failure
    assert_eq!(read_metrics(temp.path()).unwrap().len(), 11);
    std::fs::write(&path, &whole[..last_line + 9]).unwrap();
    let mut resumed = RunFolder::resume(temp.path()).unwrap();
    resumed.folder.log(&step_event(7)).unwrap();
    assert_eq!(read_metrics(temp.path()).unwrap().last(), Some(&step_event(7)));
    drop(resumed);

    let text = String::from_utf8(whole).unwrap();
    std::fs::write(&path, text.replacen("\"step\":2", "\"step\":two", 1)).unwrap();
    for error in [read_metrics(temp.path()).err(), RunFolder::resume(temp.path()).err()] {
        let error = error.unwrap().to_string();
        assert!(error.contains("metrics.jsonl") && error.contains("line 3"), "{error}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_not_logged() {
    let temp = tempfile::tempdir().unwrap();
    let mut folder = RunFolder::create(temp.path(), &config()).unwrap();
    let loss = Event::Step {
        step: 3,
        epoch: 0,
        loss: f64::NAN,
        grad_norm: None,
        loss_scale: None,
        images_per_s: 1.0,
        seconds: 1.0,
    };
    let error = folder.log(&loss).unwrap_err().to_string();
    assert!(error.contains("finite") && error.contains("step: 3"), "{error}");
    let epoch = Event::Epoch {
        epoch: 1,
        step: 3,
        split: "val".into(),
        loss: vec![Some(f64::INFINITY)],
        accuracy: vec![Some(0.5)],
        images: 1,
    };
    assert!(folder.log(&epoch).is_err());
    assert_eq!(read_metrics(temp.path()).unwrap(), []);
}

/// What a kill between the writes, or damage to files, can leave: each state and the step from which the run goes on.
#[test]
fn the_newest_usable_checkpoint_is_found_in_any_state() {
    type Damage = fn(&Path);
    let cases: &[(&str, Damage, u64, usize)] = &[
        ("untouched", |_| {}, 6, 0),
        ("killed before the second write", |r| drop(std::fs::copy(numbered(r, 4), newest(r))), 6, 0),
        ("checkpoint.safetensors torn", |r| truncate(&newest(r), 3000), 6, 1),
        ("checkpoint.safetensors gone", |r| std::fs::remove_file(newest(r)).unwrap(), 6, 0),
        ("checkpoint.safetensors empty", |r| truncate(&newest(r), 0), 6, 1),
        ("numbered ones gone", |r| std::fs::remove_dir_all(r.join("checkpoints")).unwrap(), 6, 0),
        ("newest two torn", |r| (truncate(&newest(r), 99), truncate(&numbered(r, 6), 99)).0, 4, 2),
        (
            "all but the first torn",
            |r| {
                truncate(&newest(r), 99);
                [2, 4, 6].into_iter().for_each(|n| truncate(&numbered(r, n), 100));
            },
            0,
            4,
        ),
        ("a torn newer one beside a good older", |r| std::fs::write(numbered(r, 8), "torn").unwrap(), 6, 1),
        ("strange files", |r| std::fs::write(r.join("checkpoints/notes.txt"), "mine").unwrap(), 6, 0),
    ];
    for (state, damage, step, warnings) in cases {
        let temp = tempfile::tempdir().unwrap();
        run_of_seven_steps(temp.path());
        damage(temp.path());
        let found = latest(temp.path()).unwrap().unwrap();
        assert_eq!(found.checkpoint, checkpoint(*step), "{state}");
        assert_eq!(found.warnings.len(), *warnings, "{state}: {:?}", found.warnings);
        assert!(found.warnings.iter().all(|w| w.contains("checkpoint ")), "{state}: {:?}", found.warnings);
        let resumed = RunFolder::resume(temp.path()).unwrap();
        assert_eq!(resumed.checkpoint, Some(checkpoint(*step)), "{state}");
        assert_eq!(resumed.warnings.len(), *warnings, "{state}");
        assert_eq!(Checkpoint::read(&newest(temp.path())).unwrap(), checkpoint(*step), "{state}: not mended");
    }
}

#[test]
fn without_any_usable_checkpoint_the_error_says_so() {
    let temp = tempfile::tempdir().unwrap();
    run_of_seven_steps(temp.path());
    std::fs::remove_dir_all(temp.path().join("checkpoints")).unwrap();
    truncate(&newest(temp.path()), 3000);
    for error in [latest(temp.path()).err(), RunFolder::resume(temp.path()).err()] {
        let error = error.unwrap().to_string();
        assert!(error.contains("no checkpoint is usable") && error.contains("3000 bytes"), "{error}");
    }
    assert_eq!(read_metrics(temp.path()).unwrap().len(), 11, "the log is untouched");
}

#[test]
fn leftovers_of_a_killed_write_are_removed() {
    let temp = tempfile::tempdir().unwrap();
    run_of_seven_steps(temp.path());
    let leftovers = [".checkpoint.safetensors.aB3dEf", ".config.toml.x1x1x1", "checkpoints/.00000008.safetensors.q"];
    let kept = ["checkpoints/.hidden", ".mine.txt", "notes.safetensors"];
    for name in leftovers.iter().chain(&kept) {
        std::fs::write(temp.path().join(name), "half").unwrap();
    }
    drop(RunFolder::resume(temp.path()).unwrap());
    assert!(leftovers.iter().all(|name| !temp.path().join(name).exists()));
    assert!(kept.iter().all(|name| temp.path().join(name).exists()));
}

#[test]
fn an_edited_configuration_goes_on_only_if_it_is_the_same_run() {
    let temp = tempfile::tempdir().unwrap();
    run_of_seven_steps(temp.path());
    let resumed = RunFolder::resume(temp.path()).unwrap();
    let mut longer = resumed.config.clone();
    longer.training.steps = Some(80);
    longer.training.learning_rate = 1e-4;
    resumed.folder.set_config(&longer).unwrap();
    drop(resumed);
    assert_eq!(RunFolder::resume(temp.path()).unwrap().config, longer);

    let edit = |change: fn(&mut RunConfig), words: &[&str]| {
        let mut edited = config();
        change(&mut edited);
        std::fs::write(temp.path().join("config.toml"), edited.to_toml()).unwrap();
        let error = RunFolder::resume(temp.path()).unwrap_err().to_string();
        for word in words.iter().chain(&["config.toml", "checkpoint"]) {
            assert!(error.contains(word), "'{word}' is missing from: {error}");
        }
    };
    edit(|c| c.network = c.network.clone().with_timesteps(3), &["network.timesteps = 3", "checkpoint 2"]);
    let layer = |c: &mut RunConfig| {
        c.network = NetworkConfig { norm: Normalisation::Layer, ..family(c) }.into();
    };
    edit(layer, &["network.norm", "layer", "group"]);
    edit(|c| c.training.batch = 5, &["training.batch = 5", "checkpoint 4"]);
    edit(|c| c.training.seed = 2, &["training.seed = 2"]);
}

#[test]
fn a_checkpoint_that_cannot_be_saved_leaves_the_run_usable() {
    let temp = tempfile::tempdir().unwrap();
    run_of_seven_steps(temp.path());
    let mut folder = RunFolder::resume(temp.path()).unwrap().folder;
    // A folder in the place of the file stops the write for every user, root included.
    std::fs::create_dir_all(numbered(temp.path(), 8).join("x")).unwrap();
    let error = folder.save(&checkpoint(8)).unwrap_err().to_string();
    assert!(error.contains("00000008") && error.contains("unharmed") && error.contains("--resume"), "{error}");
    drop(folder);
    std::fs::remove_dir_all(numbered(temp.path(), 8)).unwrap();
    assert_eq!(RunFolder::resume(temp.path()).unwrap().checkpoint, Some(checkpoint(6)));
}

/// The child of the next test: trains for ever, a checkpoint every step.
#[test]
#[ignore = "endless: the next test starts it as a process of its own and kills it"]
fn child_that_is_killed() {
    let root = PathBuf::from(std::env::var_os("RECURVE_TEST_RUN").expect("set by the test that starts this one"));
    let mut resumed = RunFolder::resume(&root).unwrap();
    let first = resumed.checkpoint.map_or(0, |c| c.state.step);
    resumed.folder.log(&start_event(first)).unwrap();
    for step in first + 1.. {
        resumed.folder.log(&step_event(step)).unwrap();
        resumed.folder.save(&checkpoint(step)).unwrap();
    }
}

/// Killed at many moments, the run always goes on, loses no saved step and logs each step once.
#[test]
fn a_run_survives_being_killed_again_and_again() {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path();
    drop(RunFolder::create(root, &config()).unwrap());
    let mut before = 0;
    for round in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_is_killed", "--ignored", "--nocapture"])
            .env("RECURVE_TEST_RUN", root)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !numbered(root, before + 3).exists() {
            assert!(child.try_wait().unwrap().is_none(), "round {round}: the child stopped by itself");
            assert!(std::time::Instant::now() < deadline, "round {round}: no progress");
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        std::thread::sleep(std::time::Duration::from_micros(700 * round));
        child.kill().unwrap();
        child.wait().unwrap();

        let saved = checkpoints(root).unwrap().last().unwrap().0;
        let found = latest(root).unwrap().unwrap();
        assert_eq!(found.checkpoint, checkpoint(saved), "round {round}");
        assert_eq!(found.warnings, Vec::<String>::new(), "round {round}");
        let resumed = RunFolder::resume(root).unwrap();
        assert_eq!(resumed.checkpoint, Some(checkpoint(saved)), "round {round}");
        let steps: Vec<u64> =
            read_metrics(root).unwrap().iter().filter(|e| matches!(e, Event::Step { .. })).map(Event::step).collect();
        assert_eq!(steps, (1..=saved).collect::<Vec<_>>(), "round {round}");
        assert!(saved >= before + 3, "round {round}");
        before = saved;
    }
}

/// On no terminal, as here: plain lines, and the speed that the log gets.
#[test]
fn progress_without_a_terminal() {
    let mut progress = Progress::new(0, 3);
    for step in 1..=3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
        let speed = progress.step(step, 32, 1.0);
        assert!(speed > 0.0 && speed <= 32.0 / 0.005, "{speed}");
    }
    progress.note("val accuracy 0.5");
    progress.finish();
}

/// Every torn length of a file, and every byte of it left out or another.
fn edits(whole: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    (0..whole.len()).flat_map(move |at| {
        let (before, rest) = (&whole[..at], &whole[at + 1..]);
        let others = b"0-9e.\"[{}\n\0\xff".iter().map(move |&other| [before, &[other], rest].concat());
        [before.to_vec(), [before, rest].concat()].into_iter().chain(others)
    })
}

#[test]
fn no_edit_of_a_log_is_a_panic() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("metrics.jsonl");
    let events = [start_event(0), step_event(1), epoch_event(2), end_event(2)];
    let whole: String = events.iter().map(|event| event.to_line().unwrap() + "\n").collect();
    let (mut read, mut refused) = (0, 0);
    for text in edits(whole.as_bytes()) {
        std::fs::write(&path, text).unwrap();
        match read_metrics(temp.path()) {
            Ok(_) => read += 1,
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("metrics.jsonl") && error.contains("line "), "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
}

#[test]
fn no_edit_of_a_configuration_is_a_panic() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("config.toml");
    let whole = config().to_toml();
    let (mut read, mut refused) = (0, 0);
    for text in edits(whole.as_bytes()) {
        std::fs::write(&path, text).unwrap();
        match read_config(temp.path()) {
            // What is read must be valid: it can be written and gives the same again.
            Ok(config) => {
                let again = RunConfig::parse(&config.to_toml()).unwrap();
                assert_eq!(RunConfig { classes_open: config.classes_open, ..again }, config);
                read += 1;
            }
            Err(error) => {
                assert!(error.to_string().contains("config.toml"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(read > 0 && refused > 0, "{read} read, {refused} refused");
}
