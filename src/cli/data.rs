//! `recurve data`.

use clap::Subcommand;
use recurve::dataset::inspect::{inspect, sheet, write_png};
use recurve::dataset::{Augmentation, open};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recurve data`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read and verify all of a data set: splits, counts, sizes, classes, channel statistics
    Inspect {
        /// HDF5 file, folder of pictures, or `glyphs`
        path: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Draw a contact sheet: the first pictures of every class, labelled
    Sheet {
        /// HDF5 file, folder of pictures, or `glyphs`
        path: String,
        /// The picture to write
        #[arg(long, value_name = "PNG")]
        out: PathBuf,
        /// Split to show; the first there is, if not given
        #[arg(long)]
        split: Option<String>,
        /// Pictures of each class
        #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=100))]
        per_class: u16,
        /// Show the pictures as training does: `trivial` is TrivialAugmentWide, with what was drawn beneath each
        #[arg(long, value_name = "none|trivial", default_value = "none")]
        augment: Augmentation,
        /// With --augment: the seed of the draws, as that of a run
        #[arg(long, value_name = "S", default_value_t = 1)]
        seed: u64,
        /// With --augment: the epoch that is shown, the first is 0
        #[arg(long, value_name = "N", default_value_t = 0)]
        epoch: u64,
    },
}

/// Runs `recurve data`.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    match &arguments.command {
        Command::Inspect { path, json } => {
            let inspection = inspect(path)?;
            if *json {
                println!("{}", serde_json::to_string(&inspection)?);
            } else {
                println!("{inspection}");
            }
        }
        Command::Sheet { path, out, split, per_class, augment, seed, epoch } => {
            let dataset = open(path, None)?;
            dataset.notes().iter().for_each(|note| eprintln!("note: {note}"));
            let splits = dataset.splits();
            let split = match split.as_ref().or(splits.first()) {
                Some(split) => split,
                None => anyhow::bail!("{path}: there is no split to show"),
            };
            let drawn = (*augment == Augmentation::Trivial).then_some((*seed, *epoch));
            write_png(&sheet(&*dataset, split, usize::from(*per_class), drawn)?, out)?;
            println!("{}", out.display());
        }
    }
    Ok(ExitCode::SUCCESS)
}
