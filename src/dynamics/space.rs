//! The measures of [`super::Structure`] on a device, from a stream of batches: the kernels `shaders/dynamics_*.wgsl` around
//! the matrix product that convolutions use.
//!
//! A space is any series of representations \[T\]\[D\]\[width\], images innermost, that somebody leaves in a [`Store`]: what the
//! readout sees, or an area's maps reduced to D numbers; of the untrained network too, if there is one. Its images come in two
//! halves, all training images before the first test image, so that sums over the training images are those at the half, where
//! the decoders are solved on the host; their scores of the test images are then computed as these pass.
//!
//! All sums are of y = x - shift, where the shift is the mean of the first batch. Images are collected in panels of about a
//! thousand; then the products of all pairs of timesteps are computed block by block ([D, images] x [images, D] for t <= u, and
//! for all pairs with the untrained network) and added to totals of two f32 each. Rows beside the features, |y|^2, 1 and the
//! classes, give the other sums: see [`super::moments`].

use super::cka::{self, Cka};
use super::decoder::{self, Decoder, Fitted, Step, Training};
use super::moments::{Cross, FourthTerms, Marginals, Moments, centred_fourth};
use super::rdm::{self, Rdm};
use super::{Structure, Subject, pca, rdm_time};
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::choose::product_tile;
use crate::kernels::conv::{Matrices, Start, Tile, product};
use crate::kernels::{BufferSpec, Param, Program, Role, Settings, Site, View, align};
use crate::stream::{Pending, Portion, Sink};
use crate::trajectory::accumulator::total;
use crate::trajectory::npz::Extraction;
use crate::{Error, Result};
use bytemuck::AnyBitPattern;
use nalgebra::DMatrix;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

/// Invocations of a workgroup of these kernels.
const LANES: usize = 64;
/// About how many images the panels hold: so many terms an f32 sum has.
const PANEL_IMAGES: usize = 1024;
/// Words behind panels: whole subgroups may load past the end.
const MARGIN: usize = 64;
/// Most bytes of the blocks that one launch computes.
const CHUNK: u64 = 64 << 20;
/// Most images whose dissimilarities are computed on the host.
const MOST_ON_THE_HOST: usize = 200;
/// Most images whose dissimilarities are computed.
pub const MOST_RDM_IMAGES: usize = 1000;

/// A series of representations, and where it lies.
#[derive(Clone, Debug)]
pub struct Space {
    /// Its name, unique among those that share a store.
    pub name: String,
    /// T.
    pub timesteps: usize,
    /// D.
    pub features: usize,
    /// Images for which a batch has room.
    pub width: usize,
    /// Words from the representations of one timestep to those of the next; at least features x width.
    pub step: usize,
    /// The buffer of the store that holds the representations.
    pub trained: String,
    /// The same of the untrained network, if there is one.
    pub untrained: Option<String>,
    /// The buffer that holds the labels \[width\].
    pub labels: String,
}

/// What is measured. Images are numbered in the order of the stream.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// N.
    pub images: usize,
    /// Training images: the first.
    pub training: usize,
    /// K.
    pub classes: usize,
    /// Images between which dissimilarities are computed.
    pub rdm_images: Vec<usize>,
    /// Classes whose mean representations are shown.
    pub shown_classes: Vec<usize>,
    /// Ridge of the decoders.
    pub ridge: f64,
}

/// Blocks M_tu of neighbouring timesteps that one launch computes, and their totals \[blocks\]\[D\]\[stride\].
#[derive(Clone, Copy, Debug)]
struct Chunk {
    /// Rows and columns: 0 the analysed network, 1 the untrained.
    networks: [usize; 2],
    /// Timesteps of rows and columns of the first block.
    first: [usize; 2],
    blocks: usize,
    totals: [View; 2],
}

impl Chunk {
    /// Whether its blocks are symmetric: of these, what lies left of the diagonal is not computed.
    fn symmetric(&self) -> bool {
        self.networks[0] == self.networks[1] && self.first[0] == self.first[1]
    }
}

/// What is kept of one network.
#[derive(Clone, Copy, Debug)]
struct Network {
    x: View,
    shift: View,
    centred: View,
    columns: View,
    panels: View,
    extent: View,
    /// \[T\] See `dynamics_extent`.
    varies: View,
    /// Sums of the extra rows \[T\]\[extras\]\[stride\].
    extras: [View; 2],
    /// \[T\]\[D\] Sums of y, made at the end.
    sums: View,
    /// \[T\]\[squares\] See `dynamics_dots`.
    dots: View,
    /// \[T\]\[wanted\]\[D\] Representations of the images for dissimilarities.
    kept: View,
}

/// Ranges of launches that are submitted apart.
#[derive(Clone, Debug, Default)]
struct Ranges {
    shift: Range<usize>,
    pack: Range<usize>,
    gather: Range<usize>,
    score: Range<usize>,
    clear: Range<usize>,
    within: Range<usize>,
    across: Range<usize>,
    half: Range<usize>,
    sums: Range<usize>,
    reduce: Range<usize>,
    scatter: Range<usize>,
    near: Range<usize>,
}

/// Batches in, measures out, on a device.
pub struct SpaceStream<'g> {
    gpu: &'g Gpu,
    recording: Recording,
    space: Space,
    wanted: Wanted,
    ranges: Ranges,
    /// Rows of the panels that may be filled.
    room: usize,
    /// Features of a panel of the decoders' weights.
    panel: usize,
    squares: usize,
    networks: Vec<Network>,
    chunks: Vec<Chunk>,
    batch: View,
    labels: View,
    pairs: View,
    gram: View,
    training_sums: View,
    shown_sums: View,
    lines: View,
    scatter: View,
    weights: View,
    bias: View,
    known: View,
    sizes: View,
    tally: View,
    near: View,
    /// Images so far, and rows of the panels that are filled.
    done: usize,
    filled: usize,
    fitted: Option<Vec<Fitted>>,
    counts: Vec<u64>,
    /// \[T\]\[D\] The shift of each network, once it is known to the host.
    shifts: Vec<Vec<f32>>,
    /// What was summed over pairs of extra rows after so many images, once it was read.
    summed: Option<(usize, Vec<[f32; 2]>)>,
    /// Bytes that came back to the host.
    copied: u64,
    /// Seconds by kind of work, if they are asked for; each submission is then waited for.
    clock: Option<BTreeMap<&'static str, f64>>,
}

/// A stream that is planned and fits, but has no memory yet.
pub struct Planned<'g> {
    gpu: &'g Gpu,
    program: Program,
    plan: Plan,
    begin: Box<dyn FnOnce(Recording) -> SpaceStream<'g> + 'g>,
}

impl<'g> Planned<'g> {
    /// Bytes that it will take, those of the representations included.
    pub fn bytes(&self) -> u64 {
        self.plan.peak_bytes()
    }

    /// Takes them. The buffers that the space names are those of `store`, or made there.
    ///
    /// # Errors
    /// Out of memory; a kernel that the driver refuses.
    pub async fn allocate(self, store: &mut Store) -> Result<SpaceStream<'g>> {
        let recording = Recording::new(self.gpu, &self.program, &self.plan, store).await?;
        if self.gpu.checked() {
            recording.poison(self.gpu, &self.program);
        }
        Ok((self.begin)(recording))
    }
}

/// A program under construction.
struct Builder<'a> {
    gpu: &'a Gpu,
    program: Program,
    area: String,
    tile: Tile,
}

impl Builder<'_> {
    fn buffer(&mut self, name: &str, words: usize, role: Role) -> View {
        let (name, bytes) = (format!("{}.{name}", self.area), 4 * words.max(1) as u64);
        let area = self.area.clone();
        let buffer = self.program.buffer(BufferSpec { name, bytes: align(bytes), role, area, timestep: None });
        View { buffer, offset: 0, bytes, half: false }
    }

    fn kept(&mut self, name: &str, words: usize) -> View {
        self.buffer(name, words, Role::Persistent)
    }

    fn shared(&mut self, name: &str, words: usize) -> View {
        let (bytes, area) = (4 * words as u64, self.area.clone());
        let spec = BufferSpec { name: name.into(), bytes: align(bytes), role: Role::Persistent, area, timestep: None };
        View { buffer: self.program.buffer(spec), offset: 0, bytes, half: false }
    }

    /// One launch with so many threads in x, and workgroups in y and z.
    fn launch(
        &mut self,
        kernel: &'static str,
        operands: &[(&'static str, View)],
        params: &[(&str, Param)],
        [x, y, z]: [usize; 3],
    ) -> Result<()> {
        let area = self.area.clone();
        let (site, grid) = (Site::of(kernel, &area), [x.div_ceil(LANES), y, z]);
        self.program.add(&self.gpu.target, (kernel, Settings::new()), operands, params, grid, site)?;
        Ok(())
    }

    fn product(&mut self, matrices: &Matrices, tile: &Tile, [x, w, y]: [View; 3], start: Start) -> Result<()> {
        let area = self.area.clone();
        let site = Site::of("product", &area);
        product(&mut self.program, &self.gpu.target, tile, matrices, (x, w, start, y), site)
    }

    /// The launches since `first`.
    fn range(&self, first: usize) -> Range<usize> {
        first..self.program.launches.len()
    }

    fn next(&self) -> usize {
        self.program.launches.len()
    }
}

/// How many images the panels have room for: a multiple of the batch, about a thousand, so that little stays empty in both
/// halves.
fn room(width: usize, halves: [usize; 2], most: usize) -> usize {
    let least = width.max(most / 2);
    let candidates = (1..=most.div_ceil(width)).map(|n| n * width).filter(|&room| room >= least && room <= most);
    let computed = |room: usize| halves.map(|half| half.div_ceil(room) * room).iter().sum::<usize>();
    let best = candidates.min_by_key(|&room| (computed(room), usize::MAX - room));
    best.unwrap_or(width).min(halves.iter().max().expect("two").next_multiple_of(width).max(width))
}

impl<'g> SpaceStream<'g> {
    /// For the images announced in `wanted`. The buffers that `space` names are those of `store`, or made there.
    ///
    /// # Errors
    /// What does not fit the adapter, before anything is allocated; too many images for dissimilarities; out of memory.
    pub async fn new(gpu: &'g Gpu, space: Space, wanted: Wanted, store: &mut Store) -> Result<SpaceStream<'g>> {
        SpaceStream::plan(gpu, space, wanted)?.allocate(store).await
    }

    /// The same, of which nothing is allocated yet.
    ///
    /// # Errors
    /// What does not fit the adapter; too many images for dissimilarities.
    pub fn plan(gpu: &'g Gpu, space: Space, wanted: Wanted) -> Result<Planned<'g>> {
        let Space { timesteps, features, width, step, .. } = space;
        let (images, training, classes) = (wanted.images, wanted.training, wanted.classes);
        assert!(training <= images, "{training} training images of {images}");
        assert!(wanted.rdm_images.iter().all(|&i| i < images) && wanted.shown_classes.iter().all(|&k| k < classes));
        if wanted.rdm_images.len() > MOST_RDM_IMAGES {
            return Err(Error::Config(format!(
                "dissimilarities between {} images: expected at most {MOST_RDM_IMAGES}; their number grows with the square",
                wanted.rdm_images.len()
            )));
        }
        if images >= 1 << 24 {
            return Err(Error::Config(format!("{images} images: expected fewer than 2^24, which f32 counts exactly")));
        }
        let networks = 1 + usize::from(space.untrained.is_some());
        let stride = features.next_multiple_of(4);
        let of_blocks = product_tile(&gpu.target, stride, PANEL_IMAGES, features);
        let r = of_blocks.r;
        let per_image = 4 * timesteps * stride.max(features.next_multiple_of(r));
        // Rows are filled up to a multiple of 16, so that timesteps begin where bindings may.
        let bound = (gpu.target.max_binding as usize).saturating_sub(4 * MARGIN) / per_image;
        let most = (PANEL_IMAGES + width / 16).min(bound.saturating_sub(15)).max(1);
        let room = room(width, [training, images - training], most);
        let rows = room.next_multiple_of(16);

        let area = format!("dynamics.{}", space.name);
        let mut b = Builder { gpu, program: Program::default(), area, tile: of_blocks };
        let batch = b.buffer("batch", 5, Role::Input);
        let labels = b.shared(&space.labels, width);
        let squares = networks * timesteps;
        // |y|^2, 1, classes; a multiple of 16 for the same reason.
        let cout_of_extras = squares + 1 + classes;
        let extras = cout_of_extras.next_multiple_of(16);
        let panels_of = |count: usize| count.div_ceil(r);
        let centred_step = (features * width).next_multiple_of(64);
        let extra_panels = b.kept("extra rows", panels_of(cout_of_extras) * rows * r + MARGIN);
        let names = [Some(space.trained.clone()), space.untrained.clone()];
        let mut all = Vec::new();
        for (name, of) in ["trained", "untrained"].into_iter().zip(names) {
            let Some(from) = of else { continue };
            let x = b.shared(&from, timesteps * step);
            let totals = timesteps * extras * stride;
            let panels = timesteps * panels_of(features) * rows * r + MARGIN;
            all.push(Network {
                x,
                shift: b.kept(&format!("shift {name}"), timesteps * features),
                centred: b.buffer(&format!("centred {name}"), timesteps * centred_step, Role::Temporary),
                columns: b.kept(&format!("columns {name}"), timesteps * rows * stride),
                panels: b.kept(&format!("panels {name}"), panels),
                extent: b.kept(&format!("extent {name}"), 2 * timesteps * features),
                extras: ["high", "low"].map(|part| b.kept(&format!("sums {name} {part}"), totals)),
                varies: b.buffer(&format!("varies {name}"), timesteps, Role::Output),
                sums: b.kept(&format!("sums of y {name}"), timesteps * features),
                dots: b.buffer(&format!("dots {name}"), timesteps * squares, Role::Output),
                kept: b.kept(&format!("kept {name}"), timesteps * wanted.rdm_images.len() * features),
            });
        }
        let numbers = b.buffer("numbers of images", wanted.rdm_images.len(), Role::Input);
        let pairs = b.kept("pairs", 2 * (squares + 1) * cout_of_extras);
        let tests = images - training;
        let decoders = 2 * timesteps;
        let cells = decoders * timesteps;
        // Scores, and what the shift of each timestep adds to the distances.
        let score_rows = decoders * classes + timesteps;
        let of_scores = product_tile(&gpu.target, width, features, score_rows);
        let weight_panels = score_rows.div_ceil(of_scores.r);
        let weights = b.buffer("weights", weight_panels * features * of_scores.r + MARGIN, Role::Input);
        let bias_step = score_rows.next_multiple_of(64);
        let bias = b.buffer("bias", timesteps * bias_step, Role::Input);
        let known = b.buffer("classes in training", classes, Role::Input);
        let sizes = b.buffer("sizes", decoders, Role::Input);
        let tally = b.kept("tally", 4 * cells);
        let gaps = b.kept("gaps", cells * tests);
        let ones = u32::MAX;

        let mut ranges = Ranges::default();
        let first = b.next();
        let common: [(&str, Param); 4] = [
            ("timesteps", timesteps.into()),
            ("features", features.into()),
            ("width", width.into()),
            ("step", step.into()),
        ];
        for of in &all {
            let operands = [("batch", batch), ("x", of.x), ("shift", of.shift)];
            b.launch("dynamics_shift", &operands, &common, [timesteps * features, 1, 1])?;
        }
        ranges.shift = b.range(first);

        let first = b.next();
        for of in &all {
            let more = [
                ("rows", rows.into()),
                ("stride", stride.into()),
                ("r", r.into()),
                ("centred_step", centred_step.into()),
            ];
            let operands = [
                ("batch", batch),
                ("x", of.x),
                ("shift", of.shift),
                ("centred", of.centred),
                ("columns", of.columns),
                ("panels", of.panels),
                ("extent", of.extent),
            ];
            b.launch("dynamics_pack", &operands, &[common, more].concat(), [timesteps * features, 1, 1])?;
        }
        let last = all.last().expect("one network at least");
        let operands = [
            ("batch", batch),
            ("y", all[0].centred),
            ("other", last.centred),
            ("labels", labels),
            ("panels", extra_panels),
        ];
        let params: [(&str, Param); 9] = [
            ("timesteps", timesteps.into()),
            ("features", features.into()),
            ("width", width.into()),
            ("classes", classes.into()),
            ("networks", networks.into()),
            ("rows", rows.into()),
            ("r", r.into()),
            ("step", centred_step.into()),
            ("other_step", centred_step.into()),
        ];
        b.launch("dynamics_extras", &operands, &params, [width, cout_of_extras, 1])?;
        ranges.pack = b.range(first);

        let first = b.next();
        let count = wanted.rdm_images.len();
        for of in all.iter().filter(|_| count > 0) {
            let operands = [("batch", batch), ("x", of.x), ("numbers", numbers), ("kept", of.kept)];
            let params = [("wanted", count.into()), common[1], common[2], common[3]];
            b.launch("dynamics_gather", &operands, &params, [features, count, timesteps])?;
        }
        ranges.gather = b.range(first);

        let first = b.next();
        let scores = b.buffer("scores", score_rows * width, Role::Temporary);
        let said = b.buffer("said", 3 * cells * width, Role::Temporary);
        for at in 0..timesteps {
            let x = all[0].centred.part(at * centred_step, Some(features * width));
            let matrices =
                Matrices { columns: width, batch: 1, cin: features, cout: score_rows, symmetric: false, panels: false };
            let start = Start { bias: Some(bias.part(at * bias_step, Some(score_rows))), ..Start::default() };
            b.product(&matrices, &of_scores, [x, weights, scores], start)?;
            let operands = [
                ("batch", batch),
                ("scores", scores),
                ("known", known),
                ("labels", labels),
                ("squares", extra_panels),
                ("said", said),
                ("gaps", gaps),
            ];
            let params: [(&str, Param); 8] = [
                ("timesteps", timesteps.into()),
                ("classes", classes.into()),
                ("features", features.into()),
                ("width", width.into()),
                ("at", at.into()),
                ("rows", rows.into()),
                ("r", r.into()),
                ("test_images", tests.into()),
            ];
            b.launch("dynamics_score", &operands, &params, [width, decoders, 1])?;
        }
        let operands = [("batch", batch), ("said", said), ("tally", tally)];
        let params = [("cells", cells.into()), ("width", width.into()), ("all_ones", ones.into())];
        b.launch("dynamics_tally", &operands, &params, [cells, 1, 1])?;
        ranges.score = b.range(first);

        let first = b.next();
        let mut clear = vec![(extra_panels, panels_of(cout_of_extras))];
        clear.extend(all.iter().map(|of| (of.panels, timesteps * panels_of(features))));
        for (panels, count) in clear {
            let params = [("panels", count.into()), ("rows", rows.into()), ("r", r.into())];
            b.launch("dynamics_clear", &[("batch", batch), ("panels", panels)], &params, [count * r, 1, 1])?;
        }
        ranges.clear = b.range(first);

        let chunks = chunks(&mut b, [timesteps, features, stride], networks);
        let most_blocks = chunks.iter().map(|chunk| chunk.blocks).max().expect("one at least");
        let words = (most_blocks * features * stride).max(extras * stride);
        let partial = b.buffer("partial", words, Role::Temporary);
        let first = b.next();
        for (network, of) in all.iter().enumerate() {
            for t in 0..timesteps {
                // Of the untrained network nobody asks for the sums over classes.
                let cout = if network == 0 { cout_of_extras } else { squares + 1 };
                let x = of.columns.part(t * rows * stride, Some(rows * stride));
                let matrices = Matrices { columns: stride, batch: 1, cin: rows, cout, symmetric: false, panels: false };
                b.product(&matrices, &of_blocks, [x, extra_panels, partial], Start::default())?;
                let totals = of.extras.map(|part| part.part(t * extras * stride, Some(cout * stride)));
                add(&mut b, partial.part(0, Some(cout * stride)), totals, None)?;
            }
        }
        let operands = [("panels", extra_panels), ("sums", pairs)];
        let params: [(&str, Param); 5] = [
            ("first", (squares + 1).into()),
            ("second", cout_of_extras.into()),
            ("rows", rows.into()),
            ("r", r.into()),
            ("all_ones", ones.into()),
        ];
        b.launch("dynamics_pairs", &operands, &params, [(squares + 1) * cout_of_extras, 1, 1])?;
        let panel_words = panels_of(features) * rows * r;
        let blocks = |b: &mut Builder, chunk: &Chunk| {
            let [of_rows, of_columns] = chunk.networks.map(|network| all[network]);
            let w = of_rows.panels.part(chunk.first[0] * panel_words, None);
            let x = of_columns.columns.part(chunk.first[1] * rows * stride, Some(chunk.blocks * rows * stride));
            let symmetric = chunk.symmetric();
            let matrices =
                Matrices { columns: stride, batch: chunk.blocks, cin: rows, cout: features, symmetric, panels: false };
            let tile = b.tile;
            let y = partial.part(0, Some(chunk.blocks * features * stride));
            b.product(&matrices, &tile, [x, w, y], Start::default())?;
            add(b, y, chunk.totals, symmetric.then_some([features, stride]))
        };
        let within = |chunk: &&Chunk| chunk.networks == [0, 0];
        chunks.iter().filter(within).try_for_each(|chunk| blocks(&mut b, chunk))?;
        ranges.within = b.range(first);
        let first = b.next();
        chunks.iter().filter(|chunk| !within(chunk)).try_for_each(|chunk| blocks(&mut b, chunk))?;
        ranges.across = b.range(first);

        let half = features * (features + 1) / 2;
        let is_diagonal = |chunk: &Chunk| chunk.networks == [0, 0] && chunk.symmetric();
        let fold = |b: &mut Builder, of: &Network, rows: View, chosen: usize, y: View| {
            let operands = [("high", of.extras[0]), ("low", of.extras[1]), ("rows", rows), ("y", y)];
            let params: [(&str, Param); 5] = [
                ("timesteps", timesteps.into()),
                ("features", features.into()),
                ("extras", extras.into()),
                ("stride", stride.into()),
                ("chosen", chosen.into()),
            ];
            b.launch("dynamics_fold", &operands, &params, [timesteps * chosen * features, 1, 1])
        };
        let first = b.next();
        let gram = b.buffer("gram", timesteps * half, Role::Output);
        for chunk in chunks.iter().filter(|chunk| is_diagonal(chunk)) {
            let operands = [("high", chunk.totals[0]), ("low", chunk.totals[1]), ("y", gram)];
            let params = block_params(chunk, features, stride, chunk.first[0]);
            b.launch("dynamics_half", &operands, &params, [features, features, chunk.blocks])?;
        }
        let all_rows = b.buffer("all classes", classes, Role::Input);
        let training_sums = b.buffer("sums of training images", timesteps * classes * features, Role::Output);
        fold(&mut b, &all[0], all_rows, classes, training_sums)?;
        ranges.half = b.range(first);

        let first = b.next();
        let row_of_ones = b.buffer("1", 1, Role::Input);
        let shown_rows = b.buffer("shown classes", wanted.shown_classes.len(), Role::Input);
        for of in &all {
            fold(&mut b, of, row_of_ones, 1, of.sums)?;
        }
        ranges.sums = b.range(first);
        let first = b.next();
        let lines = b.buffer("lines", 2 * 3 * chunks.iter().map(|chunk| chunk.blocks).sum::<usize>(), Role::Output);
        let of_rows = b.buffer("rows", 3 * most_blocks * features, Role::Temporary);
        let mut line = 0;
        for chunk in &chunks {
            let [row_sums, column_sums] = chunk.networks.map(|network| all[network].sums);
            let operands = [
                ("high", chunk.totals[0]),
                ("low", chunk.totals[1]),
                ("row_sums", row_sums),
                ("column_sums", column_sums),
                ("y", of_rows),
            ];
            let mut params = block_params(chunk, features, stride, chunk.first[0]);
            let symmetric = u32::from(chunk.symmetric());
            params.extend([("later", chunk.first[1].into()), ("symmetric", symmetric.into())]);
            params.push(("images", (images as f32).into()));
            b.launch("dynamics_norms", &operands, &params, [features, chunk.blocks, 1])?;
            let params: [(&str, Param); 4] = [
                ("lines", (3 * chunk.blocks).into()),
                ("length", features.into()),
                ("first", line.into()),
                ("all_ones", ones.into()),
            ];
            b.launch("dynamics_rows", &[("x", of_rows), ("y", lines)], &params, [3 * chunk.blocks, 1, 1])?;
            line += 3 * chunk.blocks;
        }
        for of in &all {
            let operands = [("high", of.extras[0]), ("low", of.extras[1]), ("sums", of.sums), ("y", of.dots)];
            let params: [(&str, Param); 6] = [
                ("timesteps", timesteps.into()),
                ("features", features.into()),
                ("extras", extras.into()),
                ("stride", stride.into()),
                ("squares", squares.into()),
                ("images", (images as f32).into()),
            ];
            b.launch("dynamics_dots", &operands, &params, [timesteps * squares, 1, 1])?;
            let params = [("timesteps", timesteps.into()), ("features", features.into())];
            let operands = [("extent", of.extent), ("varies", of.varies)];
            b.launch("dynamics_extent", &operands, &params, [timesteps, 1, 1])?;
        }
        ranges.reduce = b.range(first);
        let first = b.next();
        let scatter = b.buffer("scatter", half, Role::Output);
        for chunk in chunks.iter().filter(|chunk| is_diagonal(chunk)) {
            let operands = [("high", chunk.totals[0]), ("low", chunk.totals[1]), ("sums", all[0].sums), ("y", scatter)];
            let mut params = block_params(chunk, features, stride, chunk.first[0]);
            params.push(("images", (images as f32).into()));
            b.launch("dynamics_scatter", &operands, &params, [features, features, 1])?;
        }
        let shown = wanted.shown_classes.len();
        let shown_sums = b.buffer("sums of shown classes", timesteps * shown * features, Role::Output);
        if shown > 0 {
            fold(&mut b, &all[0], shown_rows, shown, shown_sums)?;
        }
        ranges.scatter = b.range(first);
        let first = b.next();
        let near = b.buffer("near", cells, Role::Output);
        let operands = [("gaps", gaps), ("tally", tally), ("sizes", sizes), ("near", near)];
        let params = [("cells", cells.into()), ("timesteps", timesteps.into()), ("test_images", tests.into())];
        b.launch("dynamics_near", &operands, &params, [cells, 1, 1])?;
        ranges.near = b.range(first);

        let plan = Plan::new(&b.program, true).with_rings([batch.bytes].into_iter(), std::iter::empty());
        plan.fits(&b.program, &gpu.target)?;
        let program = b.program;
        let begin = move |recording: Recording| {
            let word = |values: &[usize]| values.iter().map(|&value| value as u32).collect::<Vec<u32>>();
            let row = |class: usize| squares + 1 + class;
            recording.write(gpu, all_rows, &word(&(0..classes).map(row).collect::<Vec<_>>()));
            recording.write(gpu, row_of_ones, &[squares as u32]);
            if shown > 0 {
                recording.write(
                    gpu,
                    shown_rows,
                    &word(&wanted.shown_classes.iter().map(|&k| row(k)).collect::<Vec<_>>()),
                );
            }
            if count > 0 {
                recording.write(gpu, numbers, &word(&wanted.rdm_images));
            }
            SpaceStream {
                gpu,
                recording,
                space,
                wanted,
                ranges,
                room,
                panel: of_scores.r,
                squares,
                networks: all,
                chunks,
                batch,
                labels,
                pairs,
                gram,
                training_sums,
                shown_sums,
                lines,
                scatter,
                weights,
                bias,
                known,
                sizes,
                tally,
                near,
                done: 0,
                filled: 0,
                fitted: None,
                counts: Vec::new(),
                shifts: Vec::new(),
                summed: None,
                copied: 0,
                clock: None,
            }
        };
        Ok(Planned { gpu, program, plan, begin: Box::new(begin) })
    }

    /// Waits for each submission from now on, and counts the seconds by kind of work.
    pub fn with_clock(mut self) -> Self {
        self.clock = Some(BTreeMap::new());
        self
    }

    /// Seconds by kind of work.
    pub fn seconds(&self) -> BTreeMap<&'static str, f64> {
        self.clock.clone().unwrap_or_default()
    }

    /// Bytes that came back to the host so far.
    pub fn copied_back_bytes(&self) -> u64 {
        self.copied
    }

    async fn submit(&mut self, range: Range<usize>, what: &'static str) -> Result<()> {
        let begun = Instant::now();
        self.recording.run_range(self.gpu, range);
        if let Some(clock) = &mut self.clock {
            self.gpu.wait().await?;
            *clock.entry(what).or_default() += begun.elapsed().as_secs_f64();
        }
        Ok(())
    }

    async fn read<V: AnyBitPattern>(&mut self, view: View) -> Result<Vec<V>> {
        self.copied += view.bytes;
        self.recording.read(self.gpu, view).await
    }

    async fn feed(&mut self, images: usize) -> Result<()> {
        let tested = self.done.saturating_sub(self.wanted.training);
        let batch = [images, self.filled, self.done, usize::from(self.done == 0), tested].map(|value| value as u32);
        self.recording.feed(self.gpu, self.batch, &batch).await
    }

    /// Writes labels \[width\] and representations that lie on the host, \[T\] `step` words apart \[D\]\[width\], for the next
    /// [`SpaceStream::run`].
    pub fn write(&self, labels: &[u32], trained: &[f32], untrained: Option<&[f32]>) {
        self.recording.write(self.gpu, self.labels, labels);
        for (network, values) in self.networks.iter().zip([Some(trained), untrained].into_iter().flatten()) {
            self.recording.write(self.gpu, network.x, values);
        }
    }

    /// Takes a batch that is on the device: images from number `first` on. A batch holds images of one half.
    ///
    /// # Errors
    /// A lost device.
    pub async fn run(&mut self, first: usize, images: usize) -> Result<()> {
        let (training, done) = (self.wanted.training, self.done);
        assert_eq!(first, done, "images come in order");
        assert!(images <= self.space.width && done + images <= self.wanted.images, "{images} images after {done}");
        assert!(done >= training || done + images <= training, "a batch holds images of one half");
        assert!(done < training || self.fitted.is_some(), "half() comes between the halves");
        self.feed(images).await?;
        if done == 0 {
            self.submit(self.ranges.shift.clone(), "pack").await?;
        }
        self.submit(self.ranges.pack.clone(), "pack").await?;
        if self.wanted.rdm_images.iter().any(|image| (done..done + images).contains(image)) {
            self.submit(self.ranges.gather.clone(), "pack").await?;
        }
        if done >= training {
            self.submit(self.ranges.score.clone(), "decoders").await?;
        }
        self.done += images;
        self.filled += self.space.width;
        if self.filled + self.space.width > self.room {
            self.flush().await?;
        }
        Ok(())
    }

    /// Multiplies what the panels hold.
    async fn flush(&mut self) -> Result<()> {
        if self.filled == 0 {
            return Ok(());
        }
        self.feed(0).await?;
        self.submit(self.ranges.clear.clone(), "pack").await?;
        self.submit(self.ranges.within.clone(), "within").await?;
        self.submit(self.ranges.across.clone(), "across").await?;
        self.filled = 0;
        Ok(())
    }

    /// Ends the training half: fits the decoders.
    ///
    /// # Errors
    /// No training images; a ridge that leaves a scatter matrix singular; numbers that are not finite; a lost device.
    pub async fn half(&mut self) -> Result<()> {
        assert_eq!(self.done, self.wanted.training, "half() comes after the training images");
        let Space { timesteps, features, .. } = self.space;
        let (classes, images) = (self.wanted.classes, self.wanted.training);
        self.flush().await?;
        self.submit(self.ranges.half.clone(), "decoders").await?;
        let begun = Instant::now();
        let gram: Vec<f32> = self.read(self.gram).await?;
        let sums: Vec<f32> = self.read(self.training_sums).await?;
        self.read_shifts().await?;
        let shift = self.shifts[0].clone();
        let counts = self.class_counts().await?;
        self.finite(gram.iter().chain(&sums))?;
        let half = features * (features + 1) / 2;
        let n = images.max(1) as f64;
        let step = |t: usize| {
            let sum = |d: usize, k: usize| f64::from(sums[(t * classes + k) * features + d]);
            // Each image has a class, so the sum over all is that over classes.
            let total = |d: usize| (0..classes).map(|k| sum(d, k)).sum::<f64>();
            let mean: Vec<f64> = (0..features).map(|d| total(d) / n).collect();
            let mut scatter = symmetric(&gram[t * half..(t + 1) * half], features);
            let apart = nalgebra::DVector::from_column_slice(&mean);
            scatter.ger(-n, &apart, &apart, 1.0);
            let class_sum = |d: usize, k: usize| sum(d, k) - counts[k] as f64 * mean[d];
            let shift = &shift[t * features..(t + 1) * features];
            Step {
                scatter,
                apart: DMatrix::from_fn(features, classes, class_sum),
                mean: mean.iter().zip(shift).map(|(m, s)| m + f64::from(*s)).collect(),
            }
        };
        let steps = (0..timesteps).map(step).collect();
        let training = Training { images, counts: counts.clone(), steps };
        let fitted = decoder::fit(&training, self.wanted.ridge)?;

        // With y = x - s' of the timestep that is tested, and s, m, W of the one of the fit: ridge x W = y W + s' W, and
        // D score = 2 y (m - s) + 2 y (s - s') - |m - s'|^2 - |y|^2 of class means; the second term is a row of its own.
        let (rows, r) = (2 * timesteps * classes + timesteps, self.panel);
        let bias_step = rows.next_multiple_of(64);
        let mut weights = vec![0f32; rows.div_ceil(r) * r * features];
        let mut bias = vec![0f32; timesteps * bias_step];
        let mut row_of = |row: usize, weight: &dyn Fn(usize) -> f64| {
            for d in 0..features {
                weights[(row / r * features + d) * r + row % r] = weight(d) as f32;
            }
        };
        let shift_at = |t: usize, d: usize| f64::from(shift[t * features + d]);
        let size = features as f64;
        for (t, of) in fitted.iter().enumerate() {
            for k in 0..classes {
                let row = t * classes + k;
                let column = of.weight.column(k);
                row_of(row, &|d| column[d]);
                for u in 0..timesteps {
                    let dot: f64 = (0..features).map(|d| (of.mean[d] - shift_at(u, d)) * column[d]).sum();
                    bias[u * bias_step + row] = (of.share[k] - dot) as f32;
                }
                let Some(mean) = &of.class_mean[k] else { continue };
                let row = (timesteps + t) * classes + k;
                row_of(row, &|d| 2.0 * (mean[d] - shift_at(t, d)) / size);
                for u in 0..timesteps {
                    let square: f64 = (0..features).map(|d| (mean[d] - shift_at(u, d)).powi(2)).sum();
                    bias[u * bias_step + row] = (-square / size) as f32;
                }
            }
            row_of(2 * timesteps * classes + t, &|d| 2.0 * (shift_at(t, d) - shift_at(0, d)) / size);
        }
        let known: Vec<u32> = counts.iter().map(|&count| u32::from(count > 0)).collect();
        let sizes: Vec<f32> =
            vec![0.0; timesteps].into_iter().chain(fitted.iter().map(|of| of.size() as f32)).collect();
        self.recording.write(self.gpu, self.weights, &weights);
        self.recording.write(self.gpu, self.bias, &bias);
        self.recording.write(self.gpu, self.known, &known);
        self.recording.write(self.gpu, self.sizes, &sizes);
        (self.fitted, self.counts) = (Some(fitted), counts);
        if let Some(clock) = &mut self.clock {
            *clock.entry("decoders").or_default() += begun.elapsed().as_secs_f64();
        }
        Ok(())
    }

    async fn read_shifts(&mut self) -> Result<()> {
        for network in self.networks.clone() {
            let shift = self.read(network.shift).await?;
            self.shifts.push(shift);
        }
        Ok(())
    }

    /// The sums over pairs of extra rows, of all images so far.
    async fn pairs(&mut self) -> Result<Vec<[f32; 2]>> {
        if self.summed.as_ref().is_none_or(|(images, _)| *images != self.done) {
            let pairs = self.read(self.pairs).await?;
            self.summed = Some((self.done, pairs));
        }
        Ok(self.summed.as_ref().expect("just read").1.clone())
    }

    /// \[K\] How many images of each class there were so far.
    async fn class_counts(&mut self) -> Result<Vec<u64>> {
        let second = self.squares + 1 + self.wanted.classes;
        let pairs = self.pairs().await?;
        let count = |class: usize| total(pairs[self.squares * second + self.squares + 1 + class]).round() as u64;
        Ok((0..self.wanted.classes).map(count).collect())
    }

    fn finite<'a>(&self, mut values: impl Iterator<Item = &'a f32>) -> Result<()> {
        if values.all(|value| value.is_finite()) {
            return Ok(());
        }
        Err(Error::Data(format!(
            "second moments of {}: not finite; representations hold numbers that are not finite, or above about 1e9: the \
             network's weights have probably diverged",
            self.space.name
        )))
    }

    /// Ends the stream: the moments.
    ///
    /// # Errors
    /// Numbers that are not finite; a lost device.
    pub async fn moments(&mut self) -> Result<Moments> {
        assert_eq!(self.done, self.wanted.images, "all images have come");
        let Space { timesteps, features, .. } = self.space;
        let n = self.wanted.images as f64;
        self.flush().await?;
        self.submit(self.ranges.sums.clone(), "reduce").await?;
        self.submit(self.ranges.reduce.clone(), "reduce").await?;
        let lines: Vec<[f32; 2]> = self.read(self.lines).await?;
        let pairs = self.pairs().await?;
        self.finite(lines.iter().chain(&pairs).flatten())?;
        let mut of_networks = Vec::new();
        for (network, shift) in self.networks.clone().into_iter().zip(self.shifts.clone()) {
            let sums: Vec<f32> = self.read(network.sums).await?;
            let dots: Vec<f32> = self.read(network.dots).await?;
            let varies: Vec<u32> = self.read(network.varies).await?;
            of_networks.push((sums, shift, dots, varies));
        }
        let second = self.squares + 1 + self.wanted.classes;
        let pair = |a: usize, b: usize| total(pairs[a * second + b]);
        // |Mc|^2, m_t' M m_u, tr Mc, by networks and timesteps.
        let mut blocks: BTreeMap<([usize; 2], usize, usize), [f64; 3]> = BTreeMap::new();
        let mut line = 0;
        for chunk in &self.chunks {
            for block in 0..chunk.blocks {
                let found = [0, 1, 2].map(|i| total(lines[line + i]));
                blocks.insert((chunk.networks, chunk.first[0] + block, chunk.first[1] + block), found);
                line += 3;
            }
        }
        let square = |network: usize, t: usize| -> f64 {
            let sums = &of_networks[network].0[t * features..(t + 1) * features];
            sums.iter().map(|&s| (f64::from(s) / n).powi(2)).sum()
        };
        let dot = |row: usize, (network, u): (usize, usize)| f64::from(of_networks[network].2[u * self.squares + row]);
        let varies = |network: usize, t: usize| of_networks[network].3[t] & 1 != 0;
        // Of rows (a, t) and columns (b, u): |Mc|^2, q, tr Mc; exactly 0 where one does not vary.
        let of = |(a, t): (usize, usize), (b, u): (usize, usize)| -> [f64; 3] {
            if !varies(a, t) || !varies(b, u) {
                return [0.0; 3];
            }
            let [squared, bilinear, trace] = *blocks
                .get(&([a, b], t, u))
                .or_else(|| blocks.get(&([b, a], u, t)))
                .expect("all blocks that are asked for are computed");
            let (row, column) = (a * timesteps + t, b * timesteps + u);
            let fourth = centred_fourth(&FourthTerms {
                images: n,
                both: pair(row, column),
                squares: [pair(row, self.squares), pair(column, self.squares)],
                weighted: [dot(row, (b, u)), dot(column, (a, t))],
                means: [square(a, t), square(b, u)],
                bilinear: bilinear / (n * n),
            });
            [squared, fourth, trace]
        };
        let steps = 0..timesteps;
        let marginals = |network: usize| {
            let (sums, shift, ..) = &of_networks[network];
            let own: Vec<[f64; 3]> = steps.clone().map(|t| of((network, t), (network, t))).collect();
            let mean = |i: usize| f64::from(shift[i]) + f64::from(sums[i]) / n;
            Marginals {
                mean: steps.clone().map(|t| (t * features..(t + 1) * features).map(mean).collect()).collect(),
                varies: steps.clone().map(|t| varies(network, t)).collect(),
                trace: own.iter().map(|own| own[2]).collect(),
                squared: own.iter().map(|own| own[0]).collect(),
                fourth: own.iter().map(|own| own[1]).collect(),
            }
        };
        let cross = |b: usize| {
            let table = |which: usize| {
                let row = |t: usize| steps.clone().map(|u| of((0, t), (b, u))[which]).collect();
                steps.clone().map(row).collect::<Vec<Vec<f64>>>()
            };
            Cross { squared: table(0), fourth: table(1) }
        };
        Ok(Moments {
            images: self.wanted.images,
            features,
            trained: marginals(0),
            within: cross(0),
            untrained: (self.networks.len() > 1).then(|| (marginals(1), cross(1))),
            scatter: Vec::new(),
            varies: of_networks[0].3.iter().any(|flags| *flags != 0),
        })
    }

    /// sum_t Mc_tt, and the mean representations \[T\]\[shown\]\[D\] of the shown classes, after [`SpaceStream::moments`].
    async fn components(&mut self) -> Result<(Vec<f64>, Vec<rdm::Vectors>)> {
        let Space { timesteps, features, .. } = self.space;
        self.submit(self.ranges.scatter.clone(), "reduce").await?;
        let scatter: Vec<f32> = self.read(self.scatter).await?;
        let shift = self.shifts[0].clone();
        let counts = self.class_counts().await?;
        let shown = self.wanted.shown_classes.clone();
        let sums: Vec<f32> = if shown.is_empty() { Vec::new() } else { self.read(self.shown_sums).await? };
        let mean = |t: usize, (at, &class): (usize, &usize)| {
            let sum = |d: usize| f64::from(sums[(t * shown.len() + at) * features + d]);
            let mean = |d: usize| f64::from(shift[t * features + d]) + sum(d) / counts[class] as f64;
            (counts[class] > 0).then(|| (0..features).map(mean).collect())
        };
        let means = (0..timesteps).map(|t| shown.iter().enumerate().map(|k| mean(t, k)).collect()).collect();
        Ok((symmetric(&scatter, features).as_slice().to_vec(), means))
    }

    /// Ends the stream: the decoders.
    ///
    /// # Errors
    /// Numbers that are not finite; a lost device.
    pub async fn decoder(&mut self) -> Result<Decoder> {
        let timesteps = self.space.timesteps;
        let tests = self.wanted.images - self.wanted.training;
        self.flush().await?;
        self.submit(self.ranges.near.clone(), "decoders").await?;
        let tally: Vec<[f32; 4]> = self.read(self.tally).await?;
        let near: Vec<u32> = self.read(self.near).await?;
        let counts = self.class_counts().await?;
        self.finite(tally.iter().flatten())?;
        let fitted = self.fitted.as_ref().expect("half() comes between the halves");
        // Test images whose label occurs in training.
        let known: u64 =
            self.counts.iter().zip(&counts).filter(|(train, _)| **train > 0).map(|(train, all)| all - train).sum();
        let of = |cell: usize| {
            let [correct, high, low, largest] = tally[cell];
            let own = total([high, low]);
            let tested =
                decoder::Tested { correct: correct as u64, gaps: Vec::new(), largest: largest.into(), own, known };
            (tested, u64::from(near[cell]))
        };
        let table = |kind: usize| -> Vec<Vec<_>> {
            let cell = |t: usize, u: usize| of((kind * timesteps + t) * timesteps + u);
            (0..timesteps).map(|t| (0..timesteps).map(|u| cell(t, u)).collect()).collect()
        };
        let norms = fitted.iter().map(|of| of.weight.norm()).collect();
        Ok(Decoder {
            n_test: tests as u64,
            ridge: decoder::generalisation(&table(0), Some(norms)),
            class_mean: decoder::generalisation(&table(1), None),
        })
    }

    /// Dissimilarities between the images that were asked for, of one network.
    async fn rdm(&mut self, network: usize) -> Result<Rdm> {
        let (count, features) = (self.wanted.rdm_images.len(), self.space.features);
        if count == 0 {
            return Ok(rdm::of(&vec![Vec::new(); self.space.timesteps]));
        }
        let kept: Vec<f32> = self.read(self.networks[network].kept).await?;
        let vector = |values: &[f32]| Some(values.iter().map(|&x| f64::from(x)).collect());
        let step = |values: &[f32]| values.chunks_exact(features).map(vector).collect();
        let vectors: Vec<rdm::Vectors> = kept.chunks_exact(count * features).map(step).collect();
        if count <= MOST_ON_THE_HOST {
            return Ok(rdm::of(&vectors));
        }
        let rdm::ByMetric { euclidean, correlation, cosine } = rdm::prepared(&vectors);
        let squared = rdm::ByMetric {
            euclidean: self.squared_distances(&euclidean, count).await?,
            correlation: self.squared_distances(&correlation, count).await?,
            cosine: self.squared_distances(&cosine, count).await?,
        };
        Ok(rdm::finished(&squared, &vectors))
    }

    /// Squared distances between the vectors of each timestep, on the device.
    async fn squared_distances(&mut self, vectors: &[rdm::Vectors], count: usize) -> Result<Vec<rdm::Condensed>> {
        let Space { timesteps, features, .. } = self.space;
        let pairs = count * (count - 1) / 2;
        let area = format!("dynamics.{} distances", self.space.name);
        let mut program = Program::default();
        let mut buffer = |name: &str, words: usize, role: Role| {
            let (name, bytes) = (format!("{area}.{name}"), 4 * words as u64);
            let spec = BufferSpec { name, bytes: align(bytes), role, area: area.clone(), timestep: None };
            View { buffer: program.buffer(spec), offset: 0, bytes, half: false }
        };
        let x = buffer("vectors", timesteps * count * features, Role::Input);
        let y = buffer("pairs", timesteps * pairs, Role::Output);
        let params = [("count", count.into()), ("features", features.into())];
        let (operands, grid) = ([("x", x), ("y", y)], [count.div_ceil(LANES), count, timesteps]);
        let kernel = ("dynamics_distances", Settings::new());
        let target = &self.gpu.target;
        program.add(target, kernel, &operands, &params, grid, Site::of("dynamics_distances", &area))?;
        let plan = Plan::new(&program, true);
        plan.fits(&program, target)?;
        let recording = Recording::new(self.gpu, &program, &plan, &mut Store::default()).await?;
        let absent = vec![0.0; features];
        let of = |vector: &Option<Vec<f64>>| vector.as_ref().unwrap_or(&absent).iter().map(|&x| x as f32).collect();
        recording.write(self.gpu, x, &vectors.iter().flatten().flat_map::<Vec<f32>, _>(of).collect::<Vec<f32>>());
        recording.run(self.gpu);
        let found: Vec<f32> = recording.read(self.gpu, y).await?;
        self.copied += y.bytes;
        let step = |(vectors, found): (&Vec<Option<Vec<f64>>>, &[f32])| {
            let mut found = found.iter();
            let mut all = Vec::with_capacity(pairs);
            for (i, a) in vectors.iter().enumerate() {
                let pair = |(b, d): (&Option<Vec<f64>>, &f32)| (a.is_some() && b.is_some()).then_some(f64::from(*d));
                all.extend(vectors[i + 1..].iter().zip(found.by_ref()).map(pair));
            }
            all
        };
        Ok(vectors.iter().zip(found.chunks_exact(pairs)).map(step).collect())
    }

    /// Ends a stream of two networks whose images are all training images and that fitted no decoders: the dissimilarities of
    /// both networks, and CKA.
    ///
    /// # Errors
    /// Numbers that are not finite; a lost device.
    pub async fn compare(&mut self) -> Result<([Rdm; 2], Cka)> {
        self.read_shifts().await?;
        let cka = cka::of(&self.moments().await?);
        Ok(([self.rdm(0).await?, self.rdm(1).await?], cka))
    }

    /// Ends the stream: everything.
    ///
    /// # Errors
    /// Numbers that are not finite; a lost device.
    pub async fn finish(&mut self) -> Result<Structure> {
        let decoder = self.decoder().await?;
        let mut moments = self.moments().await?;
        let (scatter, means) = self.components().await?;
        moments.scatter = scatter;
        let images = self.rdm(0).await?;
        let untrained = if self.networks.len() > 1 { Some(self.rdm(1).await?) } else { None };
        Ok(Structure {
            class_rdm: rdm::of(&means),
            rdm_time: rdm_time::within(&images),
            rdm_init: untrained.map(|untrained| rdm_time::of(&images, &untrained)),
            rdm: images,
            cka: cka::of(&moments),
            decoder,
            pca: pca::of(&moments, &means),
        })
    }
}

impl Sink for SpaceStream<'_> {
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
        Box::pin(self.run(portion.first, portion.images))
    }

    fn turn(&mut self) -> Pending<'_> {
        Box::pin(self.half())
    }
}

/// The measures of stored activity on a device, in batches of `width`.
///
/// # Errors
/// What the device says; decoders that cannot be fitted.
pub async fn stored(gpu: &Gpu, subject: &Subject<'_>, width: usize) -> Result<Structure> {
    let (network, parameters) = (subject.trained, subject.parameters);
    let (timesteps, features) = (network.timesteps, network.features);
    let (mut order, test): (Vec<usize>, Vec<usize>) = (0..network.samples).partition(|&i| subject.train[i]);
    let training = order.len();
    order.extend(test);
    let place = |image: &usize| order.iter().position(|i| i == image).expect("each image is in one half");
    let wanted = Wanted {
        images: network.samples,
        training,
        classes: network.classes,
        rdm_images: parameters.rdm_images.iter().map(place).collect(),
        shown_classes: parameters.shown_classes.clone(),
        ridge: parameters.ridge,
    };
    let name = |what: &str| format!("stored.{what}");
    let space = Space {
        name: "stored".into(),
        timesteps,
        features,
        width,
        step: (features * width).next_multiple_of(64),
        trained: name("trained"),
        untrained: subject.untrained.map(|_| name("untrained")),
        labels: name("labels"),
    };
    let step = space.step;
    let mut stream = SpaceStream::new(gpu, space, wanted, &mut Store::default()).await?;
    let innermost = |of: &Extraction, images: &[usize]| {
        let mut map = vec![0f32; timesteps * step];
        for t in 0..timesteps {
            for (n, &image) in images.iter().enumerate() {
                for (d, &x) in of.representation(t, image).iter().enumerate() {
                    map[t * step + d * width + n] = x as f32;
                }
            }
        }
        map
    };
    let mut first = 0;
    for half in [&order[..training], &order[training..]] {
        for images in half.chunks(width) {
            let mut labels: Vec<u32> = images.iter().map(|&image| network.labels[image] as u32).collect();
            labels.resize(width, 0);
            let untrained = subject.untrained.map(|of| innermost(of, images));
            stream.write(&labels, &innermost(network, images), untrained.as_deref());
            stream.run(first, images.len()).await?;
            gpu.wait().await?;
            first += images.len();
        }
        if first == training && stream.fitted.is_none() {
            stream.half().await?;
        }
    }
    stream.finish().await
}

/// A symmetric matrix from its upper half, row by row.
fn symmetric(half: &[f32], size: usize) -> DMatrix<f64> {
    let at = |i: usize, j: usize| half[i * size - i * (i + 1) / 2 + j];
    DMatrix::from_fn(size, size, |i, j| f64::from(at(i.min(j), i.max(j))))
}

fn block_params(chunk: &Chunk, features: usize, stride: usize, first: usize) -> Vec<(&'static str, Param)> {
    vec![
        ("blocks", chunk.blocks.into()),
        ("features", features.into()),
        ("stride", stride.into()),
        ("first", first.into()),
    ]
}

/// Adds products to their totals; of symmetric blocks of so many rows and columns, what lies right of the diagonal and on it.
fn add(b: &mut Builder, partial: View, [high, low]: [View; 2], symmetric: Option<[usize; 2]>) -> Result<()> {
    let count = partial.bytes as usize / 16;
    // Of blocks that are not symmetric, all is one row.
    let [rows, columns] = symmetric.unwrap_or([1, 4 * count]);
    let params =
        [("count", count.into()), ("rows", rows.into()), ("columns", columns.into()), ("all_ones", u32::MAX.into())];
    b.launch("dynamics_add", &[("partial", partial), ("high", high), ("low", low)], &params, [count, 1, 1])
}

/// All blocks: t <= u within the analysed network, all t and u with the untrained one, t = u within that; those of one
/// distance u - t together, as far as one binding may cover them.
fn chunks(b: &mut Builder, [timesteps, features, stride]: [usize; 3], networks: usize) -> Vec<Chunk> {
    let bytes = 4 * (features * stride) as u64;
    let most = (CHUNK.min(b.gpu.target.max_binding) / bytes).max(1) as usize;
    let mut lists = Vec::new();
    let steps = timesteps as isize;
    lists.extend((0..steps).map(|lag| ([0, 0], lag)));
    if networks > 1 {
        lists.extend((1 - steps..steps).map(|lag| ([0, 1], lag)));
        lists.push(([1, 1], 0));
    }
    let mut chunks = Vec::new();
    for (networks, lag) in lists {
        let (skip, count) = ((-lag).max(0) as usize, timesteps - lag.unsigned_abs());
        for first in (0..count).step_by(most) {
            let blocks = most.min(count - first);
            let first = [skip + first, (skip + first).checked_add_signed(lag).expect("a timestep")];
            let name = format!("products {networks:?} {lag} {}", first[0]);
            let totals = ["high", "low"].map(|part| b.kept(&format!("{name} {part}"), blocks * features * stride));
            chunks.push(Chunk { networks, first, blocks, totals });
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_hold_whole_batches_and_little_stays_empty() {
        for (width, halves) in
            [(64, [12_500, 12_500]), (1024, [12_500; 2]), (7, [3, 4]), (64, [0, 1]), (300, [9_000, 10])]
        {
            let room = room(width, halves, PANEL_IMAGES + width / 16);
            assert!(room >= width && room.is_multiple_of(width), "{width}: {room}");
            assert!(room <= PANEL_IMAGES.max(width) + width / 16, "{width}: {room}");
        }
        assert_eq!(room(64, [12_500; 2], 1028) * 14, 12_544);
    }
}
