//! `recurve devices`.

use super::Adapter;
use std::process::ExitCode;

/// Arguments of `recurve devices`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs `recurve devices`.
pub fn run(_arguments: &Arguments, _adapter: &Adapter) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
