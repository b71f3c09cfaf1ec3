//! What is measured of every image and timestep of a batch, once, for all streams that make statistics of it: classes, entropy
//! and largest probability from the outputs; norms, steps and turns from the representations; and the products of the
//! representations with all readout vectors, the one large piece of arithmetic among them.
//!
//! A [`Measured`] is a sink that comes before the streams that read it, and is handed to them when they are made. It leaves
//! its numbers on the device, in buffers of the [`Store`] that all of them are made with.
//!
//! Logits that a network leaves, or that others stored, do not serve as these products. Stored outputs may be log-probabilities
//! that were cut off. A network's logits have the bias in them, which a cosine must not have and which cannot be taken off
//! without the rounding of the larger of the two. And what comes of one activity would depend on where it came from: so
//! margins and cosines are always made from representations and readout, in this one way.

use super::readout::Readout;
use super::streaming::ActivityBatch;
use crate::Result;
use crate::engine::Engine;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::graph::taps::Quantity;
use crate::kernels::choose::{product_tile, wide_streams};
use crate::kernels::conv::{Matrices, Source, Start, Tile, product};
use crate::kernels::{ALIGNMENT, BufferSpec, Kernel, Param, Program, Role, Settings, Site, Target, View, align};
use crate::stream::{Pending, Portion, Sink};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// Invocations of a workgroup of the kernels `shaders/measured_*.wgsl`.
const LANES: usize = 64;
/// Timesteps of a thread of `measured_lengths`: where loads are the limit as many as let most of what is loaded serve twice;
/// where threads are, fewer.
const STEPS: [usize; 2] = [2, 5];
/// The two networks: the analysed one, and the same before training.
pub(crate) const NETWORKS: [&str; 2] = ["trained", "untrained"];
/// Views of buffers begin at multiples of so many words.
pub(crate) const WORDS: usize = ALIGNMENT as usize / 4;

/// What a batch brings of one network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs {
    /// \[T\]\[K\]\[width\]
    pub logits: View,
    /// \[T\]\[D\]\[width\]
    pub representations: View,
}

/// How batches lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Timesteps.
    pub timesteps: usize,
    /// Images for which a batch has room.
    pub width: usize,
    /// Words from the logits of one timestep to those of the next; at least classes x width.
    pub logits_step: usize,
    /// Words from the representations of one timestep to those of the next; at least features x width.
    pub features_step: usize,
    /// Whether the activity of the untrained network comes too.
    pub untrained: bool,
}

impl Layout {
    /// Timesteps without gaps, of the trained and the untrained network.
    pub fn dense(readout: &Readout, timesteps: usize, width: usize) -> Layout {
        let (logits_step, features_step) = (readout.classes() * width, readout.features() * width);
        Layout { timesteps, width, logits_step, features_step, untrained: true }
    }

    /// Timesteps at places where views can begin, of the trained and the untrained network.
    pub fn aligned(classes: usize, features: usize, timesteps: usize, width: usize) -> Layout {
        let step = |rows: usize| (rows * width).next_multiple_of(WORDS);
        Layout { timesteps, width, logits_step: step(classes), features_step: step(features), untrained: true }
    }

    /// Lets whatever is made with `store` read labels, logits and representations where the trained and, if there, the
    /// untrained network leave them; gives their layout. They were compiled with series of the logits and of
    /// representations.
    pub fn share(store: &mut Store, engines: &[Engine]) -> Layout {
        let series = |engine: &Engine, of: Quantity| {
            let tapped = engine.tapped(of).expect("the network was compiled with this tap");
            tapped.series.expect("as a series")
        };
        let of = |engine: &Engine| (series(engine, Quantity::Logits), series(engine, Quantity::Representation));
        for (engine, network) in engines.iter().zip(NETWORKS) {
            let (logits, representations) = of(engine);
            store.share(&format!("trajectory.logits {network}"), engine.recording(), logits.view);
            store.share(&format!("trajectory.representations {network}"), engine.recording(), representations.view);
        }
        store.share("trajectory.labels", engines[0].recording(), engines[0].compiled.feeds.labels);
        let (logits, representations) = of(&engines[0]);
        let (timesteps, width) = (logits.steps, engines[0].batch);
        let (logits_step, features_step) = (logits.distance, representations.distance);
        Layout { timesteps, width, logits_step, features_step, untrained: engines.len() > 1 }
    }

    /// The parameters of `shaders/shared/trajectory.wgsl`, but for `samples` and `measures`.
    pub(crate) fn params(&self, classes: usize, features: usize) -> [(&'static str, Param); 7] {
        [
            ("timesteps", self.timesteps.into()),
            ("classes", classes.into()),
            ("features", features.into()),
            ("width", self.width.into()),
            ("logits_step", self.logits_step.into()),
            ("features_step", self.features_step.into()),
            ("all_ones", u32::MAX.into()),
        ]
    }

    /// Images that kernels may take as one vector.
    pub(crate) fn vector(&self) -> usize {
        [4, 2].into_iter().find(|vec| self.width.is_multiple_of(*vec)).unwrap_or(1)
    }
}

/// A buffer that all programs made with one [`Store`] share by its name.
pub(crate) fn shared(program: &mut Program, name: &str, words: usize) -> View {
    let (name, area, bytes) = (format!("trajectory.{name}"), "trajectory".to_string(), align(4 * words as u64));
    let buffer = program.buffer(BufferSpec { name, bytes, role: Role::Persistent, area, timestep: None });
    View { buffer, offset: 0, bytes: 4 * words as u64, half: false }
}

/// The buffers of a program that hold what a batch brings: `trajectory.labels`, and `trajectory.logits NETWORK` and
/// `trajectory.representations NETWORK` of each network. All programs made with one [`Store`] share them, so that whoever
/// fills them fills them for all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrivals {
    /// \[width\]
    pub labels: View,
    pub trained: Inputs,
    pub untrained: Option<Inputs>,
}

impl Arrivals {
    pub(super) fn new(program: &mut Program, layout: &Layout) -> Arrivals {
        let labels = shared(program, "labels", layout.width);
        let mut of = |network: &str| Inputs {
            logits: shared(program, &format!("logits {network}"), layout.timesteps * layout.logits_step),
            representations: shared(
                program,
                &format!("representations {network}"),
                layout.timesteps * layout.features_step,
            ),
        };
        let trained = of(NETWORKS[0]);
        Arrivals { labels, trained, untrained: layout.untrained.then(|| of(NETWORKS[1])) }
    }
}

/// The buffers of a program that hold what a [`Measured`] leaves of one network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers {
    /// \[T + 1\]\[width\] Class at each timestep, all ones where a logit is not finite; then labels.
    pub class_at: View,
    /// \[rows\]\[T\]\[width\] Norm ([`super::streaming::UNDEFINED`] of a representation that is not finite, or too long), step
    /// to the next timestep; of the trained network also distance to the last representation, tangent of half the angle of
    /// the next turn, entropy, largest probability. None where only classes are measured.
    pub values: Option<View>,
    /// \[T\]\[K\]\[width\] Products with [`Readout::scaled_vectors`], timesteps at multiples of [`WORDS`]; of a representation
    /// shorter than [`SHORT`] multiplied by [`SHORT_SCALE`]. Of the trained network, where not only classes are measured.
    pub products: Option<View>,
}

/// Rows of [`Numbers::values`] of the trained network.
pub(crate) const ROWS: usize = 6;
/// Products with representations shorter than this, 2^-60, might vanish ...
pub(crate) const SHORT: f64 = 1.0 / (1u64 << 60) as f64;
/// ... so that these are multiplied by 2^90 first.
pub(crate) const SHORT_SCALE: f64 = (1u128 << 90) as f64;

impl Numbers {
    pub(crate) fn new(program: &mut Program, layout: &Layout, classes: usize, network: &str, all: bool) -> Numbers {
        let Layout { timesteps, width, .. } = *layout;
        let trained = network == NETWORKS[0];
        let rows = if trained { ROWS } else { 2 };
        let product_words = timesteps * (classes * width).next_multiple_of(WORDS);
        let mut make = |what: &str, words: usize| shared(program, &format!("{what} {network}"), words);
        Numbers {
            class_at: make("class_at", (timesteps + 1) * width),
            values: all.then(|| make("values", rows * timesteps * width)),
            products: (all && trained).then(|| make("products", product_words)),
        }
    }
}

/// Batches in; classes, lengths and products of each of them out, on a device.
pub struct Measured<'g> {
    gpu: &'g Gpu,
    recording: Recording,
    readout: Readout,
    layout: Layout,
    /// Whether more than classes is measured.
    all: bool,
    batch: View,
    arrivals: Arrivals,
    /// Launches by kind of work.
    parts: Vec<(&'static str, Range<usize>)>,
    /// Seconds by kind of work, where they are counted.
    clock: Option<BTreeMap<&'static str, f64>>,
}

impl<'g> Measured<'g> {
    /// All that the streams read, of batches that come in this layout to a network with this readout; of an untrained network
    /// classes, norms and steps. The representations of timesteps lie at multiples of 64 words. What a batch brings is read
    /// from buffers of `store`, in which networks leave it ([`Layout::share`]) or the host ([`super::feed::Feed`]).
    ///
    /// # Errors
    /// Buffers that do not fit the adapter; out of memory.
    pub async fn new(gpu: &'g Gpu, readout: Readout, layout: Layout, store: &mut Store) -> Result<Measured<'g>> {
        Measured::with(gpu, readout, layout, true, store).await
    }

    /// The classes alone, of both networks.
    ///
    /// # Errors
    /// As [`Measured::new`].
    pub async fn classes(gpu: &'g Gpu, readout: Readout, layout: Layout, store: &mut Store) -> Result<Measured<'g>> {
        Measured::with(gpu, readout, layout, false, store).await
    }

    async fn with(
        gpu: &'g Gpu,
        readout: Readout,
        layout: Layout,
        all: bool,
        store: &mut Store,
    ) -> Result<Measured<'g>> {
        let (classes, features) = (readout.classes(), readout.features());
        let Layout { timesteps, width, features_step, .. } = layout;
        let mut program = Program::default();
        let arrivals = Arrivals::new(&mut program, &layout);
        let input = |program: &mut Program, name: &str, words: usize| {
            let (name, area, bytes) = (name.to_string(), "trajectory".to_string(), align(4 * words as u64));
            let spec = BufferSpec { name, bytes, role: Role::Input, area, timestep: None };
            View { buffer: program.buffer(spec), offset: 0, bytes: 4 * words as u64, half: false }
        };
        let batch = input(&mut program, "measured.batch", 2);
        let tile = tile(&gpu.target, width, features, classes);
        let panels = classes.div_ceil(tile.r) * tile.r * features;
        let vectors = all.then(|| input(&mut program, "measured.readout", panels + READ_BEYOND));
        let params = [&layout.params(classes, features)[..], &[("samples", 0u32.into()), ("measures", 0u32.into())]];
        let (params, vec) = (params.concat(), layout.vector());
        let of_vectors = || in_vectors(vec, wide_streams(&gpu.target));
        let launch = |program: &mut Program,
                      (kernel, settings): (&'static str, Settings),
                      operands: &[(&'static str, View)],
                      [images, steps]: [usize; 2],
                      network: &str| {
            let operands = [&[("batch", batch)], operands].concat();
            let site = Site { label: &format!("{kernel} {network}"), ..Site::of(kernel, "trajectory") };
            program.launch(
                &Kernel::new(kernel, &settings)?,
                &operands,
                &params,
                [images.div_ceil(LANES), steps, 1],
                site,
            );
            Ok::<(), crate::Error>(())
        };
        let mut parts = Vec::new();
        let networks = [Some(arrivals.trained), arrivals.untrained].into_iter().flatten().zip(NETWORKS);
        let networks: Vec<(Inputs, &str, Numbers)> = networks
            .map(|(inputs, name)| (inputs, name, Numbers::new(&mut program, &layout, classes, name, all)))
            .collect();
        let begin = program.launches.len();
        for (inputs, network, of) in &networks {
            let certain = of.values.filter(|_| *network == NETWORKS[0]);
            let operands = [("logits", inputs.logits), ("labels", arrivals.labels), ("class_at", of.class_at)];
            let operands: Vec<_> = operands.into_iter().chain(certain.map(|values| ("values", values))).collect();
            let kernel = outputs(of_vectors(), certain.is_some());
            launch(&mut program, kernel, &operands, [width / vec, timesteps], network)?;
        }
        parts.push(("outputs", begin..program.launches.len()));
        let begin = program.launches.len();
        let steps = STEPS[usize::from(gpu.target.cpu)];
        for (inputs, network, of) in &networks {
            let Some(values) = of.values else { continue };
            let operands = [("representations", inputs.representations), ("values", values)];
            let kernel = lengths(of_vectors(), steps, *network == NETWORKS[0]);
            launch(&mut program, kernel, &operands, [width / vec, timesteps.div_ceil(steps)], network)?;
        }
        parts.push(("lengths", begin..program.launches.len()));
        if let (Some(vectors), (inputs, network, Numbers { values: Some(values), products: Some(products), .. })) =
            (vectors, &networks[0])
        {
            let begin = program.launches.len();
            let operands = [("representations", inputs.representations), ("values", *values)];
            launch(&mut program, turns(of_vectors()), &operands, [width / vec, timesteps], network)?;
            parts.push(("turns", begin..program.launches.len()));

            let begin = program.launches.len();
            assert!(features_step.is_multiple_of(WORDS), "timesteps lie at multiples of {WORDS} words");
            let matrices =
                Matrices { columns: width, batch: 1, cin: features, cout: classes, symmetric: false, panels: false };
            for t in 0..timesteps {
                let x = inputs.representations.part(t * features_step, Some(features * width));
                let y = products.part(t * (classes * width).next_multiple_of(WORDS), Some(classes * width));
                let site = Site {
                    timestep: Some(t),
                    label: &format!("products {network} t={t}"),
                    ..Site::of("product", "trajectory")
                };
                let operands = (x, vectors, Start::default(), y);
                product(&mut program, &gpu.target, &tile, &matrices, operands, site)?;
            }
            let operands = [
                ("representations", inputs.representations),
                ("readout", vectors),
                ("values", *values),
                ("products", *products),
            ];
            launch(&mut program, short(tile.r), &operands, [width, timesteps], network)?;
            parts.push(("products", begin..program.launches.len()));
        }

        let plan = Plan::new(&program, true).with_rings([batch.bytes].into_iter(), std::iter::empty());
        plan.fits(&program, &gpu.target)?;
        let recording = Recording::new(gpu, &program, &plan, store).await?;
        if gpu.checked() {
            recording.poison(gpu, &program);
        }
        if let Some(vectors) = vectors {
            recording.write(gpu, vectors, &in_panels(&readout.scaled_vectors(), classes, features, tile.r));
        }
        Ok(Measured { gpu, recording, readout, layout, all, batch, arrivals, parts, clock: None })
    }

    /// The readout of the trained network.
    pub fn readout(&self) -> &Readout {
        &self.readout
    }

    /// How batches lie in memory.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether more than classes is measured.
    pub(crate) fn all(&self) -> bool {
        self.all
    }

    /// Waits for each part of the work from now on, and counts the seconds by kind.
    pub fn with_clock(mut self) -> Self {
        self.clock = Some(BTreeMap::new());
        self
    }

    /// Seconds by kind of work: `outputs`, `lengths`, `turns`, `products`.
    pub fn seconds(&self) -> BTreeMap<&'static str, f64> {
        self.clock.clone().unwrap_or_default()
    }

    /// Writes a batch whose arrays lie on the host without gaps, for the next [`Measured::run`].
    pub fn write(&self, batch: &ActivityBatch<'_>) {
        let Layout { timesteps, width, logits_step, features_step, .. } = self.layout;
        assert_eq!(batch.width, width, "all batches of a stream have the same width");
        let untrained = self.arrivals.untrained.zip(batch.untrained);
        for (to, of) in [Some((self.arrivals.trained, batch.trained)), untrained].into_iter().flatten() {
            for (view, step, numbers) in
                [(to.logits, logits_step, of.logits), (to.representations, features_step, of.representations)]
            {
                for (t, numbers) in numbers.chunks_exact(numbers.len() / timesteps).enumerate() {
                    self.recording.write(self.gpu, view.part(t * step, Some(numbers.len())), numbers);
                }
            }
        }
        self.recording.write(self.gpu, self.arrivals.labels, batch.labels);
    }

    /// Submits the kernels for a batch of so many images of which all is on the device. What is submitted after it finds the
    /// numbers.
    ///
    /// # Errors
    /// A lost device.
    pub async fn run(&mut self, images: usize) -> Result<()> {
        assert!(images <= self.layout.width, "{images} images in a batch of {}", self.layout.width);
        self.recording.feed(self.gpu, self.batch, &[0, images as u32]).await?;
        let Some(clock) = &mut self.clock else {
            self.recording.run(self.gpu);
            return Ok(());
        };
        for (what, range) in &self.parts {
            let begun = Instant::now();
            self.recording.run_range(self.gpu, range.clone());
            self.gpu.wait().await?;
            *clock.entry(what).or_default() += begun.elapsed().as_secs_f64();
        }
        Ok(())
    }
}

impl Sink for Measured<'_> {
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
        Box::pin(self.run(portion.images))
    }
}

/// Kernels that read `vec` images at once, in words of 64 bits where `wide`.
pub(crate) fn in_vectors(vec: usize, wide: bool) -> Settings {
    Settings::new().set("VEC", vec as u32).images(vec).wide_images(wide)
}

fn outputs(settings: Settings, certain: bool) -> (&'static str, Settings) {
    let vector = settings.constant("VEC") != Some(1);
    ("measured_outputs", settings.flag("VECTOR", vector).flag("CERTAIN", certain))
}

fn lengths(settings: Settings, steps: usize, to_the_last: bool) -> (&'static str, Settings) {
    ("measured_lengths", settings.set("TS", steps as u32).flag("FINAL", to_the_last))
}

fn turns(settings: Settings) -> (&'static str, Settings) {
    ("measured_turns", settings)
}

fn short(r: usize) -> (&'static str, Settings) {
    ("measured_short", Settings::new().set("R", r as u32))
}

/// The tile of the product with the readout. Where a workgroup is a subgroup, panels have equal heights: of 100 rows in panels
/// of 32 a fifth of what is computed would be for nothing.
fn tile(target: &Target, width: usize, features: usize, classes: usize) -> Tile {
    let tile = product_tile(target, width, features, classes);
    match tile.source {
        Source::Subgroup => Tile { r: classes.div_ceil(classes.div_ceil(tile.r)), ..tile },
        _ => tile,
    }
}

/// Words behind the panels that lanes may read, whose numbers serve no row.
const READ_BEYOND: usize = 64;

/// Vectors \[K\]\[D\] as the matrix product takes them: \[K / r\]\[D\]\[r\].
fn in_panels(vectors: &[f32], classes: usize, features: usize, r: usize) -> Vec<f32> {
    let mut panels = vec![0.0; classes.div_ceil(r) * r * features];
    for (k, vector) in vectors.chunks_exact(features).enumerate() {
        for (d, &w) in vector.iter().enumerate() {
            panels[(k / r * features + d) * r + k % r] = w;
        }
    }
    panels
}

/// Every variant of the kernels `shaders/measured_*.wgsl`, those with words of 64 bits too where `wide`.
///
/// # Errors
/// A variant that naga refuses.
pub fn variants(wide: bool) -> Result<Vec<Arc<Kernel>>> {
    let of = |(vec, wide)| {
        let settings = move || in_vectors(vec, wide);
        let lengths = STEPS.into_iter().flat_map(move |of| [false, true].map(|last| lengths(settings(), of, last)));
        [outputs(settings(), false), outputs(settings(), true), turns(settings())].into_iter().chain(lengths)
    };
    let layouts = [(1, false), (2, false), (4, false), (2, true), (4, true)];
    let all = layouts.into_iter().filter(|(_, words)| wide || !words).flat_map(of).chain([short(8)]);
    all.map(|(name, settings)| Kernel::new(name, &settings)).collect()
}
