//! Normalisation over groups of channels: y = gamma (x - mean) / sqrt(variance + eps) + beta, biased variance; one group is
//! the published LayerNorm. Rectification may follow in the same kernel.

use super::channel_sum;
use super::context::{Context, LANES, vector};
use super::{Call, Operation, Tape, ValueId, count, steps};
use crate::Result;
use crate::kernels::choose::norm_lanes;
use crate::kernels::conv::sum_partials;
use crate::kernels::{Param, Settings, Site, View};

/// x, gamma, beta -> y, stats \[2, groups, images\] (mean, 1 / standard deviation).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Norm {
    /// Groups of channels that are normalised together (1: the published LayerNorm).
    pub groups: usize,
    /// Whether gamma and beta have one value per channel; else one per element of [channels, rows, columns].
    pub per_channel: bool,
    /// Whether the result is rectified.
    pub relu: bool,
}

/// x, stats, gamma, dy, \[y, where rectified\] -> d_x, row sums \[rows, vectors of images, 2\]: at each element of a map, over the
/// images of a vector (4, 2 or 1 of them), the sum of dy and that of its product with the normalised x; dy counts as 0 where it was
/// rectified away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NormDInput(pub Norm);

/// Row sums… -> d_gamma, d_beta, summed over images and timesteps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NormDAffine {
    /// Extents of the map without its images.
    pub map: [usize; 3],
    /// As [`Norm::per_channel`].
    pub per_channel: bool,
}

/// Added to the variance (PyTorch's default).
pub const NORM_EPS: f32 = 1e-5;

/// Most rows that a lane of a row kernel walks along: some lavapipe versions stop loops beyond 30,000 turns.
const MOST_ROWS: usize = 16_384;

/// Most chunks of a norm in one launch: memory of a workgroup holds what their slots leave, 2 vectors each.
const MOST_CHUNKS: usize = 8;

impl Norm {
    /// Of a row kernel that goes through these phases.
    fn settings(&self, r: &Rows, wide: bool, phases: &[&'static str]) -> Settings {
        let settings = Settings::new().set("L", r.lanes as u32).images(r.vec).wide_images(wide);
        let settings = settings.flag("CHANNEL", self.per_channel).flag("RELU", self.relu).flag("WHOLE", r.whole);
        let settings = if r.whole { settings.set("CHUNKS", MOST_CHUNKS as u32) } else { settings };
        phases.iter().fold(settings, |settings, phase| settings.flag(phase, true))
    }

    /// `-layer-relu`
    fn name(&self) -> String {
        let kind = if self.per_channel { format!("groups{}", self.groups) } else { "layer".into() };
        format!("-{kind}{}", super::flags(&[("relu", self.relu)]))
    }
}

impl Operation for Norm {
    fn name(&self) -> &'static str {
        "norm"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        let x = inputs[0];
        assert!(x[0].is_multiple_of(self.groups), "norm: {} channels in {} groups", x[0], self.groups);
        let affine = if self.per_channel { x[0] } else { count(&x[..3]) };
        assert_eq!(count(inputs[1]), affine, "norm: gamma {:?} on map {x:?}", inputs[1]);
        vec![x.to_vec(), vec![2, self.groups, x[3]]]
    }

    fn gradient(&self, tape: &mut dyn Tape, call: Call, d_outputs: &[Option<ValueId>]) {
        let Some(dy) = d_outputs[0] else { return };
        let (x, gamma, beta) = (call.inputs[0], call.inputs[1], call.inputs[2]);
        let (y, stats) = (call.outputs[0], call.outputs[1]);
        let mut needed = vec![x, stats, gamma, dy];
        needed.extend(self.relu.then_some(y));
        let [d_x, row_sums] = tape.emit(NormDInput(*self).into(), &needed, "d_z")[..] else {
            unreachable!("two outputs")
        };
        tape.add(x, d_x);
        let [channels, rows, columns, _] = *tape.shape(x) else { unreachable!("a map") };
        let affine = NormDAffine { map: [channels, rows, columns], per_channel: self.per_channel };
        tape.parameter(gamma, affine.into(), 0, &[row_sums]);
        tape.parameter(beta, affine.into(), 1, &[row_sums]);
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let r = Rows::new(c.shape(call.inputs[0]), *self, c);
        let [x, gamma, beta] = [("x", 0), ("gamma", 1), ("beta", 2)].map(|(name, i)| (name, c.view(call.inputs[i])));
        let [y, stats] = [("y", 0), ("stats", 1)].map(|(name, i)| (name, c.view(call.outputs[i])));
        let params = r.params(Some(("eps", NORM_EPS.into())));
        let wide = c.wide();
        let settings = |flags: &[&'static str]| self.settings(&r, wide, flags);
        if r.whole {
            let operands = [x, stats, gamma, beta, y];
            let settings = settings(&["MEASURE", "MERGE", "APPLY"]);
            return c.launch("norm", &settings, &operands, &params, r.grid(1), site);
        }
        let partial = ("partial", c.program.scratch("stats", site.area, r.parts() * 2 * r.groups * r.images));
        let [measure, merge, apply] = [&["MEASURE", "LEAVES"][..], &["MERGE", "TAKES"], &["APPLY"]].map(settings);
        c.launch("norm", &measure, &[x, partial], &params, r.grid(r.chunks), site)?;
        c.launch("norm", &merge, &[partial, stats], &params, r.grid(1), site)?;
        c.launch("norm", &apply, &[x, stats, gamma, beta, y], &params, r.grid(r.chunks), site)
    }

    fn flops(&self, inputs: &[&[usize]], _: &[&[usize]]) -> f64 {
        count(inputs[0]) as f64 * if self.relu { 9.0 } else { 8.0 }
    }

    fn label(&self, _: &[&[usize]], _: &[&[usize]]) -> String {
        Norm::name(self)
    }
}

impl Operation for NormDInput {
    fn name(&self) -> &'static str {
        "norm_d_input"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        let x = inputs[0];
        vec![x.to_vec(), vec![count(&x[..3]), x[3] / vector(x[3]), 2]]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let r = Rows::new(c.shape(call.inputs[0]), self.0, c);
        let cells = 2 * r.groups * r.images;
        let names = ["x", "stats", "gamma", "dy", "y"];
        let inputs: Vec<(&'static str, View)> = names.into_iter().zip(call.inputs.iter().map(|&v| c.view(v))).collect();
        let with = |more: &[(&'static str, View)]| [&inputs[..], more].concat();
        let [dx, row_sums] = [("dx", 0), ("row_sums", 1)].map(|(name, i)| (name, c.view(call.outputs[i])));
        let params = r.params(None);
        let wide = c.wide();
        let settings = |flags: &[&'static str]| self.0.settings(&r, wide, flags);
        if r.whole {
            let settings = settings(&["SUMS", "APPLY"]);
            return c.launch("norm_d_input", &settings, &with(&[row_sums, dx]), &params, r.grid(1), site);
        }
        let partial = c.program.scratch("d_sums", site.area, r.parts() * cells);
        let [leave_sums, apply] = [&["SUMS", "LEAVES"][..], &["APPLY"]].map(settings);
        c.launch(
            "norm_d_input",
            &leave_sums,
            &with(&[("partial", partial), row_sums]),
            &params,
            r.grid(r.chunks),
            site,
        )?;
        // Parts of a slot beyond the rows of a short last chunk hold zeros: every part is written.
        let sums = c.program.scratch("d_sums", site.area, cells);
        sum_partials(c.program, c.target, partial, cells, r.parts(), sums, site)?;
        c.launch("norm_d_input", &apply, &with(&[("sums", sums), dx]), &params, r.grid(r.chunks), site)
    }

    fn flops(&self, inputs: &[&[usize]], _: &[&[usize]]) -> f64 {
        16.0 * count(inputs[0]) as f64
    }

    fn label(&self, _: &[&[usize]], _: &[&[usize]]) -> String {
        Norm::name(&self.0)
    }
}

impl Operation for NormDAffine {
    fn name(&self) -> &'static str {
        "norm_d_affine"
    }

    fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        assert_eq!(inputs[0][0], count(&self.map), "norm_d_affine: row sums of a map {:?}", self.map);
        vec![if self.per_channel { vec![self.map[0]] } else { self.map.to_vec() }; 2]
    }

    fn lists(&self) -> Option<usize> {
        Some(1)
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let NormDAffine { map: [channels, h, w], per_channel } = *self;
        let n = c.shape(call.inputs[0])[1];
        c.folded(&[call.inputs], call.outputs, site, false, move |c, (runs, stage), outs, site| {
            let rows = channels * h * w;
            let (d_gamma, d_beta) = if per_channel {
                let mut place = |name| stage.place(name, || c.program.scratch(name, site.area, rows));
                (place("d_gamma"), place("d_beta"))
            } else {
                (outs[0], outs[1])
            };
            let operands = [("row_sums", runs[0].view), ("d_gamma", d_gamma), ("d_beta", d_beta)];
            let (steps, step) = (runs[0].steps, runs[0].step / 2);
            let params: &[(&str, Param)] =
                &[("n", n.into()), ("rows", rows.into()), ("steps", steps.into()), ("step", step.into())];
            let lanes = if c.target.cpu { 8 } else { 64 };
            let settings = Settings::new().set("L", lanes as u32).images(2).wide_images(c.wide());
            let settings = settings.flag("GO_ON", stage.goes_on());
            c.launch("norm_d_affine", &settings, &operands, params, [rows.div_ceil(lanes), 1, 1], site)?;
            if per_channel && stage.is_last() {
                channel_sum::launch(c, d_gamma, channels, h * w, (0, 1), (outs[0], false), site)?;
                channel_sum::launch(c, d_beta, channels, h * w, (0, 1), (outs[1], false), site)?;
            }
            Ok(())
        })
    }

    fn flops(&self, inputs: &[&[usize]], _: &[&[usize]]) -> f64 {
        count(inputs[0]) as f64 * inputs.len() as f64
    }

    fn label(&self, inputs: &[&[usize]], _: &[&[usize]]) -> String {
        let kind = if self.per_channel { "-channel" } else { "" };
        format!("{kind}{}", steps(inputs.len(), 1))
    }
}

/// Rows that a workgroup takes at a time.
const SLOTS: usize = 8;

/// How a kernel over [row][image] is laid out: see `shaders/shared/rows.wgsl`.
struct Rows {
    /// Images.
    images: usize,
    /// Images that a lane serves as one vector.
    vec: usize,
    /// Vectors of images.
    n: usize,
    groups: usize,
    /// Rows of one group.
    rows: usize,
    pixels: usize,
    /// Rows of one part, but for its slots.
    chunk: usize,
    chunks: usize,
    /// Whether a workgroup serves all chunks of its images.
    whole: bool,
    lanes_n: usize,
    slots: usize,
    /// Invocations of a workgroup.
    lanes: usize,
}

impl Rows {
    fn new(map: &[usize], norm: Norm, c: &Context) -> Rows {
        let (images, pixels) = (map[3], map[1] * map[2]);
        let vec = vector(images);
        let n = images / vec;
        let (groups, rows) = (norm.groups, map[0] * pixels / norm.groups);
        // As many slots and chunks whatever the batch: an image's sums have the same bits in a batch of any size, in any part of one,
        // and in one launch or in several.
        let slots = SLOTS;
        let wanted = if c.target.cpu { 8 } else { 64 };
        let chunk = rows.div_ceil(wanted).clamp(16, MOST_ROWS);
        let chunks = rows.div_ceil(chunk);
        let whole = chunks <= MOST_CHUNKS && c.choices.norm_whole(c.target, groups * n, count(map));
        let (lanes, lanes_n) = if whole {
            let lanes_n = norm_lanes(groups * n).min(n);
            (slots * lanes_n, lanes_n)
        } else {
            (LANES, n.min(LANES / slots))
        };
        Rows { images, vec, n, groups, rows, pixels, chunk, chunks, whole, lanes_n, slots, lanes }
    }

    fn params(&self, more: Option<(&'static str, Param)>) -> Vec<(&'static str, Param)> {
        let params = [
            ("n", self.n),
            ("groups", self.groups),
            ("rows", self.rows),
            ("chunk", self.chunk),
            ("chunks", self.chunks),
            ("lanes_n", self.lanes_n),
            ("slots", self.slots),
            ("pixels", self.pixels),
        ];
        params.map(|(name, value)| (name, value.into())).into_iter().chain(more).collect()
    }

    /// Workgroups of a launch in which so many share the rows of the same images.
    fn grid(&self, sharing: usize) -> [usize; 3] {
        [self.n.div_ceil(self.lanes_n), sharing, self.groups]
    }

    /// Parts that leave a partial result.
    fn parts(&self) -> usize {
        self.chunks * self.slots
    }
}
