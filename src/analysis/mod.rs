//! From activity to its report: where activity comes from, how it is streamed to the sinks that measure it, and what the report
//! says of it.
//!
//! - [`run`]: a run folder, opened: checkpoint, network, protocol, data.
//! - [`origin`]: activity ready to be streamed, with what a report says of where it came from: of a run's networks over a
//!   split.
//! - `stored`: the same of npz files that others wrote.
//! - `disturbed`: a run under a protocol against the same run without it.
//! - `pictures`: pictures behind extreme trajectories, and the table of all images.
//! - [`facts`]: the facts about a run, put together for the report.
//!
//! [`analyse`] streams each image once, in the order of [`Origin::order`], first the images that decoders are fitted on. To
//! measure something else, make its sink with the origin's store and add it to the list there.

mod disturbed;
pub mod facts;
pub mod origin;
mod pictures;
pub mod run;
mod stored;

pub use origin::Origin;
pub use run::Selection;

use crate::dynamics::areas::{self, AreaStream};
use crate::dynamics::gpu::ValuesStream;
use crate::dynamics::margin::Margin;
use crate::dynamics::parameters::{REPLICATES, bootstrap_counts};
use crate::dynamics::space::{Space, SpaceStream, Wanted};
use crate::dynamics::{Disturbance, Dynamics, Parameters, Values, Wants};
use crate::gpu::Gpu;
use crate::report::folder::{Filling, PAGE};
use crate::report::{self, Meta, Report};
use crate::stream::{Sink, stream_from};
use crate::trajectory::Statistics;
use crate::trajectory::gpu::GpuStream;
use crate::trajectory::measured::{Layout, Measured};
use crate::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What came of an analysis; as JSON it is what `recurve analyse --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Analysis {
    /// What was analysed, with what, on what.
    pub meta: Meta,
    /// Accuracy by timestep, that of the statistics.
    pub accuracy: Vec<f64>,
    /// The published statistics.
    pub statistics: Statistics,
    /// What was measured beyond them.
    pub dynamics: Dynamics,
    /// What the protocol changed, where there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disturbance: Option<Disturbance>,
    /// The values of every image that the dynamics were made from.
    #[serde(skip)]
    pub values: Values,
    /// The report's page.
    #[serde(skip)]
    pub page: PathBuf,
}

/// Where the report goes, and what it says of how it came to be.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// The report's folder.
    pub folder: &'a Path,
    /// The command that repeats the analysis, if it was one.
    pub command: Option<&'a str>,
}

/// Streams a split through the trained and the untrained network of a run, under a protocol also through the trained network
/// with and without it, and writes the report. The areas below the readout are measured too where `areas` says so.
///
/// # Errors
/// A run folder, checkpoint or data set that cannot be used or do not fit each other; what the device says.
pub async fn analyse(gpu: &Gpu, selection: &Selection<'_>, areas: bool, output: Output<'_>) -> Result<Analysis> {
    Filling::new(output.folder, PAGE)?; // before all the work
    let mut origin = Origin::of_run(gpu, selection, areas).await?;
    if !areas {
        origin.meta.notes.push("The areas below the readout were left out, as was asked for.".into());
    }
    measure(gpu, origin, output).await
}

/// Streams the activity that is stored in an npz file, and that of the untrained network in `init` if given, and writes the
/// report.
///
/// # Errors
/// Files that cannot be used or do not fit each other; what the device says.
pub async fn analyse_stored(gpu: &Gpu, file: &Path, init: Option<&Path>, output: Output<'_>) -> Result<Analysis> {
    Filling::new(output.folder, PAGE)?;
    measure(gpu, Origin::of_files(gpu, file, init).await?, output).await
}

/// Seed of the bootstrap, the same in all analyses: in a comparison of runs, every replicate draws the same images of each.
const BOOTSTRAP_SEED: u64 = 0;
/// Pictures of each kind of extreme trajectory that the report shows.
const EXAMPLES: usize = 4;

/// Streams activity through everything that is measured and writes the report.
async fn measure(gpu: &Gpu, mut origin: Origin<'_>, output: Output<'_>) -> Result<Analysis> {
    let images = origin.order.ids().len();
    let (readout, layout) = (origin.readout.clone(), origin.layout);
    let labels: Vec<usize> = origin.labels.iter().map(|&label| label as usize).collect();
    let told = Parameters::standard(&labels, readout.classes());

    let mut measured = Measured::new(gpu, readout, layout, &mut origin.store).await?;
    let mut statistics = GpuStream::new(gpu, &measured, images, &mut origin.store).await?;
    let (bias, wants) = (origin.bias.clone(), Wants::all());
    let mut values = ValuesStream::new(gpu, &measured, bias.as_deref(), images, &wants, &mut origin.store).await?;
    let space = space(gpu, &mut origin, &told).await;
    let what = "Dissimilarities, CKA, decoders and components";
    let mut space = where_there_is_room(space, what, &mut origin.meta.notes)?;
    let mut areas = areas(gpu, &mut origin, &told).await?;
    let mut sinks: Vec<&mut dyn Sink> = vec![&mut measured, &mut statistics, &mut values];
    sinks.extend(space.iter_mut().map(|space| space as &mut dyn Sink));
    sinks.extend(areas.iter_mut().map(|areas| areas as &mut dyn Sink));
    let turn = Some(origin.order.training());
    stream_from(&mut *origin.source, turn, &mut sinks, progress(images)).await?;

    let statistics = statistics.finish_in(&origin.order).await?;
    let (trained, untrained) = values.finish().await?;
    let (trained, untrained) =
        (trained.in_data_order(&origin.order), untrained.map(|values| values.in_data_order(&origin.order)));
    let structure = match &mut space {
        Some(space) => Some(space.finish().await?),
        None => None,
    };
    let tested: Vec<u32> =
        origin.order.ids()[origin.order.training()..].iter().map(|&id| origin.labels[id as usize]).collect();
    let (areas, left_out) = match areas {
        Some(mut areas) => areas.areas(&tested).await?,
        None => Default::default(),
    };
    left_out.into_iter().for_each(|of| note(&mut origin.meta.notes, of));
    let replicates = bootstrap_counts(BOOTSTRAP_SEED, REPLICATES, images);
    let features = origin.readout.features();
    let dynamics =
        Dynamics::new(&trained, untrained.as_ref(), structure, features, &told, &replicates).with_areas(areas);
    if let Some(note) = other_readout(&dynamics.margin, trained.timesteps * trained.samples) {
        eprintln!("warning: {note}");
        origin.meta.notes.push(note);
    }

    // What the next stream needs room for.
    drop((space, measured, origin.source, origin.store));
    let mut disturbance = None;
    if let Some(run) = &origin.run {
        let notes = &mut origin.meta.notes;
        disturbance = disturbed::disturbance(gpu, run, &trained, origin.readout, &told, notes).await?;
    }

    facts::add_device(&mut origin.meta, gpu);
    origin.meta.command = output.command.map(str::to_string);
    let mut report = Report::new(origin.meta, origin.training, &statistics)?.with_dynamics(&dynamics, &told)?;
    if let Some((disturbance, changed)) = &disturbance {
        report = report.with_disturbance(disturbance, changed.clone())?;
    }
    let report = report
        .with_area_rdms(&dynamics.areas)
        .with_examples(pictures::examples(&trained, origin.run.as_ref(), EXAMPLES)?)?
        .with_images(pictures::images(&trained))?;
    let page = report::write(&report, output.folder)?;
    let disturbance = disturbance.map(|(disturbance, _)| disturbance);
    let accuracy = statistics.accuracy.clone();
    Ok(Analysis { meta: report.meta, accuracy, statistics, dynamics, disturbance, values: trained, page })
}

/// Says at once what the reader of a result must know, and keeps it for the report.
fn note(notes: &mut Vec<String>, note: impl Into<String>) {
    let note = note.into();
    eprintln!("note: {note}");
    notes.push(note);
}

/// Share of representations whose outputs say another class than the readout does, beyond which rounding is not why.
const ROUNDED: f64 = 0.01;

/// What is to be said where outputs and readout do not belong together, of so many representations in all.
fn other_readout(margin: &Margin, all: usize) -> Option<String> {
    let outside: u64 = margin.negative.iter().sum();
    (outside as f64 > ROUNDED * all as f64).then(|| {
        format!(
            "{outside} of {all} representations lie outside the readout zone of the class that their outputs say: the outputs are \
             not those of this readout and these representations. Are weight and bias of the readout those of the same \
             checkpoint, and the arrays in the same order? Cosines and margins mean nothing otherwise."
        )
    })
}

/// A stream that an adapter may have no room for: then there is none, and a note says what was left out.
fn where_there_is_room<S>(stream: Result<S>, what: &str, notes: &mut Vec<String>) -> Result<Option<S>> {
    match stream {
        Err(why @ (Error::Gpu(_) | Error::OutOfMemory { .. })) => {
            note(notes, format!("{what} were left out, as this adapter has no room for their moments: {why}."));
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// The stream that measures how representations of many images lie to each other.
async fn space<'g>(gpu: &'g Gpu, origin: &mut Origin<'_>, told: &Parameters) -> Result<SpaceStream<'g>> {
    let Layout { timesteps, width, features_step, untrained, .. } = origin.layout;
    let space = Space {
        name: "readout".into(),
        timesteps,
        features: origin.readout.features(),
        width,
        step: features_step,
        trained: "trajectory.representations trained".into(),
        untrained: untrained.then(|| "trajectory.representations untrained".into()),
        labels: "trajectory.labels".into(),
    };
    let wanted = wanted(origin, told);
    SpaceStream::new(gpu, space, wanted, &mut origin.store).await
}

/// What is measured of spaces.
fn wanted(origin: &Origin<'_>, told: &Parameters) -> Wanted {
    let places = origin.order.places();
    Wanted {
        images: origin.order.ids().len(),
        training: origin.order.training(),
        classes: origin.readout.classes(),
        rdm_images: told.rdm_images.iter().map(|&image| places[image]).collect(),
        shown_classes: told.shown_classes.clone(),
        ridge: told.ridge,
    }
}

/// The stream that measures the areas below the readout, if the source was made to compute any.
async fn areas<'g>(gpu: &'g Gpu, origin: &mut Origin<'_>, told: &Parameters) -> Result<Option<AreaStream<'g>>> {
    let wanted = wanted(origin, told);
    let Some(engine) = origin.source.engines().first() else { return Ok(None) };
    if areas::taps(&engine.network).iter().all(|tap| engine.tapped(tap.of).is_none()) {
        return Ok(None);
    }
    let most = areas::MOST_BYTES.min(gpu.target.max_buffer);
    let made = AreaStream::new(gpu, engine, &wanted, "trajectory.labels", &mut origin.store, most).await;
    let (stream, notes) = match made {
        Ok((stream, notes)) => (Some(stream), notes),
        Err(why @ (Error::Gpu(_) | Error::OutOfMemory { .. })) => (
            None,
            vec![format!("The areas below the readout were left out, as this adapter cannot measure them: {why}.")],
        ),
        Err(other) => return Err(other),
    };
    notes.into_iter().for_each(|of| note(&mut origin.meta.notes, of));
    Ok(stream)
}

/// Tells, every few seconds, how many of so many pictures have passed.
pub(crate) fn progress(images: usize) -> impl FnMut(usize) {
    let (begun, mut said) = (Instant::now(), Instant::now());
    move |done| {
        if said.elapsed().as_secs_f64() > 5.0 || done == images {
            let rate = done as f64 / begun.elapsed().as_secs_f64();
            eprintln!("{done}/{images} pictures, {:.0} s left", (images - done) as f64 / rate);
            said = Instant::now();
        }
    }
}

/// The error of something that cannot be written as JSON.
fn json(error: serde_json::Error) -> Error {
    Error::Config(format!("the report: {error}"))
}
