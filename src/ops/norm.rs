//! Normalisation over groups of channels: y = gamma (x - mean) / sqrt(variance + eps) + beta, biased variance; one group is
//! the published LayerNorm. Rectification may follow in the same kernel.

use super::channel_sum;
use super::context::{Context, LANES, vector};
use super::{Call, Operation, Tape, ValueId, count, steps};
use crate::Result;
use crate::kernels::conv::sum_partials;
use crate::kernels::{Param, Settings, Site, Target, View};

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

/// x, stats, gamma, dy, \[y, where rectified\] -> d_x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NormDInput(pub Norm);

/// x…, stats…, dy…, \[y…, where rectified\] -> d_gamma, d_beta, summed over images and timesteps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NormDAffine(pub Norm);

/// Added to the variance (PyTorch's default).
pub const NORM_EPS: f32 = 1e-5;

/// Most rows that a lane of a row kernel walks along: some lavapipe versions stop loops beyond 30,000 turns.
const MOST_ROWS: usize = 16_384;

impl Norm {
    fn settings(&self, vec: usize) -> Settings {
        let settings = Settings::new().set("L", LANES as u32).images(vec);
        settings.flag("CHANNEL", self.per_channel).flag("RELU", self.relu)
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
        let mut affine = vec![x, stats, dy];
        let mut needed = vec![x, stats, gamma, dy];
        if self.relu {
            affine.push(y);
            needed.push(y);
        }
        tape.parameter(gamma, NormDAffine(*self).into(), 0, &affine);
        tape.parameter(beta, NormDAffine(*self).into(), 1, &affine);
        if tape.needs(x) {
            let d_x = tape.emit(NormDInput(*self).into(), &needed, "d_z");
            tape.add(x, d_x[0]);
        }
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let r = Rows::new(c.shape(call.inputs[0]), *self, c.target);
        let (x, y, stats) = (c.view(call.inputs[0]), c.view(call.outputs[0]), c.view(call.outputs[1]));
        let partial = c.program.scratch("stats", site.area, r.parts() * 2 * r.groups * r.images);
        let plain = Settings::new().set("L", LANES as u32).images(r.vec);
        c.launch("norm_stats", &plain, &[("x", x), ("partial", partial)], &r.params(false), r.grid(), site)?;
        let params: &[(&str, Param)] = &[
            ("n", r.images.into()),
            ("groups", r.groups.into()),
            ("rows", r.rows.into()),
            ("chunk", r.chunk.into()),
            ("chunks", r.chunks.into()),
            ("slots", r.slots.into()),
            ("eps", NORM_EPS.into()),
        ];
        let merge = Settings::new().set("L", 8);
        let grid = [(r.groups * r.images).div_ceil(8), 1, 1];
        c.launch("norm_merge", &merge, &[("partial", partial), ("stats", stats)], params, grid, site)?;
        let (gamma, beta) = (c.view(call.inputs[1]), c.view(call.inputs[2]));
        let operands = [("x", x), ("stats", stats), ("gamma", gamma), ("beta", beta), ("y", y)];
        c.launch("norm_apply", &self.settings(r.vec), &operands, &r.params(true), r.grid(), site)
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
        vec![inputs[0].to_vec()]
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let r = Rows::new(c.shape(call.inputs[0]), self.0, c.target);
        let cells = 2 * r.groups * r.images;
        let partial = c.program.scratch("d_sums", site.area, r.parts() * cells);
        let sums = c.program.scratch("d_sums", site.area, cells);
        let names = ["x", "stats", "gamma", "dy", "y"];
        let inputs: Vec<(&'static str, View)> = names.into_iter().zip(call.inputs.iter().map(|&v| c.view(v))).collect();
        let operands = [inputs.clone(), vec![("partial", partial)]].concat();
        c.launch("norm_d_sums", &self.0.settings(r.vec), &operands, &r.params(true), r.grid(), site)?;
        // Parts of a slot beyond the rows of a short last chunk hold zeros: every part is written.
        sum_partials(c.program, c.target, partial, cells, r.parts(), sums, site)?;
        let operands = [inputs, vec![("sums", sums), ("dx", c.view(call.outputs[0]))]].concat();
        c.launch("norm_d_input", &self.0.settings(r.vec), &operands, &r.params(true), r.grid(), site)
    }

    fn flops(&self, inputs: &[&[usize]], _: &[&[usize]]) -> f64 {
        12.0 * count(inputs[0]) as f64
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
        let x = inputs[0];
        vec![if self.0.per_channel { vec![x[0]] } else { x[..3].to_vec() }; 2]
    }

    fn lists(&self) -> Option<usize> {
        Some(if self.0.relu { 4 } else { 3 })
    }

    fn lower(&self, c: &mut Context, call: Call, site: Site) -> Result<()> {
        let norm = self.0;
        let lists = if norm.relu { 4 } else { 3 };
        let lists: Vec<&[ValueId]> = call.inputs.chunks(call.inputs.len() / lists).collect();
        let map = c.shape(lists[0][0]);
        c.folded(&lists, call.outputs, site, false, move |c, (runs, stage), outs, site| {
            let (vec, pixels) = (vector(map[3]), map[1] * map[2]);
            let rows = map[0] * pixels;
            let (d_gamma, d_beta) = if norm.per_channel {
                let mut place = |name| stage.place(name, || c.program.scratch(name, site.area, rows));
                (place("d_gamma"), place("d_beta"))
            } else {
                (outs[0], outs[1])
            };
            let mut operands = vec![("x", runs[0].view), ("stats", runs[1].view), ("dy", runs[2].view)];
            operands.extend([("d_gamma", d_gamma), ("d_beta", d_beta)]);
            if norm.relu {
                operands.push(("y", runs[3].view));
            }
            let params: &[(&str, Param)] = &[
                ("n", (map[3] / vec).into()),
                ("groups", norm.groups.into()),
                ("rows", (rows / norm.groups).into()),
                ("steps", runs[0].steps.into()),
                ("x_step", (runs[0].step / vec).into()),
                ("stats_step", (runs[1].step / vec).into()),
                ("y_step", runs.get(3).map_or(0, |run| run.step / vec).into()),
                ("dy_step", (runs[2].step / vec).into()),
            ];
            let lanes = if c.target.cpu { 8 } else { 64 };
            let settings = Settings::new()
                .set("L", lanes as u32)
                .images(vec)
                .flag("RELU", norm.relu)
                .flag("GO_ON", stage.goes_on());
            c.launch("norm_d_affine", &settings, &operands, params, [rows.div_ceil(lanes), 1, 1], site)?;
            if norm.per_channel && stage.is_last() {
                channel_sum::launch(c, d_gamma, map[0], pixels, (0, 1), (outs[0], false), site)?;
                channel_sum::launch(c, d_beta, map[0], pixels, (0, 1), (outs[1], false), site)?;
            }
            Ok(())
        })
    }

    fn flops(&self, inputs: &[&[usize]], _: &[&[usize]]) -> f64 {
        let lists = if self.0.relu { 4 } else { 3 };
        5.0 * count(inputs[0]) as f64 * (inputs.len() / lists) as f64
    }

    fn label(&self, inputs: &[&[usize]], _: &[&[usize]]) -> String {
        format!("{}{}", Norm::name(&self.0), steps(inputs.len(), if self.0.relu { 4 } else { 3 }))
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
    /// Rows of one workgroup.
    chunk: usize,
    chunks: usize,
    lanes_n: usize,
    slots: usize,
}

impl Rows {
    fn new(map: &[usize], norm: Norm, target: &Target) -> Rows {
        let (images, pixels) = (map[3], map[1] * map[2]);
        let vec = vector(images);
        let n = images / vec;
        let rows = map[0] * pixels / norm.groups;
        // As many slots whatever the batch: an image's sums have the same bits in a batch of any size, and in any part of one.
        let slots = SLOTS;
        let lanes_n = n.min(LANES / slots);
        let wanted = if target.cpu { 8 } else { 64 };
        let chunk = rows.div_ceil(wanted).clamp(16, MOST_ROWS);
        Rows { images, vec, n, groups: norm.groups, rows, pixels, chunk, chunks: rows.div_ceil(chunk), lanes_n, slots }
    }

    fn params(&self, with_pixels: bool) -> Vec<(&'static str, Param)> {
        let mut params: Vec<(&'static str, Param)> = vec![
            ("n", self.n.into()),
            ("groups", self.groups.into()),
            ("rows", self.rows.into()),
            ("chunk", self.chunk.into()),
            ("lanes_n", self.lanes_n.into()),
            ("slots", self.slots.into()),
        ];
        if with_pixels {
            params.push(("pixels", self.pixels.into()));
        }
        params
    }

    fn grid(&self) -> [usize; 3] {
        [self.n.div_ceil(self.lanes_n), self.chunks, self.groups]
    }

    /// Parts that leave a partial result.
    fn parts(&self) -> usize {
        self.chunks * self.slots
    }
}
