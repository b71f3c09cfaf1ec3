//! What is shown and what is disturbed, when: lesions, cooling, masking. Section `[protocol]` of a file of its own.
//!
//! ```toml
//! [protocol]
//! timesteps = 20             # default: the T that was trained
//!
//! [[protocol.gains]]
//! connection = "*.lateral"   # or one, by <to>.<name>
//! gain = 0                   # multiplies the connection's term, bias included
//! from = 3                   # first step of the target that is affected; default 0
//! until = 6                  # first step no longer affected; default: to the end
//!
//! [[protocol.inputs]]
//! from = 4
//! show = "blank"             # or "next"
//! ```

use super::resolved::{Connection, Kind, Network};
use super::terms::{MAX_TIMESTEPS, within};
use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A protocol. [`Protocol::validate`] must hold for the network that it is used with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Timesteps to run, which may exceed those that were trained; these where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timesteps: Option<usize>,
    /// What is disturbed. Gains on one connection multiply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gains: Vec<Gain>,
    /// What is shown instead of the picture, in any order: the one that began last counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
}

/// A factor on the terms of connections during some steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gain {
    /// `<to>.<name>`, or `*.<kind>` for all connections of a kind, whatever their names.
    pub connection: String,
    /// 0: lesion; 0.5: cooling; 2: amplification.
    #[serde(deserialize_with = "super::terms::single")]
    pub gain: f32,
    /// First step of the target that is affected.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub from: usize,
    /// First step no longer affected; to the end where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<usize>,
}

/// Something else that is shown from a step on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// The first step.
    pub from: usize,
    /// What is shown.
    pub show: Shown,
}

/// What the network sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    /// The picture itself, which a protocol begins with.
    #[serde(skip)]
    Picture,
    /// Zeros: the training set's mean colour.
    Blank,
    /// The picture that follows in the split; the last is followed by the first.
    Next,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The sections of a protocol file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sections {
    protocol: Protocol,
}

impl Gain {
    /// Whether it is meant for this connection.
    pub fn fits(&self, connection: &Connection) -> bool {
        self.connection == connection.label || self.connection.strip_prefix("*.") == Some(connection.kind.name())
    }

    /// Whether it acts at step `t`.
    pub fn acts(&self, t: usize) -> bool {
        self.from <= t && self.until.is_none_or(|until| t < until)
    }
}

impl Protocol {
    /// Reads a protocol file.
    ///
    /// # Errors
    /// Unknown or missing keys, wrong values. What depends on the network: [`Protocol::validate`].
    pub fn read(path: &Path) -> Result<Protocol> {
        let text = files::read_text(path, files::TEXT).map_err(Error::io(path))?;
        Protocol::parse(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))
    }

    /// Reads the text of a protocol file.
    ///
    /// # Errors
    /// As [`Protocol::read`].
    pub fn parse(text: &str) -> Result<Protocol> {
        let deserializer = toml::Deserializer::parse(text).map_err(|e| Error::Config(e.to_string()))?;
        let sections: Sections = serde_path_to_error::deserialize(deserializer).map_err(|e| {
            let path = e.path().to_string();
            let mut error = e.into_inner();
            error.set_input(Some(text));
            Error::Config(format!("in `{path}`: {error}"))
        })?;
        Ok(sections.protocol)
    }

    /// Reads the `protocol` JSON of a golden file's metadata.
    ///
    /// # Errors
    /// As [`Protocol::read`].
    pub fn from_golden_json(json: &str) -> Result<Protocol> {
        serde_json::from_str(json)
            .map_err(|e| Error::Config(format!("the protocol in the golden file's metadata: {e}")))
    }

    /// Checks it for a network; the error names what is wrong and what there is.
    ///
    /// # Errors
    /// A name or pattern that no connection has, an empty interval, a gain that is not finite, two inputs that begin at one
    /// step, an end before anything is read out.
    pub fn validate(&self, network: &Network) -> Result<()> {
        let timesteps = self.timesteps(network.timesteps);
        within("[protocol] timesteps", timesteps, 1, MAX_TIMESTEPS)?;
        let first = network.first_steps()[network.readout.area];
        if timesteps <= first {
            return Err(Error::Config(format!(
                "[protocol] timesteps = {timesteps}: this network is read out from step {first} on (the first is 0); \
                 set timesteps to {} or more",
                first + 1
            )));
        }
        for gain in &self.gains {
            self.check_gain(gain, network)?;
        }
        for (i, input) in self.inputs.iter().enumerate() {
            if self.inputs[..i].iter().any(|other| other.from == input.from) {
                return Err(Error::Config(format!(
                    "[protocol] two inputs have from = {}, so that it is open what is shown; keep one of them",
                    input.from
                )));
            }
        }
        Ok(())
    }

    fn check_gain(&self, gain: &Gain, network: &Network) -> Result<()> {
        let Gain { connection, gain: factor, from, until } = gain;
        let fitting: Vec<&Connection> = network.connections.iter().filter(|c| gain.fits(c)).collect();
        if fitting.is_empty() {
            let mut there: Vec<String> = network.connections.iter().map(|c| c.label.clone()).collect();
            for kind in [Kind::BottomUp, Kind::Lateral, Kind::TopDown] {
                if network.connections.iter().any(|c| c.kind == kind) {
                    there.push(format!("*.{}", kind.name()));
                }
            }
            return Err(Error::Config(format!(
                "[protocol] gain on {connection:?}: this network has no such connection; it has {}",
                there.join(", ")
            )));
        }
        if let Some(until) = until.filter(|until| until <= from) {
            return Err(Error::Config(format!(
                "[protocol] gain on {connection:?}: until = {until} is not after from = {from}, so that no step is affected; \
                 until is the first step that is no longer affected"
            )));
        }
        if !factor.is_finite() {
            return Err(Error::Config(format!(
                "[protocol] gain on {connection:?}: gain = {factor} is not a finite number"
            )));
        }
        // A product changes where one of its factors begins.
        match fitting.iter().find(|c| !self.gain(c, *from).is_finite()) {
            Some(c) => Err(Error::Config(format!(
                "[protocol] the gains on {} multiply to {} at step {from}, which is not a finite number; make them smaller",
                c.label,
                self.gain(c, *from)
            ))),
            None => Ok(()),
        }
    }

    /// Timesteps to run, of a network that was trained with `trained`.
    pub fn timesteps(&self, trained: usize) -> usize {
        self.timesteps.unwrap_or(trained)
    }

    /// The factor on a connection's term, bias included, at step `t` of its target: the product of the gains that act.
    pub fn gain(&self, connection: &Connection, t: usize) -> f32 {
        self.gains.iter().filter(|g| g.acts(t) && g.fits(connection)).map(|g| g.gain).product()
    }

    /// Indices of the connections whose gain is not 1 at some step of the run.
    pub fn disturbed(&self, network: &Network) -> Vec<usize> {
        let steps = self.timesteps(network.timesteps);
        let disturbed = |c: &Connection| (0..steps).any(|t| self.gain(c, t) != 1.0);
        (0..network.connections.len()).filter(|&i| disturbed(&network.connections[i])).collect()
    }

    /// What is shown at step `t`.
    pub fn shown(&self, t: usize) -> Shown {
        let begun = self.inputs.iter().filter(|input| input.from <= t);
        begun.max_by_key(|input| input.from).map_or(Shown::Picture, |input| input.show)
    }
}
