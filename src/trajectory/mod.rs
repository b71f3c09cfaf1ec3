//! Statistics of how representations move through readout zones.
//!
//! A *trajectory* is the representation r(t) that the readout sees (the activations of its area) over the timesteps; a *readout
//! zone* is the region of that space in which one class wins the linear readout. What is measured, and how a trajectory
//! is called stable or correct, follows Thorat, Doerig and Kietzmann (2023, arXiv 2308.12435) and their notebook.
//!
//! In reading order:
//! - [`definitions`]: the rules that turn a sequence of classes into a group and a `t_stable`; their only home.
//! - [`statistics`]: the result, field by field.
//! - [`readout`]: distances between readout vectors and their Ward tree.
//! - [`npz`]: stored outputs and representations, in the layout of the published extraction script.
//! - [`exact`]: the statistics in f64, written as they are defined, from stored arrays. The truth for what follows.
//! - [`accumulator`]: the sums and small tables that a stream of batches leaves, and the statistics from them.
//! - [`streaming`]: the accumulation in f32: the CPU twin of the kernels `shaders/trajectory_*.wgsl`.
//! - [`measured`]: what is measured of every image of a batch on the device, once, for the statistics and for [`crate::dynamics`].
//! - [`gpu`]: the accumulation by these kernels.
//! - [`feed`]: activity that lies on the host, handed to them.
//! - [`goldens`]: comparison with stored results.

pub mod accumulator;
pub mod definitions;
pub mod exact;
pub mod feed;
pub mod goldens;
pub mod gpu;
pub mod measured;
pub mod npz;
pub mod readout;
pub mod statistics;
pub mod streaming;

pub use statistics::Statistics;
