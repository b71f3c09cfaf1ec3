//! recurve: recurrent vision networks (BLT: bottom-up, lateral, top-down connections) trained with hand-written
//! WGSL on any GPU that wgpu reaches, and the statistics of how their representations move through readout zones.
//!
//! The modules stand in the order in which the data flows:
//!
//! ```text
//! dataset -> network -> kernels, ops -> graph (unroll, differentiate, pass, lower, plan) -> gpu -> engine -> train
//!                                                                                            \-> stream -> trajectory -> report -> analysis, extract, compare, bisect
//! ```

#[macro_use]
pub mod output;

pub mod error;
pub mod hash;
pub mod host;

pub mod tensors;

pub mod files;

pub(crate) mod parallel;

pub mod dataset;

pub mod network;

pub mod kernels;

pub mod ops;

pub mod graph;

pub mod reference;

pub mod gpu;

pub mod scores;

pub mod engine;

pub mod ranks;

pub mod stream;

pub mod check;

pub mod tune;

pub mod train;

pub mod sweep;

pub mod weights;

pub mod trajectory;

pub mod dynamics;

pub mod report;

pub mod analysis;

pub mod extract;

pub mod compare;

pub mod bisect;

pub mod bench;

pub use error::{Error, Result};
