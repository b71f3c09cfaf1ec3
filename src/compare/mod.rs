//! Runs side by side: the contrasts of the published analysis over networks and seeds, with intervals and verdicts.

pub mod contrasts;
