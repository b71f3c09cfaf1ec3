//! A network on a device: the planned program, its parameters and Adam's state by name, fed with batches, run in phases.

pub use crate::scores::Scores;

use crate::dataset::{Batch, Normaliser};
use crate::gpu::{Gpu, Reading, Recording, Store};
use crate::graph::buckets::Bucket;
use crate::graph::compile::{Compiled, Request, compile};
use crate::graph::fit::{fits, with_largest_tensors};
use crate::graph::precision::unpacked;
use crate::graph::taps::{Quantity, Tapped};
use crate::kernels::{Access, Launch, View};
use crate::network::{Network, Schedule};
use crate::ops::{Hyper, LossScale};
use crate::tensors::{Tensor, Tensors};
use crate::{Error, Result};

/// A compiled network on a device.
pub struct Engine<'g> {
    /// The device.
    pub gpu: &'g Gpu,
    /// The network.
    pub network: Network,
    /// Program and plan.
    pub compiled: Compiled,
    /// Images of one pass.
    pub batch: usize,
    /// Passes of one update.
    pub parts: usize,
    /// Devices that compute passes of one update.
    pub ranks: usize,
    recording: Recording,
    /// Values of parameters that nothing on the device reads: kept for checkpoints.
    resting: Tensors,
}

/// The first number of a pass that is not finite.
#[derive(Clone, Debug, PartialEq)]
pub struct NotFinite {
    /// The operation that wrote it, with value and timestep: `conv2d v2.bottom_up t=1`.
    pub label: String,
    /// The area that the operation belongs to.
    pub area: String,
    /// Its timestep, if it has one.
    pub timestep: Option<usize>,
    /// The buffer that holds it, named after its tensor.
    pub tensor: String,
    /// The element's number in what the operation wrote.
    pub element: usize,
    /// NaN or infinite.
    pub value: f32,
}

impl std::fmt::Display for NotFinite {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let NotFinite { label, area, timestep, tensor, element, value } = self;
        let time = timestep.map_or(String::new(), |t| format!(", timestep {t}"));
        write!(f, "{value} at [{element}] of `{tensor}`, written by `{label}` (area {area}{time})")
    }
}

impl<'g> Engine<'g> {
    /// Compiles, checks the plan against the adapter, and only then allocates. Parameters live in `store`, which several
    /// engines of one network may share.
    ///
    /// # Errors
    /// What does not fit, with the figure asked, the figure allowed and the largest batch that fits; kernels that the
    /// driver refuses; out of memory.
    pub async fn new(gpu: &'g Gpu, request: &Request<'_>, store: &mut Store) -> Result<Engine<'g>> {
        Engine::of(gpu, request, compile(request)?, store).await
    }

    /// As [`Engine::new`], with what `request` was compiled to.
    ///
    /// # Errors
    /// As there.
    pub async fn of(gpu: &'g Gpu, request: &Request<'_>, compiled: Compiled, store: &mut Store) -> Result<Engine<'g>> {
        fits(&compiled, request)?;
        let recording = Recording::new(gpu, &compiled.program, &compiled.plan, store).await;
        let recording = recording.map_err(|error| with_largest_tensors(error, &compiled))?;
        let (network, resting) = (request.network.clone(), Tensors::default());
        let Request { batch, parts, ranks, .. } = *request;
        let engine = Engine { gpu, network, compiled, batch, parts, ranks, recording, resting };
        engine.set_gains(request.schedule);
        if request.train && !request.clip {
            engine.set_clip_norm(f64::INFINITY); // where the norm alone is asked for
        }
        engine.set_loss_scale(LossScale::INITIAL);
        Ok(engine)
    }

    /// What bytes of pictures become.
    pub fn set_normaliser(&self, normaliser: &Normaliser) {
        self.recording.write(self.gpu, self.compiled.feeds.table, normaliser.table());
    }

    /// Sets the gains of a schedule that acts on the same connections as that which was compiled.
    pub fn set_gains(&self, schedule: &Schedule) {
        if let Some(view) = self.compiled.feeds.gains {
            let gains: Vec<f32> = schedule.gains.iter().flat_map(|(_, gains)| gains).copied().collect();
            self.recording.write(self.gpu, view, &gains);
        }
    }

    /// Sets all parameters of the network, by name.
    ///
    /// # Errors
    /// A parameter that is missing or has another shape.
    pub fn set_parameters(&mut self, values: &Tensors) -> Result<()> {
        self.check(values)?;
        self.write(&self.compiled.places.values, values)?;
        for (name, view) in &self.compiled.places.constants {
            self.recording.write(self.gpu, *view, values.values(name)?);
        }
        let resting = values.iter().filter(|(name, _)| !self.compiled.places.learned.contains(name));
        self.resting = resting.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        Ok(())
    }

    /// Sets Adam's moments, by the names of the parameters.
    ///
    /// # Errors
    /// A moment that is missing or has another shape.
    pub fn set_moments(&mut self, m: &Tensors, v: &Tensors) -> Result<()> {
        self.check(m)?;
        self.check(v)?;
        self.write(&self.compiled.places.m, m)?;
        self.write(&self.compiled.places.v, v)
    }

    /// Every parameter of the network must be there, in its shape.
    fn check(&self, values: &Tensors) -> Result<()> {
        for spec in &self.network.parameters {
            let found = values.get(&spec.name);
            if found.is_none_or(|tensor| tensor.shape != spec.shape || tensor.values.len() != spec.len()) {
                let found = found.map_or("none".to_string(), |tensor| format!("{:?}", tensor.shape));
                let (name, shape) = (&spec.name, &spec.shape);
                return Err(Error::Checkpoint(format!("tensor `{name}`: expected shape {shape:?}, found {found}")));
            }
        }
        Ok(())
    }

    fn write(&self, arenas: &[View], values: &Tensors) -> Result<()> {
        for (range, name) in self.compiled.places.learned.iter().enumerate() {
            let view = self.compiled.places.arenas.view(arenas, range);
            self.recording.write(self.gpu, view, values.values(name)?);
        }
        Ok(())
    }

    /// What lies in arenas, under the names and in the shapes of the parameters.
    async fn read_arenas(&self, arenas: &[View]) -> Result<Tensors> {
        let mut whole: Vec<Vec<f32>> = Vec::new();
        for &arena in arenas {
            whole.push(self.recording.read(self.gpu, arena).await?);
        }
        let places = &self.compiled.places;
        let learned = places.learned.iter().zip(&places.arenas.ranges);
        let tensor = |(name, &(arena, offset, bytes)): (&String, &(usize, u64, u64))| {
            let spec = self.network.parameters.iter().find(|spec| spec.name == *name).expect("a parameter");
            let values = whole[arena][offset as usize / 4..(offset + bytes) as usize / 4].to_vec();
            (name.clone(), Tensor::new(&spec.shape, values))
        };
        Ok(learned.map(tensor).collect())
    }

    /// All parameters.
    ///
    /// # Errors
    /// A lost device.
    pub async fn parameters(&self) -> Result<Tensors> {
        let learned = self.read_arenas(&self.compiled.places.values).await?;
        Ok(learned.into_iter().chain(self.resting.clone()).collect())
    }

    /// Adam's moments; zeros for parameters that have no gradient.
    ///
    /// # Errors
    /// A lost device.
    pub async fn moments(&self) -> Result<(Tensors, Tensors)> {
        let moment = async |arenas: &[View]| -> Result<Tensors> {
            Ok(self.resting.zeros().into_iter().chain(self.read_arenas(arenas).await?).collect())
        };
        Ok((moment(&self.compiled.places.m).await?, moment(&self.compiled.places.v).await?))
    }

    /// Gradients of the last pass, or of all passes of the last update where there are several; of the loss times the loss
    /// scale, and clipped where they are, once the update has run. Parameters without a gradient are absent.
    ///
    /// # Errors
    /// A lost device.
    pub async fn gradients(&self) -> Result<Tensors> {
        self.read_arenas(&self.compiled.places.sums).await
    }

    /// Lets engines that are made with `store` afterwards use the memory of this one's temporaries, which hold nothing between its
    /// passes.
    pub fn lend_temporaries(&self, store: &mut Store) {
        self.recording.lend(&self.compiled.program, &self.compiled.plan, store);
    }

    /// Lets engines that are made with `store` afterwards read this one's pictures, labels and gains: what is fed to this one
    /// is fed to them.
    pub fn share_inputs(&self, store: &mut Store) {
        self.share_pictures(store);
        self.share(self.compiled.feeds.gains, store);
    }

    /// The same without the gains, for engines with gains of their own.
    pub fn share_pictures(&self, store: &mut Store) {
        let feeds = &self.compiled.feeds;
        for view in [Some(feeds.pictures), feeds.next, Some(feeds.table), Some(feeds.labels)] {
            self.share(view, store);
        }
    }

    fn share(&self, view: Option<View>, store: &mut Store) {
        let name = |view: View| &self.compiled.program.buffers[view.buffer.0].name;
        view.into_iter().for_each(|view| store.share(name(view), &self.recording, view));
    }

    /// Feeds a batch: it is there when this engine runs next, and for those that share its inputs after that.
    ///
    /// # Errors
    /// A lost device.
    pub async fn feed(&self, batch: &Batch) -> Result<()> {
        let feeds = &self.compiled.feeds;
        self.recording.feed(self.gpu, feeds.pictures, &batch.pictures).await?;
        self.recording.feed(self.gpu, feeds.labels, &batch.labels).await?;
        if let Some(next) = feeds.next {
            let pictures = batch.next.as_ref().expect("a schedule with `next` gets them");
            self.recording.feed(self.gpu, next, pictures).await?;
        }
        Ok(())
    }

    /// Sets the numbers of the `step`-th update (the first is 1), of a batch that is full: the loss of every image counts
    /// 1 / (images of all parts, on all ranks). Gradients are those of the loss times `loss_scale`, which the update divides by.
    ///
    /// # Errors
    /// A lost device.
    pub async fn set_step(&self, hyper: &Hyper, step: u64, loss_scale: f64) -> Result<()> {
        self.set_hyper(hyper, step, loss_scale).await?;
        self.weigh(self.batch, self.batch * self.parts * self.ranks, loss_scale).await
    }

    /// Sets the numbers of an update alone, see [`Engine::set_step`]. In mixed precision the device counts the steps that Adam takes, and
    /// multiplies `loss_scale` with one of its own.
    ///
    /// # Errors
    /// A lost device.
    pub async fn set_hyper(&self, hyper: &Hyper, step: u64, loss_scale: f64) -> Result<()> {
        let numbers = match self.compiled.feeds.loss_scale {
            Some(_) => hyper.plain(),
            None => hyper.numbers(step, loss_scale),
        };
        match self.compiled.feeds.hyper {
            Some(view) => self.recording.feed(self.gpu, view, &numbers).await,
            None => Ok(()),
        }
    }

    /// Sets what the images of the next pass count: each of the first `images` 1 / `whole`, the images of all parts of its
    /// batch on all ranks, so that the loss is their mean; those that only fill the pass up count nothing, in loss and gradient.
    ///
    /// # Errors
    /// A lost device.
    pub async fn weigh(&self, images: usize, whole: usize, loss_scale: f64) -> Result<()> {
        let Some(view) = self.compiled.feeds.loss_weight else { return Ok(()) };
        let mut weights = vec![(loss_scale / whole as f64) as f32; images];
        weights.resize(self.batch, 0.0);
        self.recording.feed(self.gpu, view, &weights).await
    }

    /// Sets the largest norm of the gradients, where they are clipped.
    pub fn set_clip_norm(&self, limit: f64) {
        if let Some(view) = self.compiled.feeds.clip_norm {
            self.recording.write(self.gpu, view, &[limit as f32]);
        }
    }

    /// Sets the loss scale of mixed precision; in f32 there is none.
    pub fn set_loss_scale(&self, state: LossScale) {
        if let Some(view) = self.compiled.feeds.loss_scale {
            self.recording.write(self.gpu, view, &state.numbers());
        }
    }

    /// Starts to copy back the loss scale as it is after the last update, in mixed precision.
    pub fn loss_scale_later(&self) -> Option<Reading> {
        self.compiled.feeds.loss_scale.map(|view| self.recording.read_later(self.gpu, view))
    }

    /// The loss scale after the update that `reading` was started after.
    ///
    /// # Errors
    /// A lost device.
    pub async fn finish_loss_scale(&self, reading: Reading) -> Result<LossScale> {
        let numbers = reading.finish::<f32>(self.gpu).await?;
        Ok(LossScale::of_numbers(numbers.try_into().expect("six numbers are read")))
    }

    /// The loss scale of mixed precision as it is.
    ///
    /// # Errors
    /// A lost device.
    pub async fn loss_scale(&self) -> Result<Option<LossScale>> {
        match self.loss_scale_later() {
            Some(reading) => Ok(Some(self.finish_loss_scale(reading).await?)),
            None => Ok(None),
        }
    }

    /// Starts to copy back the norm of the gradients of the last update, where they are clipped and in mixed precision.
    pub fn gradient_norm_later(&self) -> Option<Reading> {
        self.compiled.gradient_norm.map(|view| self.recording.read_later(self.gpu, view))
    }

    /// The norm of the gradients, before they were clipped, of the update that `reading` was started after.
    ///
    /// # Errors
    /// A lost device.
    pub async fn finish_gradient_norm(&self, reading: Reading) -> Result<f64> {
        let [norm, _factor] = reading.finish::<f32>(self.gpu).await?[..] else { unreachable!("two numbers are read") };
        Ok(f64::from(norm))
    }

    /// Submits one pass: forward, and when training backward.
    pub fn pass(&self) {
        self.recording.run_range(self.gpu, self.compiled.phases.pass.clone());
    }

    /// Submits one pass and adds its gradients to those of the earlier parts of its batch (none before the `first`).
    ///
    /// # Errors
    /// A lost device.
    pub async fn pass_part(&self, first: bool) -> Result<()> {
        self.set_part(first).await?;
        self.recording.run_range(self.gpu, 0..self.compiled.phases.accumulate.end);
        Ok(())
    }

    /// As [`Engine::pass_part`], but in pieces: each bucket of gradients is on its way to the host while what comes after it is
    /// computed. For the last part of a batch whose gradients other ranks add theirs to.
    ///
    /// # Errors
    /// A lost device.
    pub async fn pass_in_buckets(&self, first: bool) -> Result<Vec<Vec<Reading>>> {
        self.set_part(first).await?;
        let (mut done, mut under_way) = (0, Vec::new());
        for Bucket { after, views } in &self.compiled.buckets {
            if *after > done {
                self.recording.run_range(self.gpu, done..*after);
                done = *after;
            }
            under_way.push(views.iter().map(|view| self.recording.read_later(self.gpu, *view)).collect());
        }
        self.recording.run_range(self.gpu, done..self.compiled.phases.accumulate.end);
        Ok(under_way)
    }

    /// The gradients of a bucket, one after the other.
    ///
    /// # Errors
    /// A lost device.
    pub async fn finish_bucket(&self, under_way: Vec<Reading>) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        for reading in under_way {
            values.extend(reading.finish::<f32>(self.gpu).await?);
        }
        Ok(values)
    }

    /// Puts sums in the place of a bucket's gradients, for the next update.
    ///
    /// # Errors
    /// A lost device.
    pub async fn feed_bucket(&self, bucket: usize, mut sums: &[f32]) -> Result<()> {
        for view in &self.compiled.buckets[bucket].views {
            let (these, rest) = sums.split_at(view.bytes as usize / 4);
            self.recording.feed(self.gpu, *view, these).await?;
            sums = rest;
        }
        Ok(())
    }

    /// Says whether the next pass is the first part of its batch.
    ///
    /// # Errors
    /// A lost device.
    pub async fn set_part(&self, first: bool) -> Result<()> {
        if let Some(view) = self.compiled.feeds.first {
            self.recording.feed(self.gpu, view, &[f32::from(u8::from(first))]).await?;
        }
        Ok(())
    }

    /// Submits the optimiser's step.
    pub fn update(&self) {
        self.recording.run_range(self.gpu, self.compiled.phases.update.clone());
    }

    /// Submits everything once, in one piece: a whole step where a batch has one part.
    pub fn run(&self) {
        self.recording.run(self.gpu);
    }

    /// Submits one pass, or where `update` says so the optimiser's step, launch by launch, and looks at what each writes: the
    /// first number that is not finite, if there is one, in the words of [`NotFinite`].
    ///
    /// # Errors
    /// A lost device; no room to copy a tensor back.
    pub async fn first_not_finite(&self, update: bool) -> Result<Option<NotFinite>> {
        let phases = &self.compiled.phases;
        let launches = if update { phases.update.clone() } else { 0..phases.accumulate.end };
        let program = &self.compiled.program;
        for at in launches {
            let launch = &program.launches[at];
            let written = launch.kernel.bindings.iter().filter(|b| b.float && b.access == Access::ReadWrite);
            let written: Vec<View> = written
                .map(|b| launch.operands.iter().find(|(name, _)| *name == b.name).expect("every binding is bound").1)
                .collect();
            // What lies between tensors, and behind their ends, is nobody's: only what changes counts.
            let mut before: Vec<Vec<f32>> = Vec::new();
            for &view in &written {
                before.push(self.read(view).await?);
            }
            self.recording.run_range(self.gpu, at..at + 1);
            for (&view, before) in written.iter().zip(&before) {
                let after = self.read(view).await?;
                let found =
                    (0..after.len()).find(|&i| !after[i].is_finite() && after[i].to_bits() != before[i].to_bits());
                if let Some(element) = found {
                    let tensor = program.buffers[view.buffer.0].name.clone();
                    let Launch { label, area, timestep, .. } = launch.clone();
                    return Ok(Some(NotFinite { label, area, timestep, tensor, element, value: after[element] }));
                }
            }
        }
        Ok(None)
    }

    /// Loss and correctness of the last run, of its first `images` images.
    ///
    /// # Errors
    /// A lost device.
    pub async fn scores(&self, images: usize) -> Result<Scores> {
        self.finish_scores(self.scores_later(), images).await
    }

    /// Starts to copy back loss and correctness of the last run; the next may be submitted meanwhile.
    pub fn scores_later(&self) -> Reading {
        self.recording.read_later(self.gpu, self.compiled.scores.view)
    }

    /// Loss and correctness of the run that `reading` was started after, of its first `images` images.
    ///
    /// # Errors
    /// A lost device.
    pub async fn finish_scores(&self, reading: Reading, images: usize) -> Result<Scores> {
        let raw: Vec<f32> = reading.finish(self.gpu).await?;
        let scores = self.compiled.scores;
        let sum = |row: usize| {
            let one = |step: usize| {
                let start = step * scores.distance + row * self.batch;
                raw[start..start + images].iter().map(|&x| f64::from(x)).sum::<f64>()
            };
            (0..scores.steps).map(one).collect()
        };
        Ok(Scores { first: scores.first, loss: sum(0), correct: sum(1), images })
    }

    /// What was asked for of a quantity.
    pub fn tapped(&self, of: Quantity) -> Option<&Tapped> {
        self.compiled.taps.iter().find(|tapped| tapped.of == of)
    }

    /// Copies back any view of the program.
    ///
    /// # Errors
    /// A lost device.
    pub async fn read(&self, view: View) -> Result<Vec<f32>> {
        match view.half {
            true => Ok(unpacked(&self.recording.read(self.gpu, view).await?)),
            false => self.recording.read(self.gpu, view).await,
        }
    }

    /// The recording, for kernels that work on this network's outputs.
    pub fn recording(&self) -> &Recording {
        &self.recording
    }
}
