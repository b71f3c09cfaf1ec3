//! `recurve check`.

use super::Adapter;
use std::process::ExitCode;

/// Arguments of `recurve check`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs `recurve check`.
pub fn run(_arguments: &Arguments, _adapter: &Adapter) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
