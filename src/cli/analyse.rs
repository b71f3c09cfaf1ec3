//! `recurve analyse`.

use super::Adapter;
use anyhow::bail;
use recurve::analysis::{Output, Selection, analyse, analyse_stored};
use recurve::dynamics::Disturbance;
use recurve::trajectory::Statistics;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Arguments of `recurve analyse`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of a run; or FILE.npz with activity in the layout of the published extraction script, see docs/activations.md
    #[arg(value_name = "RUN|FILE.npz")]
    subject: PathBuf,
    /// For FILE.npz: the activity of the same network before training, on the same images. Without it, numbers of the
    /// untrained network are left out
    #[arg(long, value_name = "FILE.npz")]
    init: Option<PathBuf>,
    /// Another data set than the run's: HDF5 file, image folder or glyphs.
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// The split to analyse [default: testplus where there is one, else test].
    #[arg(long)]
    split: Option<String>,
    /// Folder for the report: page, JSON, figures, tables, matrices [default: RUN/report; beside FILE.npz: FILE-report].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The checkpoint after so many steps [default: the newest].
    #[arg(long, value_name = "STEP")]
    checkpoint: Option<u64>,
    /// What is shown and disturbed when: a file with [protocol], see docs/networks.md. The report then also compares this run
    /// with the undisturbed one: docs/disturb.md
    #[arg(long, value_name = "FILE")]
    protocol: Option<PathBuf>,
    /// Leave out the areas below the readout (`dynamics.areas`), of which decoding, CKA and the like are measured too
    #[arg(long)]
    no_areas: bool,
    /// Print what was analysed (meta), the statistics, the dynamics and, under a protocol, what it changed (disturbance) as one
    /// JSON object and nothing else.
    #[arg(long)]
    json: bool,
}

/// Runs `recurve analyse`.
pub async fn run(arguments: &Arguments, adapter: &Adapter) -> anyhow::Result<ExitCode> {
    let subject = &arguments.subject;
    let command = super::command_line();
    let output = |folder| Output { folder, command: Some(&command) };
    let analysis = if subject.is_file() || subject.extension().is_some_and(|e| e.eq_ignore_ascii_case("npz")) {
        stored_says_what_it_was_shown(arguments)?;
        let out = arguments.out.clone().unwrap_or_else(|| beside(subject));
        analyse_stored(&adapter.open(false).await?, subject, arguments.init.as_deref(), output(&out)).await?
    } else {
        if arguments.init.is_some() {
            bail!(
                "--init is for activity in a file, and {} is none: a run holds its untrained network itself",
                subject.display()
            );
        }
        let out = arguments.out.clone().unwrap_or_else(|| subject.join("report"));
        recurve::train::run_folder::read_config(subject)?;
        let selection = Selection {
            run: subject,
            data: arguments.data.as_deref(),
            split: arguments.split.as_deref(),
            checkpoint: arguments.checkpoint,
            protocol: arguments.protocol.as_deref(),
        };
        analyse(&adapter.open(false).await?, &selection, !arguments.no_areas, output(&out)).await?
    };
    if arguments.json {
        println!("{}", serde_json::to_string(&analysis)?);
    } else {
        summary(&analysis.statistics);
        analysis.disturbance.iter().for_each(what_changed);
        println!("{}", analysis.page.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses flags that choose what a network is shown, where its activity is stored already.
fn stored_says_what_it_was_shown(arguments: &Arguments) -> anyhow::Result<()> {
    let flags = [
        ("--data", arguments.data.is_some()),
        ("--split", arguments.split.is_some()),
        ("--checkpoint", arguments.checkpoint.is_some()),
        ("--protocol", arguments.protocol.is_some()),
        ("--no-areas", arguments.no_areas),
    ];
    let given = flags.into_iter().find(|(_, given)| *given);
    given.map_or(Ok(()), |(flag, _)| {
        bail!(
            "{flag} is for a run: {} holds activity that is stored already, of one network on one set of images; leave \
             {flag} away, or name the run folder",
            arguments.subject.display()
        )
    })
}

/// The default folder for the report of a file: `a/b.npz` gives `a/b-report`.
fn beside(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}-report"))
}

/// What a protocol changed in a few lines.
fn what_changed(d: &Disturbance) {
    let row = |numbers: &[f64]| numbers.iter().map(|x| format!("{x:.3}")).collect::<Vec<_>>().join(" ");
    if let Some(c) = &d.comparison {
        println!("undisturbed           {}", row(&c.accuracy_undisturbed));
        let (last, a) = (d.timesteps - 1, &c.answers);
        println!(
            "at the last timestep {} of {} images have another class than undisturbed: {} lost, {} gained (McNemar p {})",
            a.changed[last],
            d.samples,
            a.lost[last],
            a.gained[last],
            match a.mcnemar_p[last] {
                p if p < 0.001 => format!("{p:.1e}"),
                p => format!("{p:.3}"),
            }
        );
    }
    if let Some(s) = &d.settling {
        println!(
            "of {} images {} keep the class of the last trained timestep ({}) to the end",
            d.samples, s.kept, s.steps[0]
        );
    }
}

/// The statistics in a few lines.
pub fn summary(s: &Statistics) {
    let row = |numbers: &[f64]| numbers.iter().map(|x| format!("{x:.3}")).collect::<Vec<_>>().join(" ");
    println!("accuracy by timestep  {}", row(&s.accuracy));
    if let Some(untrained) = &s.accuracy_init {
        println!("untrained             {}", row(untrained));
    }
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
