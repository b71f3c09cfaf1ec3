//! `recurve sweep`.

use super::Adapter;
use super::train::Settings;
use recurve::files::{self, write_atomically};
use recurve::gpu::Gpu;
use recurve::network::{Preset, RunConfig, TrainingConfig};
use recurve::ranks::launched_together;
use recurve::sweep::{Axis, Planned, Standing, Sweep, slurm};
use recurve::train::run::describe;
use recurve::train::{Outcome, Run, Stop};
use recurve::{Error, Result};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Arguments of `recurve sweep`.
#[derive(clap::Args)]
#[command(
    override_usage = "recurve sweep --data PATH|glyphs {--preset NAME | --config FILE} --vary KEY=V,V... [--vary ...] \
                      --out DIR [--list | --slurm FILE] [OPTIONS]"
)]
pub struct Arguments {
    /// Network and training to start from: tiny, blt64, blt128; the four published networks with the published recipe:
    /// published-l-add, published-t-add, published-l-mul, published-t-mul
    #[arg(long, required_unless_present = "config")]
    preset: Option<Preset>,
    /// Configuration file (TOML) instead of a preset
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    config: Option<PathBuf>,
    /// A key of the configuration file and its values, such as `network.interaction=additive,multiplicative` or
    /// `training.seed=1,2,3` (repeatable: all combinations are run). Elements of lists have numbers:
    /// `architecture.areas.0.channels=8,16`
    #[arg(long, value_name = "KEY=V,V...", required = true)]
    vary: Vec<String>,
    /// Folder of the sweep, with a run folder for each combination. The same command goes on where it was interrupted, and
    /// several processes may work in it, each with an --adapter of its own
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the runs, with how far each is, and train nothing
    #[arg(long)]
    list: bool,
    /// Write a script for Slurm's `sbatch`, an array with a job for each run, and train nothing
    #[arg(long, value_name = "FILE", conflicts_with = "list")]
    slurm: Option<PathBuf>,
    /// Train only the run of this number in the list
    #[arg(long, value_name = "N", conflicts_with_all = ["list", "slurm"])]
    only: Option<usize>,
    #[command(flatten)]
    settings: Settings,
}

/// Runs `recurve sweep`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let sweep = planned(arguments)?;
    if arguments.list {
        for (number, run) in sweep.runs.iter().enumerate() {
            let standing = match run.standing()? {
                Standing::New => "new".into(),
                Standing::Begun(step) => format!("goes on from step {step}"),
                Standing::Finished => "finished".into(),
            };
            println!("{number}\t{}\t{standing}", run.name);
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(file) = &arguments.slurm {
        let script = slurm::script(&sweep, &command_of_a_job()?, std::env::current_dir()?.into())?;
        write_atomically(file, script.as_bytes()).map_err(Error::io(file))?;
        println!("{}", file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let numbers: Vec<usize> = match arguments.only {
        Some(number) if number < sweep.runs.len() => vec![number],
        Some(number) => anyhow::bail!("--only {number}: the runs are 0 to {}; see --list", sweep.runs.len() - 1),
        None => (0..sweep.runs.len()).collect(),
    };
    anyhow::ensure!(
        launched_together() == 1,
        "a sweep trains its runs one after the other, each on one device: start it without mpirun"
    );
    let queue = Queue { arguments, adapter, stop: Stop::on_signals()?, gpu: Some(adapter.open(false).await?) };
    sweep.record()?.iter().for_each(|said| eprintln!("{said}"));
    queue.work(&sweep, numbers).await
}

/// The runs: every configuration is read and checked.
fn planned(arguments: &Arguments) -> Result<Sweep> {
    let axes: Vec<Axis> = arguments.vary.iter().map(|text| Axis::parse(text)).collect::<Result<_>>()?;
    let base = match (&arguments.config, arguments.preset) {
        (Some(file), _) => {
            RunConfig::read(file)?;
            files::read_text(file, files::TEXT).map_err(Error::io(file))?
        }
        (None, preset) => format!("preset = \"{}\"", preset.unwrap_or(Preset::Tiny)),
    };
    let keep = arguments.settings.keep()?;
    Sweep::new(&arguments.out, &base, &axes, |config| arguments.settings.apply(config, &keep))
}

/// This command as a job gives it: without the flag that asks for the script.
fn command_of_a_job() -> std::io::Result<Vec<OsString>> {
    let mut command = vec![std::env::current_exe()?.into_os_string()];
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--slurm") => _ = arguments.next(),
            Some(text) if text.starts_with("--slurm=") => {}
            _ => command.push(argument),
        }
    }
    Ok(command)
}

/// The runs that wait for this process's adapter.
struct Queue<'a> {
    arguments: &'a Arguments,
    adapter: &'a Adapter,
    stop: Stop,
    /// Opened, unless a run went wrong on it: then the next has it opened anew.
    gpu: Option<Gpu>,
}

impl Queue<'_> {
    /// Works runs off, one after the other. Those that another process has under way come last, once it has left them.
    async fn work(mut self, sweep: &Sweep, numbers: Vec<usize>) -> anyhow::Result<ExitCode> {
        let (mut waiting, mut busy, mut failed) = (VecDeque::from(numbers), VecDeque::new(), Vec::new());
        let mut waits = false;
        while let Some(number) = waiting.pop_front() {
            let run = &sweep.runs[number];
            match self.one(run, number, sweep.runs.len()).await {
                Ok(None) => waits = false,
                Ok(Some(status)) => return Ok(ExitCode::from(status)),
                Err(Error::Busy(_)) => busy.push_back(number),
                Err(error) => {
                    eprintln!("error: {}: {error}", run.name);
                    failed.push(run.name.as_str());
                }
            }
            if waiting.is_empty() && !busy.is_empty() {
                if !waits {
                    eprintln!("{} runs are under way in other processes, which are waited for", busy.len());
                }
                waits = true;
                std::thread::sleep(Duration::from_secs(1));
                std::mem::swap(&mut waiting, &mut busy);
            }
        }
        if !failed.is_empty() {
            anyhow::bail!(
                "{} of {} runs have failed: {}; the same command tries them again",
                failed.len(),
                sweep.runs.len(),
                failed.join(" ")
            );
        }
        println!("{}", sweep.root.display());
        Ok(ExitCode::SUCCESS)
    }

    /// Trains a run to its end, from where it is. An exit status where it was told to stop.
    async fn one(&mut self, planned: &Planned, number: usize, of: usize) -> Result<Option<u8>> {
        let Planned { name, folder, config } = planned;
        let standing = planned.standing()?;
        if standing == Standing::Finished {
            eprintln!("[{number} of 0-{}] {name}: finished", of - 1);
            return Ok(None);
        }
        let gpu = match self.gpu.take() {
            Some(gpu) => gpu,
            None => self.adapter.open(false).await?,
        };
        let started = match standing {
            Standing::New => Run::create(config.clone(), folder, ready(Ok(gpu))).await,
            _ => self.go_on(folder, &config.training).map(|run| (run, gpu)),
        };
        let (run, gpu) = started?;
        eprintln!("[{number} of 0-{}] {name}: from step {} of {}", of - 1, run.step(), run.total_steps());
        let (passes, tuning) = self.arguments.settings.how().map_err(|e| Error::Config(e.to_string()))?;
        let run = if self.arguments.settings.fits() { run.in_parts_that_fit() } else { run };
        let outcome = run.train(&gpu, passes, &tuning, &self.stop).await?;
        self.gpu = Some(gpu);
        match outcome {
            Outcome::Finished(finished) => {
                println!("{name}: {} steps, {}: {}", finished.step, finished.split, describe(&finished.evaluation));
                Ok(None)
            }
            Outcome::Stopped(stopped) => {
                eprintln!(
                    "stopped and saved after step {} of {} of {name}; the same command goes on",
                    stopped.step, stopped.steps
                );
                Ok(Some(stopped.status))
            }
        }
    }

    /// A run from its newest checkpoint, with the length that it should have now.
    fn go_on(&self, folder: &Path, training: &TrainingConfig) -> Result<Run> {
        Run::resume(folder, |config| {
            let accumulate =
                if self.arguments.settings.fits() { config.training.accumulate } else { training.accumulate };
            config.training = TrainingConfig { accumulate, ..training.clone() };
        })
    }
}
