//! Where activity comes from.

use super::run::{Opened, Selection};
use super::{facts, note};
use crate::dataset::Loader;
use crate::dynamics::areas;
use crate::gpu::{Gpu, Store};
use crate::graph::taps::{Quantity, Tap};
use crate::report::{Meta, Training};
use crate::stream::{Networks, Order, Source};
use crate::trajectory::measured::Layout;
use crate::trajectory::readout::Readout;
use crate::{Error, Result};

/// Activity that is ready to be streamed, and what a report says of it.
pub struct Origin<'g> {
    /// Its batches.
    pub source: Box<dyn Source<'g> + 'g>,
    /// Holds the buffers in which a submitted batch lies, for sinks that are made with it.
    pub store: Store,
    /// How it lies there.
    pub layout: Layout,
    /// The order in which images come.
    pub order: Order,
    /// \[N\] The label of each image, in data order.
    pub labels: Vec<u32>,
    /// The trained network's readout.
    pub readout: Readout,
    /// \[K\] Its bias, if it has one.
    pub bias: Option<Vec<f64>>,
    /// The run, where the activity is that of its networks.
    pub run: Option<Opened>,
    /// The facts, but for those of the device.
    pub meta: Meta,
    /// How the network was trained, if known.
    pub training: Option<Training>,
}

impl<'g> Origin<'g> {
    /// Of a run's trained and untrained network over a split; with the areas of the trained one where `areas` says so.
    ///
    /// # Errors
    /// A run folder, checkpoint or data set that cannot be used or do not fit each other; what the device says.
    pub async fn of_run(gpu: &'g Gpu, selection: &Selection<'_>, areas: bool) -> Result<Origin<'g>> {
        let mut run = Opened::new(selection, &gpu.target)?;
        run.labels_are_classes()?;
        let (untrained, init_checkpoint) = run.untrained();
        let trained = &run.trained.parameters;
        let taps = [Quantity::Logits, Quantity::Representation].map(Tap::series);
        let tapped = if areas { areas::taps(&run.network) } else { Vec::new() };
        let tapped = [&taps[..], &tapped].concat();
        let schedule = &run.schedule;
        let made = run.engines(gpu, &[(trained, schedule, &tapped), (&untrained, schedule, &taps)], usize::MAX).await;
        let engines = match made {
            Err(why @ Error::OutOfMemory { .. }) if areas => {
                let what =
                    format!("The areas below the readout were left out, as there is no room to keep them: {why}.");
                note(&mut run.notes, what);
                run.engines(gpu, &[(trained, schedule, &taps), (&untrained, schedule, &taps)], usize::MAX).await?
            }
            made => made?,
        };
        let mut store = Store::default();
        let layout = Layout::share(&mut store, &engines);
        let network = &run.network;
        let of =
            |name: &String| -> Result<Vec<f64>> { Ok(trained.values(name)?.iter().map(|&w| f64::from(w)).collect()) };
        let readout = Readout::new(of(&network.readout.weight)?, network.classes, network.features())?;
        let bias = network.readout.bias.as_ref().map(of).transpose()?;
        let first = run.schedule.timesteps - layout.timesteps;
        if first > 0 {
            run.notes.push(format!(
                "The readout exists from step {first} on: step 0 of the statistics is step {first} of the run."
            ));
        }
        let labels = run.data.labels(&run.split)?;
        let order = Order::halves(&labels);
        let next = run.schedule.shows_next();
        let loader = Loader::listed(&run.data, &run.split, order.ids(), order.training(), layout.width, next)?;
        let (meta, training) = (facts::of_run(&run, init_checkpoint)?, facts::curves(&run)?);
        let source = Box::new(Networks { engines, loader });
        Ok(Origin { source, store, layout, order, labels, readout, bias, run: Some(run), meta, training })
    }
}
