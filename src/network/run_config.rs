//! The configuration of a whole run, as a TOML file: what a user writes and what a run folder keeps.
//!
//! ```toml
//! preset = "tiny"            # whose values missing keys take; "tiny" if absent
//!
//! [network]                  # every key of NetworkConfig; or [architecture], every key of Architecture
//! topdown = true
//!
//! [data]
//! path = "objects_32px.h5"
//!
//! [training]
//! steps = 2000               # or epochs
//! ```

use super::architecture::Architecture;
use super::config::NetworkConfig;
use super::description::Description;
use super::preset::Preset;
use super::training::{DataConfig, TrainingConfig};
use crate::dataset::{Augmentation, LastBatch};
use crate::error::{Error, Result};
use crate::files;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// First line of a run's `config.toml`; a file without it is the user's own.
pub const MARK: &str = "# Written by recurve: the complete configuration of this run.\n";

/// A whole run: network, data, training. `config.toml` of a run folder holds one, complete, so that it can be replayed.
#[derive(Clone, Debug, PartialEq)]
pub struct RunConfig {
    /// What is trained.
    pub network: Description,
    /// On what.
    pub data: DataConfig,
    /// How.
    pub training: TrainingConfig,
    /// No one has chosen the number of classes yet (a preset, or a file without the key): the data set does,
    /// see [`RunConfig::set_classes`].
    pub classes_open: bool,
}

/// The file's sections as they are read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    network: Option<NetworkConfig>,
    architecture: Option<Architecture>,
    data: DataConfig,
    training: TrainingConfig,
}

/// The file's sections as they are written.
#[derive(Serialize)]
struct SectionsOf<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<&'a NetworkConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    architecture: Option<&'a Architecture>,
    data: &'a DataConfig,
    training: &'a TrainingConfig,
}

impl RunConfig {
    /// Reads and checks a configuration file.
    pub fn read(path: &Path) -> Result<RunConfig> {
        let text = files::read_text(path, files::TEXT).map_err(Error::io(path))?;
        RunConfig::parse(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
    }

    /// Reads and checks a configuration. Keys that it lacks take the values of its `preset` (`tiny` if absent);
    /// `steps` there replaces the preset's `epochs`. An `[architecture]` replaces the preset's network; only its number of
    /// classes, if absent, is the preset's until a data set says it. A run's own file ([`MARK`]) is complete: what it does not say
    /// about the last batch, augmentation and the test split, the run did not do. Errors show line, column and key.
    pub fn parse(text: &str) -> Result<RunConfig> {
        let mut table = DeTable::parse(text).map_err(|e| Error::Config(e.to_string()))?;
        let preset = match table.get_mut().remove("preset") {
            Some(name) => read_value(name.span(), name.into_inner(), text, "preset")?,
            None => Preset::Tiny,
        };
        let has_section = |name: &str| table.get_ref().contains_key(name);
        if has_section("network") && has_section("architecture") {
            return Err(Description::both_sections());
        }
        let own = has_section("architecture");
        let classes_open = !has_key(table.get_ref(), if own { "architecture" } else { "network" }, "classes");
        let mut defaults = preset.run();
        if text.starts_with(MARK) {
            (defaults.training.last_batch, defaults.training.augment) = (LastBatch::Drop, Augmentation::None);
            defaults.data.test_split = None;
        }
        if has_key(table.get_ref(), "training", "steps") {
            defaults.training.epochs = None;
        }
        let defaults = defaults.to_toml();
        let mut defaults = DeTable::parse(&defaults).expect("own TOML").into_inner();
        if own {
            defaults.remove("network");
        }
        fill_in(table.get_mut(), defaults);
        let Sections { network, architecture, data, training } =
            read_value(table.span(), DeValue::Table(table.into_inner()), text, "")?;
        let mut network = Description::of_sections(network, architecture)?;
        if classes_open {
            network.set_classes(preset.network().classes);
        }
        let data = DataConfig { test_split: data.test_split.filter(|split| !split.is_empty()), ..data };
        let config = RunConfig { network, data, training, classes_open };
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
        let (network, architecture) = self.network.sections();
        let sections = SectionsOf { network, architecture, data: &self.data, training: &self.training };
        toml::to_string(&sections).expect("every value of a run configuration has a TOML form once it is validated")
    }

    /// Takes the number of classes from the data set, or checks it where the user has fixed it.
    pub fn set_classes(&mut self, found: usize) -> Result<()> {
        if let Some(classes) = self.network.classes().filter(|&classes| !self.classes_open && classes != found) {
            return Err(Error::Config(format!(
                "[{}] classes = {classes}, but the data set has {found} classes; leave the key out to take the data set's",
                self.network.section()
            )));
        }
        self.network.set_classes(found);
        self.classes_open = false;
        self.network.validate()
    }
}

impl Preset {
    /// Network, training and the usual splits; the data set's path and classes are still open.
    pub fn run(self) -> RunConfig {
        RunConfig {
            network: self.network().into(),
            data: DataConfig {
                path: None,
                from_run: None,
                fingerprint: None,
                train_split: "train".into(),
                eval_split: "val".into(),
                test_split: Some("test".into()),
            },
            training: self.training(),
            classes_open: true,
        }
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
