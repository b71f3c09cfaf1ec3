//! One training run: prepared and checked without a device, then trained on one.
//!
//! Each step feeds a batch and runs the recorded program (forward, backward, Adam); `session.rs` holds the loop. Its scores
//! are read back while the next step runs, and before a checkpoint is written: a loss that is not finite stops the run and is
//! never saved. What a step computes is a function of the configuration, the seed and the step's number, so a run that goes
//! on from a checkpoint, in another process or here on a device that is opened again, gives the bytes of one that never
//! stopped.

use super::checkpoint::{Checkpoint, DataState};
use super::data;
use super::fault::{Fault, Faults};
use super::looking::Looking;
use super::metrics::Event;
use super::progress::Progress;
use super::run_folder::{Resumed, RunFolder, choices_path, newest_path, read_metrics, tell_of_damaged};
use super::session::Session;
use super::stop::Stop;
use super::together;
use crate::dataset::{Dataset, Loader, Normaliser};
use crate::engine::{Engine, Scores};
use crate::gpu::{Gpu, Store, driver};
use crate::graph::compile::{Compiled, Request, compile};
use crate::graph::fit::{best_parts, fits, in_parts, numbers_of_parts, with_largest_tensors};
use crate::graph::passes::Passes;
use crate::kernels::choose::{Choices, Uses};
use crate::network::{DataConfig, RunConfig, Schedule, TrainingConfig};
use crate::ops::LossScale;
use crate::ranks::Ranks;
use crate::tune::{self, Tuning};
use crate::{Error, Result, parallel};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// How often in a row a device may be lost before a run gets beyond the step where it was.
const MOST_LOSSES: u32 = 3;

/// A run that is ready to start or to go on: configuration, data and folder are in order.
pub struct Run {
    folder: RunFolder,
    config: RunConfig,
    dataset: Arc<dyn Dataset>,
    steps_per_epoch: u64,
    /// Where it starts; for a new run the freshly drawn network.
    start: Checkpoint,
    resumed: bool,
    fit: bool,
    /// When it was begun to be prepared.
    begun: Instant,
    /// The processes that train it together.
    ranks: Ranks,
}

/// How training has ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// With its last step.
    Finished(FinishedRun),
    /// Earlier, as it was told to stop; its steps are saved.
    Stopped(StoppedRun),
}

/// Where a run was told to stop.
#[derive(Clone, Debug)]
pub struct StoppedRun {
    /// Steps done and saved.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// The exit status that was asked for.
    pub status: u8,
}

/// What training has led to.
#[derive(Clone, Debug)]
pub struct FinishedRun {
    /// Steps done in all.
    pub step: u64,
    /// Scores on the whole evaluation split, at the end.
    pub evaluation: Scores,
    /// The split.
    pub split: String,
}

impl Run {
    /// Checks configuration and data, takes the number of classes from the data set, waits meanwhile for an adapter to
    /// be opened, and makes the run folder, which does not stay if there is no adapter.
    ///
    /// # Errors
    /// Whatever is wrong with one of them.
    pub async fn create(
        config: RunConfig,
        out: &Path,
        adapter: impl Future<Output = Result<Gpu>>,
    ) -> Result<(Run, Gpu)> {
        let begun = Instant::now();
        config.validate()?;
        let preparing = {
            let (config, out) = (config.clone(), out.to_path_buf());
            parallel::start("preparation", move || prepare(config, &out))
        };
        let (prepared, gpu) = match preparing {
            Ok(thread) => {
                let gpu = adapter.await;
                (thread.join().expect("no panic in there"), gpu)
            }
            Err(_) => (prepare(config, out), adapter.await), // the system starts no further thread
        };
        let Prepared { config, dataset, steps_per_epoch, start, folder } = prepared?;
        let gpu = match gpu {
            Ok(gpu) => gpu,
            Err(error) => {
                folder.withdraw();
                return Err(error);
            }
        };
        let (resumed, fit, ranks) = (false, false, Ranks::alone());
        Ok((Run { folder, config, dataset, steps_per_epoch, start, resumed, fit, begun, ranks }, gpu))
    }

    /// Opens the folder of a run that is to go on, from its newest usable checkpoint. `change` may raise its length, and
    /// change its learning rate, its interval of checkpoints and where its data lie.
    ///
    /// # Errors
    /// No usable checkpoint; a configuration or data set that is not the run's; a length that is already behind.
    pub fn resume(root: &Path, change: impl FnOnce(&mut RunConfig)) -> Result<Run> {
        let begun = Instant::now();
        let Resumed { folder, mut config, checkpoint, warnings, from } = RunFolder::resume(root)?;
        let step = checkpoint.as_ref().map_or(0, |c| c.state.step);
        from.iter().for_each(|from| tell_of_damaged(&warnings, from, step));
        let before = config.clone();
        change(&mut config);
        config.validate()?;
        let trained = checkpoint.as_ref().map(|c| &c.state.data);
        let (dataset, steps_per_epoch) = data::open_again(&mut config, root, trained)?;
        let data = DataState::of(&*dataset);
        if let Some(changed) = checkpoint.as_ref().and_then(|c| data_change(&data, &c.state.data)) {
            let (name, root) = (dataset.name(), root.display());
            return Err(Error::Checkpoint(format!(
                "run folder {root}: {name} is not the data set that the run was trained on: {changed}; give the right \
                 one by --data, or start a new run"
            )));
        }
        let total = config.training.total_steps(steps_per_epoch);
        if total < step {
            return Err(Error::Config(format!(
                "run folder {}: {step} steps are done already, more than the {total} asked for; raise --steps or --epochs",
                root.display()
            )));
        }
        if config != before {
            folder.set_config(&config)?;
        }
        let start = match checkpoint {
            Some(mut checkpoint) => {
                if checkpoint.state.data != data {
                    eprintln!(
                        "what the imported network was trained on is not known: from now on its channel means, deviations \
                         and class names are those of {}",
                        dataset.name()
                    );
                    checkpoint.state.data = data;
                }
                if checkpoint.state.adam_step == 0 && step > 0 {
                    eprintln!("the network was imported, without moments: Adam starts at zero");
                }
                checkpoint
            }
            None => Checkpoint::initial(&config, data),
        };
        let (resumed, fit, ranks) = (true, false, Ranks::alone());
        Ok(Run { folder, config, dataset, steps_per_epoch, start, resumed, fit, begun, ranks })
    }

    /// The same, but a step is computed in the fewest parts in which it fits the adapter, and in more where the driver has no
    /// memory for these; a run that goes on keeps at least those that it has. The configuration in the folder says how many.
    pub fn in_parts_that_fit(self) -> Run {
        Run { fit: true, ..self }
    }

    /// The same, trained together with other ranks, which get what they need to know: each calls [`Run::of_leader`].
    ///
    /// # Errors
    /// A batch that cannot be divided; ranks that have ended.
    pub async fn shared(mut self, ranks: &Ranks) -> Result<Run> {
        if ranks.several() {
            let possible = check_shards(&self.config.training, ranks.size());
            let possible = possible.and(if self.fit { Err(no_fit()) } else { Ok(()) });
            if let Err(error) = possible {
                Run::none_to_share(ranks).await?;
                return Err(error);
            }
            let root = self.folder.root();
            together::tell(ranks, root, &self.config, self.resumed, &self.start).await?;
            self.ranks = ranks.clone();
        }
        Ok(self)
    }

    /// Tells the other ranks that there is nothing to train, as it is done already or went wrong.
    ///
    /// # Errors
    /// Ranks that have ended.
    pub async fn none_to_share(ranks: &Ranks) -> Result<()> {
        if ranks.several() {
            ranks.fail_together();
            together::tell_nothing(ranks).await?;
        }
        Ok(())
    }

    /// The run that the leading rank shares, for another rank, which writes nothing of it; `None` where there is none.
    ///
    /// # Errors
    /// Data that are not found here, or are others; ranks that have ended.
    pub async fn of_leader(ranks: &Ranks) -> Result<Option<Run>> {
        let begun = Instant::now();
        let Some((root, mut config, resumed, start)) = together::told(ranks).await? else {
            ranks.fail_together();
            return Ok(None);
        };
        let (dataset, steps_per_epoch) = data::open_again(&mut config, &root, Some(&start.state.data))?;
        let (folder, fit, ranks) = (RunFolder::of_another(&root), false, ranks.clone());
        Ok(Some(Run { folder, config, dataset, steps_per_epoch, start, resumed, fit, begun, ranks }))
    }

    /// Its configuration.
    pub fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Steps done so far.
    pub fn step(&self) -> u64 {
        self.start.state.step
    }

    /// Its length in steps.
    pub fn total_steps(&self) -> u64 {
        self.config.training.total_steps(self.steps_per_epoch)
    }

    /// Trains to the end: decides on kernel variants (a run that goes on keeps its own), prints the plan, allocates, and
    /// writes events and checkpoints into the run folder. Where the device is lost, it is opened again and the run goes on
    /// from the state that the host holds, which gives the same bytes. `stop` may end it after any step; an error ends it
    /// with its last finished step saved, where device and disk let it.
    ///
    /// # Errors
    /// What does not fit the adapter, before anything is allocated; a device that is lost again and again, or cannot be
    /// opened again; data that cannot be read; a folder that cannot be written; a loss that is not finite, with the step
    /// and the last good checkpoint.
    pub async fn train(self, gpu: &Gpu, passes: Passes, tuning: &Tuning, stop: &Stop) -> Result<Outcome> {
        let leads = self.ranks.leads();
        let due = if leads && self.resumed { self.due()? } else { Vec::new() };
        let Run { folder, config, dataset, steps_per_epoch, start, resumed, fit, begun, ranks } = self;
        let saved = start.state.step;
        let held = Held { log_bytes: folder.log_bytes()?, checkpoint: Arc::new(start) };
        let last_good = newest_path(folder.root());
        let (faults, best) = (Faults::from_environment()?, None);
        // Each rank reads every picture in the first epoch; one of them looks at all before.
        let looking = if leads { Looking::begin(&dataset, &config.data.train_split)? } else { None };
        let mut training = Training {
            folder,
            config,
            dataset,
            steps_per_epoch,
            resumed,
            fit,
            due,
            looking,
            held,
            saved,
            last_good,
            best,
            reached: saved,
            faults,
            begun,
            ranks,
        };
        if resumed && leads {
            read_metrics(training.folder.root())?.iter().for_each(|event| training.met(event));
        }
        training.agree().await?;
        let mut opened: Option<Gpu> = None;
        let mut losses = Losses::default();
        loop {
            let gpu = opened.as_ref().unwrap_or(gpu);
            let error = match training.on(gpu, passes, tuning, stop).await {
                Ok(outcome) => return Ok(outcome),
                Err(error) => gpu.cause(error).await,
            };
            if !is_lost(&error) || training.ranks.several() {
                return Err(error);
            }
            if !losses.bearable(training.reached) {
                eprintln!("the device was lost {} times before step {}", losses.times, training.reached + 1);
                return Err(error);
            }
            let reason = match &error {
                Error::DeviceLost { reason, .. } => reason.trim(),
                _ => unreachable!("seen just now"),
            };
            eprintln!(
                "warning: {} was lost ({reason}); the last step that it gave is {}. It is opened again, and training goes on \
                 from step {}",
                gpu.info.name, training.reached, training.held.checkpoint.state.step
            );
            let again = gpu.reopen().await.map_err(|second| {
                eprintln!("the lost device cannot be opened again: {second}");
                error
            })?;
            training.folder.rewind_log(training.held.log_bytes)?;
            training.resumed = true;
            opened = Some(again);
        }
    }

    /// Whether there is nothing left to do.
    ///
    /// # Errors
    /// A log that cannot be read.
    pub fn is_over(&self) -> Result<bool> {
        Ok(self.step() > 0 && self.step() == self.total_steps() && self.due()?.is_empty())
    }

    /// The splits whose evaluation is missing from the log, where an epoch, or the run, has ended at the step where the run goes
    /// on, as a signal has ended it meanwhile. Nothing is missing once the run has reached its end.
    fn due(&self) -> Result<Vec<String>> {
        let step = self.step();
        let mut splits = evaluated_after(step, self.steps_per_epoch, self.total_steps(), &self.config.data);
        if step == 0 || splits.is_empty() {
            return Ok(Vec::new());
        }
        let events = read_metrics(self.folder.root())?;
        let of = |split: &str| {
            events.iter().any(|e| matches!(e, Event::Epoch { step: s, split: of, .. } if *s == step && of == split))
        };
        let over = events.iter().any(|e| matches!(e, Event::End { step: s, .. } if *s == step));
        if over || !of(&self.config.data.train_split) {
            return Ok(Vec::new());
        }
        splits.retain(|split| !of(split));
        Ok(splits)
    }
}

/// The splits that are evaluated after a step: at the end of an epoch and of the run one, at the end of the run also that of the
/// test.
fn evaluated_after(step: u64, steps_per_epoch: u64, total: u64, data: &DataConfig) -> Vec<String> {
    let ends = step == total;
    let after_epoch = Some(&data.eval_split).filter(|_| ends || step.is_multiple_of(steps_per_epoch));
    let at_end = data.test_split.as_ref().filter(|split| ends && **split != data.eval_split);
    after_epoch.into_iter().chain(at_end).cloned().collect()
}

/// How often the device was lost without a step that was not reached before.
#[derive(Default)]
struct Losses {
    reached: u64,
    times: u32,
}

impl Losses {
    /// Counts a loss after `reached` steps; whether it is worth going on.
    fn bearable(&mut self, reached: u64) -> bool {
        self.times = if reached > self.reached { 1 } else { self.times + 1 };
        self.reached = reached;
        self.times <= MOST_LOSSES
    }
}

fn is_lost(error: &Error) -> bool {
    matches!(error, Error::DeviceLost { .. })
}

/// The newest state that the host holds, and the log's length then.
pub(super) struct Held {
    pub(super) checkpoint: Arc<Checkpoint>,
    log_bytes: u64,
}

/// An evaluation that was better than all before.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    pub(super) step: u64,
    accuracy: f64,
    loss: f64,
}

/// A run that is under way: all that outlives the device that it is trained on.
pub(super) struct Training {
    pub(super) folder: RunFolder,
    pub(super) config: RunConfig,
    pub(super) dataset: Arc<dyn Dataset>,
    pub(super) steps_per_epoch: u64,
    /// Whether the folder has checkpoint and variants already.
    resumed: bool,
    /// Whether the number of parts is chosen so that a step fits.
    fit: bool,
    /// The splits whose evaluation after the step that `held` stands behind is missing in the log as it was then.
    pub(super) due: Vec<String>,
    /// What looks at the training pictures meanwhile, until all were looked at.
    pub(super) looking: Option<Looking>,
    pub(super) held: Held,
    /// Steps of the newest checkpoint on the disk, and its file.
    pub(super) saved: u64,
    pub(super) last_good: PathBuf,
    /// The best evaluation so far.
    pub(super) best: Option<Best>,
    /// The furthest step whose scores have come from a device.
    pub(super) reached: u64,
    pub(super) faults: Faults,
    /// When the run, or its going on, was begun to be prepared.
    pub(super) begun: Instant,
    /// The processes that train together.
    pub(super) ranks: Ranks,
}

impl Training {
    pub(super) fn total_steps(&self) -> u64 {
        self.config.training.total_steps(self.steps_per_epoch)
    }

    /// The splits that are evaluated after a step.
    pub(super) fn evaluated_after(&self, step: u64) -> Vec<String> {
        evaluated_after(step, self.steps_per_epoch, self.total_steps(), &self.config.data)
    }

    /// Whether the training pictures that were looked at so far are sound; at the end of an epoch all of them are looked at.
    pub(super) fn look_at_pictures(&mut self, all: bool, progress: &Progress) -> Result<()> {
        let Some(looking) = &self.looking else { return Ok(()) };
        looking.so_far()?;
        if let (true, Some(looking)) = (all || looking.is_over(), self.looking.take()) {
            if !looking.is_over() {
                progress.note("waiting until all training pictures were looked at");
            }
            looking.finish()?;
        }
        Ok(())
    }

    /// Holds a state from which the run can go on.
    pub(super) fn hold(&mut self, checkpoint: Arc<Checkpoint>) -> Result<()> {
        self.held = Held { log_bytes: self.folder.log_bytes()?, checkpoint };
        self.due.clear(); // what belongs to the step is logged before it is held
        Ok(())
    }

    /// Takes note of an event: an evaluation may be the best so far, by the accuracy at the last timestep, then by the loss.
    pub(super) fn met(&mut self, event: &Event) {
        let Event::Epoch { step, split, loss, accuracy, .. } = event else { return };
        let Some(accuracy) = accuracy.last().copied().flatten().filter(|_| *split == self.config.data.eval_split)
        else {
            return;
        };
        let loss = loss.iter().flatten().sum();
        let better = |best: Best| accuracy > best.accuracy || (accuracy == best.accuracy && loss < best.loss);
        if self.best.is_none_or(better) {
            self.best = Some(Best { step: *step, accuracy, loss });
        }
    }

    /// Trains on this device from the state that the host holds.
    async fn on(&mut self, gpu: &Gpu, passes: Passes, tuning: &Tuning, stop: &Stop) -> Result<Outcome> {
        let network = self.config.network.network()?;
        let schedule = Schedule::plain(network.timesteps);
        let batch = self.config.training.batch;
        let clip = self.config.training.clip_norm.is_some();
        let memory = self.config.training.memory.map(|bytes| bytes.0);
        let ranks = self.ranks.size();
        let batch = batch / ranks;
        let training = Request::training(&network, &schedule, batch, &gpu.target);
        let TrainingConfig { precision, pack_activations: pack, .. } = self.config.training;
        let request = Request { passes, clip, memory, pack, ranks, precision, ..training };
        let mut least = if self.resumed { self.config.training.accumulate } else { 1 };
        let (engine, evaluator) = loop {
            if self.fit {
                self.choose_parts(&request, least)?;
            }
            let before = gpu.allocated();
            let error = match self.engines(gpu, &request, tuning).await {
                Ok(engines) => break engines,
                Err(error @ Error::OutOfMemory { .. }) => error,
                Err(error) => return Err(error),
            };
            let parts = self.config.training.accumulate;
            if !self.fit || parts == batch {
                return Err(self.advised(error, &request, gpu.allocated() - before)?);
            }
            eprintln!("warning: {parts} parts: {error}");
            gpu.wait().await?; // what was allocated is free again
            least = parts + 1;
        };
        let _listening = stop.listen();
        Session::new(self, engine, evaluator, stop.clone()).train(stop).await
    }

    /// Chooses the parts that fit at the least predicted time, no fewer than `least`, says so, and keeps them in the run's configuration.
    fn choose_parts(&mut self, request: &Request<'_>, least: usize) -> Result<()> {
        let TrainingConfig { batch, accumulate: before, .. } = self.config.training;
        let parts = best_parts(request, batch, least)?;
        match parts {
            1 => eprintln!("--fit: a step is computed in one part of {batch} images (--accumulate 1)"),
            _ => eprintln!("--fit: a step is computed in {parts} parts of {} (--accumulate {parts})", batch / parts),
        }
        if parts != before {
            self.config.training.accumulate = parts;
            let held = &mut self.held.checkpoint;
            if held.state.step == 0 {
                Arc::make_mut(held).state.training = self.config.training.essential();
            }
            self.folder.set_config(&self.config)?;
        }
        Ok(())
    }

    /// The error of a device that has no memory for the run, after it has given so many bytes, with what would fit.
    fn advised(&self, error: Error, request: &Request<'_>, given: u64) -> Result<Error> {
        let Error::OutOfMemory { adapter, what, bytes, reason, advice } = error else { return Ok(error) };
        let batch = self.config.training.batch / self.ranks.size();
        let (mut in_how_many, mut needed) = (batch, 0);
        for parts in numbers_of_parts(batch).into_iter().filter(|&parts| parts >= self.config.training.accumulate) {
            let [training, evaluation] = in_parts(request, batch, parts);
            (in_how_many, needed) = (parts, planned_bytes(&compile(&training)?, &compile(&evaluation)?));
            if needed <= given {
                break;
            }
        }
        let would = if needed <= given { "would fit" } else { "is the least, but for a smaller batch or network" };
        let advice = format!(
            "{advice}. The device gave {:.1} MiB before it refused; a step in {in_how_many} parts of {} needs {:.1} MiB, which \
             {would} (--accumulate {in_how_many}; --fit tries such numbers by itself)",
            mib(given),
            batch / in_how_many,
            mib(needed)
        );
        Ok(Error::OutOfMemory { adapter, what, bytes, reason, advice })
    }

    /// Decides on kernel variants, prints the plan, and allocates what trains and what evaluates, with the state that the host
    /// holds.
    async fn engines<'g>(
        &mut self,
        gpu: &'g Gpu,
        request: &Request<'_>,
        tuning: &Tuning,
    ) -> Result<(Engine<'g>, Engine<'g>)> {
        let (first, total) = (self.held.checkpoint.state.step, self.total_steps());
        let TrainingConfig { batch, accumulate: parts, .. } = self.config.training;
        let [request, forward] = in_parts(request, batch / self.ranks.size(), parts);
        let (training, evaluation) = (compile(&request)?, compile(&forward)?);
        fits(&training, &request)?;
        fits(&evaluation, &forward)?;
        let mut uses = training.uses.clone();
        evaluation.uses.iter().for_each(|(key, used)| _ = uses.entry(*key).or_insert(*used));
        let tuning = if first > 0 { &Tuning::Off } else { tuning }; // where a run without choices goes on
        let choices = match self.ranks.leads() {
            true => decide(gpu, &self.folder, self.resumed, &uses, tuning, total - first).await?,
            false => Choices::default(),
        };
        let choices = self.same_choices(gpu, choices).await?;
        let request = Request { choices: &choices, ..request };
        let forward = Request { choices: &choices, ..forward };
        let (training, evaluation) = (compile(&request)?, compile(&forward)?);
        let packed = training.bound.as_ref().map_or(0, |bound| bound.packed);
        let (planned, host, learned) = announce(&training, &evaluation, (&self.config, forward.batch), gpu);

        let before = gpu.allocated();
        let mut store = Store::default();
        let mut engine = Engine::of(gpu, &request, training, &mut store).await?;
        if self.faults.strikes(Fault::OutOfMemory, first + 1) {
            let (adapter, advice) = (gpu.info.name.clone(), Error::MORE_MEMORY.into());
            let (what, reason, bytes) =
                ("the evaluation".into(), "asked for by a variable".into(), evaluation.peak_bytes());
            let error = Error::OutOfMemory { adapter, what, bytes, reason, advice };
            return Err(with_largest_tensors(error, &engine.compiled));
        }
        engine.lend_temporaries(&mut store); // it does not train while it evaluates
        let evaluator = Engine::of(gpu, &forward, evaluation, &mut store).await?;
        let start = self.held.checkpoint.clone();
        engine.set_parameters(&start.parameters)?;
        engine.set_moments(&start.adam_m, &start.adam_v)?;
        engine.set_loss_scale(start.state.loss_scale.unwrap_or(LossScale::INITIAL));
        self.config.training.clip_norm.iter().for_each(|&limit| engine.set_clip_norm(limit));
        engine.set_normaliser(&Normaliser::new(self.dataset.mean(), self.dataset.std()));

        self.folder.log(&Event::Start {
            step: first,
            seed: self.config.training.seed,
            adapter: gpu.info.name.clone(),
            driver: driver(&gpu.info),
            planned_bytes: planned,
            allocated_bytes: gpu.allocated() - before,
            host_bytes: host,
            parameters: learned,
            packed_values: packed as u64,
        })?;
        if !self.resumed || first == 0 {
            self.last_good = self.folder.save(&start)?;
        }
        Ok((engine, evaluator))
    }
}

/// The kernel variants of a run: those that it has used so far; for a new run those that `tuning` says, which the folder
/// keeps from now on.
async fn decide(
    gpu: &Gpu,
    folder: &RunFolder,
    resumed: bool,
    uses: &Uses,
    tuning: &Tuning,
    steps: u64,
) -> Result<Choices> {
    let path = choices_path(folder.root());
    if resumed {
        match tune::cache::read(&path, &gpu.target) {
            Ok(Some(choices)) => return Ok(choices),
            Ok(None) => {}
            Err(error) => {
                eprintln!("warning: {error}; variants are chosen anew, so sums may round differently");
            }
        }
    }
    let step: f64 = uses.iter().map(|(key, used)| key.flops() * used.launches as f64).sum();
    let chosen = tune::choose(gpu, uses, tuning, step * steps as f64, tune::cache::folder().as_deref()).await?;
    eprintln!("{}", chosen.origin);
    tune::cache::write(&path, &gpu.target, &chosen.choices)?;
    Ok(chosen.choices)
}

/// Every rank has as many images of a batch, in as many equal parts.
///
/// # Errors
/// A batch that cannot be divided so.
pub fn check_shards(training: &TrainingConfig, ranks: usize) -> Result<()> {
    let TrainingConfig { batch, accumulate: parts, .. } = *training;
    if batch.is_multiple_of(ranks * parts) {
        return Ok(());
    }
    let what =
        if parts > 1 { format!("{ranks} ranks and {parts} parts (--accumulate)") } else { format!("{ranks} ranks") };
    let (less, more) = (batch - batch % (ranks * parts), batch.next_multiple_of(ranks * parts));
    let less = if less > 0 { format!("{less} or ") } else { String::new() };
    Err(Error::Config(format!(
        "a batch of {batch} cannot be divided among {what}: use --batch {less}{more}, or another number of ranks"
    )))
}

fn no_fit() -> Error {
    Error::Config("--fit chooses for one adapter: with several ranks say the parts by --accumulate".into())
}

/// What a new run has before it has a device: the work of the processor.
struct Prepared {
    config: RunConfig,
    dataset: Arc<dyn Dataset>,
    steps_per_epoch: u64,
    start: Checkpoint,
    folder: RunFolder,
}

/// Opens the data, draws the network and makes the run folder.
fn prepare(mut config: RunConfig, out: &Path) -> Result<Prepared> {
    let (dataset, steps_per_epoch) = data::open_new(&mut config, out)?;
    let start = Checkpoint::initial(&config, DataState::of(&*dataset));
    let folder = RunFolder::create(out, &config)?;
    Ok(Prepared { config, dataset, steps_per_epoch, start, folder })
}

/// What differs between the data set found and the one a checkpoint was trained on, as far as that is known.
fn data_change(now: &DataState, then: &DataState) -> Option<String> {
    if now.class_names != then.class_names && !then.names_unknown() {
        return Some(format!(
            "its classes are {}; expected {}",
            now.class_names.join(", "),
            then.class_names.join(", ")
        ));
    }
    for (what, now, then) in
        [("means", now.channel_mean, then.channel_mean), ("standard deviations", now.channel_std, then.channel_std)]
    {
        if let (Some(now), Some(then)) = (now, then)
            && now != then
        {
            return Some(format!("its channel {what} are {now:?}; expected {then:?}"));
        }
    }
    None
}

/// Bytes on the device of a training step and its evaluation. They share the parameters, and the evaluation uses the temporaries of
/// the step: all that counts once.
fn planned_bytes(training: &Compiled, evaluation: &Compiled) -> u64 {
    let lent: Vec<u64> =
        training.plan.lendable(&training.program).iter().map(|&slot| training.plan.slots[slot]).collect();
    training.peak_bytes() + evaluation.plan.bytes_beside(&lent) - evaluation.plan.persistent_bytes
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 20) as f64
}

/// Prints what will be allocated; returns the bytes on the device and on the host, and the number of learned values. While one
/// of the two programs is evaluated, the batches of the other wait.
fn announce(
    training: &Compiled,
    evaluation: &Compiled,
    (config, evaluated): (&RunConfig, usize),
    gpu: &Gpu,
) -> (u64, u64, u64) {
    let planned = planned_bytes(training, evaluation);
    let network = config.network.network().expect("the configuration was checked");
    let learned = network.learned();
    let TrainingConfig { batch, accumulate: parts, .. } = config.training;
    let batches = Loader::host_bytes(network.image_size, batch, false, parts)
        + Loader::host_bytes(network.image_size, evaluated, false, 1);
    let host = batches + training.plan.staging_bytes() + evaluation.plan.staging_bytes();
    eprintln!(
        "{}\n{learned} parameters, {} dispatches a step; memory {:.1} MiB: training {:.1}, evaluation {:.1}; host memory \
         {:.1} MiB: batches read ahead {:.1}, to and from the device {:.1}",
        gpu.describe(),
        training.program.launches.len(),
        mib(planned),
        mib(training.peak_bytes()),
        mib(planned - training.peak_bytes()),
        mib(host),
        mib(batches),
        mib(host - batches)
    );
    if let Some(bound) = &training.bound {
        eprintln!("memory of a training step: {bound}");
    }
    (planned, host, learned)
}

/// Loss and accuracy over the timesteps, for people.
pub fn describe(scores: &Scores) -> String {
    let one = |value: &Option<f64>| value.map_or("-".to_string(), |v| format!("{v:.3}"));
    let list = |values: &[Option<f64>]| values.iter().map(one).collect::<Vec<_>>().join(" ");
    format!("loss {}  accuracy {}", list(&scores.mean_loss()), list(&scores.accuracy()))
}
