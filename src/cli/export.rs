//! `recurve export`.

use clap::ValueEnum;
use recurve::train::run_folder::{chosen, read_config};
use recurve::weights::{self, Form};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recurve export`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of a run
    run: PathBuf,
    /// Form of the file
    #[arg(long, value_name = "FORM")]
    to: To,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The checkpoint after so many steps [default: the newest]
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    /// State dict that torch.load reads
    Pth,
    /// State dict with the network's description, which import reads without flags
    Safetensors,
}

/// Runs `recurve export`.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    read_config(&arguments.run)?;
    let (checkpoint, _) = chosen(&arguments.run, arguments.checkpoint)?;
    let form = match arguments.to {
        To::Pth => Form::Pth,
        To::Safetensors => Form::Safetensors,
    };
    weights::write(&checkpoint, form, &arguments.out)?;
    eprintln!("{} tensors of step {}", checkpoint.parameters.len(), checkpoint.state.step);
    println!("{}", arguments.out.display());
    Ok(ExitCode::SUCCESS)
}
