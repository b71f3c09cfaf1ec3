//! The statistics accumulated on the device: the kernels `shaders/trajectory_*.wgsl` as a program that runs once per batch.
//! Sums and small tables stay on the device from batch to batch and are copied back once, at the end.

use super::accumulator::{Accumulator, Tally};
use super::goldens::{Agreement, Golden};
use super::readout::Readout;
use super::statistics::Statistics;
use super::streaming::ActivityBatch;
use crate::Result;
use crate::engine::Engine;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::{BufferSpec, Kernel, Param, Program, Role, Settings, Site, View, align};

/// Invocations of a workgroup of these kernels.
const LANES: usize = 64;
/// Classes that a thread of `trajectory_cosine` serves.
const CLASSES_PER_THREAD: usize = 4;

/// What a batch brings of one network.
#[derive(Clone, Copy, Debug)]
struct Inputs {
    /// \[T\]\[K\]\[width\]
    logits: View,
    /// \[T\]\[D\]\[width\]
    representations: View,
}

/// What is kept from batch to batch: the tables of [`Accumulator`], in its order.
#[derive(Clone, Copy, Debug)]
struct Tables {
    records: View,
    counts: View,
    counts_init: View,
    values: [View; 2],
    values_init: [View; 2],
    picked: [View; 2],
    later: View,
    voiced: View,
    all: View,
    own: View,
}

/// Batches in, statistics out, on a device.
pub struct GpuStream<'g> {
    gpu: &'g Gpu,
    recording: Recording,
    readout: Readout,
    samples: usize,
    timesteps: usize,
    width: usize,
    /// Number of the next batch's first image.
    first: usize,
    batch: View,
    labels: View,
    trained: Inputs,
    untrained: Inputs,
    tables: Tables,
}

/// A program under construction.
struct Builder {
    program: Program,
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

    /// One launch of `kernel` with so many threads in x and y.
    fn launch(
        &mut self,
        kernel: &'static str,
        operands: &[(&'static str, View)],
        threads: [usize; 2],
        network: &str,
    ) -> Result<()> {
        let variant = Kernel::new(kernel, &Settings::new())?;
        let [timesteps, classes, features, width, samples] = self.sizes;
        let params: [(&str, Param); 7] = [
            ("timesteps", timesteps.into()),
            ("classes", classes.into()),
            ("features", features.into()),
            ("width", width.into()),
            ("samples", samples.into()),
            ("measures", Tally::MEASURES.into()),
            ("all_ones", u32::MAX.into()),
        ];
        let operands = [&[("batch", self.batch)], operands].concat();
        let grid = [threads[0].div_ceil(LANES), threads[1], 1];
        let site = Site { label: &format!("{kernel} {network}"), ..Site::of(kernel, "trajectory") };
        self.program.launch(&variant, &operands, &params, grid, site);
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
    /// For so many samples and timesteps of a network with this readout, in batches with room for `width` images.
    ///
    /// # Errors
    /// Tables that do not fit the adapter; out of memory.
    pub fn new(
        gpu: &'g Gpu,
        readout: Readout,
        samples: usize,
        timesteps: usize,
        width: usize,
    ) -> Result<GpuStream<'g>> {
        let (classes, features) = (readout.classes(), readout.features());
        let mut program = Program::default();
        let mut make = |name: &str, words: usize, role: Role| Builder::buffer(&mut program, name, words, role);
        let batch = make("batch", 2, Role::Input);
        let labels = make("labels", width, Role::Input);
        let unit = make("readout", classes * features, Role::Input);
        let mut inputs = |network: &str| Inputs {
            logits: make(&format!("logits {network}"), timesteps * classes * width, Role::Input),
            representations: make(&format!("representations {network}"), timesteps * features * width, Role::Input),
        };
        let (trained, untrained) = (inputs("trained"), inputs("untrained"));
        let mut kept = |name: &str, words: usize| make(name, words, Role::Persistent);
        let entries = Tally::MEASURES * timesteps * timesteps;
        let mut tally =
            |name: &str| [kept(&format!("{name}.sums"), 2 * entries), kept(&format!("{name}.counts"), entries)];
        let (values, values_init, picked) = (tally("values"), tally("values_init"), tally("picked"));
        let cells = timesteps * classes * classes;
        let tables = Tables {
            records: kept("records", 4 * samples),
            counts: kept("counts", 4 * timesteps * classes),
            counts_init: kept("counts_init", 4 * timesteps * classes),
            values,
            values_init,
            picked,
            later: kept("later", cells),
            voiced: kept("voiced", cells),
            all: kept("all", 2 * cells),
            own: kept("own", 2 * cells),
        };

        let mut b = Builder { program, sizes: [timesteps, classes, features, width, samples], batch, labels };
        let records = tables.records;
        let (class_at, values) = b.measure(trained, "trained")?;
        let cosines = Builder::buffer(&mut b.program, "cosines", timesteps * classes * width, Role::Temporary);
        let picked = Builder::buffer(&mut b.program, "cosines picked", 2 * timesteps * width, Role::Temporary);
        let operands =
            [("representations", trained.representations), ("readout", unit), ("values", values), ("cosines", cosines)];
        let threads = [width, timesteps * classes.div_ceil(CLASSES_PER_THREAD)];
        b.launch("trajectory_cosine", &operands, threads, "trained")?;
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
            ("later", tables.later),
            ("voiced", tables.voiced),
            ("all", tables.all),
            ("own", tables.own),
        ];
        b.launch("trajectory_pairs", &operands, [timesteps * classes, 1], "trained")?;

        let (class_at, values) = b.measure(untrained, "untrained")?;
        b.count(class_at, values, tables.counts_init, "untrained")?;
        b.tally(values, records, tables.values_init, "untrained values")?;

        let plan = Plan::new(&b.program, true);
        plan.fits(&b.program, &gpu.target)?;
        // A store of its own: its buffers start at zero, as the accumulation does.
        let recording = Recording::new(gpu, &b.program, &plan, &mut Store::default())?;
        if gpu.checked() {
            recording.poison(gpu, &b.program);
        }
        recording.write(gpu, unit, &readout.unit_vectors());
        let first = 0;
        Ok(GpuStream {
            gpu,
            recording,
            readout,
            samples,
            timesteps,
            width,
            first,
            batch,
            labels,
            trained,
            untrained,
            tables,
        })
    }

    /// Takes a batch whose arrays lie on the host.
    ///
    /// # Errors
    /// A lost device.
    pub fn add(&mut self, batch: &ActivityBatch) -> Result<()> {
        assert_eq!(batch.width, self.width, "all batches of a stream have the same width");
        for (to, of) in [(self.trained, batch.trained), (self.untrained, batch.untrained)] {
            self.recording.write(self.gpu, to.logits, of.logits);
            self.recording.write(self.gpu, to.representations, of.representations);
        }
        self.run(batch.labels, batch.images)
    }

    /// Takes the last run of two engines, compiled with `trajectory` for batches of this width. What they computed stays
    /// on the device.
    ///
    /// # Errors
    /// A lost device.
    pub fn add_run(&mut self, trained: &Engine, untrained: &Engine, labels: &[u32], images: usize) -> Result<()> {
        for (to, engine) in [(self.trained, trained), (self.untrained, untrained)] {
            let (logits, representations) = engine.compiled.trajectory.expect("compiled for it");
            self.recording.copy(self.gpu, (engine.recording(), logits), to.logits);
            self.recording.copy(self.gpu, (engine.recording(), representations), to.representations);
        }
        self.run(labels, images)
    }

    fn run(&mut self, labels: &[u32], images: usize) -> Result<()> {
        assert!(self.first + images <= self.samples, "more images than the {} announced", self.samples);
        self.recording.write(self.gpu, self.batch, &[self.first as u32, images as u32]);
        self.recording.write(self.gpu, self.labels, labels);
        self.recording.run(self.gpu);
        self.first += images;
        self.gpu.wait()
    }

    /// Copies the tables back.
    ///
    /// # Errors
    /// A lost device.
    pub fn accumulator(&self) -> Result<Accumulator> {
        let read = |view: View| self.recording.read::<u32>(self.gpu, view);
        let sums = |view: View| self.recording.read::<[f32; 2]>(self.gpu, view);
        let tally =
            |[values, counts]: [View; 2]| -> Result<Tally> { Ok(Tally { sums: sums(values)?, counts: read(counts)? }) };
        let mut accumulator = Accumulator::new(self.samples, self.timesteps, self.readout.classes());
        let of = &self.tables;
        accumulator.records = read(of.records)?;
        accumulator.counts = read(of.counts)?;
        accumulator.counts_init = read(of.counts_init)?;
        accumulator.values = tally(of.values)?;
        accumulator.values_init = tally(of.values_init)?;
        accumulator.picked = tally(of.picked)?;
        accumulator.pairs.later = read(of.later)?;
        accumulator.pairs.voiced = read(of.voiced)?;
        accumulator.pairs.all = sums(of.all)?;
        accumulator.pairs.own = sums(of.own)?;
        Ok(accumulator)
    }

    /// The statistics: see [`Accumulator::finish`].
    ///
    /// # Errors
    /// A lost device; an accumulation that is not complete, or met numbers that are not finite.
    pub fn finish(&self) -> Result<Statistics> {
        self.accumulator()?.finish(&self.readout)
    }
}

/// The tables that the kernels leave of a golden analysis, in batches of `width`.
///
/// # Errors
/// What the device says.
pub fn accumulate(gpu: &Gpu, golden: &Golden, width: usize) -> Result<Accumulator> {
    stream(gpu, golden, width)?.accumulator()
}

fn stream<'g>(gpu: &'g Gpu, golden: &Golden, width: usize) -> Result<GpuStream<'g>> {
    let (samples, timesteps) = golden.extent();
    let mut stream = GpuStream::new(gpu, golden.readout()?, samples, timesteps, width)?;
    golden.batches(width, |batch| stream.add(batch))?;
    Ok(stream)
}

/// A golden analysis through the kernels: whole numbers exact, others to 1e-4 relative.
///
/// # Errors
/// What the device says; statistics that cannot be finished.
pub fn check_golden(gpu: &Gpu, golden: &Golden) -> Result<Agreement> {
    golden.check(&stream(gpu, golden, 64)?.finish()?)
}
