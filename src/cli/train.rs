//! `recurve train`.

use super::Adapter;
use std::process::ExitCode;

/// Arguments of `recurve train`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs `recurve train`.
pub fn run(_arguments: &Arguments, _adapter: &Adapter) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
