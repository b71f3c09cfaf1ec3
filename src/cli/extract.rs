//! `recurve extract`.

use super::Adapter;
use recurve::analysis::Selection;
use recurve::extract::{Extract, Pictures, extract};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recurve extract`.
#[derive(clap::Args)]
#[command(after_help = "\
FILE.npz holds outputs_all [T,N,K] (log-probabilities), labels_all [N], representations_all [T,N,D] (what the readout \
sees), readout_weight [K,D] and readout_bias [K] (empty: none): the layout of the published extraction script, which \
`recurve analyse` reads. That script writes float64; here numbers are float32, as they were computed, and labels float64. A \
folder holds AREA.npy [T,N,C,H,W], logits.npy [T,N,K], labels.npy and index.json, which says what they are. With --half, areas \
and representations are float16; outputs and logits stay float32. See docs/activations.md.")]
pub struct Arguments {
    /// Folder of a run.
    run: PathBuf,
    /// FILE.npz, or a folder, which must not exist or be empty
    #[arg(long, value_name = "FILE.npz|DIR")]
    out: PathBuf,
    /// Another data set than the run's: HDF5 file, image folder or glyphs.
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// The split.
    #[arg(long, default_value = "test")]
    split: String,
    /// Areas to write into the folder, by the names of the configuration, or all [default: all]
    #[arg(long, value_name = "A,B|all", value_delimiter = ',')]
    areas: Option<Vec<String>>,
    /// Timesteps, counted from 0 [default: all]
    #[arg(long, value_name = "T,T", value_delimiter = ',')]
    timesteps: Option<Vec<usize>>,
    /// Only the first N pictures of the split
    #[arg(long, value_name = "N", conflicts_with = "ids")]
    images: Option<usize>,
    /// Only the pictures whose numbers (0, 1, 2, ...) are in this text file, in its order
    #[arg(long, value_name = "FILE")]
    ids: Option<PathBuf>,
    /// Store areas and representations as float16
    #[arg(long)]
    half: bool,
    /// What is shown and disturbed when: a file with [protocol], see docs/networks.md
    #[arg(long, value_name = "FILE")]
    protocol: Option<PathBuf>,
    /// The checkpoint after so many steps [default: the newest].
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
}

/// Runs `recurve extract`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    recurve::train::run_folder::read_config(&arguments.run)?;
    recurve::train::run_folder::not_of_a_run(&arguments.out)?;
    let pictures = match (&arguments.ids, arguments.images) {
        (Some(file), _) => Pictures::read(file)?,
        (None, Some(count)) => Pictures::First(count),
        (None, None) => Pictures::All,
    };
    let gpu = adapter.open(false).await?;
    let asked = Extract {
        selection: Selection {
            run: &arguments.run,
            data: arguments.data.as_deref(),
            split: Some(&arguments.split),
            checkpoint: arguments.checkpoint,
            protocol: arguments.protocol.as_deref(),
        },
        out: &arguments.out,
        areas: arguments.areas.as_deref(),
        timesteps: arguments.timesteps.as_deref(),
        pictures: &pictures,
        half: arguments.half,
        command: &super::command_line(),
    };
    let extracted = extract(&gpu, &asked).await?;
    extracted.arrays.iter().for_each(|array| println!("{array}"));
    println!("{}", arguments.out.display());
    Ok(ExitCode::SUCCESS)
}
