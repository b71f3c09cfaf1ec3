//! Sweeps: a list of runs that differ in some keys of the configuration file, worked off one after the other, by one process
//! or by several, and gone on with after any interruption.
//!
//! [`vary`] makes configurations of varied keys, [`folder`] holds the list against what was done of it, [`slurm`] writes the
//! list as a job array.

pub mod folder;
pub mod slurm;
pub mod vary;

pub use folder::{Planned, Standing, Sweep, runs_of};
pub use vary::{Axis, combinations};
