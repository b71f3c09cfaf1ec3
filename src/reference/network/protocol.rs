//! What is shown and what is disturbed, when: the protocol that golden files hold as JSON under `protocol`.

use serde::Deserialize;

use super::description::{Connection, Kind, Network};
use super::unroll;
use crate::{Error, Result};

/// A protocol. The default is the ordinary run.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protocol {
    /// Steps of the run; those of the network where not given.
    pub timesteps: Option<usize>,
    /// Disturbances of connections.
    #[serde(default)]
    pub gains: Vec<Gain>,
    /// What is shown from when on, in any order; before, the picture itself is.
    #[serde(default)]
    pub inputs: Vec<Input>,
}

/// A factor of a connection's term, its bias included.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gain {
    /// `<to>.<name>`, or `*.lateral` or `*.top_down` for all of that kind.
    pub connection: String,
    /// The factor.
    pub gain: f64,
    /// First step of the target that is affected.
    #[serde(default)]
    pub from: usize,
    /// First step that is no longer affected; none where not given.
    pub until: Option<usize>,
}

/// Something that is shown from a step on.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// That step.
    pub from: usize,
    /// What is shown: `blank` or `next`.
    pub show: Show,
}

/// What the network sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Show {
    /// The picture of the batch; no protocol needs to name it.
    #[serde(skip)]
    Picture,
    /// The training set's mean colour, which is 0 to the network.
    Blank,
    /// The picture that follows in the batch, the first after the last.
    Next,
}

impl Gain {
    fn concerns(&self, connection: &Connection) -> bool {
        match self.connection.as_str() {
            "*.lateral" => connection.kind == Kind::Lateral,
            "*.top_down" => connection.kind == Kind::TopDown,
            label => connection.label == label,
        }
    }
}

impl Protocol {
    /// Reads a protocol for a network and checks it.
    ///
    /// # Errors
    /// Names what is wrong.
    pub fn from_json(json: &serde_json::Value, network: &Network) -> Result<Self> {
        let protocol = Self::deserialize(json).map_err(|e| Error::Config(format!("protocol: {e}")))?;
        protocol.check(network).map_err(|wrong| Error::Config(format!("protocol: {wrong}")))?;
        Ok(protocol)
    }

    fn check(&self, network: &Network) -> Result<(), String> {
        unroll::check_readout(network, self.timesteps.unwrap_or(network.timesteps))?;
        for gain in &self.gains {
            let Gain { connection, gain: factor, from, until } = gain;
            if !network.connections.iter().any(|c| gain.concerns(c)) {
                let labels: Vec<&str> = network.connections.iter().map(|c| c.label.as_str()).collect();
                return Err(format!("no connection is called `{connection}`; there are {}", labels.join(", ")));
            }
            if !factor.is_finite() {
                return Err(format!("the gain of `{connection}` must be finite, found {factor}"));
            }
            if until.is_some_and(|until| until <= *from) {
                return Err(format!("the gain of `{connection}` from step {from} ends before it begins"));
            }
        }
        for (i, input) in self.inputs.iter().enumerate() {
            if self.inputs[..i].iter().any(|other| other.from == input.from) {
                return Err(format!("two inputs are shown from step {}", input.from));
            }
        }
        Ok(())
    }

    /// The product of all gains on a connection at a step of its target.
    pub(super) fn gain(&self, connection: &Connection, t: usize) -> f64 {
        let acts = |gain: &&Gain| gain.concerns(connection) && t >= gain.from && gain.until.is_none_or(|end| t < end);
        self.gains.iter().filter(acts).map(|gain| gain.gain).product()
    }

    /// What is shown at a step: the input that began last.
    pub(super) fn show(&self, t: usize) -> Show {
        let begun = self.inputs.iter().filter(|input| input.from <= t);
        begun.max_by_key(|input| input.from).map_or(Show::Picture, |input| input.show)
    }
}
