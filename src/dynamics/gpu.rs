//! The values of every image on a device: the kernels `shaders/dynamics_*.wgsl` as a program that runs once per batch.
//!
//! What they compute of each image and timestep stays on the device, \[value\]\[T\]\[N\], and is copied back once, at the end. The
//! products of the representations with all readout vectors are needed of few images only, those that are stable later, and which
//! these are is known when the classes of all timesteps are: they come back batch by batch, one batch late, so that nothing waits.
//!
//! Sizes: as in [`crate::trajectory::streaming`], numbers nearer to 0 than 2^-126 count as 0, and norms above 4e28 are refused.
//! [`Later`]'s cosines of representations shorter than about 1e-30 lose digits.

use super::values::{Datum, Later, Values, Wants};
use crate::gpu::{Gpu, Reading, Recording, Store};
use crate::graph::plan::{Plan, UNDER_WAY};
use crate::kernels::{BufferSpec, Kernel, Param, Program, Role, Settings, Site, View, align};
use crate::stream::{Pending, Portion, Sink};
use crate::trajectory::definitions::{Group, classify};
use crate::trajectory::gpu::{Layout, WORDS, readout_products};
use crate::trajectory::npz::Extraction;
use crate::trajectory::readout::norm;
use crate::trajectory::streaming::{Activity, ActivityBatch, UNDEFINED, image_innermost};
use crate::{Error, Result};
use std::collections::VecDeque;

/// Invocations of a workgroup of these kernels.
const LANES: usize = 64;
/// Classes that a byte tells apart, beside none.
const MOST_IN_A_BYTE: usize = 255;
/// Readout vectors whose difference is shorter than so small a part of both together count as nearly identical: the products
/// with them are subtracted only after their difference was taken.
const NEARLY: f64 = 1.0 / 32.0;

/// A linear readout.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// K.
    pub classes: usize,
    /// D.
    pub features: usize,
    /// \[K\]\[D\]
    pub weight: Vec<f64>,
    /// \[K\]; none for a readout without bias.
    pub bias: Option<Vec<f64>>,
}

impl Weights {
    /// Those of a stored network.
    pub fn of(extraction: &Extraction) -> Weights {
        let Extraction { classes, features, .. } = *extraction;
        Weights { classes, features, weight: extraction.readout_weight.clone(), bias: extraction.readout_bias.clone() }
    }

    fn vectors(&self) -> impl Iterator<Item = &[f64]> {
        self.weight.chunks_exact(self.features)
    }

    /// \[K\] Lengths of the readout vectors.
    fn norms(&self) -> Vec<f64> {
        self.vectors().map(norm).collect()
    }

    /// A power of two near the longest vector. The kernels get the readout divided by it, which changes no margin and no cosine,
    /// so that no product is longer than the representation.
    fn unit(&self) -> f64 {
        self.norms().into_iter().fold(0.0, f64::max).log2().ceil().exp2()
    }

    /// The binding `readout` of `dynamics_margin`: \[K\]\[D\] vectors, \[K\] bias, \[K\] inverse lengths, \[K\]\[K\] inverse gaps.
    fn table(&self) -> Vec<f32> {
        let (unit, norms) = (self.unit(), self.norms());
        let mut table: Vec<f32> = self.weight.iter().map(|w| (w / unit) as f32).collect();
        let bias = |k: usize| self.bias.as_ref().map_or(0.0, |bias| bias[k]);
        table.extend((0..self.classes).map(|k| (bias(k) / unit) as f32));
        table.extend(norms.iter().map(|norm| (unit / norm) as f32));
        for (c, of_c) in self.vectors().enumerate() {
            for (k, of_k) in self.vectors().enumerate() {
                let gap = norm(&of_c.iter().zip(of_k).map(|(a, b)| a - b).collect::<Vec<f64>>());
                let near = gap < NEARLY * (norms[c] + norms[k]);
                table.push(match gap {
                    0.0 => 0.0,
                    _ if near => -(unit / gap) as f32,
                    _ => (unit / gap) as f32,
                });
            }
        }
        table
    }

    /// Words of the table.
    fn words(&self) -> usize {
        self.classes * (self.features + 2 + self.classes)
    }
}

/// Where the values of one network are.
#[derive(Clone, Debug)]
struct Network {
    wants: Wants,
    logits: View,
    representations: View,
    /// \[T + 1\]\[N\] Classes, then labels.
    classes: View,
    /// The same in a byte each, made at the end, where a byte has room for all classes.
    compact: Option<View>,
    /// \[2\]\[T\]\[N\] Entropy, confidence.
    certain: View,
    /// \[4\]\[T\]\[N\] Norm, step, to_final, turning; if wanted.
    path: Option<View>,
    /// \[3\]\[T\]\[N\] Margin, label margin, cosine with the class's vector; if wanted.
    margins: Option<View>,
    /// \[T + 1\]\[width\] Classes of the batch, then labels.
    class_at: View,
    /// \[T\]\[K\]\[width\] Products of the batch with the readout vectors, timesteps at multiples of [`WORDS`]; if wanted.
    products: Option<View>,
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
    weights: Weights,
    samples: usize,
    layout: Layout,
    /// Number of the next batch's first image.
    first: usize,
    batch: View,
    labels: View,
    /// The network and, if it is streamed, the same before training.
    networks: Vec<Network>,
    /// Launches that each batch takes: the first.
    each_batch: usize,
    arriving: VecDeque<Arriving>,
    /// \[T\] What has arrived: products, which become cosines in the end.
    later: Vec<Later>,
}

/// Timesteps of arrays that views can begin at: without gaps, but for those that this asks for.
pub fn aligned(classes: usize, features: usize, timesteps: usize, width: usize) -> Layout {
    let step = |rows: usize| (rows * width).next_multiple_of(WORDS);
    Layout { timesteps, width, logits_step: step(classes), features_step: step(features), untrained: true }
}

fn buffer(program: &mut Program, name: &str, words: usize, role: Role) -> View {
    let (area, bytes) = ("dynamics".to_string(), align(4 * words as u64));
    let buffer = program.buffer(BufferSpec { name: name.to_string(), bytes, role, area, timestep: None });
    View { buffer, offset: 0, bytes: 4 * words as u64 }
}

impl<'g> ValuesStream<'g> {
    /// For so many samples of a network with this readout, and of the same before training, of which only the classes are wanted.
    /// `store` may hold buffers that networks leave their logits and representations in, under the names that
    /// [`crate::trajectory::gpu::GpuStream::share`] gives them. Timesteps lie at multiples of 64 words, as in [`aligned`].
    ///
    /// # Errors
    /// A readout vector without direction; tables that do not fit the adapter; out of memory.
    pub async fn new(
        gpu: &'g Gpu,
        weights: Weights,
        samples: usize,
        layout: Layout,
        wants: &Wants,
        store: &mut Store,
    ) -> Result<ValuesStream<'g>> {
        let Layout { timesteps, width, logits_step, features_step, untrained } = layout;
        let (classes, features) = (weights.classes, weights.features);
        if let Some(class) = weights.norms().iter().position(|norm| !(norm.is_normal() && *norm > 0.0)) {
            return Err(Error::Data(format!(
                "readout weight: the vector of class {class} has no length, or numbers that are not finite: expected a direction"
            )));
        }
        let mut program = Program::default();
        let p = &mut program;
        let batch = buffer(p, "dynamics.batch", 2, Role::Input);
        let labels = buffer(p, "trajectory.labels", width, Role::Persistent);
        let readout = buffer(p, "dynamics.readout", weights.words(), Role::Input);
        let values = samples * timesteps;
        let mut network = |name: &str, wants: Wants| {
            let needs = |data: &[Datum]| wants.data.iter().any(|of| data.contains(of));
            let margins = needs(&[Datum::Margin, Datum::LabelMargin, Datum::CosCurrent]);
            let path = margins || wants.later || needs(&[Datum::Norm, Datum::Step, Datum::ToFinal, Datum::Turning]);
            let mut make = |of: &str, words: usize, role: Role| buffer(p, &format!("{of} {name}"), words, role);
            let kept = Role::Persistent;
            let product_words = timesteps * (classes * width).next_multiple_of(WORDS);
            Network {
                logits: make("trajectory.logits", timesteps * logits_step, kept),
                representations: make("trajectory.representations", timesteps * features_step, kept),
                classes: make("dynamics.classes", values + samples, kept),
                compact: (classes <= MOST_IN_A_BYTE)
                    .then(|| make("dynamics.compact", (values + samples).div_ceil(4), kept)),
                certain: make("dynamics.certain", 2 * values, kept),
                path: path.then(|| make("dynamics.path", 4 * values, kept)),
                margins: margins.then(|| make("dynamics.margins", 3 * values, kept)),
                class_at: make("dynamics.class_at", (timesteps + 1) * width, Role::Output),
                products: (margins || wants.later).then(|| make("dynamics.products", product_words, Role::Output)),
                wants,
            }
        };
        let mut networks = vec![network("trained", wants.clone())];
        if untrained {
            networks.push(network("untrained", Wants::classes()));
        }

        let params: [(&str, Param); 9] = [
            ("timesteps", timesteps.into()),
            ("classes", classes.into()),
            ("features", features.into()),
            ("width", width.into()),
            ("logits_step", logits_step.into()),
            ("features_step", features_step.into()),
            ("samples", samples.into()),
            ("measures", 0u32.into()),
            ("all_ones", u32::MAX.into()),
        ];
        let grid = [width.div_ceil(LANES), timesteps, 1];
        let launch = |p: &mut Program, kernel: &'static str, operands: &[(&'static str, View)], network: &str| {
            let operands = [&[("batch", batch)], operands].concat();
            let site = Site { label: &format!("{kernel} {network}"), ..Site::of(kernel, "dynamics") };
            p.launch(&Kernel::new(kernel, &Settings::new())?, &operands, &params, grid, site);
            Ok::<(), Error>(())
        };
        for (of, name) in networks.iter().zip(["trained", "untrained"]) {
            let operands = [
                ("logits", of.logits),
                ("labels", labels),
                ("class_at", of.class_at),
                ("classes", of.classes),
                ("certain", of.certain),
            ];
            launch(p, "dynamics_outputs", &operands, name)?;
            let Some(path) = of.path else { continue };
            launch(p, "dynamics_path", &[("representations", of.representations), ("path", path)], name)?;
            let Some(products) = of.products else { continue };
            let label = format!("products {name}");
            let site = Site { label: &label, ..Site::of("product", "dynamics") };
            let operands = [of.representations, readout, products];
            readout_products(p, &gpu.target, &layout, [classes, features], operands, site)?;
            let Some(margins) = of.margins else { continue };
            let operands = [
                ("products", products),
                ("representations", of.representations),
                ("class_at", of.class_at),
                ("readout", readout),
                ("path", path),
                ("margins", margins),
            ];
            launch(p, "dynamics_margin", &operands, name)?;
        }
        let each_batch = p.launches.len();
        for (of, name) in networks.iter().zip(["trained", "untrained"]) {
            let Some(compact) = of.compact else { continue };
            let words = (values + samples).div_ceil(4);
            let rows = words.div_ceil(LANES * gpu.target.max_grid as usize);
            let grid = [words.div_ceil(LANES * rows), rows, 1];
            let site = Site { label: &format!("dynamics_compact {name}"), ..Site::of("dynamics_compact", "dynamics") };
            let operands = [("classes", of.classes), ("compact", compact)];
            p.launch(&Kernel::new("dynamics_compact", &Settings::new())?, &operands, &params, grid, site);
        }

        let read = networks[0].products.filter(|_| wants.later).map(|view| view.bytes);
        let readings = read.into_iter().flat_map(|bytes| [bytes, networks[0].class_at.bytes]);
        let plan =
            Plan::new(&program, true).with_rings([batch.bytes].into_iter(), readings.map(|bytes| (bytes, UNDER_WAY)));
        plan.fits(&program, &gpu.target)?;
        let recording = Recording::new(gpu, &program, &plan, store).await?;
        if gpu.checked() {
            recording.poison(gpu, &program);
        }
        recording.write(gpu, readout, &weights.table());
        let (first, arriving, later) = (0, VecDeque::new(), vec![Later::default(); timesteps]);
        Ok(ValuesStream {
            gpu,
            recording,
            weights,
            samples,
            layout,
            first,
            batch,
            labels,
            networks,
            each_batch,
            arriving,
            later,
        })
    }

    /// Takes a batch whose arrays lie on the host, without gaps.
    ///
    /// # Errors
    /// A lost device.
    pub async fn add(&mut self, batch: &ActivityBatch<'_>) -> Result<()> {
        assert_eq!(batch.width, self.layout.width, "all batches of a stream have the same width");
        for (to, of) in self.networks.iter().zip([Some(batch.trained), batch.untrained].into_iter().flatten()) {
            for (view, step, numbers) in [
                (to.logits, self.layout.logits_step, of.logits),
                (to.representations, self.layout.features_step, of.representations),
            ] {
                for (t, numbers) in numbers.chunks_exact(numbers.len() / self.layout.timesteps).enumerate() {
                    self.recording.write(self.gpu, view.part(t * step, Some(numbers.len())), numbers);
                }
            }
        }
        self.recording.write(self.gpu, self.labels, batch.labels);
        self.run(self.first, batch.images).await
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
        let of = &self.networks[0];
        let Some(products) = of.products.filter(|_| of.wants.later) else { return Ok(()) };
        let [class_at, products] = [of.class_at, products].map(|view| self.recording.read_later(self.gpu, view));
        self.arriving.push_back(Arriving { first, images, class_at, products });
        self.take_arrived(UNDER_WAY - 1).await
    }

    /// Waits for what the oldest batches' images that are stable later need, until so many batches are left under way.
    async fn take_arrived(&mut self, left: usize) -> Result<()> {
        let (timesteps, width, classes) = (self.layout.timesteps, self.layout.width, self.weights.classes);
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
            let (unit, lengths) = (self.weights.unit(), self.weights.norms());
            for (t, of) in self.later.iter_mut().enumerate() {
                for (&image, cosines) in of.images.iter().zip(of.cosines.chunks_exact_mut(self.weights.classes)) {
                    let norm = f64::from(norms[t * self.samples + image]);
                    for (cosine, length) in cosines.iter_mut().zip(&lengths) {
                        *cosine = if norm > 0.0 { *cosine * unit / (length * norm) } else { f64::NAN };
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
        let path = of.path.expect("wanted with the images that are stable later");
        self.recording.read(self.gpu, path.part(0, Some(words))).await
    }

    async fn values(&self, of: &Network, name: &str) -> Result<Values> {
        let (timesteps, samples) = (self.layout.timesteps, self.samples);
        let mut class: Vec<u32> = match of.compact {
            Some(compact) => unpacked(&self.recording.read::<u32>(self.gpu, compact).await?, (timesteps + 1) * samples),
            None => self.recording.read(self.gpu, of.classes).await?,
        };
        let labels: Vec<usize> = class.split_off(timesteps * samples).into_iter().map(|label| label as usize).collect();
        let classes = self.weights.classes;
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
        if of.path.is_some() && !of.wants.data.contains(&Datum::Margin) {
            let norms = self.norms(of).await?;
            let finite = |norm: f32| norm < UNDEFINED; // false of NaN
            broken("representations", (0..norms.len()).filter(|&at| !finite(norms[at])).collect())?;
        }
        let tables = Default::default();
        let mut values = Values { timesteps, samples, classes, labels, class, tables, later: Vec::new() };
        for &datum in &of.wants.data {
            let (view, number) = match datum {
                Datum::Entropy => (Some(of.certain), 0),
                Datum::Confidence => (Some(of.certain), 1),
                Datum::Norm => (of.path, 0),
                Datum::Step => (of.path, 1),
                Datum::ToFinal => (of.path, 2),
                Datum::Turning => (of.path, 3),
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
    let (weights, layout) = (Weights::of(trained), aligned(classes, features, timesteps, width));
    let mut stream = ValuesStream::new(gpu, weights, samples, layout, wants, &mut Store::default()).await?;
    for first in (0..samples).step_by(width) {
        let batch = first..(first + width).min(samples);
        let mut labels: Vec<u32> = trained.labels[batch.clone()].iter().map(|&label| label as u32).collect();
        labels.resize(width, 0);
        let arrays = [trained, untrained].map(|of| image_innermost(of, batch.clone(), width));
        let [trained, untrained] = [0, 1].map(|of| Activity { logits: &arrays[of].0, representations: &arrays[of].1 });
        let untrained = Some(untrained);
        let images = batch.len();
        stream.add(&ActivityBatch { width, images, labels: &labels, trained, untrained }).await?;
    }
    stream.finish().await
}

impl Sink for ValuesStream<'_> {
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
        Box::pin(self.run(portion.first, portion.images))
    }
}
