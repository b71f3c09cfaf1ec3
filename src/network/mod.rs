//! Networks as data: what a user describes, what everything below sees, what is learned, and a whole run's configuration.
//!
//! A network is described either by [`NetworkConfig`] (the published BLT family, section `[network]`) or by
//! [`Architecture`] (areas and connections of one's own, section `[architecture]`); both become a [`Network`].
//! [`Protocol`] says what is shown and disturbed when a trained one runs. Modules import upwards only:
//!
//! ```text
//! terms, parameters <- network <- state_dict <- config (BLT), architecture <- resolve <- description
//!                      network <- protocol, schedule      training <- preset <- run_config -> description
//! ```

pub mod architecture;
pub mod config;
pub mod description;
pub mod network;
pub mod parameters;
pub mod preset;
pub mod protocol;
mod resolve;
pub mod run_config;
pub mod schedule;
mod state_dict;
pub mod terms;
pub mod training;

pub use architecture::{Activation, Architecture, AreaDescription, ConnectionDescription, Pool};
pub use config::{AREAS, LtPosition, NetworkConfig, RecurrentFrom, parameters};
pub use description::Description;
pub use network::{Area, AreaNorm, Connection, From, Kind, Map, Network, Readout};
pub use parameters::{Init, ParameterSpec, initialise};
pub use preset::Preset;
pub use protocol::{Gain, Input, Protocol, Shown};
pub use run_config::RunConfig;
pub use schedule::Schedule;
pub use terms::{IMAGE_CHANNELS, Interaction, Normalisation, Unroll};
pub use training::{DataConfig, TrainingConfig};
