//! The training run: step, checkpoints, metrics, run folder.
//!
//! [`checkpoint`] is one file with everything that a run needs to go on, [`metrics`] the log's events, [`run_folder`]
//! the folder that keeps both and survives being killed at any moment, [`progress`] what the user sees meanwhile, [`data`] where
//! the run's data are found again, [`stop`]
//! how a run is told to stop, [`fault`] what tests let go wrong, [`run`] the run around its loop, `session` the loop on a
//! device, `together` what ranks that train one network do together, `suspect` where a number first stopped being finite,
//! `looking` what goes through the pictures of a large data set meanwhile.

pub mod checkpoint;
pub mod data;
pub mod fault;
mod looking;
pub mod metrics;
pub mod progress;
pub mod run;
pub mod run_folder;
mod session;
pub mod stop;
mod suspect;
mod together;

pub use checkpoint::{Checkpoint, CheckpointState, DataState};
pub use metrics::Event;
pub use progress::Progress;
pub use run::{FinishedRun, Outcome, Run, StoppedRun};
pub use run_folder::{Latest, Resumed, RunFolder};
pub use stop::Stop;
