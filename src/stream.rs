//! One stream of batches through networks on a device, or of stored activity onto it, from which any number of sinks take
//! what they asked for.
//!
//! Reading and preparing of pictures goes on on other threads, and the host prepares the next batch while the device works
//! on this one; nothing is copied back that no sink asks for.

mod order;

pub use order::Order;

use crate::Result;
use crate::dataset::Loader;
use crate::engine::Engine;
use crate::gpu::{Gpu, Reading};
use crate::graph::plan::UNDER_WAY;
use crate::graph::taps::Quantity;
use std::collections::VecDeque;
use std::pin::Pin;

/// One batch, submitted: what the networks make of it, or what was stored of it, is on the device for whatever is submitted
/// next.
#[derive(Clone, Copy)]
pub struct Portion<'a, 'g> {
    /// The networks, in the order of the stream; none where stored activity is streamed.
    pub engines: &'a [Engine<'g>],
    /// Number of images in the batch that are real.
    pub images: usize,
    /// How many images have been streamed before.
    pub first: usize,
}

/// What a sink does with a batch, and may wait for.
pub type Pending<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

/// Whatever takes something from each batch: statistics on the device, a file, a test.
pub trait Sink {
    /// Takes what it wants of a batch that has been submitted: launches kernels on what the networks leave, or starts to
    /// read it back.
    ///
    /// # Errors
    /// A lost device; whatever the sink itself meets.
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a>;

    /// Is told, where a stream has an [`Order`], that all training images have been taken and that what follows, if
    /// anything, are test images.
    ///
    /// # Errors
    /// As [`Sink::take`].
    fn turn(&mut self) -> Pending<'_> {
        Box::pin(async { Ok(()) })
    }

    /// Completes what is still under way after the last batch.
    ///
    /// # Errors
    /// As [`Sink::take`].
    fn finish(&mut self) -> Pending<'_> {
        Box::pin(async { Ok(()) })
    }
}

/// Where batches come from.
pub trait Source<'g> {
    /// The device.
    fn gpu(&self) -> &'g Gpu;

    /// The networks that compute the activity; none where it was stored.
    fn engines(&self) -> &[Engine<'g>] {
        &[]
    }

    /// Submits the next batch and gives the number of its images; `None` after the last.
    ///
    /// # Errors
    /// Data that cannot be read; a lost device.
    fn submit(&mut self) -> Pending<'_, Option<usize>>;
}

/// Networks that share their inputs (see [`Engine::share_inputs`]), and the batches that they are shown.
pub struct Networks<E> {
    /// The networks; the first is fed.
    pub engines: E,
    /// The batches.
    pub loader: Loader,
}

impl<'g, E: AsRef<[Engine<'g>]>> Source<'g> for Networks<E> {
    fn gpu(&self) -> &'g Gpu {
        self.engines()[0].gpu
    }

    fn engines(&self) -> &[Engine<'g>] {
        self.engines.as_ref()
    }

    fn submit(&mut self) -> Pending<'_, Option<usize>> {
        Box::pin(async {
            let Some(item) = self.loader.next() else { return Ok(None) };
            let (_, batch) = item?;
            self.engines()[0].feed(&batch).await?;
            self.engines().iter().for_each(Engine::run);
            Ok(Some(batch.n))
        })
    }
}

/// Runs batches of a loader through networks that share their inputs, and each batch through all sinks. `done` is told the
/// number of pictures so far.
///
/// # Errors
/// As [`stream_from`].
pub async fn stream(
    engines: &[Engine<'_>],
    loader: Loader,
    sinks: &mut [&mut dyn Sink],
    done: impl FnMut(usize),
) -> Result<()> {
    stream_from(&mut Networks { engines, loader }, None, sinks, done).await
}

/// Runs all batches of a source through all sinks, which are told after `turn` images, if given, that so many have passed: no
/// batch of the source may hold images of both sides. `done` is told the number of images so far.
///
/// # Errors
/// Data that cannot be read; a lost device; what a sink meets.
pub async fn stream_from(
    source: &mut dyn Source<'_>,
    turn: Option<usize>,
    sinks: &mut [&mut dyn Sink],
    mut done: impl FnMut(usize),
) -> Result<()> {
    let gpu = source.gpu();
    let (mut first, mut running) = (0, VecDeque::new());
    while let Some(images) = source.submit().await? {
        let portion = Portion { engines: source.engines(), images, first };
        for sink in sinks.iter_mut() {
            sink.take(&portion).await?;
        }
        first += images;
        if turn == Some(first) {
            for sink in sinks.iter_mut() {
                sink.turn().await?;
            }
        }
        running.push_back(gpu.mark());
        if running.len() >= UNDER_WAY {
            gpu.wait_for(&running.pop_front().expect("not empty")).await?;
        }
        done(first);
    }
    for sink in sinks {
        sink.finish().await?;
    }
    gpu.wait().await
}

/// What a reading sink is handed of each batch and timestep.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Number of the first picture in its split.
    pub first: usize,
    /// Pictures that are real; the arrays have room for the whole batch.
    pub images: usize,
    /// Timestep.
    pub timestep: usize,
    /// Extents, images innermost.
    pub shape: Vec<usize>,
    /// The values.
    pub values: Vec<f32>,
}

/// Copies a tapped quantity of one network back to the host and hands it to `to`, one batch later than it was computed, so
/// that nothing waits.
pub struct Collect<'g, F> {
    gpu: &'g Gpu,
    network: usize,
    of: Quantity,
    to: F,
    pending: VecDeque<(Values, Reading)>,
}

impl<'g, F: FnMut(Values) -> Result<()>> Collect<'g, F> {
    /// Of the network with this number in the stream, which must have been compiled with a tap on the quantity.
    pub fn new(gpu: &'g Gpu, network: usize, of: Quantity, to: F) -> Self {
        Collect { gpu, network, of, to, pending: VecDeque::new() }
    }

    /// Waits for the oldest values and hands them over, until so many are left under way.
    async fn hand_over(&mut self, left: usize) -> Result<()> {
        while self.pending.len() > left {
            let (mut of, reading) = self.pending.pop_front().expect("not empty");
            of.values = reading.finish(self.gpu).await?;
            (self.to)(of)?;
        }
        Ok(())
    }
}

impl<F: FnMut(Values) -> Result<()>> Sink for Collect<'_, F> {
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
        let engine = &portion.engines[self.network];
        let earlier = self.pending.len();
        let tapped = engine.tapped(self.of).expect("the network was compiled with this tap");
        for (timestep, view) in tapped.views.iter().enumerate() {
            let Some(view) = *view else { continue };
            let (shape, values) = (tapped.shape.clone(), Vec::new());
            let of = Values { first: portion.first, images: portion.images, timestep, shape, values };
            self.pending.push_back((of, engine.recording().read_later(engine.gpu, view)));
        }
        let started = self.pending.len() - earlier;
        Box::pin(self.hand_over(started))
    }

    fn finish(&mut self) -> Pending<'_> {
        Box::pin(self.hand_over(0))
    }
}
