//! `recurve import`.

use recurve::network::{Interaction, LtPosition, RecurrentFrom};
use recurve::weights::{Flags, ImportOptions, import};
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recurve import`.
#[derive(clap::Args)]
pub struct Arguments {
    /// State dict of PyTorch (.pth) or safetensors; its pickle is not executed
    file: PathBuf,
    /// Folder of the run to be made
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
    /// The untrained network [default: the file NAME_epoch_-1 beside a published file]
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// How recurrent drive joins bottom-up drive: additive or multiplicative
    #[arg(long, value_name = "I", value_parser = word::<Interaction>)]
    interaction: Option<Interaction>,
    /// Timesteps that it is unrolled over
    #[arg(long, value_name = "T")]
    timesteps: Option<usize>,
    /// Side of its pictures in pixels, where no layer norm tells it
    #[arg(long, value_name = "S")]
    image_size: Option<usize>,
    /// Where recurrent connections are: all or last (at the gap only)
    #[arg(long, value_name = "P", value_parser = word::<LtPosition>)]
    lt_position: Option<LtPosition>,
    /// The lowest area that uses its recurrent weights: v2 or v1 [default: v2, as published]
    #[arg(long, value_name = "AREA", value_parser = word::<RecurrentFrom>)]
    recurrent_from: Option<RecurrentFrom>,
    /// Groups of a group norm
    #[arg(long, value_name = "G")]
    groups: Option<usize>,
    /// Names of the classes, one a line, in the order of the readout's units
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Pictures per step, should training go on
    #[arg(long, value_name = "B", default_value_t = 32)]
    batch: usize,
}

/// A word as configuration files have it; the error lists those there are.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

/// Runs `recurve import`.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let imported = import(&ImportOptions {
        file: &arguments.file,
        out: &arguments.out,
        init: arguments.init.as_deref(),
        classes: arguments.classes.as_deref(),
        flags: Flags {
            interaction: arguments.interaction,
            timesteps: arguments.timesteps,
            image_size: arguments.image_size,
            lt_position: arguments.lt_position,
            recurrent_from: arguments.recurrent_from,
            groups: arguments.groups,
        },
        batch: arguments.batch,
    })?;
    let network = &imported.network;
    eprintln!(
        "{} parameters, pictures of {} pixels, {} timesteps, {} classes",
        imported.parameters,
        network.image_size(),
        network.timesteps(),
        network.classes().unwrap_or_default()
    );
    imported.notes.iter().for_each(|note| eprintln!("note: {note}"));
    println!("{}", arguments.out.display());
    Ok(ExitCode::SUCCESS)
}
