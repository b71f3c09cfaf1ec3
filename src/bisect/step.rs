//! The training step that is executed: a network with its parameters, and the pictures that it is shown.

use crate::analysis::run::{Opened, Selection};
use crate::dataset::{self, Batch, Dataset, Loader, Normaliser, TrainingBatches};
use crate::hash::fnv1a_words;
use crate::kernels::Target;
use crate::network::{Network, RunConfig, TrainingConfig};
use crate::ops::Hyper;
use crate::tensors::Tensors;
use crate::train::{Checkpoint, DataState};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A training step before it is taken.
pub struct Step {
    /// The network.
    pub network: Network,
    /// Its parameters.
    pub parameters: Tensors,
    /// What bytes of pictures become.
    pub normaliser: Normaliser,
    /// The pictures with their labels.
    pub batch: Batch,
    /// The optimiser's numbers.
    pub hyper: Hyper,
    /// What it is, for people.
    pub what: String,
}

impl Step {
    /// The step that a run would take after a checkpoint, the newest unless `checkpoint` says another: of a batch that is
    /// computed in parts the first. With `batch`, one of so many pictures.
    ///
    /// # Errors
    /// A run, checkpoint or data set that cannot be used; fewer pictures than a batch.
    pub fn of_run(
        run: &Path,
        checkpoint: Option<u64>,
        data: Option<&str>,
        batch: Option<usize>,
        target: &Target,
    ) -> Result<Step> {
        let config = crate::train::run_folder::read_config(run)?;
        let selection = Selection { run, data, split: Some(&config.data.train_split), checkpoint, protocol: None };
        let opened = Opened::new(&selection, target)?;
        opened.labels_are_classes()?;
        let Opened { config, trained, network, data, split, normaliser, .. } = opened;
        let (mut training, state) = (config.training, trained.state);
        sized(&mut training, batch)?;
        Ok(Step {
            network,
            parameters: trained.parameters,
            normaliser,
            batch: pictures(&data, &split, &training, state.training.seed, state.step)?,
            hyper: hyper(&training),
            what: format!("step {} of {}", state.step + 1, run.display()),
        })
    }

    /// The first step of a run that has not begun.
    ///
    /// # Errors
    /// A configuration or data set that cannot be used; fewer pictures than a batch.
    pub fn of_config(config: &RunConfig, batch: Option<usize>) -> Result<Step> {
        let mut config = config.clone();
        sized(&mut config.training, batch)?;
        config.validate()?;
        let path = config.data.path.as_deref().ok_or_else(|| {
            Error::Config("no data set is given: use --data with a file, a folder or glyphs, or [data] path".into())
        })?;
        let data = dataset::open(path, Some(config.network.image_size()))?;
        data.notes().iter().for_each(|note| eprintln!("note: {note}"));
        config.set_classes(data.classes().len())?;
        let seed = config.training.seed;
        let start = Checkpoint::initial(&config, DataState::of(&*data));
        let (normaliser, _) = start.state.data.normaliser(&*data);
        Ok(Step {
            network: config.network.network()?,
            batch: pictures(&data, &config.data.train_split, &config.training, seed, 0)?,
            parameters: start.parameters,
            normaliser,
            hyper: hyper(&config.training),
            what: format!("step 1 from seed {seed} on {}", data.name()),
        })
    }

    /// Hashes of what an execution is given, by name: two executions can be compared where all are equal.
    pub(super) fn hashes(&self) -> BTreeMap<String, String> {
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
        let mut parameters: Vec<u32> = Vec::new();
        for (name, tensor) in self.parameters.iter() {
            parameters.extend(name.bytes().map(u32::from));
            parameters.extend(tensor.shape.iter().map(|&extent| extent as u32));
            parameters.extend(bits(&tensor.values));
        }
        let pictures = self.batch.pictures.iter().map(|&byte| u32::from(byte)).collect();
        [
            ("number of timesteps", vec![self.network.timesteps as u32]),
            ("number of pictures", vec![self.batch.labels.len() as u32]),
            ("parameters", parameters),
            ("pictures", pictures),
            ("labels", self.batch.labels.clone()),
            ("channel means and deviations", bits(self.normaliser.table())),
        ]
        .into_iter()
        .map(|(what, words)| (what.to_string(), format!("{:016x}", fnv1a_words(words))))
        .collect()
    }
}

/// A batch of another size is computed in one part.
fn sized(training: &mut TrainingConfig, batch: Option<usize>) -> Result<()> {
    if let Some(batch) = batch {
        if batch == 0 {
            return Err(Error::Config("batch: expected at least 1, found 0".into()));
        }
        (training.batch, training.accumulate) = (batch, 1);
    }
    Ok(())
}

/// The pictures of the step after `step`, of several parts the first.
fn pictures(data: &Arc<dyn Dataset>, split: &str, training: &TrainingConfig, seed: u64, step: u64) -> Result<Batch> {
    let mut loader = Loader::train(data, split, &TrainingBatches { seed, ..training.batches() }, step)?;
    let (_, whole) = loader.next().expect("training batches never end")?;
    Ok(whole.parts(training.accumulate).swap_remove(0))
}

/// What a step's loss is weighted by; the update itself is no part of what is compared.
fn hyper(training: &TrainingConfig) -> Hyper {
    let TrainingConfig { learning_rate, beta1, beta2, epsilon, .. } = *training;
    Hyper { learning_rate, beta1, beta2, epsilon }
}
