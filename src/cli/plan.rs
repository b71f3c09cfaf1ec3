//! `recurve plan`.

use super::Adapter;
use std::process::ExitCode;

/// Arguments of `recurve plan`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs `recurve plan`.
pub fn run(_arguments: &Arguments, _adapter: &Adapter) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
