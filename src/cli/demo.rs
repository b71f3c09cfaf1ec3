//! `recurve demo`.

use super::Adapter;
use std::process::ExitCode;

/// Arguments of `recurve demo`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs `recurve demo`.
pub fn run(_arguments: &Arguments, _adapter: &Adapter) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
