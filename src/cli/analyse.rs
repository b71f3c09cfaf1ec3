//! `recurve analyse`.

use super::Adapter;
use recurve::trajectory::Statistics;
use recurve::trajectory::analyse::{AnalyseOptions, analyse};
use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `recurve analyse`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of a run.
    run: PathBuf,
    /// Another data set than the run's: HDF5 file, image folder or glyphs.
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// The split to analyse.
    #[arg(long, default_value = "test")]
    split: String,
    /// Folder for the report: page, JSON, figures, tables, matrices [default: RUN/report].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The checkpoint after so many steps [default: the newest].
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
    /// What is shown and disturbed when: a file with [protocol], see docs/networks.md
    #[arg(long, value_name = "FILE")]
    protocol: Option<PathBuf>,
    /// Print the statistics as one JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs `recurve analyse`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let out = arguments.out.clone().unwrap_or_else(|| arguments.run.join("report"));
    recurve::train::run_folder::read_config(&arguments.run)?;
    let gpu = adapter.open(false).await?;
    let options = AnalyseOptions {
        run: &arguments.run,
        data: arguments.data.as_deref(),
        split: &arguments.split,
        out: &out,
        checkpoint: arguments.checkpoint,
        protocol: arguments.protocol.as_deref(),
    };
    let analysis = analyse(&gpu, &options).await?;
    if arguments.json {
        println!("{}", serde_json::to_string(&analysis.statistics)?);
    } else {
        summary(&analysis.statistics);
        println!("{}", analysis.page.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// The statistics in a few lines.
pub fn summary(s: &Statistics) {
    let row = |numbers: &[f64]| numbers.iter().map(|x| format!("{x:.3}")).collect::<Vec<_>>().join(" ");
    println!("accuracy by timestep  {}", row(&s.accuracy));
    println!("untrained             {}", row(&s.accuracy_init));
    println!("groups                {}", serde_json::to_string(&s.counts).unwrap_or_default());
    for (name, pair) in [
        ("L2 norm, correct now / later", &s.mean_norm_now_later),
        ("cosine to current readout vector, correct now / later", &s.mean_cos_current_now_later),
        ("cosine of the not yet correct to own final class / to others'", &s.mean_cos_final_own_other),
    ] {
        match pair {
            [Some(first), Some(second)] => {
                let holds = if first > second { "the claim holds" } else { "the claim does not hold" };
                println!("{name}: {first:.4} / {second:.4}: {holds}");
            }
            _ => println!("{name}: undefined here"),
        }
    }
}
