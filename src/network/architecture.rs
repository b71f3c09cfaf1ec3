//! The description of a network of one's own: areas and connections, section `[architecture]` of a configuration file.
//!
//! Keys that are left out have defaults, and are left out again when a description is written. What it means and what is
//! refused: `checks.rs` and `resolve.rs`, which make a [`super::Network`] of it; for users: `docs/networks.md`.

use super::resolved::Kind;
use super::terms::{Interaction, Normalisation, Unroll};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A network as its areas and connections.
///
/// [`Architecture::validate`] must hold before anything is built from it; reading a file or golden checks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Side of the square pictures, in pixels.
    pub image_size: usize,
    /// Classes K of the readout; the data set's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Timesteps T that the network is unrolled over.
    pub timesteps: usize,
    /// Which connections take a step.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unroll: Unroll,
    /// Whether the readout has a bias.
    #[serde(default, skip_serializing_if = "is_default")]
    pub readout_bias: bool,
    /// In any order.
    pub areas: Vec<AreaDescription>,
    /// In any order; terms that meet in one area are added in this one.
    pub connections: Vec<ConnectionDescription>,
}

/// One area.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AreaDescription {
    /// Letters, digits and underscores; not `input` or `readout`.
    pub name: String,
    /// Channels of the map, or length of the vector.
    pub channels: usize,
    /// Normalisation before the activation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub norm: Normalisation,
    /// Groups of channels of `norm = "group"`.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// What follows the norm.
    #[serde(default, skip_serializing_if = "is_default")]
    pub activation: Activation,
    /// How lateral and top-down drive joins bottom-up drive.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interaction: Interaction,
    /// `average` makes the area a vector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<Pool>,
}

/// What follows an area's norm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// max(0, x)
    #[default]
    Relu,
    /// Nothing.
    None,
}

/// How an area becomes a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// Its one bottom-up connection averages its source over pixels.
    Average,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionDescription {
    /// The area where it starts, or `input`, the picture.
    pub from: String,
    /// The area where it ends.
    pub to: String,
    /// Bottom-up, lateral or top-down.
    pub kind: Kind,
    /// Side of the kernel, odd; 3 where absent (1 for the lateral connection of a vector).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<usize>,
    /// 1, 2 or 4: divides rows and columns of a bottom-up connection, multiplies those of a top-down one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub stride: usize,
    /// 1 or 2: side of the max-pooling of the source before a bottom-up connection.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub pool: usize,
    /// Whether it has a bias; where absent: if no norm follows or it comes from the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias: Option<bool>,
    /// Letters, digits and underscores, not `norm`; the kind where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Architecture {
    /// Reads the `architecture` JSON of a golden network file: the keys of the configuration file.
    pub fn from_golden_json(json: &str) -> Result<Architecture> {
        let architecture: Architecture = serde_json::from_str(json)
            .map_err(|e| Error::Config(format!("the network's architecture in the golden file's metadata: {e}")))?;
        architecture.validate()?;
        Ok(architecture)
    }
}

impl ConnectionDescription {
    /// Its name, given or by its kind.
    pub fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(self.kind.name())
    }

    /// `<to>.<name>`, by which messages and protocols call it.
    pub fn label(&self) -> String {
        format!("{}.{}", self.to, self.name())
    }
}

fn one() -> usize {
    1
}

fn is_one(n: &usize) -> bool {
    *n == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
