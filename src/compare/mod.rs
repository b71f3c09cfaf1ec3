//! Runs side by side: the contrasts of the published analysis over networks and seeds, with intervals and verdicts, and how far
//! the runs agree.
//!
//! - [`runs`]: the runs before they are measured: whether they can be compared, which of them are one network, what it is called.
//! - [`contrasts`]: each contrast of each network over its runs.
//! - [`consistency`]: agreement between runs: of their geometry, and of their errors.
//! - `forest`, `figures`, `page`, `tables`, `write`: the folder: page, JSON, figures, tables.
//!
//! [`compare`] analyses every run as `recurve analyse` does ([`crate::analysis`]), on the same pictures and with the same
//! bootstrap, and keeps of each what is compared.

pub mod consistency;
pub mod contrasts;
mod figures;
mod forest;
mod page;
pub mod runs;
mod tables;
mod write;

use crate::analysis::{self, Analysis, Output, Selection};
use crate::dynamics::Values;
use crate::dynamics::parameters::REPLICATES;
use crate::dynamics::rdm::Condensed;
use crate::gpu::Gpu;
use crate::report::claims::why_undefined;
use crate::report::folder::{COMPARISON, Filling};
use crate::report::published::{CONTRASTS, NETWORKS};
use crate::trajectory::statistics::Counts;
use crate::{Error, Result};
use consistency::Consistency;
use contrasts::{Contrast, LEVEL, Measured, Verdict, combine, judge};
use runs::{Network, Run};
use serde::Serialize;
use std::path::{Path, PathBuf};

pub use page::table;

/// What is compared, on what, and where the result goes.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// The run folders.
    pub runs: &'a [PathBuf],
    /// One data set for all of them, instead of each run's own.
    pub data: Option<&'a str>,
    /// The split.
    pub split: &'a str,
    /// The folder that is written.
    pub folder: &'a Path,
    /// The command that repeats the comparison, if it was one.
    pub command: Option<&'a str>,
}

/// Runs side by side; `compare.json` is this structure.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What was compared, with what, on what.
    pub meta: Meta,
    /// Three for each network, published networks first and in the order of their table.
    pub contrasts: Vec<Contrast>,
    /// Agreement between runs.
    pub consistency: Consistency,
    /// The facts of each run, in the order of the networks.
    pub runs: Vec<Facts>,
    /// The page.
    #[serde(skip)]
    pub page: PathBuf,
}

/// What was compared, with what, on what.
#[derive(Clone, Debug, Serialize)]
pub struct Meta {
    /// The networks.
    pub networks: Vec<Network>,
    /// The split.
    pub split: String,
    /// Number of pictures.
    pub images: usize,
    /// Names of the classes, as the first run's data set has them.
    pub classes: Vec<String>,
    /// Coverage of the intervals.
    pub level: f64,
    /// Bootstrap replicates.
    pub replicates: usize,
    /// The adapter that measured.
    pub adapter: Option<String>,
    /// Its driver, with version.
    pub driver: Option<String>,
    /// Version of recurve.
    pub recurve_version: String,
    /// The command that repeats the comparison.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What the reader must know, one sentence each.
    pub notes: Vec<String>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Its name here.
    pub run: String,
    /// Its network.
    pub network: String,
    /// Its report's page, as seen from the folder of the comparison.
    pub report: String,
    /// Seed of its training; `None` where it was imported and nobody knows.
    pub seed: Option<u64>,
    /// Its data set.
    pub dataset: Option<String>,
    /// Its checkpoint, with the hash.
    pub checkpoint: Option<String>,
    /// Training steps done.
    pub step: Option<u64>,
    /// Trainable parameters.
    pub parameters: Option<u64>,
    /// T.
    pub timesteps: usize,
    /// \[T\] Fraction of the pictures classified correctly.
    pub accuracy: Vec<f64>,
    /// \[T\] The same of the network before training.
    pub accuracy_init: Option<Vec<f64>>,
    /// Pictures in each stability group.
    pub counts: Counts,
    /// The contrasts are averaged over t < this.
    pub timesteps_analyse: Option<usize>,
    /// What its report must say, one sentence each.
    pub notes: Vec<String>,
}

/// What is kept of one run's analysis.
struct Kept {
    facts: Facts,
    /// In the order of [`CONTRASTS`].
    measured: [Measured; 3],
    values: Values,
    /// \[T\] Dissimilarities between images (1 - Pearson), if there was room for them.
    rdm: Option<Vec<Condensed>>,
}

/// Analyses all runs on the same pictures, compares them and writes everything.
///
/// # Errors
/// Runs that cannot be used or not be compared (nothing is measured then); what the device says; files that cannot be written.
pub async fn compare(gpu: &Gpu, settings: &Settings<'_>) -> Result<Comparison> {
    Filling::new(settings.folder, COMPARISON)?; // before all the work
    let runs::Opened { runs, networks, classes, images, mut notes } = runs::open(settings, &gpu.target)?;
    notes.iter().for_each(|note| eprintln!("warning: {note}"));
    std::fs::create_dir_all(settings.folder).map_err(Error::io(settings.folder))?;
    let mut kept = Vec::new();
    let (mut adapter, mut driver) = (None, None);
    for (i, run) in runs.iter().enumerate() {
        eprintln!("run {} of {}: {}", i + 1, runs.len(), run.name);
        let selection = Selection {
            run: &run.folder,
            data: settings.data,
            split: Some(settings.split),
            checkpoint: None,
            protocol: None,
        };
        let folder = settings.folder.join(&run.name);
        let analysis =
            analysis::analyse(gpu, &selection, false, Output { folder: &folder, command: settings.command }).await?;
        (adapter, driver) = (analysis.meta.adapter.clone(), analysis.meta.driver.clone());
        kept.push(Kept::new(run, analysis));
    }
    if kept.iter().any(|kept| kept.rdm.is_none()) {
        notes.push(
            "Correlations of dissimilarities were left out, as this adapter has no room for their moments.".into(),
        );
    }

    let mut contrasts = Vec::new();
    for network in &networks {
        let of_network: Vec<&Kept> = kept.iter().filter(|kept| kept.facts.network == network.name).collect();
        for (i, kind) in CONTRASTS.iter().enumerate() {
            let measured: Vec<Measured> = of_network.iter().map(|kept| kept.measured[i].clone()).collect();
            let published = network.published.map(|row| (kind.of)(&NETWORKS[row]));
            contrasts.push(combine(&network.name, kind.key, published, &measured));
        }
    }
    judge(&mut contrasts);
    for contrast in contrasts.iter_mut().filter(|contrast| contrast.verdict == Verdict::Undefined) {
        let of_network = kept.iter().filter(|kept| kept.facts.network == contrast.network);
        contrast.why = Some(why(contrast.defined, of_network.map(|kept| &kept.facts)));
    }
    let consistency = Consistency::new(&networks, &kept);
    let meta = Meta {
        networks,
        split: settings.split.into(),
        images,
        classes,
        level: LEVEL,
        replicates: REPLICATES,
        adapter,
        driver,
        recurve_version: env!("CARGO_PKG_VERSION").into(),
        command: settings.command.map(str::to_string),
        notes,
    };
    let facts = kept.into_iter().map(|kept| kept.facts).collect();
    let mut comparison = Comparison { meta, contrasts, consistency, runs: facts, page: PathBuf::new() };
    comparison.page = write::write(&comparison, settings.folder)?;
    Ok(comparison)
}

impl Comparison {
    /// The runs of a network.
    fn runs_of<'a>(&'a self, network: &'a str) -> impl Iterator<Item = &'a Facts> {
        self.runs.iter().filter(move |run| run.network == network)
    }
}

impl Kept {
    fn new(run: &Run, analysis: Analysis) -> Kept {
        let Analysis { meta, statistics, dynamics, values, .. } = analysis;
        let windows =
            [&dynamics.contrasts.norm.boot, &dynamics.contrasts.cos_current.boot, &dynamics.contrasts.cos_final.boot];
        let means = [
            statistics.mean_norm_now_later,
            statistics.mean_cos_current_now_later,
            statistics.mean_cos_final_own_other,
        ];
        let contrasts = &dynamics.contrasts;
        let fewest = |i: usize| -> usize {
            let of = |t: usize| match i {
                0 => contrasts.norm.n[t].into_iter().min(),
                1 => contrasts.cos_current.n[t].into_iter().min(),
                // Its second mean is over pairs of the same images.
                _ => Some(contrasts.cos_final.image_n[t]),
            };
            windows[i].window.steps.iter().filter_map(|&t| of(t)).min().unwrap_or(0) as usize
        };
        let measured = |i: usize| Measured {
            run: run.name.clone(),
            means: means[i],
            difference: windows[i].window.diff,
            interval: windows[i].window.boot_ci,
            replicates: windows[i].window.replicates.clone(),
            images: fewest(i),
        };
        let checkpoint = meta.checkpoint.zip(meta.checkpoint_hash).map(|(name, hash)| format!("{name} ({hash})"));
        Kept {
            measured: std::array::from_fn(measured),
            values: values.only_classes(),
            rdm: dynamics.structure.map(|structure| structure.rdm.correlation),
            facts: Facts {
                run: run.name.clone(),
                network: run.network.clone(),
                report: format!("{}/report.html", run.name),
                seed: run.seed,
                dataset: meta.dataset,
                checkpoint,
                step: meta.step,
                parameters: meta.parameters,
                timesteps: statistics.timesteps,
                accuracy: statistics.accuracy,
                accuracy_init: statistics.accuracy_init,
                counts: statistics.counts,
                timesteps_analyse: statistics.timesteps_analyse,
                notes: meta.notes,
            },
        }
    }
}

/// Why a contrast that is defined in so many runs has no verdict.
fn why<'a>(defined: usize, runs: impl Iterator<Item = &'a Facts>) -> String {
    if defined > 0 {
        return "Undefined: one of the groups holds a single image, or all are alike, so that nothing is known of the uncertainty."
            .into();
    }
    let mut reasons: Vec<String> = Vec::new();
    for run in runs {
        let reason = why_undefined(run.timesteps, run.counts.stable_correct, run.timesteps_analyse);
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons.join(" ")
}
