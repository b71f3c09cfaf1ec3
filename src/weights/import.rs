//! A weights file becomes a run folder: the trained network as its newest checkpoint, of step 1, and the untrained one it
//! started from, where there is one, as that of step 0.
//!
//! The number of steps that an imported network was trained for is not known; 1 stands for all of them, so that the checkpoints
//! have the order of time. Adam has counted none, and its moments are zero.

use super::infer::{Flags, fits, infer, unlike, word};
use super::published::PublishedName;
use super::read::{StateDict, read};
use crate::error::{Error, Result};
use crate::files;
use crate::hash::fnv1a;
use crate::network::{Description, ParameterSpec, Preset, RunConfig};
use crate::tensors::Tensors;
use crate::train::{Checkpoint, DataState, RunFolder};
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What is imported.
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions<'a> {
    /// The weights.
    pub file: &'a Path,
    /// The run folder to be made.
    pub out: &'a Path,
    /// The untrained network; else it is looked for beside a published file.
    pub init: Option<&'a Path>,
    /// A text file with the names of the classes, one a line.
    pub classes: Option<&'a Path>,
    /// What the user says of the network.
    pub flags: Flags,
    /// Pictures per step, should training go on.
    pub batch: usize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The network.
    pub network: Description,
    /// How many values it has.
    pub parameters: usize,
    /// The file of the untrained network, if there is one.
    pub untrained: Option<PathBuf>,
    /// What the user should know, one sentence each.
    pub notes: Vec<String>,
}

/// The step that stands for all training an imported network has had.
const TRAINED: u64 = 1;

/// Makes a run folder of a weights file. Nothing is written before all of it is known to be right.
///
/// # Errors
/// Files that cannot be used, whatever [`infer`] refuses, numbers that are not finite, a folder that cannot be made.
pub fn import(options: &ImportOptions) -> Result<Imported> {
    let ImportOptions { file, out, init, classes, flags, batch } = options;
    let StateDict { tensors, mut notes, card } = read(file)?;
    let name = PublishedName::of(file);
    let (network, mut data) = match &card {
        Some(card) => {
            let network = card.description().map_err(|e| about(file, &e.to_string()))?;
            agrees(&network, flags).map_err(|what| about(file, &what))?;
            notes.extend(name.as_ref().and_then(|name| match &network {
                Description::Family(config) => unlike(name, config),
                Description::Own(_) => Some("the file has the name of a published network, but is another".into()),
            }));
            (network, card.data.clone())
        }
        None => {
            let (config, found) = infer(&tensors, name.as_ref(), flags).map_err(|what| about(file, &what))?;
            notes.extend(found);
            let data = DataState::unknown(config.classes);
            (Description::from(config), data)
        }
    };
    let specs = network.network()?.parameters;
    check(file, &tensors, &specs)?;
    let twin = match init {
        Some(init) => Some(init.to_path_buf()),
        None => name.as_ref().and_then(|name| name.untrained(file)).filter(|path| path.exists()),
    };
    let untrained = twin.as_deref().map(|path| -> Result<Tensors> {
        let found = read(path)?.tensors;
        check(path, &found, &specs)?;
        Ok(found)
    });
    let untrained = untrained.transpose()?;
    if let Some(file) = classes {
        data.class_names = class_names(file, data.class_names.len())?;
    }

    let mut config = RunConfig { network: network.clone(), classes_open: false, ..Preset::Tiny.run() };
    config.training.batch = *batch;
    config.validate()?;
    let start = |tensors: Tensors, path: &Path, step| -> Result<Checkpoint> {
        let mut checkpoint = Checkpoint::initial(&config, data.clone());
        checkpoint.parameters = tensors;
        checkpoint.state.step = step;
        checkpoint.state.origin = Some(origin(path)?);
        Ok(checkpoint)
    };
    let trained = start(tensors, file, TRAINED)?;
    let untrained = match (untrained, &twin) {
        (Some(tensors), Some(path)) => Some(start(tensors, path, 0)?),
        _ => None,
    };
    let mut folder = RunFolder::create(out, &config)?;
    let saved = untrained.iter().chain([&trained]).try_for_each(|checkpoint| folder.save(checkpoint).map(|_| ()));
    if let Err(error) = saved {
        folder.withdraw();
        return Err(error);
    }

    notes.push(match &twin {
        Some(path) => format!("the untrained network is {}", path.display()),
        None => {
            "there is no untrained network: analyses draw another initialisation in its place (--init FILE gives it)"
                .into()
        }
    });
    if name.is_some_and(|name| name.epoch == Some(-1)) {
        notes.push("by its name this network is untrained".into());
    }
    if data.channel_mean.is_none() {
        notes.push(
            "what it was trained on is not known: give --data to analyse or go on; pictures are then normalised with that data \
             set's means and deviations"
                .into(),
        );
    }
    if data.names_unknown() {
        notes.push("class names are not known: --classes FILE gives them, one a line".into());
    }
    notes.push("Adam's moments are zero, should training go on".into());
    let parameters = specs.iter().map(ParameterSpec::len).sum();
    Ok(Imported { network, parameters, untrained: twin, notes })
}

/// An error about a file.
fn about(file: &Path, what: &str) -> Error {
    Error::Checkpoint(format!("{}: {what}", file.display()))
}

/// The tensors must be the network's, and all numbers finite.
fn check(file: &Path, tensors: &Tensors, specs: &[ParameterSpec]) -> Result<()> {
    fits(tensors, specs).map_err(|what| about(file, &what))?;
    match tensors.not_finite() {
        Some((name, at, value)) => Err(about(
            file,
            &format!("{name} holds {value} at index {at}, finite numbers expected: its training has diverged"),
        )),
        None => Ok(()),
    }
}

/// Flags about a network that the file itself describes must say the same.
fn agrees(network: &Description, flags: &Flags) -> Result<(), String> {
    fn same<T: PartialEq + Serialize>(flag: &str, said: Option<T>, found: Option<T>) -> Result<(), String> {
        match said {
            Some(said) if found.as_ref() != Some(&said) => Err(format!(
                "--{flag} {}, but the file itself describes its network and says {}; leave the flag out",
                word(said),
                found.map_or("nothing of it".into(), word)
            )),
            _ => Ok(()),
        }
    }
    let family = match network {
        Description::Family(config) => Some(config),
        Description::Own(_) => None,
    };
    same("interaction", flags.interaction, family.map(|c| c.interaction))?;
    same("lt-position", flags.lt_position, family.map(|c| c.lt_position))?;
    same("recurrent-from", flags.recurrent_from, family.map(|c| c.recurrent_from))?;
    same("groups", flags.groups, family.map(|c| c.groups))?;
    same("timesteps", flags.timesteps, Some(network.timesteps()))?;
    same("image-size", flags.image_size, Some(network.image_size()))
}

/// Name and hash of a file, for reports.
fn origin(path: &Path) -> Result<String> {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let bytes = files::read(path, files::TENSORS).map_err(Error::io(path))?;
    Ok(format!("{name} (fnv1a:{:016x})", fnv1a(&bytes)))
}

/// Reads the names of `count` classes, one a line.
fn class_names(file: &Path, count: usize) -> Result<Vec<String>> {
    let text = files::read_text(file, files::LONG_TEXT).map_err(Error::io(file))?;
    let names: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
    if names.len() != count {
        return Err(about(
            file,
            &format!("{} lines, but the network has {count} classes: one name a line", names.len()),
        ));
    }
    let mut first = HashMap::new();
    for (i, name) in names.iter().enumerate() {
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(about(file, &format!("line {} is no name: {name:?}", i + 1)));
        }
        if let Some(before) = first.insert(name, i) {
            return Err(about(file, &format!("lines {} and {} are the same name, {name}", before + 1, i + 1)));
        }
    }
    Ok(names)
}
