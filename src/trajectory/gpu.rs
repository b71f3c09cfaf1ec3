//! The statistics accumulated on the device: the kernels `shaders/trajectory_*.wgsl` as a program that runs once per batch.
//! Sums and small tables stay on the device from batch to batch and are copied back once, at the end.

use super::accumulator::{Accumulator, NO_STEP, Tally, Untrained};
use super::definitions::Group;
use super::feed::Feed;
use super::goldens::{Agreement, Golden};
use super::readout::Readout;
use super::statistics::Statistics;
use crate::Result;
use crate::engine::Engine;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::graph::taps::Quantity;
use crate::kernels::choose::product_tile;
use crate::kernels::conv::{ConvShape, Start, WeightOrder, conv2d};
use crate::kernels::{ALIGNMENT, BufferSpec, Kernel, Param, Program, Role, Settings, Site, Target, View, align};
use crate::stream::{Order, Pending, Portion, Sink};

/// Invocations of a workgroup of these kernels.
const LANES: usize = 64;
/// The two networks: the analysed one, and the same before training.
pub(super) const NETWORKS: [&str; 2] = ["trained", "untrained"];
/// Views of buffers begin at multiples of so many words.
pub(crate) const WORDS: usize = ALIGNMENT as usize / 4;
/// Timesteps and classes for which `trajectory_compact` has room.
const MOST_STEPS: usize = (1 << 13) - 1;
const MOST_CLASSES: usize = (1 << 16) - 1;

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
}

/// Launches the products of a batch's representations with all readout vectors \[K\]\[D\], which come as
/// \[T\]\[K\]\[width\], timesteps at multiples of [`WORDS`]. Those of the representations lie at such multiples too.
pub(crate) fn readout_products(
    program: &mut Program,
    target: &Target,
    layout: &Layout,
    [classes, features]: [usize; 2],
    [representations, readout, products]: [View; 3],
    site: Site,
) -> Result<()> {
    let Layout { timesteps, width, features_step, .. } = *layout;
    assert!(features_step.is_multiple_of(WORDS), "timesteps lie at multiples of {WORDS} words");
    let shape = ConvShape::same(width, features, classes, 1, 1, 1);
    let tile = product_tile(target, width, features, classes);
    for t in 0..timesteps {
        let x = representations.part(t * features_step, Some(features * width));
        let w = readout.part(0, Some(classes * features));
        let y = products.part(t * (classes * width).next_multiple_of(WORDS), Some(classes * width));
        let operands = (x, w, WeightOrder::out_first(features, 1), Start::default(), y);
        let label = format!("{} t={t}", site.label);
        conv2d(program, target, &tile, &shape, operands, Site { timestep: Some(t), label: &label, ..site })?;
    }
    Ok(())
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
        let mut kept = |name: &str, words: usize| Builder::buffer(program, name, words, Role::Persistent);
        let labels = kept("labels", layout.width);
        let mut of = |network: &str| Inputs {
            logits: kept(&format!("logits {network}"), layout.timesteps * layout.logits_step),
            representations: kept(&format!("representations {network}"), layout.timesteps * layout.features_step),
        };
        let trained = of(NETWORKS[0]);
        Arrivals { labels, trained, untrained: layout.untrained.then(|| of(NETWORKS[1])) }
    }
}

/// What is kept from batch to batch: the tables of [`Accumulator`], in its order.
#[derive(Clone, Copy, Debug)]
struct Tables {
    records: View,
    /// The records in one word each, made at the end, unless steps or classes have no room in it.
    compact: Option<View>,
    counts: View,
    counts_init: Option<View>,
    values: [View; 2],
    values_init: Option<[View; 2]>,
    picked: [View; 2],
    /// Sums over pairs, and how many there are: see [`super::accumulator::PairSums`].
    pair_sums: View,
    pair_counts: View,
}

/// Batches in, statistics out, on a device.
pub struct GpuStream<'g> {
    gpu: &'g Gpu,
    recording: Recording,
    readout: Readout,
    samples: usize,
    layout: Layout,
    batch: View,
    tables: Tables,
    /// Launches that each batch takes: the first.
    each_batch: usize,
}

/// A program under construction.
struct Builder {
    program: Program,
    layout: Layout,
    /// T, K, D, width, samples.
    sizes: [usize; 5],
    batch: View,
    labels: View,
}

impl Builder {
    fn buffer(program: &mut Program, name: &str, words: usize, role: Role) -> View {
        let (name, area, bytes) = (format!("trajectory.{name}"), "trajectory".to_string(), align(4 * words as u64));
        let buffer = program.buffer(BufferSpec { name, bytes, role, area, timestep: None });
        View { buffer, offset: 0, bytes: 4 * words as u64 }
    }

    /// One launch of `kernel` for each batch, with so many threads in x and y.
    fn launch(
        &mut self,
        kernel: &'static str,
        operands: &[(&'static str, View)],
        threads: [usize; 2],
        network: &str,
    ) -> Result<()> {
        let operands = [&[("batch", self.batch)], operands].concat();
        self.launch_once(kernel, &operands, threads, network)
    }

    /// One launch of `kernel` that no batch concerns, with so many threads in x and y.
    fn launch_once(
        &mut self,
        kernel: &'static str,
        operands: &[(&'static str, View)],
        threads: [usize; 2],
        network: &str,
    ) -> Result<()> {
        let variant = Kernel::new(kernel, &Settings::new())?;
        let [timesteps, classes, features, width, samples] = self.sizes;
        let params: [(&str, Param); 9] = [
            ("timesteps", timesteps.into()),
            ("classes", classes.into()),
            ("features", features.into()),
            ("width", width.into()),
            ("logits_step", self.layout.logits_step.into()),
            ("features_step", self.layout.features_step.into()),
            ("samples", samples.into()),
            ("measures", Tally::MEASURES.into()),
            ("all_ones", u32::MAX.into()),
        ];
        let grid = [threads[0].div_ceil(LANES), threads[1], 1];
        let site = Site { label: &format!("{kernel} {network}"), ..Site::of(kernel, "trajectory") };
        self.program.launch(&variant, operands, &params, grid, site);
        Ok(())
    }

    /// Classes, norms and changes of one network.
    fn measure(&mut self, of: Inputs, network: &str) -> Result<(View, View)> {
        let [timesteps, .., width, _] = self.sizes;
        let name = |what: &str| format!("{what} {network}");
        let class_at = Self::buffer(&mut self.program, &name("class_at"), timesteps * width, Role::Temporary);
        let values = Self::buffer(&mut self.program, &name("values"), 2 * timesteps * width, Role::Temporary);
        let operands = [
            ("logits", of.logits),
            ("representations", of.representations),
            ("class_at", class_at),
            ("values", values),
        ];
        self.launch("trajectory_measure", &operands, [width, timesteps], network)?;
        Ok((class_at, values))
    }

    fn count(&mut self, class_at: View, values: View, counts: View, network: &str) -> Result<()> {
        let operands = [("class_at", class_at), ("values", values), ("labels", self.labels), ("counts", counts)];
        self.launch("trajectory_count", &operands, [self.sizes[0] * self.sizes[1], 1], network)
    }

    fn tally(&mut self, values: View, records: View, [sums, counts]: [View; 2], network: &str) -> Result<()> {
        let operands = [("values", values), ("records", records), ("sums", sums), ("counts", counts)];
        let threads = [Tally::MEASURES * self.sizes[0] * self.sizes[0], 1];
        self.launch("trajectory_tally", &operands, threads, network)
    }
}

impl<'g> GpuStream<'g> {
    /// For so many samples of a network with this readout; the representations of timesteps lie at multiples of 64 words. What a
    /// batch brings is read from buffers of `store`, in which networks leave it ([`GpuStream::share`]) or the host
    /// ([`super::feed::Feed`]).
    ///
    /// # Errors
    /// Tables that do not fit the adapter; out of memory.
    pub async fn new(
        gpu: &'g Gpu,
        readout: Readout,
        samples: usize,
        layout: Layout,
        store: &mut Store,
    ) -> Result<GpuStream<'g>> {
        let Layout { timesteps, width, untrained: with_untrained, .. } = layout;
        let (classes, features) = (readout.classes(), readout.features());
        let mut program = Program::default();
        let Arrivals { labels, trained, untrained } = Arrivals::new(&mut program, &layout);
        let mut make = |name: &str, words: usize, role: Role| Builder::buffer(&mut program, name, words, role);
        let batch = make("batch", 2, Role::Input);
        let unit = make("readout", classes * features, Role::Input);
        let mut kept = |name: &str, words: usize| make(name, words, Role::Persistent);
        let entries = Tally::MEASURES * timesteps * timesteps;
        let mut tally =
            |name: &str| [kept(&format!("{name}.sums"), 2 * entries), kept(&format!("{name}.counts"), entries)];
        let (values, picked) = (tally("values"), tally("picked"));
        let values_init = with_untrained.then(|| tally("values_init"));
        let cells = timesteps * classes * classes;
        let tables = Tables {
            records: kept("records", 4 * samples),
            compact: (timesteps < MOST_STEPS && classes < MOST_CLASSES).then(|| kept("compact", samples)),
            counts: kept("counts", 4 * timesteps * classes),
            counts_init: with_untrained.then(|| kept("counts_init", 4 * timesteps * classes)),
            values,
            values_init,
            picked,
            pair_sums: kept("pairs.sums", 2 * timesteps * classes),
            pair_counts: kept("pairs.counts", 2 * timesteps * classes),
        };
        let [later, voiced] = ["later", "voiced"].map(|name| kept(name, cells));
        let [all, own] = ["all", "own"].map(|name| kept(name, 2 * cells));

        let mut b = Builder { program, layout, sizes: [timesteps, classes, features, width, samples], batch, labels };
        let records = tables.records;
        let (class_at, values) = b.measure(trained, "trained")?;
        let cosines = Builder::buffer(&mut b.program, "cosines", timesteps * classes * width, Role::Temporary);
        let picked = Builder::buffer(&mut b.program, "cosines picked", 2 * timesteps * width, Role::Temporary);
        let product_words = timesteps * (classes * width).next_multiple_of(WORDS);
        let products = Builder::buffer(&mut b.program, "products", product_words, Role::Temporary);
        let site = Site { label: "products trained", ..Site::of("product", "trajectory") };
        let operands = [trained.representations, unit, products];
        readout_products(&mut b.program, &gpu.target, &layout, [classes, features], operands, site)?;
        let operands = [
            ("products", products),
            ("representations", trained.representations),
            ("readout", unit),
            ("values", values),
            ("cosines", cosines),
        ];
        b.launch("trajectory_cosine", &operands, [width, timesteps], "trained")?;
        let operands = [("class_at", class_at), ("labels", labels), ("records", records)];
        b.launch("trajectory_classify", &operands, [width, 1], "trained")?;
        let operands = [("cosines", cosines), ("class_at", class_at), ("labels", labels), ("picked", picked)];
        b.launch("trajectory_pick", &operands, [width, timesteps], "trained")?;
        b.count(class_at, values, tables.counts, "trained")?;
        b.tally(values, records, tables.values, "trained values")?;
        b.tally(picked, records, tables.picked, "trained cosines")?;
        let operands = [
            ("cosines", cosines),
            ("class_at", class_at),
            ("records", records),
            ("later", later),
            ("voiced", voiced),
            ("all", all),
            ("own", own),
        ];
        b.launch("trajectory_pairs", &operands, [timesteps * classes, 1], "trained")?;

        if let (Some(of), Some(counts), Some(sums)) = (untrained, tables.counts_init, tables.values_init) {
            let (class_at, values) = b.measure(of, "untrained")?;
            b.count(class_at, values, counts, "untrained")?;
            b.tally(values, records, sums, "untrained values")?;
        }

        let each_batch = b.program.launches.len();
        let operands = [
            ("later", later),
            ("voiced", voiced),
            ("all", all),
            ("own", own),
            ("sums", tables.pair_sums),
            ("pairs", tables.pair_counts),
        ];
        b.launch_once("trajectory_pair_sums", &operands, [timesteps * classes, 1], "trained")?;
        if let Some(compact) = tables.compact {
            // As many rows of threads as it takes to stay within an adapter's grid.
            let rows = samples.div_ceil(LANES).div_ceil(gpu.target.max_grid as usize);
            let operands = [("records", records), ("compact", compact)];
            b.launch_once("trajectory_compact", &operands, [samples.div_ceil(rows), rows], "trained")?;
        }

        let plan = Plan::new(&b.program, true).with_rings([batch.bytes].into_iter(), std::iter::empty());
        plan.fits(&b.program, &gpu.target)?;
        // The tables start at zero, as new buffers do.
        let recording = Recording::new(gpu, &b.program, &plan, store).await?;
        if gpu.checked() {
            recording.poison(gpu, &b.program);
        }
        recording.write(gpu, unit, &readout.unit_vectors());
        Ok(GpuStream { gpu, recording, readout, samples, layout, batch, tables, each_batch })
    }

    /// Lets a stream that is made with `store` read labels, logits and representations where the trained and, if there, the
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

    /// Submits the kernels for a batch of which all is on the device: `images` images, of which `first` came before.
    ///
    /// # Errors
    /// A lost device.
    pub async fn run(&mut self, first: usize, images: usize) -> Result<()> {
        assert!(first + images <= self.samples, "more images than the {} announced", self.samples);
        self.recording.feed(self.gpu, self.batch, &[first as u32, images as u32]).await?;
        self.recording.run_range(self.gpu, 0..self.each_batch);
        Ok(())
    }

    /// The analysed network's readout.
    pub fn readout(&self) -> &Readout {
        &self.readout
    }

    /// Bytes that [`GpuStream::accumulator`] copies back.
    pub fn copied_back_bytes(&self) -> u64 {
        let Tables { records, compact, counts, counts_init, values, values_init, picked, pair_sums, pair_counts } =
            self.tables;
        let tallies = [Some(values), values_init, Some(picked)].into_iter().flatten().flatten();
        let tables = [compact.unwrap_or(records), counts, pair_sums, pair_counts].into_iter().chain(counts_init);
        tables.chain(tallies).map(|view| view.bytes).sum()
    }

    /// Copies the tables back.
    ///
    /// # Errors
    /// A lost device.
    pub async fn accumulator(&self) -> Result<Accumulator> {
        self.recording.run_from(self.gpu, self.each_batch, 1);
        let read = async |view: View| self.recording.read::<u32>(self.gpu, view).await;
        let sums = async |view: View| self.recording.read::<[f32; 2]>(self.gpu, view).await;
        let tally = async |[values, counts]: [View; 2]| -> Result<Tally> {
            Ok(Tally { sums: sums(values).await?, counts: read(counts).await? })
        };
        let (timesteps, classes) = (self.layout.timesteps, self.readout.classes());
        let mut accumulator = Accumulator::new(self.samples, timesteps, classes, self.layout.untrained);
        let of = &self.tables;
        accumulator.records = match of.compact {
            Some(compact) => unpacked(&read(compact).await?),
            None => read(of.records).await?,
        };
        accumulator.counts = read(of.counts).await?;
        accumulator.values = tally(of.values).await?;
        if let (Some(counts), Some(values)) = (of.counts_init, of.values_init) {
            accumulator.untrained = Some(Untrained { counts: read(counts).await?, values: tally(values).await? });
        }
        accumulator.picked = tally(of.picked).await?;
        accumulator.pairs.sums = sums(of.pair_sums).await?;
        accumulator.pairs.counts = self.recording.read::<[u32; 2]>(self.gpu, of.pair_counts).await?;
        Ok(accumulator)
    }

    /// The statistics of images that were streamed in data order: see [`Accumulator::finish`].
    ///
    /// # Errors
    /// A lost device; an accumulation that is not complete, or met numbers that are not finite.
    pub async fn finish(&self) -> Result<Statistics> {
        self.accumulator().await?.finish(&self.readout)
    }

    /// The statistics, in data order, of images that were streamed in this order.
    ///
    /// # Errors
    /// As [`GpuStream::finish`].
    pub async fn finish_in(&self, order: &Order) -> Result<Statistics> {
        self.accumulator().await?.in_data_order(order).finish(&self.readout)
    }
}

impl Sink for GpuStream<'_> {
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
        Box::pin(self.run(portion.first, portion.images))
    }
}

/// The records \[4\]\[samples\] from those in one word each: see `shaders/trajectory_compact.wgsl`.
fn unpacked(compact: &[u32]) -> Vec<u32> {
    let group = |word: u32| word & 7;
    let step = |word: u32| (word >> 3 & 0x1fff).checked_sub(1).unwrap_or(NO_STEP);
    let correct_once = |word: u32| group(word) == Group::UnstableCorrect as u32;
    let class = |word: u32| if word >> 16 == 0xffff { u32::MAX } else { word >> 16 };
    let stable = |word: u32| if correct_once(word) { NO_STEP } else { step(word) };
    let unstable = |word: u32| if correct_once(word) { step(word) } else { NO_STEP };
    let fields: [&dyn Fn(u32) -> u32; 4] = [&group, &stable, &unstable, &class];
    fields.iter().flat_map(|field| compact.iter().map(move |&word| field(word))).collect()
}

/// The tables that the kernels leave of a golden analysis, in batches of `width`.
///
/// # Errors
/// What the device says.
pub async fn accumulate(gpu: &Gpu, golden: &Golden, width: usize) -> Result<Accumulator> {
    stream(gpu, golden, width).await?.accumulator().await
}

async fn stream<'g>(gpu: &'g Gpu, golden: &Golden, width: usize) -> Result<GpuStream<'g>> {
    let (samples, timesteps) = golden.extent();
    let readout = golden.readout()?;
    let layout = Layout::dense(&readout, timesteps, width);
    let mut store = Store::default();
    let feed = Feed::new(gpu, layout, &mut store).await?;
    let mut stream = GpuStream::new(gpu, readout, samples, layout, &mut store).await?;
    for (first, samples) in (0..).step_by(width).zip(golden.batches(width)) {
        feed.push(&samples.batch()).await?;
        stream.run(first, samples.batch().images).await?;
    }
    Ok(stream)
}

/// A golden analysis through the kernels: whole numbers exact, others to 1e-4 relative.
///
/// # Errors
/// What the device says; statistics that cannot be finished.
pub async fn check_golden(gpu: &Gpu, golden: &Golden) -> Result<Agreement> {
    golden.check(&stream(gpu, golden, 64).await?.finish().await?)
}
