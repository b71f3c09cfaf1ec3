//! What a recurrent network does between the first and the last timestep, beyond the published analysis of
//! [`crate::trajectory`], whose groups, `t_stable` and window are used here.
//!
//! Every measure is one file: its definition with formula and source, what it accumulates on the device, its result as it
//! stands in `report.json`, and its tests. They meet in [`Dynamics`].

pub mod goldens;
pub mod parameters;
pub mod subject;

pub use parameters::Parameters;
pub use subject::Subject;
