//! Measurements that a sceptic can repeat: kernels in real shapes, verified before they are timed and set against ceilings
//! that the adapter itself has shown; whole training steps; comparison with an earlier run.
//!
//! In reading order: [`measure`] (samples, clocks, intervals), [`ceilings`], [`table`] (the one schema), [`cases`] and
//! [`kernels`], [`ladder`], [`step`] and [`trace`], [`analysis`], [`data`] (pictures), [`compare`] (baselines), [`roofline`] (the page),
//! [`variants`] (facts and predictions).

pub mod analysis;
pub mod cases;
pub mod ceilings;
pub mod compare;
pub mod data;
pub mod kernels;
pub mod ladder;
pub mod measure;
pub mod roofline;
pub mod step;
pub mod table;
pub mod trace;
pub mod variants;
