//! `recurve analyse`.

use super::Adapter;
use std::process::ExitCode;

/// Arguments of `recurve analyse`.
#[derive(clap::Args)]
pub struct Arguments {}

/// Runs `recurve analyse`.
pub fn run(_arguments: &Arguments, _adapter: &Adapter) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
