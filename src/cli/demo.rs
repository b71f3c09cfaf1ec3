//! `recurve demo`.

use super::Adapter;
use recurve::gpu::Gpu;
use recurve::graph::passes::Passes;
use recurve::network::{Preset, RunConfig};
use recurve::train::Run;
use recurve::train::run::describe;
use recurve::trajectory::analyse::Options;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The built-in stimuli, a little easier than by default, fresh ones in every epoch.
const DATA: &str = "glyphs:difficulty=0.2,train=1600,val=400";

/// Pictures per step. The network learns per update more than per picture: with batches of 32 it is still at chance
/// after 9600 pictures, with batches of 8 nine in ten are right.
const BATCH: usize = 8;

/// Arguments of `recurve demo`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of the run; a demo that was interrupted there goes on
    #[arg(long, value_name = "DIR", default_value = "recurve-demo")]
    out: PathBuf,
    /// Seed of initialisation and of the order of the pictures
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Length in batches of 8 pictures
    #[arg(long, value_name = "N", default_value_t = 1600)]
    steps: u64,
}

impl Arguments {
    fn config(&self) -> recurve::Result<RunConfig> {
        let mut config = Preset::Tiny.run();
        config.data.path = Some(DATA.into());
        config.training.batch = BATCH;
        config.training.seed = self.seed;
        config.training.set_steps(self.steps);
        config.training.checkpoint_every = 200;
        config.set_classes(10)?;
        Ok(config)
    }
}

/// Runs `recurve demo`.
pub fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let (out, config) = (&arguments.out, arguments.config()?);
    let run = if out.join("config.toml").exists() {
        let run = Run::resume(out, |_| ())?;
        anyhow::ensure!(
            *run.config() == config,
            "{} holds another run than this demo; give another --out",
            out.display()
        );
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
fn analyse(gpu: &Gpu, out: &Path) -> anyhow::Result<PathBuf> {
    let report = out.join("report");
    let options = Options { run: out, data: None, split: "test", out: &report, checkpoint: None };
    let analysis = recurve::trajectory::analyse::analyse(gpu, &options)?;
    super::analyse::summary(&analysis.statistics);
    Ok(analysis.page)
}
