//! `recurve export`.

use super::Adapter;
use anyhow::{bail, ensure};
use clap::ValueEnum;
use recurve::analysis::Selection;
use recurve::extract::{Extract, Pictures, extract};
use recurve::train::run_folder::{chosen, not_of_a_run, read_config};
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
    /// With --to npz: another data set than the run's
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// With --to npz: the split [default: test]
    #[arg(long)]
    split: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    /// State dict that torch.load reads
    Pth,
    /// State dict with the network's description, which import reads without flags
    Safetensors,
    /// Readout, outputs and representations of a split in the published layout: what `recurve extract --out FILE.npz` writes
    Npz,
}

/// Runs `recurve export`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    read_config(&arguments.run)?;
    not_of_a_run(&arguments.out)?;
    match arguments.to {
        To::Pth => weights(arguments, Form::Pth)?,
        To::Safetensors => weights(arguments, Form::Safetensors)?,
        To::Npz => activity(arguments, adapter).await?,
    }
    println!("{}", arguments.out.display());
    Ok(ExitCode::SUCCESS)
}

fn weights(arguments: &Arguments, form: Form) -> anyhow::Result<()> {
    for (flag, given) in [("--data", arguments.data.is_some()), ("--split", arguments.split.is_some())] {
        ensure!(
            !given,
            "{flag} is for --to npz, which shows the network pictures; weights need none: leave {flag} away"
        );
    }
    let (checkpoint, _) = chosen(&arguments.run, arguments.checkpoint)?;
    weights::write(&checkpoint, form, &arguments.out)?;
    eprintln!("{} tensors of step {}", checkpoint.parameters.len(), checkpoint.state.step);
    Ok(())
}

async fn activity(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<()> {
    if !arguments.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz")) {
        bail!("{}: expected a file named .npz, as --to npz asks for one", arguments.out.display());
    }
    let gpu = adapter.open(false).await?;
    let selection = Selection {
        run: &arguments.run,
        data: arguments.data.as_deref(),
        split: Some(arguments.split.as_deref().unwrap_or("test")),
        checkpoint: arguments.checkpoint,
        protocol: None,
    };
    let asked = Extract {
        selection,
        out: &arguments.out,
        areas: None,
        timesteps: None,
        pictures: &Pictures::All,
        half: false,
        command: &super::command_line(),
    };
    extract(&gpu, &asked).await?.arrays.iter().for_each(|array| eprintln!("{array}"));
    Ok(())
}
