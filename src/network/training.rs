//! How a network is trained and on what: sections `[training]` and `[data]` of a configuration file.

use super::bytes::Bytes;
use super::keep::Keep;
use super::terms::{Precision, impossible};
use crate::dataset::{Augmentation, LastBatch, TrainingBatches};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Section `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// HDF5 file, folder of pictures, or `glyphs` (the built-in stimuli). `None` until a file or flag gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The same path seen from the run folder, for a run that was moved together with its data; written when a run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_run: Option<String>,
    /// A hash of the data that the run was started on, so that others are not taken for them; written when a run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// Split that is trained on.
    pub train_split: String,
    /// Split that is evaluated after each epoch.
    pub eval_split: String,
    /// Split that is evaluated once, at the end of the run; `None` where there is none, and of runs whose files do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_split: Option<String>,
}

/// Section `[training]`: Adam (Kingma & Ba 2015), batch and length. A checkpoint holds [`TrainingConfig::essential`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Pictures per step.
    pub batch: usize,
    /// Parts in which a step's pictures are computed one after the other, so that they need less memory; their gradients
    /// add up. It must divide the batch.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub accumulate: usize,
    /// What becomes of the pictures that are left at the end of an epoch, fewer than a batch.
    #[serde(default, skip_serializing_if = "LastBatch::is_drop")]
    pub last_batch: LastBatch,
    /// What is done to training pictures; those that a network is evaluated on stay as they are.
    #[serde(default, skip_serializing_if = "Augmentation::is_none")]
    pub augment: Augmentation,
    /// Bytes that the plan of a training step may take: what of the forward pass does not fit is computed again. Changes no
    /// number of the run, unless activations may be packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Whether activations may be packed to f16 for the backward pass where `memory` asks for less than a step takes, if that is
    /// predicted to cost less than computing them again; gradients are rounded then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pack_activations: bool,
    /// In what maps are stored; f32 where the key is absent.
    #[serde(default, skip_serializing_if = "Precision::is_f32")]
    pub precision: Precision,
    /// Length in passes over the training split. Exactly one of `epochs` and `steps` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Length in steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Adam's step size.
    pub learning_rate: f64,
    /// Steps at the run's end over which the step size falls linearly towards 0; 0 (also where the key is absent): it stays.
    #[serde(default)]
    pub decay_steps: u64,
    /// Decay of Adam's mean of gradients, in [0, 1).
    pub beta1: f64,
    /// Decay of Adam's mean of squared gradients, in [0, 1).
    pub beta2: f64,
    /// Adam's term against division by zero.
    pub epsilon: f64,
    /// Largest norm of a step's gradients, all parameters taken together: beyond it they are shortened to it, as
    /// `torch.nn.utils.clip_grad_norm_` does. `None`: they stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Seed of initialisation, order of the pictures and everything else that is drawn.
    pub seed: u64,
    /// Steps between checkpoints; 0: only the first and the last.
    pub checkpoint_every: u64,
    /// Which checkpoints stay; all where the key is absent.
    #[serde(default, skip_serializing_if = "Keep::is_all")]
    pub keep: Keep,
}

fn one() -> usize {
    1
}

fn is_one(parts: &usize) -> bool {
    *parts == 1
}

impl DataConfig {
    /// Replaces where the data lie by what a user says, relative to the present folder; nothing is known yet of these data.
    pub fn set_path(&mut self, path: &str) {
        (self.path, self.from_run, self.fingerprint) = (Some(path.into()), None, None);
    }
}

impl TrainingConfig {
    /// The same without what changes no number of the run: when checkpoints are written, which stay, and bounds of memory, unless
    /// activations may be packed. A checkpoint holds this, so that its bytes do not depend on them.
    pub fn essential(&self) -> TrainingConfig {
        let memory = self.memory.filter(|_| self.pack_activations);
        TrainingConfig { checkpoint_every: 0, keep: Keep::default(), memory, ..self.clone() }
    }

    /// How the pictures of the training split become batches.
    pub fn batches(&self) -> TrainingBatches {
        TrainingBatches { batch: self.batch, last: self.last_batch, augment: self.augment, seed: self.seed }
    }

    /// Makes the run this many steps long.
    pub fn set_steps(&mut self, steps: u64) {
        (self.steps, self.epochs) = (Some(steps), None);
    }

    /// Makes the run this many epochs long.
    pub fn set_epochs(&mut self, epochs: u64) {
        (self.epochs, self.steps) = (Some(epochs), None);
    }

    /// Length of the run in steps, where an epoch has `steps_per_epoch` (saturating).
    pub fn total_steps(&self, steps_per_epoch: u64) -> u64 {
        self.steps.unwrap_or_else(|| self.epochs.unwrap_or(0).saturating_mul(steps_per_epoch))
    }

    /// Adam's step size at the `step`-th of `total` steps (the first is 1).
    pub fn learning_rate_at(&self, step: u64, total: u64) -> f64 {
        let left = total.saturating_sub(step).saturating_add(1) as f64;
        self.learning_rate * (left / (self.decay_steps as f64 + 1.0)).min(1.0)
    }

    /// Checks every value; the error names the key, what was found and what is allowed.
    pub fn validate(&self) -> Result<()> {
        if !(1..=1 << 24).contains(&self.batch) {
            return wrong("batch", self.batch, "1 to 16777216");
        }
        if self.accumulate == 0 || !self.batch.is_multiple_of(self.accumulate) {
            let divisors: Vec<String> =
                (1..=64.min(self.batch)).filter(|p| self.batch.is_multiple_of(*p)).map(|p| p.to_string()).collect();
            let more = if self.batch > 64 { ", ..." } else { "" };
            let allowed = format!("a number that divides the batch of {} ({}{more})", self.batch, divisors.join(", "));
            return wrong("accumulate", self.accumulate, &allowed);
        }
        if self.pack_activations && self.memory.is_none() {
            let why =
                "[training] pack_activations packs what does not fit into `memory` (--memory), which is not given";
            return Err(Error::Config(why.into()));
        }
        if self.pack_activations && !self.precision.is_f32() {
            let why = "[training] pack_activations is for precision = \"f32\": in mixed precision all activations are in f16 already";
            return Err(Error::Config(why.into()));
        }
        match (self.epochs, self.steps) {
            (Some(epochs), Some(steps)) => {
                let both = format!("[training] has both epochs = {epochs} and steps = {steps}; give one of the two");
                return Err(Error::Config(both));
            }
            (None, None) => return Err(Error::Config("[training] has neither epochs nor steps; give one".into())),
            _ => {}
        }
        for (key, length) in [("epochs", self.epochs), ("steps", self.steps)] {
            if let Some(length) = length.filter(|n| !(1..=1 << 40).contains(n)) {
                return wrong(key, length, "1 to 1099511627776");
            }
        }
        // The device computes in single precision, where a smaller number is 0 and a larger one infinite.
        let range = f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX);
        let clip_norm = self.clip_norm.map(|number| ("clip_norm", number));
        let numbers = [("learning_rate", self.learning_rate), ("epsilon", self.epsilon)];
        for (key, number) in numbers.into_iter().chain(clip_norm) {
            if !range.contains(&number) {
                return wrong(key, format!("{number:e}"), "a number above 0 in the range of f32, 1.2e-38 to 3.4e38");
            }
        }
        for (key, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            let single = beta as f32;
            if beta != 0.0 && !(range.contains(&beta) && single < 1.0) {
                return wrong(key, beta, "0, or in the range of f32 above 0 and below 1 (1.2e-38 to 0.99999994)");
            }
        }
        if self.decay_steps > 1 << 40 {
            return wrong("decay_steps", self.decay_steps, "0 to 1099511627776");
        }
        if i64::try_from(self.seed).is_err() {
            return wrong("seed", self.seed, "0 to 9223372036854775807 (TOML's largest integer)");
        }
        Ok(())
    }
}

fn wrong<T>(key: &str, found: impl std::fmt::Display, allowed: &str) -> Result<T> {
    impossible(&format!("[training] {key}"), found, allowed)
}
