//! recurve: recurrent vision networks (BLT: bottom-up, lateral, top-down connections) trained with hand-written
//! WGSL on any GPU that wgpu reaches, and the statistics of how their representations move through readout zones.
//!
//! The modules stand in the order in which the data flows:
//!
//! ```text
//! dataset -> network -> graph (unroll, differentiate, pass, plan) -> kernels -> gpu -> train
//!                                                                       \-> trajectory -> report
//! ```

pub mod error;
pub mod hash;

pub mod dataset;

pub mod network;

pub mod ops;

pub mod graph;

pub mod reference;

pub mod kernels;

pub mod gpu;

pub mod engine;

pub mod check;

pub mod tune;

pub mod train;

pub mod trajectory;

pub mod report;

pub mod bench;

pub use error::{Error, Result};
