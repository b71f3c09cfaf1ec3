//! The values of every image on a device, from what [`crate::trajectory::measured`] has left of each batch: the kernels
//! `dynamics_keep` and `dynamics_margin` as a program that runs once per batch.
//!
//! What is known of each image and timestep stays on the device, \[value\]\[T\]\[N\], and is copied back once, at the end. The
//! products of the representations with all readout vectors are needed of few images only, those that are stable later, and which
//! these are is known when the classes of all timesteps are: they come back batch by batch, one batch late, so that nothing waits.
//!
//! Sizes: as in [`crate::trajectory::streaming`], numbers nearer to 0 than 2^-126 count as 0, and norms above 4e28 are refused.

use super::values::{Datum, Later, Values, Wants};
use crate::gpu::{Gpu, Reading, Recording, Store};
use crate::graph::plan::{Plan, UNDER_WAY};
use crate::kernels::choose::wide_streams;
use crate::kernels::{BufferSpec, Kernel, Param, Program, Role, Settings, Site, View, align};
use crate::stream::{Pending, Portion, Sink};
use crate::trajectory::definitions::{Group, classify};
use crate::trajectory::measured::{
    Layout, Measured, NETWORKS, Numbers, ROWS, SHORT, SHORT_SCALE, WORDS, in_vectors, shared,
};
use crate::trajectory::npz::Extraction;
use crate::trajectory::readout::{Readout, norm};
use crate::trajectory::streaming::{Activity, ActivityBatch, UNDEFINED, image_innermost};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;

/// Invocations of a workgroup of these kernels.
const LANES: usize = 64;
/// Classes that a byte tells apart, beside none.
const MOST_IN_A_BYTE: usize = 255;
/// Readout vectors whose difference is shorter than so small a part of both together count as nearly identical: the products
/// with them are subtracted only after their difference was taken.
const NEARLY: f64 = 1.0 / 32.0;

/// The bindings `readout` and `inverse_gaps` of `dynamics_margin`. Vectors and bias are divided by a power of two near the longest
/// vector, which changes no margin, so that no product is longer than the representation; the products have a unit for each
/// vector.
struct Zones {
    /// \[K\]\[D\] vectors, \[K\] bias, \[K\] units, \[K\] inverse lengths, \[K\] 1 where another vector is nearly identical.
    readout: Vec<f32>,
    /// \[K\]\[K, rounded up to a multiple of [`TOGETHER`]\] Inverse gaps.
    inverse_gaps: Vec<f32>,
}

/// Classes that `dynamics_margin` takes a turn.
const TOGETHER: usize = 4;

impl Zones {
    fn new(readout: &Readout, bias: Option<&[f64]>) -> Zones {
        let (norms, units, classes) = (readout.norms(), readout.units(), readout.classes());
        let unit = units.iter().copied().fold(0.0, f64::max);
        let row = classes.next_multiple_of(TOGETHER);
        let (mut inverse_gaps, mut near) = (vec![0.0; classes * row], vec![0.0; classes]);
        let vectors = || readout.weight().chunks_exact(readout.features());
        for (c, of_c) in vectors().enumerate() {
            for (k, of_k) in vectors().enumerate() {
                let gap = norm(&of_c.iter().zip(of_k).map(|(a, b)| a - b).collect::<Vec<f64>>());
                if gap == 0.0 {
                    continue;
                }
                let nearly = gap < NEARLY * (norms[c] + norms[k]);
                inverse_gaps[c * row + k] = (if nearly { -unit / gap } else { unit / gap }) as f32;
                if nearly {
                    near[c] = 1.0;
                }
            }
        }
        let mut table: Vec<f32> = readout.weight().iter().map(|w| (w / unit) as f32).collect();
        table.extend((0..classes).map(|k| bias.map_or(0.0, |bias| bias[k] / unit) as f32));
        table.extend(units.iter().map(|of_vector| (of_vector / unit) as f32));
        table.extend(readout.inverse_lengths());
        table.extend(near);
        Zones { readout: table, inverse_gaps }
    }
}

/// Where the values of one network are.
#[derive(Clone, Debug)]
struct Network {
    wants: Wants,
    /// What is measured of each batch.
    batch: Numbers,
    /// \[T + 1\]\[N\] Classes, then labels.
    classes: View,
    /// The same in a byte each, made at the end, where a byte has room for all classes.
    compact: Option<View>,
    /// \[6\]\[T\]\[N\] [`Numbers::values`] of all images; if any number is wanted.
    kept: Option<View>,
    /// \[3\]\[T\]\[N\] Margin, label margin, cosine with the class's vector; if wanted.
    margins: Option<View>,
}

/// What a batch's images that are stable later need, on its way.
struct Arriving {
    first: usize,
    images: usize,
    class_at: Reading,
    products: Reading,
}

/// Batches in, values out, on a device.
pub struct ValuesStream<'g> {
    gpu: &'g Gpu,
    recording: Recording,
    readout: Readout,
    samples: usize,
    layout: Layout,
    /// Number of the next batch's first image.
    first: usize,
    batch: View,
    /// The network and, if it is streamed, the same before training.
    networks: Vec<Network>,
    /// Launches that each batch takes: the first.
    each_batch: usize,
    arriving: VecDeque<Arriving>,
    /// \[T\] What has arrived: products, which become cosines in the end.
    later: Vec<Later>,
}

/// The kernel for `vec` images at once, in words of 64 bits where `wide`.
fn margin(vec: usize, wide: bool) -> (&'static str, Settings) {
    ("dynamics_margin", in_vectors(vec, wide).flag("WEIGHTS4", true).flag("WIDE_WEIGHTS", wide))
}

/// Every variant of `dynamics_margin`, those with words of 64 bits too where `wide`.
///
/// # Errors
/// A variant that naga refuses.
pub fn variants(wide: bool) -> Result<Vec<Arc<Kernel>>> {
    let layouts = [(1, false), (2, false), (4, false), (1, true), (2, true), (4, true)];
    let kernels = layouts.into_iter().filter(|(_, words)| wide || !words).map(|(vec, wide)| margin(vec, wide));
    kernels.map(|(name, settings)| Kernel::new(name, &settings)).collect()
}

fn buffer(program: &mut Program, name: &str, words: usize, role: Role) -> View {
    let (area, bytes) = ("dynamics".to_string(), align(4 * words as u64));
    let buffer = program.buffer(BufferSpec { name: name.to_string(), bytes, role, area, timestep: None });
    View { buffer, offset: 0, bytes: 4 * words as u64, half: false }
}

impl<'g> ValuesStream<'g> {
    /// For so many samples, of which each batch has been measured before this stream runs, of a network whose readout has this
    /// bias, if any; of the same network before training only the classes are wanted. `store` is the one that `measured` was
    /// made with.
    ///
    /// # Errors
    /// Tables that do not fit the adapter; out of memory.
    pub async fn new(
        gpu: &'g Gpu,
        measured: &Measured<'_>,
        bias: Option<&[f64]>,
        samples: usize,
        wants: &Wants,
        store: &mut Store,
    ) -> Result<ValuesStream<'g>> {
        let (readout, layout) = (measured.readout().clone(), *measured.layout());
        let Layout { timesteps, width, untrained, .. } = layout;
        let (classes, features) = (readout.classes(), readout.features());
        assert!(measured.all() || (wants.data.is_empty() && !wants.later), "only classes were measured");
        let mut program = Program::default();
        let p = &mut program;
        let batch = buffer(p, "dynamics.batch", 2, Role::Input);
        let representations = shared(p, &format!("representations {}", NETWORKS[0]), timesteps * layout.features_step);
        let zones = Zones::new(&readout, bias);
        let values = samples * timesteps;
        let mut network = |name: &str, wants: Wants| {
            let of_batch = Numbers::new(p, &layout, classes, name, measured.all());
            let needs = |data: &[Datum]| wants.data.iter().any(|of| data.contains(of));
            let margins = needs(&[Datum::Margin, Datum::LabelMargin, Datum::CosCurrent]);
            let mut make = |of: &str, words: usize| buffer(p, &format!("{of} {name}"), words, Role::Persistent);
            Network {
                batch: of_batch,
                classes: make("dynamics.classes", values + samples),
                compact: (classes <= MOST_IN_A_BYTE).then(|| make("dynamics.compact", (values + samples).div_ceil(4))),
                kept: (!wants.data.is_empty() || wants.later).then(|| make("dynamics.kept", ROWS * values)),
                margins: margins.then(|| make("dynamics.margins", 3 * values)),
                wants,
            }
        };
        let mut networks = vec![network(NETWORKS[0], wants.clone())];
        if untrained && wants.untrained {
            networks.push(network(NETWORKS[1], Wants::classes()));
        }
        let of_margins = networks[0].margins.map(|_| {
            let mut input = |name, numbers: &[f32]| buffer(p, name, numbers.len(), Role::Input);
            (input("dynamics.readout", &zones.readout), input("dynamics.inverse_gaps", &zones.inverse_gaps))
        });

        let own: [(&str, Param); 2] = [("samples", samples.into()), ("measures", 0u32.into())];
        let params = [&layout.params(classes, features)[..], &own].concat();
        let launch = |p: &mut Program,
                      (kernel, settings): (&'static str, Settings),
                      operands: &[(&'static str, View)],
                      [images, rows]: [usize; 2],
                      of: &str| {
            let operands = [&[("batch", batch)], operands].concat();
            let site = Site { label: &format!("{kernel} {of}"), ..Site::of(kernel, "dynamics") };
            let grid = [images.div_ceil(LANES), rows, 1];
            p.launch(&Kernel::new(kernel, &settings)?, &operands, &params, grid, site);
            Ok::<(), Error>(())
        };
        let keep = || ("dynamics_keep", Settings::new());
        let vec = layout.vector();
        for (of, name) in networks.iter().zip(NETWORKS) {
            let operands = [("x", of.batch.class_at), ("y", of.classes)];
            launch(p, keep(), &operands, [width, timesteps + 1], name)?;
            if let (Some(values), Some(kept)) = (of.batch.values, of.kept) {
                launch(p, keep(), &[("x", values), ("y", kept)], [width, ROWS * timesteps], name)?;
            }
            let Network { batch: Numbers { class_at, values, products }, margins, .. } = *of;
            if let (Some(values), Some(products), Some((readout, inverse_gaps)), Some(margins)) =
                (values, products, of_margins, margins)
            {
                let operands = [
                    ("products", products),
                    ("representations", representations),
                    ("class_at", class_at),
                    ("readout", readout),
                    ("inverse_gaps", inverse_gaps),
                    ("values", values),
                    ("margins", margins),
                ];
                let kernel = margin(vec, wide_streams(&gpu.target));
                launch(p, kernel, &operands, [width / vec, timesteps], name)?;
            }
        }
        let each_batch = p.launches.len();
        for (of, name) in networks.iter().zip(NETWORKS) {
            let Some(compact) = of.compact else { continue };
            let words = (values + samples).div_ceil(4);
            let rows = words.div_ceil(LANES * gpu.target.max_grid as usize);
            let grid = [words.div_ceil(LANES * rows), rows, 1];
            let site = Site { label: &format!("dynamics_compact {name}"), ..Site::of("dynamics_compact", "dynamics") };
            let operands = [("classes", of.classes), ("compact", compact)];
            p.launch(&Kernel::new("dynamics_compact", &Settings::new())?, &operands, &params, grid, site);
        }

        let Numbers { class_at, products, .. } = networks[0].batch;
        let read = products.filter(|_| wants.later).map(|view| view.bytes);
        let readings = read.into_iter().flat_map(|bytes| [bytes, class_at.bytes]);
        let plan =
            Plan::new(&program, true).with_rings([batch.bytes].into_iter(), readings.map(|bytes| (bytes, UNDER_WAY)));
        plan.fits(&program, &gpu.target)?;
        let recording = Recording::new(gpu, &program, &plan, store).await?;
        if gpu.checked() {
            recording.poison(gpu, &program);
        }
        if let Some((readout, inverse_gaps)) = of_margins {
            recording.write(gpu, readout, &zones.readout);
            recording.write(gpu, inverse_gaps, &zones.inverse_gaps);
        }
        let (first, arriving, later) = (0, VecDeque::new(), vec![Later::default(); timesteps]);
        Ok(ValuesStream {
            gpu,
            recording,
            readout,
            samples,
            layout,
            first,
            batch,
            networks,
            each_batch,
            arriving,
            later,
        })
    }

    /// Submits the kernels for a batch of which all is on the device.
    ///
    /// # Errors
    /// A lost device.
    pub async fn run(&mut self, first: usize, images: usize) -> Result<()> {
        assert!(first + images <= self.samples, "more images than the {} announced", self.samples);
        self.recording.feed(self.gpu, self.batch, &[first as u32, images as u32]).await?;
        self.recording.run_range(self.gpu, 0..self.each_batch);
        self.first = first + images;
        let Network { batch: Numbers { class_at, products, .. }, wants, .. } = &self.networks[0];
        let Some(products) = products.filter(|_| wants.later) else { return Ok(()) };
        let [class_at, products] = [*class_at, products].map(|view| self.recording.read_later(self.gpu, view));
        self.arriving.push_back(Arriving { first, images, class_at, products });
        self.take_arrived(UNDER_WAY - 1).await
    }

    /// Waits for what the oldest batches' images that are stable later need, until so many batches are left under way.
    async fn take_arrived(&mut self, left: usize) -> Result<()> {
        let (timesteps, width, classes) = (self.layout.timesteps, self.layout.width, self.readout.classes());
        let step = (classes * width).next_multiple_of(WORDS);
        while self.arriving.len() > left {
            let batch = self.arriving.pop_front().expect("not empty");
            let class_at: Vec<u32> = batch.class_at.finish(self.gpu).await?;
            let products: Vec<f32> = batch.products.finish(self.gpu).await?;
            for n in 0..batch.images {
                let sequence: Vec<usize> = (0..timesteps).map(|t| class_at[t * width + n] as usize).collect();
                let Some(of) = classify(&sequence, class_at[timesteps * width + n] as usize) else { continue };
                let since = of.t_stable.filter(|_| of.group == Some(Group::StableCorrect));
                for t in 0..since.unwrap_or(0) {
                    let cosines = (0..classes).map(|k| f64::from(products[t * step + k * width + n]));
                    self.later[t].images.push(batch.first + n);
                    self.later[t].cosines.extend(cosines);
                }
            }
        }
        Ok(())
    }

    /// Bytes that [`ValuesStream::finish`] copies back, but for products, which come while batches pass.
    pub fn copied_back_bytes(&self) -> u64 {
        let numbers = |of: &Network| of.wants.data.iter().map(|datum| datum.rows(self.layout.timesteps)).sum::<usize>();
        let of = |of: &Network| of.compact.unwrap_or(of.classes).bytes + 4 * (numbers(of) * self.samples) as u64;
        self.networks.iter().map(of).sum()
    }

    /// The values of the network and, if it was streamed, of the untrained one, once all samples have passed.
    ///
    /// # Errors
    /// A lost device; samples that never came, or numbers that are not finite.
    pub async fn finish(mut self) -> Result<(Values, Option<Values>)> {
        if self.first != self.samples {
            let (expected, found) = (self.samples, self.first);
            return Err(Error::Data(format!("dynamics: expected {expected} samples, found {found}")));
        }
        self.take_arrived(0).await?;
        self.recording.run_from(self.gpu, self.each_batch, 1);
        let mut trained = self.values(&self.networks[0], "trained").await?;
        let untrained = match self.networks.get(1) {
            Some(network) => Some(self.values(network, "untrained").await?),
            None => None,
        };
        if self.networks[0].wants.later {
            let norms = self.norms(&self.networks[0]).await?;
            let lengths: Vec<f64> =
                self.readout.norms().iter().zip(self.readout.units()).map(|(n, unit)| n / unit).collect();
            for (t, of) in self.later.iter_mut().enumerate() {
                for (&image, cosines) in of.images.iter().zip(of.cosines.chunks_exact_mut(self.readout.classes())) {
                    let norm = f64::from(norms[t * self.samples + image]);
                    let scaled = if norm < SHORT { norm * SHORT_SCALE } else { norm };
                    for (cosine, length) in cosines.iter_mut().zip(&lengths) {
                        *cosine = if norm > 0.0 { *cosine / (length * scaled) } else { f64::NAN };
                    }
                }
            }
            trained.later = self.later;
        }
        Ok((trained, untrained))
    }

    /// \[T\]\[N\] Norms of a network.
    async fn norms(&self, of: &Network) -> Result<Vec<f32>> {
        let words = self.layout.timesteps * self.samples;
        let kept = of.kept.expect("numbers are wanted");
        self.recording.read(self.gpu, kept.part(0, Some(words))).await
    }

    async fn values(&self, of: &Network, name: &str) -> Result<Values> {
        let (timesteps, samples) = (self.layout.timesteps, self.samples);
        let mut class: Vec<u32> = match of.compact {
            Some(compact) => unpacked(&self.recording.read::<u32>(self.gpu, compact).await?, (timesteps + 1) * samples),
            None => self.recording.read(self.gpu, of.classes).await?,
        };
        let labels: Vec<usize> = class.split_off(timesteps * samples).into_iter().map(|label| label as usize).collect();
        let classes = self.readout.classes();
        let refuse = |what: String| Error::Data(format!("dynamics of the {name} network: {what}"));
        if let Some(image) = labels.iter().position(|&label| label >= classes) {
            return Err(refuse(format!("expected labels below {classes}, found {} of image {image}", labels[image])));
        }
        let broken = |what: &str, broken: Vec<usize>| {
            let (Some(&at), images) = (broken.first(), broken.len()) else { return Ok(()) };
            let t = at / samples;
            Err(refuse(format!(
                "{what} of {images} of {samples} samples x {timesteps} timesteps are not finite, or longer than 4e28, the \
                 first at timestep {t}; its weights have probably diverged"
            )))
        };
        broken("logits", (0..class.len()).filter(|&at| class[at] as usize >= classes).collect())?;
        // Margins show it too: see `dynamics_margin`.
        if of.kept.is_some() && !of.wants.data.contains(&Datum::Margin) {
            let norms = self.norms(of).await?;
            let finite = |norm: f32| norm < UNDEFINED; // false of NaN
            broken("representations", (0..norms.len()).filter(|&at| !finite(norms[at])).collect())?;
        }
        let tables = Default::default();
        let mut values = Values { timesteps, samples, classes, labels, class, tables, later: Vec::new() };
        for &datum in &of.wants.data {
            let (view, number) = match datum {
                Datum::Norm => (of.kept, 0),
                Datum::Step => (of.kept, 1),
                Datum::ToFinal => (of.kept, 2),
                Datum::Turning => (of.kept, 3),
                Datum::Entropy => (of.kept, 4),
                Datum::Confidence => (of.kept, 5),
                Datum::Margin => (of.margins, 0),
                Datum::LabelMargin => (of.margins, 1),
                Datum::CosCurrent => (of.margins, 2),
            };
            let rows = datum.rows(timesteps);
            if rows == 0 {
                continue;
            }
            // Tables begin anywhere, views do not.
            let first = number * timesteps * samples;
            let skipped = first % WORDS;
            let view = view.expect("wanted").part(first - skipped, Some(skipped + rows * samples));
            let numbers: Vec<f32> = self.recording.read(self.gpu, view).await?;
            if datum == Datum::Margin {
                let numbers = &numbers[skipped..];
                broken("representations", (0..numbers.len()).filter(|&at| numbers[at] == -UNDEFINED).collect())?;
            }
            let exact = |x: f32| match (x, datum) {
                (UNDEFINED, _) => f64::NAN,
                (x, Datum::Turning) => 2.0 * f64::from(x).atan().to_degrees(),
                (x, _) => f64::from(x),
            };
            values.tables[datum as usize] = numbers[skipped..].iter().map(|&x| exact(x)).collect();
        }
        Ok(values)
    }
}

/// The first numbers of bytes in words, 255 as all ones: see `shaders/dynamics_compact.wgsl`.
fn unpacked(words: &[u32], count: usize) -> Vec<u32> {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes()).take(count);
    bytes.map(|byte| if byte == 255 { u32::MAX } else { u32::from(byte) }).collect()
}

/// The values of stored networks, in batches of `width`.
///
/// # Errors
/// What [`ValuesStream`] says.
pub async fn stream(
    gpu: &Gpu,
    [trained, untrained]: [&Extraction; 2],
    wants: &Wants,
    width: usize,
) -> Result<(Values, Option<Values>)> {
    let Extraction { timesteps, samples, classes, features, .. } = *trained;
    let (readout, layout) = (trained.readout()?, Layout::aligned(classes, features, timesteps, width));
    let mut store = Store::default();
    let mut measured = Measured::new(gpu, readout, layout, &mut store).await?;
    let bias = trained.readout_bias.as_deref();
    let mut stream = ValuesStream::new(gpu, &measured, bias, samples, wants, &mut store).await?;
    for first in (0..samples).step_by(width) {
        let batch = first..(first + width).min(samples);
        let mut labels: Vec<u32> = trained.labels[batch.clone()].iter().map(|&label| label as u32).collect();
        labels.resize(width, 0);
        let arrays = [trained, untrained].map(|of| image_innermost(of, batch.clone(), width));
        let [trained, untrained] = [0, 1].map(|of| Activity { logits: &arrays[of].0, representations: &arrays[of].1 });
        let (images, untrained) = (batch.len(), Some(untrained));
        measured.write(&ActivityBatch { width, images, labels: &labels, trained, untrained });
        measured.run(images).await?;
        stream.run(first, images).await?;
    }
    stream.finish().await
}

impl Sink for ValuesStream<'_> {
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
        Box::pin(self.run(portion.first, portion.images))
    }
}
