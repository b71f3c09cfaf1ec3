//! The loop over a run's steps on one device: from the state that the host holds to the run's end, to a signal, or to an
//! error, none of which loses a finished step as long as the device answers and the disk takes it.

use super::checkpoint::{Checkpoint, CheckpointState};
use super::fault::Fault;
use super::metrics::Event;
use super::progress::Progress;
use super::run::{FinishedRun, Outcome, StoppedRun, Training, describe};
use super::run_folder::{Rule, Saving};
use super::stop::Stop;
use super::together::Cost;
use crate::dataset::{Batch, Loader};
use crate::engine::{Engine, Scores};
use crate::gpu::Reading;
use crate::graph::plan::UNDER_WAY;
use crate::network::TrainingConfig;
use crate::ops::{Hyper, LossScale};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Steps between `step` events of the log; the first and every saved step have one too.
const LOG_EVERY: u64 = 10;

/// Steps whose loss is not yet looked at while the next is submitted.
const IN_FLIGHT: usize = UNDER_WAY - 1;

/// What losses are multiplied by before gradients are taken; in mixed precision also by the loss scale that the device keeps.
const LOSS_SCALE: f64 = 1.0;

/// Least loss scale of mixed precision: where gradients that are not multiplied by anything overflow step after step, training has
/// diverged.
const LEAST_SCALE: f32 = 1.0;

/// What will come back of a step that was submitted.
pub(super) struct Submitted {
    /// The scores of each part, with its images.
    pub(super) scores: Vec<(usize, Reading)>,
    /// The norm of the gradients, where they are clipped and in mixed precision.
    pub(super) norm: Option<Reading>,
    /// The loss scale after the step, in mixed precision.
    pub(super) loss_scale: Option<Reading>,
}

/// A run on a device.
pub(super) struct Session<'a> {
    pub(super) run: &'a mut Training,
    pub(super) engine: Engine<'a>,
    /// The same parameters, forward only.
    pub(super) evaluator: Engine<'a>,
    /// The step at which a number was found that is not finite.
    diverged_at: Option<u64>,
    /// Steps that the device was given, the last one's batch, and the steps that were done before this session.
    done: u64,
    batch: Option<Batch>,
    first: u64,
    /// Scores of steps that the device may still be computing: the host prepares the next step meanwhile.
    pending: VecDeque<(u64, Submitted)>,
    /// Steps that mixed precision has skipped, as far as they were looked at.
    skipped: u32,
    /// Scores of the epoch's steps so far.
    epoch: Option<Scores>,
    /// The checkpoint that is being written.
    saving: Option<Saving>,
    pub(super) progress: Progress,
    begun: Instant,
    /// How it is told to stop, and the exit status that some rank was asked for, once all know of it.
    pub(super) stop: Stop,
    pub(super) asked_of_all: Option<u8>,
    /// What the exchange with other ranks costs.
    pub(super) exchange: Cost,
}

impl<'a> Session<'a> {
    /// Goes on from the state that the host holds, which the engines have.
    pub(super) fn new(run: &'a mut Training, engine: Engine<'a>, evaluator: Engine<'a>, stop: Stop) -> Session<'a> {
        let (first, total) = (run.held.checkpoint.state.step, run.total_steps());
        let progress = Progress::new(first, total);
        let (pending, begun) = (VecDeque::new(), Instant::now());
        let skipped = run.held.checkpoint.state.loss_scale.map_or(0, |scale| scale.skipped);
        Session {
            run,
            engine,
            evaluator,
            diverged_at: None,
            done: first,
            batch: None,
            first,
            pending,
            skipped,
            epoch: None,
            saving: None,
            progress,
            begun,
            stop,
            asked_of_all: None,
            exchange: Cost::default(),
        }
    }

    /// Trains to the end. Where an error or a signal ends it before, the last finished step is saved.
    ///
    /// # Errors
    /// What ended it.
    pub(super) async fn train(mut self, stop: &Stop) -> Result<Outcome> {
        let mut ended = self.steps(stop).await;
        let saved = self.settle();
        if ended.is_ok() {
            ended = saved.and(ended);
        }
        if let Err(error) = ended {
            let error = self.engine.gpu.cause(error).await;
            self.rescue(&error).await;
            ended = Err(error);
        }
        let ended = match (ended, self.diverged_at) {
            (Err(error), Some(step)) if !self.run.ranks.several() => {
                self.progress.note(&format!("step {step} is repeated with checks, to find where it went wrong"));
                Err(self.explained(error, step).await)
            }
            (ended, _) => ended,
        };
        self.progress.finish();
        ended
    }

    async fn steps(&mut self, stop: &Stop) -> Result<Outcome> {
        let total = self.run.total_steps();
        // Only now: the batches of a plan that does not fit might not fit this machine either.
        let (batches, every) = (self.run.config.training.batches(), self.run.config.training.checkpoint_every);
        let mut loader = Loader::train(&self.run.dataset, &self.run.config.data.train_split, &batches, self.first)?;
        let mut evaluation = None;
        for split in self.run.due.clone() {
            // What a signal kept the run from.
            match self.evaluate(self.first, &split, stop).await? {
                Some(scores) if split == self.run.config.data.eval_split => evaluation = Some(scores),
                Some(_) => {}
                None => return self.stopped(self.asked(stop).expect("that is why")).await,
            }
        }
        for step in self.first + 1..=total {
            if let Some(status) = self.asked(stop) {
                return self.stopped(status).await;
            }
            if self.saving.as_ref().is_some_and(Saving::is_over) {
                self.settle()?;
            }
            if self.run.faults.strikes(Fault::ReadError, step) {
                return Err(Error::Data(format!(
                    "the pictures of step {step} cannot be read: asked for by a variable"
                )));
            }
            let (_, batch) = loader.next().expect("training batches never end")?;
            let submitted = self.step(&batch, step, total).await?;
            self.pending.push_back((step, submitted));
            (self.done, self.batch) = (step, Some(batch));

            let (epoch_ends, run_ends) = (step % self.run.steps_per_epoch == 0, step == total);
            let mut saves = run_ends || (every > 0 && step % every == 0);
            let logs = step == self.first + 1 || step % LOG_EVERY == 0 || saves;
            self.look(if logs || epoch_ends { 0 } else { IN_FLIGHT }, logs).await?;
            self.run.look_at_pictures(epoch_ends, &self.progress)?;
            if epoch_ends || run_ends {
                // None where all its steps were skipped, with losses that are no numbers.
                if let Some(trained) = self.epoch.take() {
                    self.log_epoch(step, &self.run.config.data.train_split.clone(), &trained)?;
                }
                for split in self.run.evaluated_after(step) {
                    let Some(scores) = self.evaluate(step, &split, stop).await? else {
                        return self.stopped(self.asked(stop).expect("that is why")).await;
                    };
                    if split == self.run.config.data.eval_split {
                        evaluation = Some(scores);
                    }
                }
                let keep = &self.run.config.training.keep;
                saves |= keep.best() && self.run.best.is_some_and(|best| best.step == step);
                saves |= epoch_ends && keep.names_epoch(step / self.run.steps_per_epoch);
            }
            if saves {
                self.save().await?;
            }
            if epoch_ends || saves {
                self.progress.pause_over();
            }
        }
        let evaluation = match evaluation {
            Some(evaluation) => evaluation,
            // The run was over already.
            None => match self.scores(total, &self.run.config.data.eval_split.clone(), stop).await? {
                Some(evaluation) => evaluation,
                None => return self.stopped(self.asked(stop).expect("that is why")).await,
            },
        };
        self.settle()?;
        let (epoch, seconds) = (total / self.run.steps_per_epoch, self.begun.elapsed().as_secs_f64());
        self.run.folder.log(&Event::End { step: total, epoch, seconds })?;
        self.tell_traffic();
        let split = self.run.config.data.eval_split.clone();
        Ok(Outcome::Finished(FinishedRun { step: total, evaluation, split }))
    }

    /// Saves the last finished step, as the run was told to stop.
    async fn stopped(&mut self, status: u8) -> Result<Outcome> {
        self.save_rest().await?;
        Ok(Outcome::Stopped(StoppedRun { step: self.done, steps: self.run.total_steps(), status }))
    }

    /// Saves the last finished step unless that has happened.
    async fn save_rest(&mut self) -> Result<()> {
        self.look(0, false).await?;
        self.settle()?;
        if self.run.saved != self.done {
            match self.done == self.first {
                true => self.write(self.run.held.checkpoint.clone())?, // its first writing has failed
                false => self.save().await?,
            }
            self.settle()?;
        }
        Ok(())
    }

    /// Saves the last finished step, where an error has ended the run, if device and disk let it, and says so. A run that has
    /// diverged is not saved.
    async fn rescue(&mut self, error: &Error) {
        let lost = self.engine.gpu.check().is_err();
        if self.run.saved == self.done && self.done == self.first || lost || matches!(error, Error::Training(_)) {
            return;
        }
        let root = self.run.folder.root().display().to_string();
        if self.run.ranks.several() {
            // What saving needs, such as the scores of the last step, the others may no longer give.
            let step = self.run.saved;
            eprintln!(
                "an error ends all ranks; the newest checkpoint is that of step {step}: recurve train --resume {root}"
            );
            return;
        }
        match self.save_rest().await {
            Ok(()) => eprintln!(
                "an error ends the run; its {} steps are saved: recurve train --resume {root} goes on from there",
                self.done
            ),
            Err(second) => eprintln!(
                "an error ends the run; its newest checkpoint is that of step {}, as step {} could not be saved: {second}",
                self.run.saved, self.done
            ),
        }
    }

    /// What Adam counts as step `step`: of an imported network, whose moments start at zero, only the steps taken here. In mixed precision
    /// the device counts for itself, without those that are skipped.
    fn adam_step(&self, step: u64) -> u64 {
        let held = &self.run.held.checkpoint.state;
        step - held.step + held.adam_step
    }

    /// Sets the numbers of a step's update.
    pub(super) async fn set_hyper(&self, step: u64, total: u64) -> Result<()> {
        let hyper = hyper(&self.run.config.training, step, total);
        self.engine.set_hyper(&hyper, self.adam_step(step), LOSS_SCALE).await
    }

    /// Feeds a part of a step's batch, with what its pictures count in the whole.
    pub(super) async fn feed(&self, part: &Batch) -> Result<()> {
        self.engine.feed(part).await?;
        self.engine.weigh(part.n, part.whole, LOSS_SCALE).await
    }

    /// Submits a step.
    pub(super) async fn step(&mut self, batch: &Batch, step: u64, total: u64) -> Result<Submitted> {
        let lost = self.run.faults.strikes(Fault::DeviceLost, step);
        self.set_hyper(step, total).await?;
        if self.run.ranks.several() {
            return self.step_of_all(batch, lost).await;
        }
        let engine = &self.engine;
        if engine.parts == 1 {
            self.feed(batch).await?;
            engine.run();
            if lost {
                engine.gpu.lose();
            }
            let scores = vec![(batch.n, engine.scores_later())];
            return Ok(self.submitted(scores));
        }
        let mut scores = Vec::new();
        for (part, batch) in self.mine(batch).iter().enumerate() {
            self.feed(batch).await?;
            engine.pass_part(part == 0).await?;
            if lost {
                engine.gpu.lose();
            }
            scores.push((batch.n, engine.scores_later()));
        }
        engine.update();
        Ok(self.submitted(scores))
    }

    /// What will come back of a step whose scores these are.
    pub(super) fn submitted(&self, scores: Vec<(usize, Reading)>) -> Submitted {
        let engine = &self.engine;
        Submitted { scores, norm: engine.gradient_norm_later(), loss_scale: engine.loss_scale_later() }
    }

    /// Looks at the scores of the oldest steps until those of so many are left; the last of all is logged where asked.
    async fn look(&mut self, left: usize, logs: bool) -> Result<()> {
        while self.pending.len() > left {
            let (step, submitted) = self.pending.pop_front().expect("not empty");
            let mut scores = None;
            for (images, reading) in submitted.scores {
                add(&mut scores, self.engine.finish_scores(reading, images).await?);
            }
            let scores = self.of_all(scores.expect("one part at least")).await?;
            let images = scores.images;
            let mut grad_norm = None;
            if let Some(reading) = submitted.norm {
                grad_norm = Some(self.engine.finish_gradient_norm(reading).await?);
            }
            let mut loss_scale = None;
            if let Some(reading) = submitted.loss_scale {
                loss_scale = Some(self.engine.finish_loss_scale(reading).await?);
            }
            if let Some(LossScale { scale, skipped, .. }) = loss_scale.filter(|of| of.skipped > self.skipped) {
                if scale < LEAST_SCALE {
                    let what = format!("gradients are not finite although the loss scale has fallen to {scale}");
                    return Err(self.diverged(step, &what));
                }
                self.progress.note(&format!(
                    "step {step}: a gradient is not finite, the step is skipped, {skipped} so far; the loss scale falls to \
                     {scale}"
                ));
                self.skipped = skipped;
                self.run.folder.log(&Event::Skipped { step, skipped, loss_scale: scale })?;
                self.run.reached = self.run.reached.max(step);
                if scores.total_loss().is_finite() {
                    add(&mut self.epoch, scores);
                }
                continue;
            }
            let loss = self.finite(&scores, step)?;
            if let Some(norm) = grad_norm.filter(|norm| !norm.is_finite()) {
                return Err(self.diverged(step, &format!("the norm of the gradients is {norm}")));
            }
            self.run.reached = self.run.reached.max(step);
            add(&mut self.epoch, scores);
            let images_per_s = self.progress.step(step, images, loss);
            if logs && self.pending.is_empty() {
                let epoch = (step - 1) / self.run.steps_per_epoch;
                let seconds = self.run.begun.elapsed().as_secs_f64();
                let loss_scale = loss_scale.map(|of| of.scale);
                self.run.folder.log(&Event::Step {
                    step,
                    epoch,
                    loss,
                    grad_norm,
                    loss_scale,
                    images_per_s,
                    seconds,
                })?;
            }
        }
        Ok(())
    }

    /// The loss: mean over pictures, sum over timesteps. An error if it is not finite.
    fn finite(&mut self, scores: &Scores, step: u64) -> Result<f64> {
        let loss = scores.total_loss();
        if loss.is_finite() { Ok(loss) } else { Err(self.diverged(step, &format!("the loss is {loss}"))) }
    }

    fn diverged(&mut self, step: u64, what: &str) -> Error {
        if let Err(error) = self.settle() {
            return error;
        }
        self.diverged_at = Some(step);
        self.run.ranks.fail_together(); // scores, gradients and parameters are those of all
        let (root, rate) = (self.run.folder.root().display(), self.run.config.training.learning_rate);
        Error::Training(format!(
            "step {step}: {what}: training has diverged. The last good checkpoint is {}; go on from it with a smaller \
             learning rate (now {rate:e}): recurve train --resume {root} --learning-rate {:.1e}",
            self.run.last_good.display(),
            rate / 10.0
        ))
    }

    /// Scores on a whole split after `step` steps, which are logged and said; `None` where the run is told to stop meanwhile.
    async fn evaluate(&mut self, step: u64, split: &str, stop: &Stop) -> Result<Option<Scores>> {
        let Some(scores) = self.scores(step, split, stop).await? else { return Ok(None) };
        let event = self.log_epoch(step, split, &scores)?;
        self.run.met(&event);
        let epoch = step as f64 / self.run.steps_per_epoch as f64;
        self.progress.note(&format!("epoch {epoch:.1}, {split}: {}", describe(&scores)));
        Ok(Some(scores))
    }

    /// Scores on a whole split; `None` where the run is told to stop meanwhile.
    async fn scores(&mut self, step: u64, split: &str, stop: &Stop) -> Result<Option<Scores>> {
        let mut sums = None;
        for batch in self.rounds(split)? {
            if self.asked(stop).is_some() {
                return Ok(None);
            }
            let scores = match batch? {
                Some(batch) => self.forward(&batch).await?,
                None => self.no_scores(),
            };
            let scores = self.of_all(scores).await?;
            self.finite(&scores, step)?;
            add(&mut sums, scores);
        }
        sums.map(Some).ok_or_else(|| Error::Data(format!("split {split} holds no picture")))
    }

    pub(super) async fn forward(&self, batch: &Batch) -> Result<Scores> {
        self.evaluator.feed(batch).await?;
        self.evaluator.run();
        self.evaluator.scores(batch.n).await
    }

    fn log_epoch(&mut self, step: u64, split: &str, scores: &Scores) -> Result<Event> {
        let event = Event::Epoch {
            epoch: step / self.run.steps_per_epoch,
            step,
            split: split.into(),
            loss: scores.mean_loss(),
            accuracy: scores.accuracy(),
            images: scores.images as u64,
        };
        self.run.folder.log(&event)?;
        Ok(event)
    }

    /// Saves the run after the last step, whose scores have been looked at: copies its state to the host and begins to write
    /// it. The loss of a step is that before its update, so the updated network is tried once more on the step's batch: a
    /// checkpoint is always one with which training can go on.
    async fn save(&mut self) -> Result<()> {
        let step = self.done;
        let batch = self.batch.take().expect("only what was computed here is saved");
        let mut tried = None;
        for part in self.mine(&batch) {
            add(&mut tried, self.forward(&part).await?);
        }
        let tried = self.of_all(tried.expect("one part at least")).await?;
        self.finite(&tried, step)?;
        self.batch = Some(batch);
        let parameters = self.engine.parameters().await?;
        let (adam_m, adam_v) = self.engine.moments().await?;
        for (what, tensors) in
            [("", &parameters), ("Adam's mean gradient of ", &adam_m), ("Adam's mean square of ", &adam_v)]
        {
            if let Some((name, _, value)) = tensors.not_finite() {
                let what = format!("{what}{name} holds {value}");
                return Err(self.diverged(step, &what));
            }
        }
        self.check_replicas(step, [&parameters, &adam_m, &adam_v]).await?;
        self.settle()?; // one is written at a time
        let held = &self.run.held.checkpoint.state;
        let state = CheckpointState {
            step,
            adam_step: self.adam_step(step),
            epoch: step / self.run.steps_per_epoch,
            batch_in_epoch: step % self.run.steps_per_epoch,
            data: held.data.clone(),
            network: self.run.config.network.clone(),
            training: self.run.config.training.essential(),
            origin: held.origin.clone(),
            loss_scale: self.engine.loss_scale().await?,
        };
        let checkpoint = Arc::new(Checkpoint { state, parameters, adam_m, adam_v });
        self.run.hold(checkpoint.clone())?;
        self.write(checkpoint)
    }

    /// Begins to write a checkpoint.
    fn write(&mut self, checkpoint: Arc<Checkpoint>) -> Result<()> {
        let step = checkpoint.state.step;
        if self.run.faults.strikes(Fault::DiskFull, step) {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(Error::Checkpoint(format!("checkpoint of step {step} not written: {full}")));
        }
        let (keep, best) = (self.run.config.training.keep.clone(), self.run.best.map(|best| best.step));
        let rule = Rule { keep, steps_per_epoch: self.run.steps_per_epoch, best };
        self.saving = Some(self.run.folder.save_later(checkpoint, &rule)?);
        Ok(())
    }

    /// Waits for the checkpoint that is being written, if one is.
    fn settle(&mut self) -> Result<()> {
        if let Some(saving) = self.saving.take() {
            let step = saving.step();
            self.run.last_good = saving.finish()?;
            self.run.saved = step;
        }
        Ok(())
    }
}

fn hyper(training: &TrainingConfig, step: u64, total: u64) -> Hyper {
    let TrainingConfig { beta1, beta2, epsilon, .. } = *training;
    Hyper { learning_rate: training.learning_rate_at(step, total), beta1, beta2, epsilon }
}

pub(super) fn add(sums: &mut Option<Scores>, scores: Scores) {
    match sums {
        Some(sums) => sums.add(&scores),
        None => *sums = Some(scores),
    }
}
