//! From a run folder to its report: the trained and the untrained network over one split, batch by batch.

use super::Statistics;
use super::gpu::GpuStream;
use super::readout::Readout;
use crate::dataset::{self, Loader};
use crate::engine::Engine;
use crate::gpu::{Gpu, Store, driver};
use crate::graph::compile::Request;
use crate::graph::fit::largest_batch;
use crate::graph::taps::{Quantity, Tap};
use crate::hash::fnv1a;
use crate::network::{Protocol, Schedule, initialise};
use crate::report::{self, Epoch, Meta, Report, Training};
use crate::stream::stream;
use crate::train::run_folder::{choices_path, chosen, read_config, read_metrics};
use crate::train::{Checkpoint, Event};
use crate::tune::cache;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What is analysed.
#[derive(Clone, Copy, Debug)]
pub struct AnalyseOptions<'a> {
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
    /// What is shown and disturbed when: a protocol's file.
    pub protocol: Option<&'a Path>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The statistics.
    pub statistics: Statistics,
    /// The report's page.
    pub page: PathBuf,
}

/// Images per batch, where so many fit.
const BATCH: usize = 64;

/// Streams a split through the trained and the untrained network and writes the report.
///
/// # Errors
/// A run folder, checkpoint or data set that cannot be used or do not fit each other; what the device says.
pub async fn analyse(gpu: &Gpu, options: &AnalyseOptions<'_>) -> Result<Analysis> {
    let config = read_config(options.run)?;
    let (trained, path) = chosen(options.run, options.checkpoint)?;
    let description = trained.state.network.clone();
    let network = description.network()?;
    let protocol = options.protocol.map(Protocol::read).transpose()?;
    let mut notes = Vec::new();
    if let (Some(protocol), Some(file)) = (&protocol, options.protocol) {
        protocol.validate(&network).map_err(|e| Error::Config(format!("{}: {e}", file.display())))?;
        notes.push("The networks ran under a protocol, which is given here; they were trained without it.".into());
    }
    let schedule = Schedule::new(&network, protocol.as_ref());
    if let Some(protocol) = &protocol {
        let gains = protocol.gains.iter().map(|gain| (format!("the gain on {}", gain.connection), gain.from));
        let inputs = protocol.inputs.iter().map(|input| ("what is shown".to_string(), input.from));
        for (what, from) in gains.chain(inputs).filter(|(_, from)| *from >= schedule.timesteps) {
            let last = schedule.timesteps - 1;
            eprintln!("warning: {what} from step {from} on never acts: the last step of the run is {last}");
        }
    }
    let initial_path = options.run.join("checkpoints").join("00000000.safetensors");
    let (untrained, init_checkpoint) = match Checkpoint::read(&initial_path) {
        Ok(checkpoint) => (checkpoint.parameters, Some("00000000.safetensors".to_string())),
        Err(error) => {
            let seed = trained.state.training.seed;
            notes.push(match &trained.state.origin {
                Some(_) if !initial_path.exists() => format!(
                    "The untrained network is not known, as the imported one came without it: in its place stands another \
                     initialisation, this program's own from seed {seed}."
                ),
                _ => format!("The untrained network was drawn again from the seed ({error})."),
            });
            (initialise(&network.parameters, seed), None)
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
    if trained.state.data.names_unknown() {
        notes.push("Class names of the imported network are not known: they are the data set's, in its order.".into());
    } else if data.classes() != trained.state.data.class_names {
        notes.push("The classes of the data set have other names than those of the training set.".into());
    }
    let images = data.len(options.split)?;
    if images == 0 {
        return Err(Error::Data(format!("{}: split {} holds no pictures", data.name(), options.split)));
    }
    let (normaliser, unknown) = trained.state.data.normaliser(&*data);
    notes.extend(trained.state.origin.iter().map(|origin| format!("The network was imported from {origin}.")));
    notes.extend(unknown);
    if trained.state.origin.is_some() {
        notes.iter().for_each(|note| eprintln!("note: {note}"));
    }

    // The run's kernel variants serve the shapes that its batches share with those here.
    let choices = cache::read(&choices_path(options.run), &gpu.target).unwrap_or_else(|error| {
        eprintln!("warning: {error}; kernel variants are taken from the table");
        None
    });
    let choices = choices.unwrap_or_default();
    let taps = [Quantity::Logits, Quantity::Activation(network.readout.area)].map(Tap::series);
    let plain = Request::forward(&network, &schedule, BATCH, &gpu.target);
    let request = Request { choices: &choices, taps: &taps, ..plain };
    let request = Request { batch: BATCH.min(largest_batch(&request)?.max(1)), ..request };
    let after = Engine::new(gpu, &request, &mut Store::default()).await?;
    let mut store = Store::default();
    after.share_inputs(&mut store);
    let mut engines = [after, Engine::new(gpu, &request, &mut store).await?];
    engines[0].set_normaliser(&normaliser);
    engines[0].set_parameters(&trained.parameters)?;
    engines[1].set_parameters(&untrained)?;
    let weight = trained.parameters.values(&network.readout.weight)?.iter().map(|&w| f64::from(w)).collect();
    let readout = Readout::new(weight, network.classes, network.features())?;
    let mut store = Store::default();
    let layout = GpuStream::share(&mut store, &engines);
    let first = schedule.timesteps - layout.timesteps;
    if first > 0 {
        notes.push(format!(
            "The readout exists from step {first} on: step 0 of the statistics is step {first} of the run."
        ));
    }
    let mut statistics = GpuStream::new(gpu, readout, images, layout, &mut store).await?;
    let loader = Loader::in_order(&data, options.split, request.batch, schedule.shows_next())?;
    let (begun, mut said) = (Instant::now(), Instant::now());
    stream(&engines, loader, &mut [&mut statistics], |done| {
        if said.elapsed().as_secs_f64() > 5.0 || done == images {
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{done}/{images} pictures, {:.0} s left", (images - done) as f64 / rate);
            said = Instant::now();
        }
    })
    .await?;
    let statistics = statistics.finish().await?;

    let json = |e: serde_json::Error| Error::Config(format!("the report: {e}"));
    let meta = Meta {
        name: options.run.file_name().map(|n| n.to_string_lossy().into_owned()),
        network: match description.sections() {
            (Some(family), _) => serde_json::to_value(family).map_err(json)?,
            (_, own) => serde_json::to_value(own).map_err(json)?,
        },
        protocol: protocol.as_ref().map(as_written).transpose().map_err(json)?,
        configuration: Some(config.to_toml()),
        parameters: Some(network.learned()),
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

/// A protocol with the digits of its file: a gain of 0.1 is no 0.10000000149.
fn as_written(protocol: &Protocol) -> serde_json::Result<serde_json::Value> {
    serde_json::from_str(&serde_json::to_string(protocol)?)
}

/// Loss and accuracy on the evaluation split per epoch, from the run's log.
fn curves(run: &Path, split: &str) -> Result<Option<Training>> {
    let epochs: Vec<Epoch> = read_metrics(run)?
        .into_iter()
        .filter_map(|event| match event {
            Event::Epoch { epoch, split: s, loss, accuracy, .. } if s == split => {
                Some(Epoch { epoch, train_loss: None, loss, accuracy })
            }
            _ => None,
        })
        .collect();
    Ok((!epochs.is_empty()).then_some(Training { epochs }))
}
