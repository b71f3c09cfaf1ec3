//! `recurve data`.

use std::process::ExitCode;

/// Arguments of `recurve data`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs `recurve data`.
pub fn run(_arguments: &Arguments) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
