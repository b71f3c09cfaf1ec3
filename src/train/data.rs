//! The data of a run: opened, held against the network and against what the run was started on, and their place recorded.

use super::checkpoint::DataState;
use crate::dataset::names::{Match, match_classes};
use crate::dataset::place::{self, Place};
use crate::dataset::{self, Dataset, Loader, statistics};
use crate::network::{DataConfig, RunConfig, TrainingConfig};
use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;

/// A data set, and the steps of an epoch on it.
pub(super) type Opened = (Arc<dyn Dataset>, u64);

/// Opens the data of a new run in the folder `out` at the network's size, takes their classes, looks whether they can be used,
/// and records in the configuration where and what they are.
pub(super) fn open_new(config: &mut RunConfig, out: &Path) -> Result<Opened> {
    let path = said(&config.data)?.to_string();
    fits(&path, config)?;
    let data = dataset::open(&path, Some(config.network.image_size()))?;
    tell(&*data);
    config.set_classes(data.classes().len())?;
    // The test split of a preset is that of data that have one.
    config.data.test_split =
        config.data.test_split.take().filter(|split| *split != "test" || data.splits().contains(split));
    let steps = usable(&*data, config)?;
    match statistics::check(&*data)? {
        Some(doubt) if doubt.certain => return Err(Error::Data(format!("{path}: {}", doubt.text))),
        Some(doubt) => eprintln!("warning: {path}: {}", doubt.text),
        None => {}
    }
    record(&mut config.data, &*data, out)?;
    Ok((data, steps))
}

/// Opens the data of a run that goes on in the folder `root`, whose classes are those of `trained`, where that is known.
pub(super) fn open_again(config: &mut RunConfig, root: &Path, trained: Option<&DataState>) -> Result<Opened> {
    let new = config.data.fingerprint.is_none();
    if let (true, Some(path)) = (new, &config.data.path) {
        fits(path, config)?;
    }
    let mut data = find(&config.data, root, config.network.image_size())?;
    tell(&*data);
    if new {
        record_found(&mut config.data, &*data, root)?;
    }
    if let Some(trained) = trained.filter(|trained| !trained.names_unknown())
        && trained.class_names.len() == data.classes().len()
        && let Match::ByName(mapped, note) = match_classes(&data, &trained.class_names)
    {
        eprintln!("note: {note}");
        data = mapped;
    }
    config.set_classes(data.classes().len())?;
    let steps = usable(&*data, config)?;
    if let Some(doubt) = statistics::check(&*data)? {
        eprintln!("warning: {}: {}", data.name(), doubt.text);
    }
    Ok((data, steps))
}

/// Opens the data of the run in the folder `root`; where they are not in their old place, that is said.
///
/// # Errors
/// None there, or others than those that the run was started on.
pub fn find(data: &DataConfig, root: &Path, side: usize) -> Result<Arc<dyn Dataset>> {
    let place =
        Place { path: said(data)?, from_run: data.from_run.as_deref(), fingerprint: data.fingerprint.as_deref() };
    let (data, note) = place::find(place, root, side)?;
    note.iter().for_each(|note| eprintln!("note: {note}"));
    Ok(data)
}

fn said(data: &DataConfig) -> Result<&str> {
    data.path.as_deref().ok_or_else(|| {
        Error::Config("no data set is given: use --data with a file, a folder or glyphs, or [data] path".into())
    })
}

/// Says how the data were read.
fn tell(data: &dyn Dataset) {
    data.notes().iter().for_each(|note| eprintln!("note: {note}"));
}

/// Both splits are there, and what is evaluated after an epoch can be read before the first step.
fn usable(data: &dyn Dataset, config: &RunConfig) -> Result<u64> {
    let TrainingConfig { batch, last_batch, .. } = config.training;
    let steps = Loader::steps_per_epoch(data, &config.data.train_split, batch, last_batch)?;
    data.verify(&config.data.eval_split)?;
    if let Some(test) = &config.data.test_split {
        data.verify(test)?;
    }
    Ok(steps)
}

/// Records where the data are and what they are.
fn record(config: &mut DataConfig, data: &dyn Dataset, root: &Path) -> Result<()> {
    let path = said(config)?.to_string();
    if place::is_on_disk(&path) {
        let (absolute, from_run) = place::absolute(&path, root)?;
        let fingerprint = Some(place::fingerprint(data)?);
        (config.path, config.from_run, config.fingerprint) = (Some(absolute), from_run, fingerprint);
    }
    Ok(())
}

/// The same of data that were found in another place than their path says.
fn record_found(config: &mut DataConfig, data: &dyn Dataset, root: &Path) -> Result<()> {
    if said(config).is_ok_and(place::is_on_disk) {
        config.path = Some(data.name());
    }
    record(config, data, root)
}

/// Refuses a file whose pictures have another size than the network sees, with what can be done about it.
fn fits(path: &str, config: &RunConfig) -> Result<()> {
    let wanted = config.network.image_size();
    if !place::is_on_disk(path) || !Path::new(path).is_file() {
        return Ok(());
    }
    let found = dataset::open(path, None)?.image_size();
    if found == wanted {
        return Ok(());
    }
    let advice = match config.network.clone().with_image_size(found).validate() {
        Ok(()) => format!("set image_size = {found}, or use a file with {wanted} x {wanted} pictures"),
        Err(why) => {
            format!("{found} is not possible for this network: {why}; use a file with pictures of a possible size")
        }
    };
    Err(Error::Data(format!(
        "{path}: its pictures are {found} x {found} pixels, the network's image_size is {wanted}; {advice}"
    )))
}
