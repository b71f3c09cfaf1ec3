//! The configuration of a whole run, as a TOML file: what a user writes and what a run folder keeps.
//!
//! ```toml
//! preset = "tiny"            # whose values missing keys take; "tiny" if absent
//!
//! [network]                  # every key of NetworkConfig
//! topdown = true
//!
//! [data]
//! path = "objects_32px.h5"
//!
//! [training]
//! steps = 2000               # or epochs
//! ```

use super::config::NetworkConfig;
use super::preset::Preset;
use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// Section `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// HDF5 file, folder of pictures, or `glyphs` (the built-in stimuli). `None` until a file or flag gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Split that is trained on.
    pub train_split: String,
    /// Split that is evaluated after each epoch.
    pub eval_split: String,
}

/// Section `[training]`: Adam (Kingma & Ba 2015), batch and length. A checkpoint holds a copy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Pictures per step.
    pub batch: usize,
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
    /// Seed of initialisation, order of the pictures and everything else that is drawn.
    pub seed: u64,
    /// Steps between checkpoints; 0: only the first and the last.
    pub checkpoint_every: u64,
}

impl TrainingConfig {
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
        if !(self.learning_rate > 0.0 && self.learning_rate.is_finite()) {
            return wrong("learning_rate", self.learning_rate, "a number above 0");
        }
        for (key, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return wrong(key, beta, "at least 0 and below 1");
            }
        }
        if !(self.epsilon > 0.0 && self.epsilon.is_finite()) {
            return wrong("epsilon", self.epsilon, "a number above 0");
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

/// A whole run: network, data, training. `config.toml` of a run folder holds one, complete, so that it can be replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// What is trained.
    pub network: NetworkConfig,
    /// On what.
    pub data: DataConfig,
    /// How.
    pub training: TrainingConfig,
    /// No one has chosen `network.classes` yet (a preset, or a file without the key): the data set does,
    /// see [`RunConfig::set_classes`].
    #[serde(skip)]
    pub classes_open: bool,
}

impl RunConfig {
    /// Reads and checks a configuration file.
    pub fn read(path: &Path) -> Result<RunConfig> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        RunConfig::parse(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
    }

    /// Reads and checks a configuration. Keys that it lacks take the values of its `preset` (`tiny` if absent);
    /// `steps` there replaces the preset's `epochs`. Errors show line, column and key.
    pub fn parse(text: &str) -> Result<RunConfig> {
        let mut table = DeTable::parse(text).map_err(|e| Error::Config(e.to_string()))?;
        let preset = match table.get_mut().remove("preset") {
            Some(name) => read_value(name.span(), name.into_inner(), text, "preset")?,
            None => Preset::Tiny,
        };
        let classes_open = !has_key(table.get_ref(), "network", "classes");
        let mut defaults = preset.run();
        if has_key(table.get_ref(), "training", "steps") {
            defaults.training.epochs = None;
        }
        let defaults = defaults.to_toml();
        fill_in(table.get_mut(), DeTable::parse(&defaults).expect("own TOML").into_inner());
        let mut config: RunConfig = read_value(table.span(), DeValue::Table(table.into_inner()), text, "")?;
        config.classes_open = classes_open;
        config.validate()?;
        Ok(config)
    }

    /// Checks every value; the error names the key, what was found and what is allowed.
    pub fn validate(&self) -> Result<()> {
        self.network.validate()?;
        self.training.validate()
    }

    /// The complete configuration as TOML, from which [`RunConfig::parse`] makes the same run.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every value of a run configuration has a TOML form once it is validated")
    }

    /// Takes the number of classes from the data set, or checks it where the user has fixed it.
    pub fn set_classes(&mut self, found: usize) -> Result<()> {
        if !self.classes_open && self.network.classes != found {
            return Err(Error::Config(format!(
                "[network] classes = {}, but the data set has {found} classes; leave the key out to take the data set's",
                self.network.classes
            )));
        }
        self.network.classes = found;
        self.classes_open = false;
        self.network.validate()
    }
}

fn has_key(table: &DeTable, section: &str, key: &str) -> bool {
    table.get(section).and_then(|s| s.get_ref().as_table()).is_some_and(|s| s.contains_key(key))
}

/// Adds to `table` what it lacks of `defaults`, section by section. What a user wrote keeps its place in the text, so
/// that an error can point to it.
fn fill_in<'a>(table: &mut DeTable<'a>, defaults: DeTable<'a>) {
    for (key, default) in defaults {
        match table.get_mut(&key).map(|v| v.get_mut()) {
            None => {
                table.insert(key, default);
            }
            Some(DeValue::Table(section)) => {
                if let DeValue::Table(default) = default.into_inner() {
                    fill_in(section, default);
                }
            }
            Some(_) => {}
        }
    }
}

/// Deserialises one TOML value of `text`; `at` is its key, empty for the whole document.
fn read_value<T: DeserializeOwned>(span: Range<usize>, value: DeValue, text: &str, at: &str) -> Result<T> {
    serde_path_to_error::deserialize(ValueDeserializer::from(Spanned::new(span, value))).map_err(|e| {
        let path = if at.is_empty() { e.path().to_string() } else { at.to_string() };
        let mut error = e.into_inner();
        error.set_input(Some(text));
        Error::Config(format!("in `{path}`: {error}"))
    })
}

fn wrong<T>(key: &str, found: impl std::fmt::Display, allowed: &str) -> Result<T> {
    Err(Error::Config(format!("[training] {key} = {found} is not possible: it must be {allowed}")))
}
