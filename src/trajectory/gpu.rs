//! The statistics accumulated on the device: the kernels `shaders/trajectory_*.wgsl` as a program that runs once per batch, on
//! what [`super::measured`] has left of it.
//! Sums and small tables stay on the device from batch to batch and are copied back once, at the end.

use super::accumulator::{Accumulator, NO_STEP, Tally, Untrained};
use super::definitions::Group;
use super::feed::Feed;
use super::goldens::{Agreement, Golden};
use super::measured::{Layout, Measured, NETWORKS, Numbers, shared};
use super::readout::Readout;
use super::statistics::Statistics;
use crate::Result;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::{BufferSpec, Kernel, Param, Program, Role, Settings, Site, View, align};
use crate::stream::{Order, Pending, Portion, Sink};

/// Invocations of a workgroup of these kernels.
const LANES: usize = 64;
/// Timesteps and classes for which `trajectory_compact` has room.
const MOST_STEPS: usize = (1 << 13) - 1;
const MOST_CLASSES: usize = (1 << 16) - 1;

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
        View { buffer, offset: 0, bytes: 4 * words as u64, half: false }
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
        let [_, classes, features, _, samples] = self.sizes;
        let own: [(&str, Param); 2] = [("samples", samples.into()), ("measures", Tally::MEASURES.into())];
        let params = [&self.layout.params(classes, features)[..], &own].concat();
        let grid = [threads[0].div_ceil(LANES), threads[1], 1];
        let site = Site { label: &format!("{kernel} {network}"), ..Site::of(kernel, "trajectory") };
        self.program.launch(&variant, operands, &params, grid, site);
        Ok(())
    }

    fn count(&mut self, class_at: View, values: View, counts: View, network: &str) -> Result<()> {
        let operands = [("class_at", class_at), ("values", values), ("labels", self.labels), ("counts", counts)];
        self.launch("trajectory_count", &operands, [self.sizes[3], self.sizes[0]], network)
    }

    fn tally(&mut self, values: View, since: View, [sums, counts]: [View; 2], network: &str) -> Result<()> {
        let operands = [("values", values), ("since", since), ("sums", sums), ("counts", counts)];
        let threads = [Tally::MEASURES * self.sizes[0], 1];
        self.launch("trajectory_tally", &operands, threads, network)
    }
}

impl<'g> GpuStream<'g> {
    /// For so many samples, of which each batch has been measured before this stream runs; `store` is the one that `measured`
    /// was made with.
    ///
    /// # Errors
    /// Tables that do not fit the adapter; out of memory.
    pub async fn new(
        gpu: &'g Gpu,
        measured: &Measured<'_>,
        samples: usize,
        store: &mut Store,
    ) -> Result<GpuStream<'g>> {
        assert!(measured.all(), "statistics are made of more than classes");
        let (readout, layout) = (measured.readout().clone(), *measured.layout());
        let Layout { timesteps, width, untrained: with_untrained, .. } = layout;
        let (classes, features) = (readout.classes(), readout.features());
        let mut program = Program::default();
        let labels = shared(&mut program, "labels", width);
        let mut numbers = |network: &str| Numbers::new(&mut program, &layout, classes, network, true);
        let trained = numbers(NETWORKS[0]);
        let untrained = with_untrained.then(|| numbers(NETWORKS[1]));
        let mut make = |name: &str, words: usize, role: Role| Builder::buffer(&mut program, name, words, role);
        let batch = make("batch", 2, Role::Input);
        let lengths = make("readout lengths", classes, Role::Input);
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
        let [of_pairs, all, own] = ["counts of pairs", "all", "own"].map(|name| kept(name, 2 * cells));

        let mut b = Builder { program, layout, sizes: [timesteps, classes, features, width, samples], batch, labels };
        let records = tables.records;
        let (class_at, expected) = (trained.class_at, "all is measured");
        let (values, products) = (trained.values.expect(expected), trained.products.expect(expected));
        let picked = Builder::buffer(&mut b.program, "cosines picked", 2 * timesteps * width, Role::Temporary);
        let since = Builder::buffer(&mut b.program, "since", 2 * width, Role::Temporary);
        let operands =
            [("class_at", class_at), ("labels", labels), ("values", values), ("records", records), ("since", since)];
        b.launch("trajectory_classify", &operands, [width, 1], "trained")?;
        let operands = [
            ("products", products),
            ("class_at", class_at),
            ("labels", labels),
            ("values", values),
            ("lengths", lengths),
            ("picked", picked),
        ];
        b.launch("trajectory_pick", &operands, [width, timesteps], "trained")?;
        b.count(class_at, values, tables.counts, "trained")?;
        b.tally(values, since, tables.values, "trained values")?;
        b.tally(picked, since, tables.picked, "trained cosines")?;
        let operands = [
            ("products", products),
            ("values", values),
            ("class_at", class_at),
            ("since", since),
            ("counts", of_pairs),
            ("all", all),
            ("own", own),
        ];
        b.launch("trajectory_pairs", &operands, [timesteps * classes, 1], "trained")?;

        if let (Some(of), Some(counts), Some(sums)) = (untrained, tables.counts_init, tables.values_init) {
            let values = of.values.expect(expected);
            b.count(of.class_at, values, counts, "untrained")?;
            b.tally(values, since, sums, "untrained values")?;
        }

        let each_batch = b.program.launches.len();
        let operands = [
            ("lengths", lengths),
            ("counts", of_pairs),
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
        recording.write(gpu, lengths, &readout.inverse_lengths());
        Ok(GpuStream { gpu, recording, readout, samples, layout, batch, tables, each_batch })
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
    let mut measured = Measured::new(gpu, readout, layout, &mut store).await?;
    let mut stream = GpuStream::new(gpu, &measured, samples, &mut store).await?;
    for (first, samples) in (0..).step_by(width).zip(golden.batches(width)) {
        let batch = samples.batch();
        feed.push(&batch).await?;
        measured.run(batch.images).await?;
        stream.run(first, batch.images).await?;
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
