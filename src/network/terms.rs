//! The words that all descriptions of a network share, and the bounds of their numbers.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Channels of a picture (red, green, blue).
pub const IMAGE_CHANNELS: usize = 3;

/// No parameter, and no map of one picture, may hold more elements: kernels index with 32-bit integers.
pub(super) const MAX_ELEMENTS: u64 = 1 << 30;
/// Largest side of a picture.
pub(super) const MAX_IMAGE_SIZE: usize = 4096;
/// Most channels of an area, and most groups of them.
pub(super) const MAX_CHANNELS: usize = 16384;
/// Largest side of a kernel.
pub(super) const MAX_KERNEL: usize = 31;
/// Most timesteps.
pub(super) const MAX_TIMESTEPS: usize = 10_000;
/// Most classes.
pub(super) const MAX_CLASSES: usize = 1_000_000;
/// Most areas of a description.
pub(super) const MAX_AREAS: usize = 1024;
/// Most connections of a description.
pub(super) const MAX_CONNECTIONS: usize = 8192;

/// How the drive `s` of lateral and top-down connections joins the bottom-up drive `b`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Interaction {
    /// `b + s`
    #[default]
    Additive,
    /// `b * (1 + s)`
    Multiplicative,
}

/// Normalisation before an area's activation. Biased variance, epsilon 1e-5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Normalisation {
    /// Over `[C, H, W]` with one scale and shift per element (`[C]` for a vector), as published.
    #[default]
    Layer,
    /// Over `groups` groups of channels, with one scale and shift per channel.
    Group,
    /// None; the maps have biases instead.
    None,
}

/// Which connections take a timestep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unroll {
    /// Lateral and top-down ones: a picture passes all areas within a step.
    #[default]
    Engineering,
    /// All but those from the picture.
    Biological,
}

/// In what the maps of a network are stored while it is trained, and how gradients keep in its range: `precision` of `[training]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// f16; parameters, sums and all arithmetic in f32; the loss is scaled so that few gradients are too small for f16, and a step in
    /// which one is too large is skipped.
    Mixed,
}

impl Precision {
    /// Whether it is f32, as where nobody says.
    pub fn is_f32(&self) -> bool {
        *self == Precision::F32
    }
}

impl std::str::FromStr for Precision {
    type Err = Error;

    fn from_str(word: &str) -> Result<Precision> {
        match word {
            "f32" => Ok(Precision::F32),
            "mixed" => Ok(Precision::Mixed),
            _ => Err(Error::Config(format!("precision: expected f32 or mixed, found {word}"))),
        }
    }
}

/// Refuses what is outside `low..=high`; `what` says which number of which section it is.
pub(super) fn within(what: &str, found: usize, low: usize, high: usize) -> Result<()> {
    if (low..=high).contains(&found) { Ok(()) } else { impossible(what, found, &format!("{low} to {high}")) }
}

/// The error for a value that cannot be.
pub(super) fn impossible<T>(what: &str, found: impl std::fmt::Display, allowed: &str) -> Result<T> {
    Err(Error::Config(format!("{what} = {found} is not possible: it must be {allowed}")))
}

/// Reads a number in single precision; one that is not 0 must not become 0 there, and not infinite.
pub(super) fn single<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<f32, D::Error> {
    let number = <f64 as serde::Deserialize>::deserialize(deserializer)?;
    let single = number as f32;
    if number.is_finite() && (!single.is_finite() || (number != 0.0 && single.abs() < f32::MIN_POSITIVE)) {
        let range = "expected 0 or a number in the range of f32 (1.2e-38 to 3.4e38)";
        return Err(serde::de::Error::custom(format!("{number:e} is outside what the device computes with: {range}")));
    }
    Ok(single)
}
