//! From activity to its report: where activity comes from, how it is streamed to the sinks that measure it, and what the report
//! says of it.
//!
//! - [`run`]: a run folder, opened: checkpoint, network, protocol, data.
//! - [`origin`]: activity ready to be streamed, with what a report says of where it came from: of a run's networks over a
//!   split.
//! - `stored`: the same of npz files that others wrote.
//! - [`facts`]: the facts about a run, put together for the report.
//!
//! [`analyse`] streams each image once, in the order of [`Origin::order`], first the images that decoders are fitted on. To
//! measure something else, make its sink with the origin's store and add it to the list there.

pub mod facts;
pub mod origin;
pub mod run;
mod stored;

pub use origin::Origin;
pub use run::Selection;

use crate::gpu::Gpu;
use crate::report::{self, Meta, Report};
use crate::stream::stream_from;
use crate::trajectory::Statistics;
use crate::trajectory::gpu::GpuStream;
use crate::{Error, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// What came of an analysis; as JSON it is what `recurve analyse --json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Analysis {
    /// What was analysed, with what, on what.
    pub meta: Meta,
    /// The statistics.
    pub statistics: Statistics,
    /// The report's page.
    #[serde(skip)]
    pub page: PathBuf,
}

/// Streams a split through the trained and the untrained network of a run and writes the report into `out`.
///
/// # Errors
/// A run folder, checkpoint or data set that cannot be used or do not fit each other; what the device says.
pub async fn analyse(gpu: &Gpu, selection: &Selection<'_>, out: &Path) -> Result<Analysis> {
    measure(gpu, Origin::of_run(gpu, selection).await?, out).await
}

/// Streams the activity that is stored in an npz file, and that of the untrained network in `init` if given, and writes the
/// report into `out`.
///
/// # Errors
/// Files that cannot be used or do not fit each other; what the device says.
pub async fn analyse_stored(gpu: &Gpu, file: &Path, init: Option<&Path>, out: &Path) -> Result<Analysis> {
    measure(gpu, Origin::of_files(gpu, file, init).await?, out).await
}

/// Streams activity through everything that is measured and writes the report into `out`.
async fn measure(gpu: &Gpu, mut origin: Origin<'_>, out: &Path) -> Result<Analysis> {
    let images = origin.order.ids().len();
    let readout = origin.readout.clone();
    let mut statistics = GpuStream::new(gpu, readout, images, origin.layout, &mut origin.store).await?;
    let turn = Some(origin.order.training());
    stream_from(&mut *origin.source, turn, &mut [&mut statistics], progress(images)).await?;
    let statistics = statistics.finish_in(&origin.order).await?;

    let Origin { mut meta, training, .. } = origin;
    facts::add_device(&mut meta, gpu);
    let report = Report::new(meta, training, &statistics)?;
    let page = report::write(&report, out)?;
    Ok(Analysis { meta: report.meta, statistics, page })
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
