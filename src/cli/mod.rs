//! Commands. Exit code 0: done; 1: a check failed or the input is bad; 2: wrong usage (clap). Results go to stdout,
//! errors and progress to stderr.

mod analyse;
mod bench;
mod bisect;
mod check;
mod compare;
mod data;
mod demo;
mod devices;
mod export;
mod extract;
mod import;
mod plan;
mod shaders;
mod sweep;
mod train;
mod tune;

use clap::{Parser, Subcommand};
use recurve::gpu::{FEATURES, Gpu, Options, Smaller, adapters, in_turn, target};
use recurve::kernels::Target;
use recurve::output::quoted;
use std::process::ExitCode;

/// Trains recurrent vision networks (BLT) with hand-written WGSL on any GPU that wgpu reaches, and shows how their
/// representations move through readout zones.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
pub struct Arguments {
    /// Adapter to use: part of its name or driver, or its index in `recurve devices`. Default: the fastest kind found.
    #[arg(long, global = true, value_name = "TEXT")]
    adapter: Option<String>,
    /// Hold the adapter to WebGPU's default limits, which every device offers: would it run there?
    #[arg(long, global = true, value_name = "webgpu", value_parser = ["webgpu"], hide_possible_values = true)]
    limits: Option<String>,
    /// Do without features of the adapter: subgroups, f16, int64, timestamps (separated by commas).
    #[arg(long, global = true, value_name = "FEATURES", value_delimiter = ',', hide_possible_values = true,
        value_parser = FEATURES.map(|(name, _)| name))]
    without: Vec<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network, or go on with an interrupted run.
    Train(train::Arguments),
    /// Train all combinations of varied keys of a configuration, one run after the other or as a job array.
    Sweep(sweep::Arguments),
    /// Measure a trained network's trajectories and write the report.
    Analyse(analyse::Arguments),
    /// Set trained networks side by side: contrasts over seeds with intervals and verdicts, agreement between runs.
    Compare(compare::Arguments),
    /// Write a trained network's activity to disk: outputs and representations, or whole areas.
    Extract(extract::Arguments),
    /// Make a run of a network trained elsewhere: a state dict of PyTorch or safetensors.
    Import(import::Arguments),
    /// Write a run's weights for PyTorch or as safetensors, or its activity in the published layout.
    Export(export::Arguments),
    /// Train a small network on the built-in stimuli and write its report: everything once, in minutes.
    Demo(demo::Arguments),
    /// Look at a data set: verify it, or draw a contact sheet.
    Data(data::Arguments),
    /// List the adapters and what they can do.
    Devices(devices::Arguments),
    /// Check every kernel on this adapter against plain loops, or against golden files.
    Check(check::Arguments),
    /// Find the first tensor that differs between two executions of a training step: adapters, kernel variants, versions.
    Bisect(bisect::Arguments),
    /// Show the graph, what each pass does, dispatches and memory, without touching a device.
    Plan(plan::Arguments),
    /// List or dump the kernels, as WGSL, SPIR-V, MSL or HLSL.
    Shaders(shaders::Arguments),
    /// Measure training steps, convolutions and matrix products.
    Bench(bench::Arguments),
    /// Measure which kernel variants suit a network on this adapter, and keep what was found for later runs.
    Tune(tune::Arguments),
}

/// Runs the command. Here, at the binary's edge, is where it is waited for: what is behind does not block.
///
/// # Errors
/// What went wrong, for people.
pub fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    pollster::block_on(command(arguments))
}

async fn command(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let smaller = Smaller::new(arguments.limits.is_some(), &arguments.without);
    let adapter = Adapter { selector: arguments.adapter, smaller };
    match arguments.command {
        Command::Train(a) => train::run(&a, &adapter).await,
        Command::Sweep(a) => sweep::run(&a, &adapter).await,
        Command::Analyse(a) => analyse::run(&a, &adapter).await,
        Command::Compare(a) => compare::run(&a, &adapter).await,
        Command::Extract(a) => extract::run(&a, &adapter).await,
        Command::Import(a) => import::run(&a),
        Command::Export(a) => export::run(&a, &adapter).await,
        Command::Demo(a) => demo::run(&a, &adapter).await,
        Command::Data(a) => data::run(&a),
        Command::Devices(a) => devices::run(&a, &adapter).await,
        Command::Check(a) => check::run(&a, &adapter).await,
        Command::Bisect(a) => bisect::run(&a, &adapter).await,
        Command::Plan(a) => plan::run(&a, &adapter).await,
        Command::Shaders(a) => shaders::run(&a, &adapter).await,
        Command::Bench(a) => bench::run(&a, &adapter).await,
        Command::Tune(a) => tune::run(&a, &adapter).await,
    }
}

/// The command as it was typed, for reports, in the quotes of a POSIX shell.
fn command_line() -> String {
    let arguments = std::env::args_os().skip(1).map(|argument| quoted(&argument.to_string_lossy()));
    ["recurve".to_string()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}

/// The user's choice of adapter, and what it is to do without.
pub struct Adapter {
    selector: Option<String>,
    smaller: Smaller,
}

impl Adapter {
    /// Opens it: `checked` with wgpu's injected checks in the shaders, for `check`; without, for everything measured.
    async fn open(&self, checked: bool) -> recurve::Result<Gpu> {
        Gpu::open(&Options { adapter: self.selector.clone(), checked, smaller: self.smaller }).await
    }

    /// That of one of several processes, whose number on this machine is `local`.
    async fn open_one_of_several(&self, local: usize) -> recurve::Result<Gpu> {
        let adapter = in_turn(self.selector.as_deref(), local).await?;
        Gpu::open(&Options { adapter, checked: false, smaller: self.smaller }).await
    }

    /// The facts about it, without opening it where none was chosen; `fallback` where there is no adapter.
    async fn target(&self, fallback: Target) -> recurve::Result<Target> {
        match (adapters().await?.first(), &self.selector) {
            (Some(first), None) => Ok(target(first, self.smaller)),
            (None, None) => Ok(fallback),
            _ => Ok(self.open(false).await?.target.clone()),
        }
    }
}
