//! What a recurrent network does between the first and the last timestep, beyond the published analysis of
//! [`crate::trajectory`], whose groups, `t_stable` and window are used here.
//!
//! Every measure is one file: its definition with formula and source, what it accumulates on the device, its result as it
//! stands in `report.json`, and its tests. They meet in [`Dynamics`].

pub mod cka;
pub mod decoder;
pub mod goldens;
pub mod moments;
mod parallel;
pub mod parameters;
pub mod pca;
pub mod rdm;
pub mod rdm_time;
pub mod space;
pub mod structure;
pub mod subject;

pub use parameters::Parameters;
pub use structure::Structure;
pub use subject::Subject;
