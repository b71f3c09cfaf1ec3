//! `recurve demo`.

use super::Adapter;
use recurve::gpu::Gpu;
use recurve::graph::passes::Passes;
use recurve::network::{Preset, RunConfig};
use recurve::train::Run;
use recurve::train::run::describe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The built-in stimuli, easier than they are by default, so that minutes on a CPU suffice.
const DATA: &str = "glyphs:difficulty=0.15,val=200";

/// Arguments of `recurve demo`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the run; a demo that was interrupted there goes on
    #[arg(long, value_name = "DIR", default_value = "recurve-demo")]
    out: PathBuf,
    /// Seed of initialisation and of the order of the pictures
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Length in batches of 32 pictures
    #[arg(long, value_name = "N", default_value_t = 400)]
    steps: u64,
}

impl Arguments {
    fn config(&self) -> recurve::Result<RunConfig> {
        let mut config = Preset::Tiny.run();
        config.data.path = Some(DATA.into());
        config.training.seed = self.seed;
        config.training.set_steps(self.steps);
        config.training.checkpoint_every = 50;
        config.set_classes(10)?;
        Ok(config)
    }
}

/// Runs `recurve demo`.
pub fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let (out, config) = (&arguments.out, arguments.config()?);
    let run = if out.join("config.toml").exists() {
        let run = Run::resume(out, |_| ())?;
        anyhow::ensure!(*run.config() == config, "{} holds another run than this demo; give another --out", out.display());
        run
    } else {
        Run::create(config, out)?
    };
    let gpu = adapter.open(false)?;
    if run.step() < run.total_steps() {
        let outcome = run.train(&gpu, Passes::default())?;
        eprintln!("{} steps, {}: {}", outcome.step, outcome.split, describe(&outcome.evaluation));
    }
    let report = analyse(&gpu, out)?;
    println!("{}", report.display());
    Ok(ExitCode::SUCCESS)
}

/// Analyses the run on split test and writes the report into its folder; returns the page's path.
fn analyse(_gpu: &Gpu, out: &Path) -> anyhow::Result<PathBuf> {
    anyhow::bail!("{}: trained, but this build cannot analyse yet", out.display())
}
