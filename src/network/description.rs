//! The description of a network, either way: section `[network]` or `[architecture]` of a configuration file.

use super::architecture::Architecture;
use super::config::NetworkConfig;
use super::resolved::Network;
use crate::error::{Error, Result};
use std::collections::HashMap;

/// What a network is made of, as a user says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Description {
    /// A network of the published BLT family, `[network]`.
    Family(NetworkConfig),
    /// Areas and connections of one's own, `[architecture]`.
    Own(Architecture),
}

impl Description {
    /// Of two optional sections the one that is there.
    pub fn of_sections(network: Option<NetworkConfig>, architecture: Option<Architecture>) -> Result<Description> {
        match (network, architecture) {
            (Some(network), None) => Ok(Description::Family(network)),
            (None, Some(architecture)) => Ok(Description::Own(architecture)),
            (Some(_), Some(_)) => Err(Description::both_sections()),
            (None, None) => Err(Error::Config(
                "there is neither [network] nor [architecture]; one must describe the network".into(),
            )),
        }
    }

    /// The error where a network is described twice.
    pub(super) fn both_sections() -> Error {
        Error::Config(
            "there are both [network] and [architecture], and each describes a whole network; keep one of them".into(),
        )
    }

    /// The two sections, one of which is there.
    pub fn sections(&self) -> (Option<&NetworkConfig>, Option<&Architecture>) {
        match self {
            Description::Family(network) => (Some(network), None),
            Description::Own(architecture) => (None, Some(architecture)),
        }
    }

    /// As [`Description::sections`], owned.
    pub fn into_sections(self) -> (Option<NetworkConfig>, Option<Architecture>) {
        match self {
            Description::Family(network) => (Some(network), None),
            Description::Own(architecture) => (None, Some(architecture)),
        }
    }

    /// The name of the section.
    pub fn section(&self) -> &'static str {
        match self {
            Description::Family(_) => "network",
            Description::Own(_) => "architecture",
        }
    }

    /// Reads it from the metadata of a golden file, key `architecture` or `config`.
    pub fn from_golden_metadata(metadata: &HashMap<String, String>) -> Result<Description> {
        match (metadata.get("architecture"), metadata.get("config")) {
            (Some(json), _) => Architecture::from_golden_json(json).map(Description::Own),
            (None, Some(json)) => NetworkConfig::from_golden_json(json).map(Description::Family),
            (None, None) => Err(Error::Config(
                "the golden file's metadata has neither architecture nor config: no network is described".into(),
            )),
        }
    }

    /// Checks everything; the error names what is wrong and what to do.
    pub fn validate(&self) -> Result<()> {
        match self {
            Description::Family(network) => network.validate(),
            Description::Own(architecture) => architecture.validate(),
        }
    }

    /// The network.
    ///
    /// # Errors
    /// A description that is not valid, or whose number of classes is not known yet.
    pub fn network(&self) -> Result<Network> {
        match self {
            Description::Family(network) => network.validate().map(|()| network.network()),
            Description::Own(architecture) => architecture.network(),
        }
    }

    /// Side of the pictures, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Description::Family(network) => network.image_size,
            Description::Own(architecture) => architecture.image_size,
        }
    }

    /// The same network for pictures of another size.
    pub fn with_image_size(mut self, side: usize) -> Description {
        match &mut self {
            Description::Family(network) => network.image_size = side,
            Description::Own(architecture) => architecture.image_size = side,
        }
        self
    }

    /// Timesteps T.
    pub fn timesteps(&self) -> usize {
        match self {
            Description::Family(network) => network.timesteps,
            Description::Own(architecture) => architecture.timesteps,
        }
    }

    /// The same network trained over `timesteps` (a one-step network of the family has fewer parameters; to run a trained
    /// network for longer, change [`Network::timesteps`]).
    pub fn with_timesteps(mut self, timesteps: usize) -> Description {
        match &mut self {
            Description::Family(network) => network.timesteps = timesteps,
            Description::Own(architecture) => architecture.timesteps = timesteps,
        }
        self
    }

    /// Classes of the readout; `None` where nothing says so yet.
    pub fn classes(&self) -> Option<usize> {
        match self {
            Description::Family(network) => Some(network.classes),
            Description::Own(architecture) => architecture.classes,
        }
    }

    /// Gives the readout this many classes.
    pub fn set_classes(&mut self, classes: usize) {
        match self {
            Description::Family(network) => network.classes = classes,
            Description::Own(architecture) => architecture.classes = Some(classes),
        }
    }
}

impl std::convert::From<NetworkConfig> for Description {
    fn from(network: NetworkConfig) -> Description {
        Description::Family(network)
    }
}

impl std::convert::From<Architecture> for Description {
    fn from(architecture: Architecture) -> Description {
        Description::Own(architecture)
    }
}
