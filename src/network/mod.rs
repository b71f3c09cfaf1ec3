//! Networks as data: what a user describes, what everything below sees, what is learned, and a whole run's configuration.
//!
//! A network is described either by [`NetworkConfig`] (the published BLT family, section `[network]`) or by
//! [`Architecture`] (areas and connections of one's own, section `[architecture]`); both become a [`Network`].
//! [`Protocol`] says what is shown and disturbed when a trained one runs. Modules import only what stands above them:
//!
//! ```text
//! terms, parameters    words and bounds; what is learned, and its initialisation
//! resolved             areas and connections, resolved
//! state_dict           collects parameters while a network is made
//! config, architecture the two descriptions; config makes its network itself
//! checks, resolve      architecture to network: errors of single parts; order, sizes and errors of the whole
//! description          either of the two
//! protocol, schedule   what is shown and disturbed, when; the same step by step for one network
//! training             sections [training] and [data]
//! preset               named networks with their training
//! run_config           a whole configuration file
//! ```

pub mod architecture;
pub mod bytes;
mod checks;
pub mod config;
pub mod description;
pub mod keep;
pub mod parameters;
pub mod preset;
pub mod protocol;
mod resolve;
pub mod resolved;
pub mod run_config;
pub mod schedule;
mod state_dict;
pub mod terms;
pub mod training;

pub use architecture::{Activation, Architecture, AreaDescription, ConnectionDescription, Pool};
pub use bytes::Bytes;
pub use config::{AREAS, LtPosition, NetworkConfig, RecurrentFrom};
pub use description::Description;
pub use keep::Keep;
pub use parameters::{Init, ParameterSpec, initialise};
pub use preset::Preset;
pub use protocol::{Gain, Input, Protocol, Shown};
pub use resolved::{Area, AreaNorm, Connection, From, Kind, Map, Network, Readout};
pub use run_config::{MARK, RunConfig};
pub use schedule::Schedule;
pub use terms::{IMAGE_CHANNELS, Interaction, Normalisation, Precision, Unroll};
pub use training::{DataConfig, TrainingConfig};
