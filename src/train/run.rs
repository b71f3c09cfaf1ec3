//! One training run: prepared and checked without a device, then trained on one.
//!
//! Each step feeds a batch and runs the recorded program (forward, backward, Adam). Its scores are read back while the
//! next step runs, and before a checkpoint is written: a loss that is not finite stops the run and is never saved. What a
//! step computes is a function of the configuration, the seed and the step's number, so a run that goes on from a
//! checkpoint gives the bytes of one that never stopped.

use super::checkpoint::{Checkpoint, CheckpointState, DataState};
use super::data;
use super::metrics::Event;
use super::progress::Progress;
use super::run_folder::{Resumed, RunFolder, choices_path};
use crate::dataset::{Batch, Dataset, Loader, Normaliser};
use crate::engine::{Engine, Scores};
use crate::gpu::{Gpu, Reading, Store, driver};
use crate::graph::compile::{Compiled, Request, compile};
use crate::graph::fit::fits;
use crate::graph::passes::Passes;
use crate::graph::plan::UNDER_WAY;
use crate::kernels::choose::{Choices, Uses};
use crate::network::{RunConfig, Schedule, TrainingConfig};
use crate::ops::Hyper;
use crate::tune::{self, Tuning};
use crate::{Error, Result, parallel};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Steps between `step` events of the log; the first and every saved step have one too.
const LOG_EVERY: u64 = 10;

/// Steps whose loss is not yet looked at while the next is submitted.
const IN_FLIGHT: usize = UNDER_WAY - 1;

/// A run that is ready to start or to go on: configuration, data and folder are in order.
pub struct Run {
    folder: RunFolder,
    config: RunConfig,
    dataset: Arc<dyn Dataset>,
    steps_per_epoch: u64,
    /// Where it starts; for a new run the freshly drawn network.
    start: Checkpoint,
    resumed: bool,
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
        Ok((Run { folder, config, dataset, steps_per_epoch, start, resumed: false }, gpu))
    }

    /// Opens the folder of a run that is to go on, from its newest usable checkpoint. `change` may raise its length, and
    /// change its learning rate, its interval of checkpoints and where its data lie.
    ///
    /// # Errors
    /// No usable checkpoint; a configuration or data set that is not the run's; a length that is already behind.
    pub fn resume(root: &Path, change: impl FnOnce(&mut RunConfig)) -> Result<Run> {
        let Resumed { folder, mut config, checkpoint, warnings } = RunFolder::resume(root)?;
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
        let before = config.clone();
        change(&mut config);
        config.validate()?;
        let step = checkpoint.as_ref().map_or(0, |c| c.state.step);
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
        Ok(Run { folder, config, dataset, steps_per_epoch, start, resumed: true })
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
    /// writes events and checkpoints into the run folder.
    ///
    /// # Errors
    /// What does not fit the adapter, before anything is allocated; a lost device; data that cannot be read; a folder
    /// that cannot be written; a loss that is not finite, with the step and the last good checkpoint.
    pub async fn train(self, gpu: &Gpu, passes: Passes, tuning: &Tuning) -> Result<FinishedRun> {
        let (first, total) = (self.step(), self.total_steps());
        let Run { folder, config, dataset, steps_per_epoch, start, resumed } = self;
        let network = config.network.network()?;
        let schedule = Schedule::plain(network.timesteps);
        let parts = config.training.accumulate;
        let batch = config.training.batch / parts;
        let request = Request { passes, parts, ..Request::training(&network, &schedule, batch, &gpu.target) };
        let forward = Request { train: false, parts: 1, ..request.clone() };
        let (training, evaluation) = (compile(&request)?, compile(&forward)?);
        fits(&training, &request)?;
        fits(&evaluation, &forward)?;
        let mut uses = training.uses.clone();
        evaluation.uses.iter().for_each(|(key, used)| _ = uses.entry(*key).or_insert(*used));
        let tuning = if first > 0 { &Tuning::Off } else { tuning }; // where a run without choices goes on
        let choices = decide(gpu, &folder, resumed, &uses, tuning, total - first).await?;
        let request = Request { choices: &choices, ..request };
        let forward = Request { choices: &choices, ..forward };
        let (training, evaluation) = (compile(&request)?, compile(&forward)?);
        let (planned, host, learned) = announce(&training, &evaluation, &config, gpu);

        let before = gpu.allocated();
        let mut store = Store::default();
        let mut engine = Engine::of(gpu, &request, training, &mut store).await?;
        let evaluator = Engine::of(gpu, &forward, evaluation, &mut store).await?;
        engine.set_parameters(&start.parameters)?;
        engine.set_moments(&start.adam_m, &start.adam_v)?;
        engine.set_normaliser(&Normaliser::new(dataset.mean(), dataset.std()));

        let last_good = folder.root().join("checkpoint.safetensors");
        let state = start.state.clone();
        let mut session =
            Session { engine, evaluator, folder, config: &config, start: state, steps_per_epoch, last_good };
        session.folder.log(&Event::Start {
            step: first,
            seed: config.training.seed,
            adapter: gpu.info.name.clone(),
            driver: driver(&gpu.info),
            planned_bytes: planned,
            allocated_bytes: gpu.allocated() - before,
            host_bytes: host,
            parameters: learned,
        })?;
        if !resumed || first == 0 {
            session.last_good = session.folder.save(&start)?;
        }

        // Only now: the batches of a plan that does not fit might not fit this machine either.
        let TrainingConfig { batch, seed, .. } = config.training;
        let mut loader = Loader::train(&dataset, &config.data.train_split, batch, seed, first)?;
        let begun = Instant::now();
        let mut progress = Progress::new(first, total, config.training.batch);
        let mut epoch_scores: Option<Scores> = None;
        let mut evaluation = None;
        // Scores of steps that the device may still be computing: the host prepares the next step meanwhile.
        let mut pending: VecDeque<(u64, Vec<(usize, Reading)>)> = VecDeque::new();
        for step in first + 1..=total {
            let (_, batch) = loader.next().expect("training batches never end")?;
            pending.push_back((step, session.step(&batch, &hyper(&config.training, step, total), step).await?));

            let (epoch_ends, run_ends) = (step % steps_per_epoch == 0, step == total);
            let every = config.training.checkpoint_every;
            let saves = run_ends || (every > 0 && step % every == 0);
            let logs = step == first + 1 || step % LOG_EVERY == 0 || saves;
            while pending.len() > if logs || epoch_ends { 0 } else { IN_FLIGHT } {
                let (step, readings) = pending.pop_front().expect("not empty");
                let mut scores = None;
                for (images, reading) in readings {
                    add(&mut scores, session.engine.finish_scores(reading, images).await?);
                }
                let scores = scores.expect("one part at least");
                let loss = session.finite(&scores, step)?;
                add(&mut epoch_scores, scores);
                let images_per_s = progress.step(step, loss);
                if logs && pending.is_empty() {
                    let epoch = (step - 1) / steps_per_epoch;
                    session.folder.log(&Event::Step { step, epoch, loss, images_per_s })?;
                }
            }
            if epoch_ends || run_ends {
                let trained = epoch_scores.take().expect("at least this step's");
                session.log_epoch(step, &config.data.train_split, &trained)?;
                let evaluated = session.evaluate(&dataset, step).await?;
                session.log_epoch(step, &config.data.eval_split, &evaluated)?;
                let epoch = step as f64 / steps_per_epoch as f64;
                progress.note(&format!("epoch {epoch:.1}, {}: {}", config.data.eval_split, describe(&evaluated)));
                evaluation = Some(evaluated);
            }
            if saves {
                session.save(step, &batch).await?;
            }
            if epoch_ends || saves {
                progress.pause_over();
            }
        }
        progress.finish();
        let evaluation = match evaluation {
            Some(evaluation) => evaluation,
            None => session.evaluate(&dataset, total).await?, // the run was over already
        };
        let (epoch, seconds) = (total / steps_per_epoch, begun.elapsed().as_secs_f64());
        session.folder.log(&Event::End { step: total, epoch, seconds })?;
        Ok(FinishedRun { step: total, evaluation, split: config.data.eval_split.clone() })
    }
}

/// A run on a device.
struct Session<'a> {
    engine: Engine<'a>,
    /// The same parameters, forward only.
    evaluator: Engine<'a>,
    folder: RunFolder,
    config: &'a RunConfig,
    /// Where this process began.
    start: CheckpointState,
    steps_per_epoch: u64,
    last_good: PathBuf,
}

impl Session<'_> {
    /// What Adam counts as step `step`: of an imported network, whose moments start at zero, only the steps taken here.
    fn adam_step(&self, step: u64) -> u64 {
        step - self.start.step + self.start.adam_step
    }

    /// Submits a step; gives what its scores will come from, part by part.
    async fn step(&self, batch: &Batch, hyper: &Hyper, step: u64) -> Result<Vec<(usize, Reading)>> {
        let engine = &self.engine;
        engine.set_step(hyper, self.adam_step(step), 1.0).await?;
        if engine.parts == 1 {
            engine.feed(batch).await?;
            engine.run();
            return Ok(vec![(batch.n, engine.scores_later())]);
        }
        let mut readings = Vec::new();
        for (part, batch) in batch.parts(engine.parts).iter().enumerate() {
            engine.feed(batch).await?;
            engine.pass_part(part == 0).await?;
            readings.push((batch.n, engine.scores_later()));
        }
        engine.update();
        Ok(readings)
    }

    /// The loss: mean over pictures, sum over timesteps. An error if it is not finite.
    fn finite(&self, scores: &Scores, step: u64) -> Result<f64> {
        let loss = scores.total_loss();
        if loss.is_finite() { Ok(loss) } else { Err(self.diverged(step, &format!("the loss is {loss}"))) }
    }

    fn diverged(&self, step: u64, what: &str) -> Error {
        let (root, rate) = (self.folder.root().display(), self.config.training.learning_rate);
        Error::Training(format!(
            "step {step}: {what}: training has diverged. The last good checkpoint is {}; go on from it with a smaller \
             learning rate (now {rate:e}): recurve train --resume {root} --learning-rate {:.1e}",
            self.last_good.display(),
            rate / 10.0
        ))
    }

    /// Scores on the whole evaluation split.
    async fn evaluate(&self, dataset: &Arc<dyn Dataset>, step: u64) -> Result<Scores> {
        let mut sums = None;
        for item in Loader::eval(dataset, &self.config.data.eval_split, self.evaluator.batch)? {
            let scores = self.forward(&item?.1).await?;
            self.finite(&scores, step)?;
            add(&mut sums, scores);
        }
        sums.ok_or_else(|| Error::Data(format!("split {} holds no picture", self.config.data.eval_split)))
    }

    async fn forward(&self, batch: &Batch) -> Result<Scores> {
        self.evaluator.feed(batch).await?;
        self.evaluator.run();
        self.evaluator.scores(batch.n).await
    }

    fn log_epoch(&mut self, step: u64, split: &str, scores: &Scores) -> Result<()> {
        self.folder.log(&Event::Epoch {
            epoch: step / self.steps_per_epoch,
            step,
            split: split.into(),
            loss: scores.mean_loss(),
            accuracy: scores.accuracy(),
            images: scores.images as u64,
        })
    }

    /// Saves the run after `step` steps. The loss of a step is that before its update, so the updated network is tried
    /// once more on the step's `batch`: a checkpoint is always one with which training can go on.
    async fn save(&mut self, step: u64, batch: &Batch) -> Result<()> {
        for part in batch.parts(self.engine.parts) {
            self.finite(&self.forward(&part).await?, step)?;
        }
        let parameters = self.engine.parameters().await?;
        let (adam_m, adam_v) = self.engine.moments().await?;
        for (what, tensors) in
            [("", &parameters), ("Adam's mean gradient of ", &adam_m), ("Adam's mean square of ", &adam_v)]
        {
            if let Some((name, _, value)) = tensors.not_finite() {
                return Err(self.diverged(step, &format!("{what}{name} holds {value}")));
            }
        }
        let state = CheckpointState {
            step,
            adam_step: self.adam_step(step),
            epoch: step / self.steps_per_epoch,
            batch_in_epoch: step % self.steps_per_epoch,
            data: self.start.data.clone(),
            network: self.config.network.clone(),
            training: self.config.training.clone(),
            origin: self.start.origin.clone(),
        };
        let checkpoint = Checkpoint { state, parameters, adam_m, adam_v };
        self.last_good = self.folder.save(&checkpoint)?;
        Ok(())
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
            Err(error) => eprintln!("warning: {error}; variants are chosen anew, so sums may round differently"),
        }
    }
    let step: f64 = uses.iter().map(|(key, used)| key.flops() * used.launches as f64).sum();
    let chosen = tune::choose(gpu, uses, tuning, step * steps as f64, tune::cache::folder().as_deref()).await?;
    eprintln!("{}", chosen.origin);
    tune::cache::write(&path, &gpu.target, &chosen.choices)?;
    Ok(chosen.choices)
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

/// Prints what will be allocated; returns the bytes on the device and on the host, and the number of learned values. The two
/// programs share the parameters, which count once; while one is evaluated, the batches of the other wait.
fn announce(training: &Compiled, evaluation: &Compiled, config: &RunConfig, gpu: &Gpu) -> (u64, u64, u64) {
    let shared = evaluation.plan.persistent_bytes;
    let planned = training.peak_bytes() + evaluation.peak_bytes() - shared;
    let network = config.network.network().expect("the configuration was checked");
    let learned = network.learned();
    let TrainingConfig { batch, accumulate: parts, .. } = config.training;
    let batches = Loader::host_bytes(network.image_size, batch, false, parts)
        + Loader::host_bytes(network.image_size, batch / parts, false, 1);
    let host = batches + training.plan.staging_bytes() + evaluation.plan.staging_bytes();
    let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
    eprintln!(
        "{}\n{learned} parameters, {} dispatches a step; memory {:.1} MiB: training {:.1}, evaluation {:.1}; host memory \
         {:.1} MiB: batches read ahead {:.1}, to and from the device {:.1}",
        gpu.describe(),
        training.program.launches.len(),
        mib(planned),
        mib(training.peak_bytes()),
        mib(evaluation.peak_bytes() - shared),
        mib(host),
        mib(batches),
        mib(host - batches)
    );
    (planned, host, learned)
}

fn hyper(training: &TrainingConfig, step: u64, total: u64) -> Hyper {
    let TrainingConfig { beta1, beta2, epsilon, .. } = *training;
    Hyper { learning_rate: training.learning_rate_at(step, total), beta1, beta2, epsilon }
}

fn add(sums: &mut Option<Scores>, scores: Scores) {
    match sums {
        Some(sums) => sums.add(&scores),
        None => *sums = Some(scores),
    }
}

/// Loss and accuracy over the timesteps, for people.
pub fn describe(scores: &Scores) -> String {
    let one = |value: &Option<f64>| value.map_or("-".to_string(), |v| format!("{v:.3}"));
    let list = |values: &[Option<f64>]| values.iter().map(one).collect::<Vec<_>>().join(" ");
    format!("loss {}  accuracy {}", list(&scores.mean_loss()), list(&scores.accuracy()))
}
