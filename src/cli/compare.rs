//! `recurve compare`.

use super::Adapter;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};
use recurve::compare::{Comparison, Settings, compare, table};
use recurve::sweep::runs_of;
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recurve compare`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folders of runs, or of sweeps, which stand for their finished runs; those of one network and different seeds count together.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The split that all are shown.
    #[arg(long, default_value = "test")]
    split: String,
    /// One data set for all, instead of each run's own: HDF5 file, image folder or glyphs.
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// Folder for the comparison: page, JSON, figures, tables, and the report of each run.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print the comparison as one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs `recurve compare`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let mut runs = Vec::new();
    for path in &arguments.runs {
        let (found, note) = runs_of(path)?;
        note.iter().for_each(|note| eprintln!("note: {note}"));
        runs.extend(found);
    }
    for run in &runs {
        recurve::train::run_folder::read_config(run)?;
    }
    let command = super::command_line();
    let settings = Settings {
        runs: &runs,
        data: arguments.data.as_deref(),
        split: &arguments.split,
        folder: &arguments.out,
        command: Some(&command),
    };
    let comparison = compare(&adapter.open(false).await?, &settings).await?;
    if arguments.json {
        println!("{}", serde_json::to_string(&comparison)?);
    } else {
        summary(&comparison);
        println!("{}", comparison.page.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The contrasts as a table, and why some have no verdict.
fn summary(comparison: &Comparison) {
    let mut shown = Table::new();
    shown.load_style(UTF8_HORIZONTAL_ONLY);
    shown.set_header([
        "contrast",
        "first",
        "second",
        "difference",
        "interval",
        "p",
        "seeds",
        "published",
        "first > second",
    ]);
    for row in table(comparison) {
        shown.add_row(row);
    }
    println!("{shown}");
    for contrast in &comparison.contrasts {
        if let Some(why) = &contrast.why {
            println!("{}, {}: {why}", contrast.network, contrast.contrast);
        }
    }
}
