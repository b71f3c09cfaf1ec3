//! A run folder, opened: which checkpoint, what its network is shown, under which protocol.

use super::note;
use crate::dataset::names::{Match, match_classes};
use crate::dataset::{self, Dataset, Normaliser, statistics};
use crate::engine::Engine;
use crate::gpu::{Gpu, Store};
use crate::graph::compile::Request;
use crate::graph::fit::largest_batch;
use crate::graph::taps::Tap;
use crate::kernels::Target;
use crate::kernels::choose::Choices;
use crate::network::{Network, Protocol, RunConfig, Schedule, initialise};
use crate::tensors::Tensors;
use crate::train::Checkpoint;
use crate::train::data::find;
use crate::train::run_folder::{choices_path, chosen, read_config};
use crate::tune::cache;
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What of a run is looked at, on which pictures.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// The run folder.
    pub run: &'a Path,
    /// Another data set than the run's.
    pub data: Option<&'a str>,
    /// The split; else testplus where the data have one, and test where they have not.
    pub split: Option<&'a str>,
    /// The checkpoint after so many steps; else the newest.
    pub checkpoint: Option<u64>,
    /// What is shown and disturbed when: a protocol's file.
    pub protocol: Option<&'a Path>,
}

/// The split that published analyses are of.
const LARGER_TEST: &str = "testplus";

/// Images per batch, where so many fit.
const BATCH: usize = 64;

/// A run that is ready to be looked at.
pub struct Opened {
    /// The run folder.
    pub root: PathBuf,
    /// The run's configuration.
    pub config: RunConfig,
    /// The checkpoint.
    pub trained: Checkpoint,
    /// Its file.
    pub checkpoint: PathBuf,
    /// The network that its description resolves to.
    pub network: Network,
    /// The protocol that it runs under, if any.
    pub protocol: Option<Protocol>,
    /// What happens at each timestep.
    pub schedule: Schedule,
    /// What it is shown.
    pub data: Arc<dyn Dataset>,
    /// The split.
    pub split: String,
    /// Number of pictures in it, at least 1.
    pub images: usize,
    /// What bytes of pictures become.
    pub normaliser: Normaliser,
    /// What the reader of a result must know, one sentence each.
    pub notes: Vec<String>,
    /// Why labels of the data set are not the network's classes, if they are not.
    other_classes: Option<String>,
    /// The run's kernel variants, which serve the shapes that its batches share with those here.
    choices: Choices,
}

impl Opened {
    /// Opens what was selected, for a device of this kind.
    ///
    /// # Errors
    /// A run folder, checkpoint, protocol or data set that cannot be used or do not fit each other.
    pub fn new(selection: &Selection<'_>, target: &Target) -> Result<Opened> {
        let config = read_config(selection.run)?;
        let (trained, checkpoint) = chosen(selection.run, selection.checkpoint)?;
        let network = trained.state.network.network()?;
        let protocol = selection.protocol.map(Protocol::read).transpose()?;
        let mut notes = Vec::new();
        if trained.state.step == 0 {
            note(&mut notes, "The checkpoint is that of step 0: the network has not been trained.");
        }
        if let (Some(protocol), Some(file)) = (&protocol, selection.protocol) {
            protocol.validate(&network).map_err(|e| Error::Config(format!("{}: {e}", file.display())))?;
            notes.push("The networks ran under a protocol, which is given here; they were trained without it.".into());
        }
        let schedule = Schedule::new(&network, protocol.as_ref());
        protocol.iter().for_each(|protocol| warn_of_what_never_acts(protocol, &schedule));

        let mut data = match (selection.data, &config.data.path) {
            (Some(data), _) => dataset::open(data, Some(network.image_size))?,
            (None, Some(_)) => find(&config.data, selection.run, network.image_size)?,
            (None, None) => return Err(Error::Data("the run names no data set; give one by --data".into())),
        };
        let mut other_classes = None;
        if trained.state.data.names_unknown() {
            notes.push(
                "Class names of the imported network are not known: they are the data set's, in its order (import --classes \
                 gives them)."
                    .into(),
            );
        } else {
            match match_classes(&data, &trained.state.data.class_names) {
                Match::Same => {}
                Match::ByName(mapped, how) => {
                    note(&mut notes, how);
                    data = mapped;
                }
                Match::Differ(why) => {
                    notes.push(format!("Labels are those of the data set, not the network's classes. {why}."));
                    other_classes = Some(why);
                }
            }
        }
        match statistics::check(&*data) {
            Ok(None) => {}
            Ok(Some(doubt)) => {
                let note = format!("{}: {}", data.name(), doubt.text);
                eprintln!("warning: {note}");
                notes.push(note);
            }
            Err(error) => eprintln!("warning: {error}"), // of the training split, which may not be what is looked at
        }
        data.notes().iter().for_each(|note| eprintln!("note: {note}"));
        let split = match selection.split {
            Some(split) => split.to_string(),
            None if data.splits().iter().any(|split| split == LARGER_TEST) => {
                let note =
                    "The split is testplus, as the data have one and none was asked for; --split chooses another.";
                eprintln!("note: {note}");
                notes.push(note.into());
                LARGER_TEST.into()
            }
            None => "test".into(),
        };
        let images = data.len(&split)?;
        if images == 0 {
            return Err(Error::Data(format!("{}: split {split} holds no pictures", data.name())));
        }
        let (normaliser, unknown) = trained.state.data.normaliser(&*data);
        notes.extend(trained.state.origin.iter().map(|origin| format!("The network was imported from {origin}.")));
        notes.extend(unknown);
        if trained.state.origin.is_some() {
            notes.iter().for_each(|note| eprintln!("note: {note}"));
        }
        notes.extend(data.notes().iter().map(|note| format!("Of the data set: {note}.")));
        let choices = cache::read(&choices_path(selection.run), target).unwrap_or_else(|error| {
            eprintln!("warning: {error}; kernel variants are taken from the table");
            None
        });
        Ok(Opened {
            root: selection.run.to_path_buf(),
            config,
            trained,
            checkpoint,
            network,
            protocol,
            schedule,
            data,
            split,
            images,
            normaliser,
            notes,
            other_classes,
            choices: choices.unwrap_or_default(),
        })
    }

    /// Refuses a data set whose labels cannot be the network's classes.
    ///
    /// # Errors
    /// Other names, or another number of classes where names are not known.
    pub fn labels_are_classes(&self) -> Result<()> {
        if let Some(why) = &self.other_classes {
            return Err(Error::Data(why.clone()));
        }
        let (found, expected) = (self.data.classes().len(), self.network.classes);
        match found == expected {
            true => Ok(()),
            false => Err(Error::Data(format!(
                "{}: {found} classes, but the network tells {expected} apart",
                self.data.name()
            ))),
        }
    }

    /// Parameters of the network before training, and the name of the checkpoint that holds them; without one they are drawn
    /// again.
    pub fn untrained(&mut self) -> (Tensors, Option<String>) {
        const NAME: &str = "00000000.safetensors";
        let file = self.root.join("checkpoints").join(NAME);
        match Checkpoint::read(&file) {
            Ok(checkpoint) => (checkpoint.parameters, Some(NAME.into())),
            Err(error) => {
                let seed = self.trained.state.training.seed;
                let what = match &self.trained.state.origin {
                    Some(_) if !file.exists() => format!(
                        "The untrained network is not known, as the imported one came without it: in its place stands \
                         another initialisation, this program's own from seed {seed}."
                    ),
                    _ => format!("The untrained network was drawn again from the seed ({error})."),
                };
                note(&mut self.notes, what);
                (initialise(&self.network.parameters, seed), None)
            }
        }
    }

    /// Engines with these parameters and under these schedules, one for each network, which share what the first is fed. What the
    /// taps of each name can be read of it; their batches are as large as fits all, and no larger than `most`.
    ///
    /// # Errors
    /// What the device says; parameters of another network.
    pub async fn engines<'g>(
        &self,
        gpu: &'g Gpu,
        networks: &[(&Tensors, &Schedule, &[Tap])],
        most: usize,
    ) -> Result<Vec<Engine<'g>>> {
        let request = |schedule, taps, batch| {
            let plain = Request::forward(&self.network, schedule, batch, &gpu.target);
            Request { choices: &self.choices, taps, ..plain }
        };
        let mut batch = most.clamp(1, BATCH);
        for (_, schedule, taps) in networks {
            batch = batch.min(largest_batch(&request(schedule, taps, batch))?.max(1));
        }
        let mut engines: Vec<Engine> = Vec::new();
        for (parameters, schedule, taps) in networks {
            let mut store = Store::default();
            match engines.first() {
                Some(first) if *schedule == networks[0].1 => first.share_inputs(&mut store),
                Some(first) => first.share_pictures(&mut store),
                None => {}
            }
            let mut engine = Engine::new(gpu, &request(schedule, taps, batch), &mut store).await?;
            engine.set_parameters(parameters)?;
            engines.push(engine);
        }
        engines[0].set_normaliser(&self.normaliser);
        Ok(engines)
    }
}

/// Says which changes of a protocol come after its last step.
fn warn_of_what_never_acts(protocol: &Protocol, schedule: &Schedule) {
    let gains = protocol.gains.iter().map(|gain| (format!("the gain on {}", gain.connection), gain.from));
    let inputs = protocol.inputs.iter().map(|input| ("what is shown".to_string(), input.from));
    for (what, from) in gains.chain(inputs).filter(|(_, from)| *from >= schedule.timesteps) {
        let last = schedule.timesteps - 1;
        eprintln!("warning: {what} from step {from} on never acts: the last step of the run is {last}");
    }
}
