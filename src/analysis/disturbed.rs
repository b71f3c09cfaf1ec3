//! What a protocol changes: a second stream, of the network under the protocol and of the same network left alone.
//!
//! Both are one program where only gains differ, so that whatever differs between them comes from the protocol and not from
//! rounding. The stream is a second one, after that of the trained and the untrained network has been given back: its memory
//! is that of two networks again.

use super::run::Opened;
use super::{progress, where_there_is_room};
use crate::Result;
use crate::dataset::Loader;
use crate::dynamics::between::BetweenStream;
use crate::dynamics::disturbance::{Comparison, Geometry};
use crate::dynamics::gpu::ValuesStream;
use crate::dynamics::space::{Space, SpaceStream, Wanted};
use crate::dynamics::{Disturbance, Parameters, Values, Wants};
use crate::gpu::{Gpu, Store};
use crate::graph::taps::{Quantity, Tap};
use crate::report::Changed;
use crate::stream::{Networks, Sink, stream_from};
use crate::trajectory::measured::{Layout, Measured};
use crate::trajectory::readout::Readout;

/// What a run's protocol changes, and the classes of the images that it changes; none without a protocol, and where nothing was
/// disturbed and no step added. `values` are those of the disturbed network, in data order. What the reader must know is added
/// to `notes`.
///
/// # Errors
/// What the device says; numbers that are not finite.
pub(super) async fn disturbance(
    gpu: &Gpu,
    run: &Opened,
    values: &Values,
    readout: Readout,
    told: &Parameters,
    notes: &mut Vec<String>,
) -> Result<Option<(Disturbance, Option<Changed>)>> {
    let Some(protocol) = &run.protocol else { return Ok(None) };
    // Steps before the readout's area is active are no steps of the statistics.
    let before = run.schedule.timesteps - values.timesteps;
    let trained = run.network.timesteps - before;
    if protocol.gains.is_empty() && protocol.inputs.is_empty() {
        if values.timesteps <= trained {
            notes.push("The protocol disturbs nothing and adds no step, so that there is nothing to compare.".into());
            return Ok(None);
        }
        notes.push(format!(
            "The protocol disturbs nothing and only lets the network run on: its first {trained} timesteps are those of the \
             undisturbed run, and what is compared is what comes after them."
        ));
        return Ok(Some((Disturbance::new(values, trained, None), None)));
    }
    let (comparison, [disturbed, undisturbed]) = compare(gpu, run, readout, told, notes).await?;
    let rows = |of: &Values| (0..of.timesteps).map(|t| (0..of.samples).map(|i| of.class(t, i)).collect()).collect();
    let changed = Changed {
        images: comparison.changed_images.clone(),
        labels: disturbed.labels.clone(),
        disturbed: rows(&disturbed),
        undisturbed: rows(&undisturbed),
    };
    Ok(Some((Disturbance::new(&disturbed, trained, Some(comparison)), Some(changed))))
}

/// Streams the disturbed and the undisturbed network.
async fn compare(
    gpu: &Gpu,
    run: &Opened,
    readout: Readout,
    told: &Parameters,
    notes: &mut Vec<String>,
) -> Result<(Comparison, [Values; 2])> {
    let (trained, undisturbed) = (&run.trained.parameters, run.schedule.undisturbed());
    let taps = [Quantity::Logits, Quantity::Representation].map(Tap::series);
    let engines =
        run.engines(gpu, &[(trained, &run.schedule, &taps), (trained, &undisturbed, &taps)], usize::MAX).await?;
    // The buffers called `trained` are the disturbed network's, those called `untrained` the undisturbed one's.
    let mut store = Store::default();
    let layout = Layout::share(&mut store, &engines);
    let (features, classes) = (readout.features(), readout.classes());
    let mut measured = Measured::classes(gpu, readout, layout, &mut store).await?;
    let mut values = ValuesStream::new(gpu, &measured, None, run.images, &Wants::classes(), &mut store).await?;
    let mut between = BetweenStream::new(gpu, features, run.images, layout, &mut store).await?;
    let space = Space {
        name: "disturbed".into(),
        timesteps: layout.timesteps,
        features,
        width: layout.width,
        step: layout.features_step,
        trained: "trajectory.representations trained".into(),
        untrained: Some("trajectory.representations untrained".into()),
        labels: "trajectory.labels".into(),
    };
    // No decoders are fitted: all images are of the first half.
    let wanted = Wanted {
        images: run.images,
        training: run.images,
        classes,
        rdm_images: told.rdm_images.clone(),
        shown_classes: Vec::new(),
        ridge: told.ridge,
    };
    let space = SpaceStream::new(gpu, space, wanted, &mut store).await;
    let mut space =
        where_there_is_room(space, "Similarities of geometry between the disturbed and the undisturbed run", notes)?;
    let loader = Loader::in_order(&run.data, &run.split, layout.width, run.schedule.shows_next())?;
    let mut sinks: Vec<&mut dyn Sink> = vec![&mut measured, &mut values, &mut between];
    sinks.extend(space.iter_mut().map(|space| space as &mut dyn Sink));
    stream_from(&mut Networks { engines, loader }, None, &mut sinks, progress(run.images)).await?;

    let geometry = match &mut space {
        Some(space) => {
            let ([disturbed, undisturbed], cka) = space.compare().await?;
            Some(Geometry::new(&disturbed, &undisturbed, cka))
        }
        None => None,
    };
    let distance = between.finish().await?.distances();
    let (disturbed, undisturbed) = values.finish().await?;
    let undisturbed = undisturbed.expect("two networks were streamed");
    Ok((Comparison::new(&disturbed, &undisturbed, distance, geometry), [disturbed, undisturbed]))
}
