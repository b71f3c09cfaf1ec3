//! The general description of a network: areas and connections, section `[architecture]` of a configuration file.

use serde::{Deserialize, Serialize};

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
