//! `recurve shaders`.

use super::Adapter;
use std::process::ExitCode;

/// Arguments of `recurve shaders`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs `recurve shaders`.
pub fn run(_arguments: &Arguments, _adapter: &Adapter) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
