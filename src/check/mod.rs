//! `recurve check`: every kernel variant against its twin, and golden files, on the user's own adapter.

pub mod network;
pub mod run;
