//! `recurve bench`.

use super::Adapter;
use std::process::ExitCode;

/// Arguments of `recurve bench`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs `recurve bench`.
pub fn run(_arguments: &Arguments, _adapter: &Adapter) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
