//! From a run folder to its report: the trained and the untrained network over one split, batch by batch.

use super::Statistics;
use super::gpu::GpuStream;
use super::readout::Readout;
use crate::dataset::{self, Normaliser};
use crate::engine::Engine;
use crate::gpu::{Gpu, Store, driver};
use crate::graph::compile::Request;
use crate::graph::passes::Passes;
use crate::hash::fnv1a;
use crate::network::{initialise, parameters};
use crate::report::{self, Epoch, Meta, Report, Training};
use crate::train::run_folder::{checkpoints, choices_path, latest, read_config, read_metrics};
use crate::train::{Checkpoint, Event};
use crate::tune::cache;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is analysed.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The run folder.
    pub run: &'a Path,
    /// Another data set than the run's.
    pub data: Option<&'a str>,
    /// The split.
    pub split: &'a str,
    /// Where the report goes.
    pub out: &'a Path,
    /// The checkpoint after so many steps; else the newest.
    pub checkpoint: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The statistics.
    pub statistics: Statistics,
    /// The report's page.
    pub page: PathBuf,
}

/// Images per batch: bindings of one timestep's logits then start at multiples of 256 bytes.
const BATCH: usize = 64;

/// Streams a split through the trained and the untrained network and writes the report.
///
/// # Errors
/// A run folder, checkpoint or data set that cannot be used or do not fit each other; what the device says.
pub fn analyse(gpu: &Gpu, options: &Options) -> Result<Analysis> {
    let config = read_config(options.run)?;
    let (trained, path) = load(options)?;
    let network = trained.state.network.clone();
    let specs = parameters(&network);
    let mut notes = Vec::new();
    let initial_path = options.run.join("checkpoints").join("00000000.safetensors");
    let (untrained, init_checkpoint) = match Checkpoint::read(&initial_path) {
        Ok(checkpoint) => (checkpoint.parameters, Some("00000000.safetensors".to_string())),
        Err(error) => {
            notes.push(format!("The untrained network was drawn again from the seed ({error})."));
            (initialise(&specs, trained.state.training.seed), None)
        }
    };

    let spec = match (options.data, &config.data.path) {
        (Some(data), _) => data.to_string(),
        (None, Some(path)) => path.clone(),
        (None, None) => return Err(Error::Data("the run names no data set; give one by --data".into())),
    };
    let data = dataset::open(&spec, Some(network.image_size))?;
    if data.classes().len() != network.classes {
        return Err(Error::Data(format!(
            "{}: {} classes, but the network tells {} apart",
            data.name(),
            data.classes().len(),
            network.classes
        )));
    }
    if data.classes() != trained.state.data.class_names {
        notes.push("The classes of the data set have other names than those of the training set.".into());
    }
    let images = data.len(options.split)?;
    if images == 0 {
        return Err(Error::Data(format!("{}: split {} holds no pictures", data.name(), options.split)));
    }
    let normaliser = Normaliser::new(trained.state.data.channel_mean, trained.state.data.channel_std);

    // The run's kernel variants serve the shapes that its batches share with those here.
    let choices = cache::read(&choices_path(options.run), &gpu.target).unwrap_or_else(|error| {
        eprintln!("warning: {error}; kernel variants are taken from the table");
        None
    });
    let choices = choices.unwrap_or_default();
    let request = Request {
        config: &network,
        batch: BATCH,
        target: &gpu.target,
        passes: Passes::default(),
        choices: &choices,
        train: false,
        inspect: false,
        trajectory: true,
    };
    let mut after = Engine::new(gpu, &request, &mut Store::default())?;
    let mut before = Engine::new(gpu, &request, &mut Store::default())?;
    after.set_parameters(&trained.parameters);
    before.set_parameters(&untrained);
    let weight = trained.parameter("readout.weight").expect("every network has a readout");
    let weight = weight.iter().map(|&w| f64::from(w)).collect();
    let readout = Readout::new(weight, network.classes, network.gap_channels())?;
    let mut stream = GpuStream::new(gpu, readout, images, network.timesteps, BATCH)?;
    let (begun, mut said) = (Instant::now(), Instant::now());
    for start in (0..images).step_by(BATCH) {
        let indices: Vec<usize> = (start..images.min(start + BATCH)).collect();
        let batch = normaliser.batch(&data.read(options.split, &indices)?, BATCH);
        for engine in [&after, &before] {
            engine.feed(&batch);
            engine.run();
        }
        stream.add_run(&after, &before, &batch.labels, batch.n)?;
        let done = start + batch.n;
        if said.elapsed().as_secs_f64() > 5.0 || done == images {
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{done}/{images} pictures, {:.0} s left", (images - done) as f64 / rate);
            said = Instant::now();
        }
    }
    let statistics = stream.finish()?;

    let json = |e: serde_json::Error| Error::Config(format!("the report: {e}"));
    let meta = Meta {
        name: options.run.file_name().map(|n| n.to_string_lossy().into_owned()),
        network: serde_json::to_value(&network).map_err(json)?,
        configuration: Some(config.to_toml()),
        parameters: Some(specs.iter().filter(|s| s.used).map(|s| s.len() as u64).sum()),
        dataset: Some(data.name()),
        split: Some(options.split.into()),
        images: Some(images as u64),
        classes: data.classes().to_vec(),
        checkpoint: path.file_name().map(|n| n.to_string_lossy().into_owned()),
        checkpoint_hash: Some(format!("fnv1a:{:016x}", fnv1a(&std::fs::read(&path).map_err(Error::io(&path))?))),
        init_checkpoint,
        step: Some(trained.state.step),
        seed: Some(trained.state.training.seed),
        adapter: Some(gpu.info.name.clone()),
        driver: Some(driver(&gpu.info)),
        backend: Some(format!("{:?}", gpu.info.backend)),
        limits: Some(serde_json::json!({
            "largest binding, bytes": gpu.target.max_binding,
            "largest buffer, bytes": gpu.target.max_buffer,
            "fixed subgroup size (0: none)": gpu.target.subgroup,
        })),
        recurve_version: env!("CARGO_PKG_VERSION").into(),
        notes,
        ..Meta::default()
    };
    let report = Report::new(meta, curves(options.run, &config.data.eval_split)?, &statistics)?;
    let page = report::write(&report, options.out)?;
    Ok(Analysis { statistics, page })
}

/// The checkpoint asked for, and its file.
fn load(options: &Options) -> Result<(Checkpoint, PathBuf)> {
    let Some(step) = options.checkpoint else {
        let latest = latest(options.run)?.ok_or_else(|| {
            Error::Checkpoint(format!("{}: holds no checkpoint; train it first", options.run.display()))
        })?;
        latest.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        return Ok((latest.checkpoint, latest.path));
    };
    let all = checkpoints(options.run)?;
    match all.iter().find(|(s, _)| *s == step) {
        Some((_, path)) => Ok((Checkpoint::read(path)?, path.clone())),
        None => {
            let steps: Vec<String> = all.iter().map(|(s, _)| s.to_string()).collect();
            let list = steps.join(", ");
            Err(Error::Checkpoint(format!("no checkpoint of step {step}; there are checkpoints of steps {list}")))
        }
    }
}

/// Loss and accuracy on the evaluation split per epoch, from the run's log.
fn curves(run: &Path, split: &str) -> Result<Option<Training>> {
    let epochs: Vec<Epoch> = read_metrics(run)?
        .into_iter()
        .filter_map(|event| match event {
            Event::Epoch { epoch, split: s, loss, accuracy, .. } if s == split => Some(Epoch {
                epoch,
                train_loss: None,
                loss: loss.into_iter().map(Some).collect(),
                accuracy: accuracy.into_iter().map(Some).collect(),
            }),
            _ => None,
        })
        .collect();
    Ok((!epochs.is_empty()).then_some(Training { epochs }))
}
