//! The training run: step, checkpoints, metrics, run folder.
//!
//! [`checkpoint`] is one file with everything that a run needs to go on, [`metrics`] the log's events, [`run_folder`]
//! the folder that keeps both and survives being killed at any moment, [`progress`] what the user sees meanwhile, [`data`] where
//! the run's data are found again, [`run`] the loop.

pub mod checkpoint;
pub mod data;
pub mod metrics;
pub mod progress;
pub mod run;
pub mod run_folder;

pub use checkpoint::{Checkpoint, CheckpointState, DataState};
pub use metrics::Event;
pub use progress::Progress;
pub use run::{FinishedRun, Run};
pub use run_folder::{Latest, Resumed, RunFolder};
