//! `recurve demo`.

use super::Adapter;
use recurve::analysis::{Output, Selection};
use recurve::gpu::Gpu;
use recurve::graph::passes::Passes;
use recurve::network::{NetworkConfig, Preset, RunConfig};
use recurve::train::run::describe;
use recurve::train::{Outcome, Run, Stop};
use recurve::tune::Tuning;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The built-in stimuli at their default difficulty, fresh ones in every epoch.
const DATA: &str = "glyphs:train=4000,val=400,test=2000";

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
    #[arg(long, value_name = "N", default_value_t = 3000)]
    steps: u64,
}

impl Arguments {
    /// The preset `tiny` with half its channels: it leaves more for the recurrent sweeps to do than the whole of it, which
    /// soon names these pictures as well in its first sweep as in its last. Small batches, for many updates in
    /// little time; and a step size that falls towards the end, so that the differences between
    /// timesteps are not lost in the noise of the last updates.
    fn config(&self) -> recurve::Result<RunConfig> {
        let mut config = Preset::Tiny.run();
        let network = NetworkConfig { stem_channels: 8, area_channels: [8, 16, 32, 64], ..Preset::Tiny.network() };
        config.network = network.into();
        config.data.path = Some(DATA.into());
        config.data.test_split = None; // the report is about that split
        config.training.batch = 8;
        config.training.seed = self.seed;
        config.training.set_steps(self.steps);
        config.training.decay_steps = self.steps / 4;
        config.training.checkpoint_every = 500;
        config.set_classes(10)?;
        Ok(config)
    }
}

/// Runs `recurve demo`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let (out, config, stop) = (&arguments.out, arguments.config()?, Stop::on_signals()?);
    let (run, gpu) = if out.join("config.toml").exists() {
        let run = Run::resume(out, |_| ())?;
        anyhow::ensure!(
            *run.config() == config,
            "{} holds another run than this demo; give another --out",
            out.display()
        );
        (run, adapter.open(false).await?)
    } else {
        Run::create(config, out, adapter.open(false)).await?
    };
    if !run.is_over()? {
        match run.train(&gpu, Passes::default(), &Tuning::Auto, &stop).await? {
            Outcome::Finished(run) => eprintln!("{} steps, {}: {}", run.step, run.split, describe(&run.evaluation)),
            Outcome::Stopped(run) => {
                eprintln!("stopped and saved after step {} of {}; to go on, repeat the command", run.step, run.steps);
                return Ok(ExitCode::from(run.status));
            }
        }
    }
    let report = analyse(&gpu, out).await?;
    println!("{}", report.display());
    Ok(ExitCode::SUCCESS)
}

/// Analyses the run on split test and writes the report into its folder; returns the page's path.
async fn analyse(gpu: &Gpu, out: &Path) -> anyhow::Result<PathBuf> {
    let selection = Selection { run: out, data: None, split: Some("test"), checkpoint: None, protocol: None };
    let (folder, command) = (out.join("report"), super::command_line());
    let output = Output { folder: &folder, command: Some(&command) };
    let analysis = recurve::analysis::analyse(gpu, &selection, true, output).await?;
    super::analyse::summary(&analysis.statistics);
    Ok(analysis.page)
}
