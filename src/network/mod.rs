//! The BLT network: configuration, presets, parameters and their initialisation.
//!
//! [`config`] describes one network and checks it, [`preset`] names the published and the small ones, [`run_config`]
//! adds data and training (the TOML file of a run), [`mod@parameters`] lists what the network learns, in the order and
//! under the names of the published state dict, with the published initialisation.

pub mod architecture;
pub mod config;
pub mod network;
pub mod parameters;
pub mod preset;
pub mod run_config;
pub mod schedule;

pub use architecture::Unroll;
pub use config::{AREAS, IMAGE_CHANNELS, Interaction, LtPosition, NetworkConfig, Norm, RecurrentFrom};
pub use network::{Area, AreaNorm, Connection, From, Kind, Map, Network, Readout};
pub use parameters::{Init, ParameterSpec, initialise, parameters};
pub use preset::Preset;
pub use schedule::{Schedule, Shown};
pub use run_config::{DataConfig, RunConfig, TrainingConfig};
