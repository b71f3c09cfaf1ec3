//! The facts about a run that its report shows, and how it was trained.

use super::json;
use super::run::Opened;
use crate::files;
use crate::gpu::{Gpu, driver};
use crate::hash::fnv1a;
use crate::network::{Description, Protocol};
use crate::report::{Epoch, Meta, Training};
use crate::train::Event;
use crate::train::run_folder::read_metrics;
use crate::{Error, Result};

/// The facts of an opened run, but for those of the device.
///
/// # Errors
/// A checkpoint that cannot be read again.
pub fn of_run(run: &Opened, init_checkpoint: Option<String>) -> Result<Meta> {
    Ok(Meta {
        name: run.root.file_name().map(|n| n.to_string_lossy().into_owned()),
        network: description(&run.trained.state.network)?,
        protocol: run.protocol.as_ref().map(as_written).transpose().map_err(json)?,
        configuration: Some(run.config.to_toml()),
        parameters: Some(run.network.learned()),
        dataset: Some(run.data.name()),
        split: Some(run.split.clone()),
        images: Some(run.images as u64),
        classes: run.data.classes().to_vec(),
        checkpoint: run.checkpoint.file_name().map(|n| n.to_string_lossy().into_owned()),
        checkpoint_hash: Some(checkpoint_hash(run)?),
        init_checkpoint,
        step: Some(run.trained.state.step),
        seed: Some(run.trained.state.training.seed),
        recurve_version: env!("CARGO_PKG_VERSION").into(),
        notes: run.notes.clone(),
        ..Meta::default()
    })
}

/// The `[network]` or `[architecture]` of a run as JSON.
///
/// # Errors
/// None: every description has a JSON form.
pub fn description(network: &Description) -> Result<serde_json::Value> {
    match network.sections() {
        (Some(family), _) => serde_json::to_value(family).map_err(json),
        (_, own) => serde_json::to_value(own).map_err(json),
    }
}

/// Hash of the checkpoint's file, with the name of its algorithm.
///
/// # Errors
/// A file that cannot be read.
pub fn checkpoint_hash(run: &Opened) -> Result<String> {
    let bytes = files::read(&run.checkpoint, files::TENSORS).map_err(Error::io(&run.checkpoint))?;
    Ok(format!("fnv1a:{:016x}", fnv1a(&bytes)))
}

/// Adds what measured.
pub fn add_device(meta: &mut Meta, gpu: &Gpu) {
    meta.adapter = Some(gpu.info.name.clone());
    meta.driver = Some(driver(&gpu.info));
    meta.backend = Some(format!("{:?}", gpu.info.backend));
    meta.limits = Some(serde_json::json!({
        "largest binding, bytes": gpu.target.max_binding,
        "largest buffer, bytes": gpu.target.max_buffer,
        "fixed subgroup size (0: none)": gpu.target.subgroup,
    }));
}

/// A protocol with the digits of its file: a gain of 0.1 is no 0.10000000149.
pub fn as_written(protocol: &Protocol) -> serde_json::Result<serde_json::Value> {
    serde_json::from_str(&serde_json::to_string(protocol)?)
}

/// Loss and accuracy on the evaluation split per epoch, from the run's log.
///
/// # Errors
/// A log that cannot be read.
pub fn curves(run: &Opened) -> Result<Option<Training>> {
    let eval_split = &run.config.data.eval_split;
    let epochs: Vec<Epoch> = read_metrics(&run.root)?
        .into_iter()
        .filter_map(|event| match event {
            Event::Epoch { epoch, split, loss, accuracy, .. } if split == *eval_split => {
                Some(Epoch { epoch, train_loss: None, loss, accuracy })
            }
            _ => None,
        })
        .collect();
    Ok((!epochs.is_empty()).then_some(Training { epochs }))
}
