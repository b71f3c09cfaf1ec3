//! From an operation to its launches.

use super::{NORM_EPS, Norm, Op};
use crate::Result;
use crate::graph::{Graph, Node, ValueId};
use crate::kernels::choose::{Choices, ConvOp, Key, Use, Uses, Variant};
use crate::kernels::conv::{self, ConvShape, Site, Start, WeightOrder};
use crate::kernels::grid::{Cover, cover};
use crate::kernels::{Param, Program, Settings, Target, View};

/// What lowering needs to know and what it extends.
pub struct Context<'a> {
    /// The program under construction.
    pub program: &'a mut Program,
    /// The adapter.
    pub target: &'a Target,
    /// The graph.
    pub graph: &'a Graph,
    /// Where each value lies.
    pub views: &'a [Option<View>],
    /// Which variant serves which shape.
    pub choices: &'a Choices,
    /// The shapes asked for so far.
    pub uses: &'a mut Uses,
}

/// Invocations of the workgroups of elementwise and row kernels.
const LANES: usize = 64;
/// Most rows that a lane of a row kernel walks along: some lavapipe versions stop loops beyond 30,000 turns.
const MOST_ROWS: usize = 16_384;
/// Most terms of one `add` launch: with its output they stay within 8 storage buffers.
const MOST_TERMS: usize = 7;

impl Context<'_> {
    fn view(&self, value: ValueId) -> View {
        self.views[value.0].unwrap_or_else(|| panic!("`{}` has no place", self.graph.values[value.0].name))
    }

    fn shape(&self, value: ValueId) -> &[usize] {
        &self.graph.values[value.0].shape
    }

    fn count(&self, value: ValueId) -> usize {
        self.graph.values[value.0].count()
    }

    /// The variant for a shape, which counts as used.
    fn variant(&mut self, key: Key) -> Variant {
        let variant = self.choices.variant(self.target, &key);
        self.uses.entry(key).or_insert(Use { variant, launches: 0 }).launches += 1;
        variant
    }

    /// One launch of the kernel `name`.
    fn launch(
        &mut self,
        name: &'static str,
        settings: &Settings,
        operands: &[(&'static str, View)],
        params: &[(&str, Param)],
        grid: [usize; 3],
        site: Site,
    ) -> Result<()> {
        self.program.add(self.target, (name, settings.clone()), operands, params, grid, site)
    }

    /// An elementwise launch over `count` elements, in vectors where they divide it.
    fn each(
        &mut self,
        name: &'static str,
        settings: Settings,
        operands: &[(&'static str, View)],
        count: usize,
        site: Site,
    ) -> Result<()> {
        let vec = vector(count);
        let count = count / vec;
        let Cover { groups, unroll } = cover(count, LANES, if vec > 1 { 1 } else { 4 }, self.target);
        let settings = settings.set("L", LANES as u32).set("UNROLL", unroll as u32).images(vec);
        self.launch(name, &settings, operands, &[("count", count.into())], [groups, 1, 1], site)
    }
}

/// Adds the launches of `node` to the program.
///
/// # Errors
/// When naga refuses a kernel variant.
pub fn lower(c: &mut Context, node: &Node) -> Result<()> {
    let t = node.timestep;
    let label = match &node.outputs[..] {
        [first, ..] => format!("{} {} t={t}", node.op.name(), c.graph.values[first.0].name),
        [] => format!("{} t={t}", node.op.name()),
    };
    let site = Site { label: &label, area: &node.area };
    let input = |i: usize| node.inputs[i];
    let (x, y) = (input(0), node.outputs[0]);
    match node.op {
        Op::Conv2d { k, bias, base } => {
            let (xs, ys) = (c.shape(x), c.shape(y));
            let shape = ConvShape::same(xs[3], xs[0], ys[0], xs[1], xs[2], k);
            let order = WeightOrder::out_first(shape.cin, k);
            convolve(c, node, &shape, order, bias, base, false, site)
        }
        Op::Conv2dDInput { k, base } => {
            let (xs, ys) = (c.shape(x), c.shape(y));
            let shape = ConvShape::same(xs[3], xs[0], ys[0], xs[1], xs[2], k);
            let order = WeightOrder::in_first(shape.cout, k).turned();
            convolve(c, node, &shape, order, false, base, false, site)
        }
        Op::ConvTranspose2d { k, bias, base } => {
            let (xs, ys) = (c.shape(x), c.shape(y));
            let shape = ConvShape::transposed(xs[3], xs[0], ys[0], [xs[1], xs[2]], k, 2);
            let order = WeightOrder::in_first(shape.cout, k);
            convolve(c, node, &shape, order, bias, base, true, site)
        }
        Op::ConvTranspose2dDInput { k, base } => {
            let shape = strided(c.shape(x), c.shape(y), k);
            let order = WeightOrder::out_first(shape.cin, k);
            convolve(c, node, &shape, order, false, base, false, site)
        }
        Op::Conv2dDWeight { k, .. } => {
            let half = node.inputs.len() / 2;
            let (xs, dys) = (c.shape(x), c.shape(input(half)));
            let shape = ConvShape::same(xs[3], xs[0], dys[0], xs[1], xs[2], k);
            d_weight(c, &node.inputs[..half], &node.inputs[half..], &shape, y, site)
        }
        // dw[in, out] of the transposed convolution correlates x (the small map) with dy at stride 2: the weight gradient
        // of a convolution of stride 2 from dy to x.
        Op::ConvTranspose2dDWeight { k } => {
            let half = node.inputs.len() / 2;
            let shape = strided(c.shape(input(half)), c.shape(x), k);
            d_weight(c, &node.inputs[half..], &node.inputs[..half], &shape, y, site)
        }
        Op::ChannelSum => {
            let channels = c.shape(x)[0];
            let length = c.count(x) / channels;
            folded(c, &[&node.inputs], &[y], site, |c, run, outs, site| {
                channel_sum(c, run[0].0, channels, length, (run[0].1, run[0].2), outs[0], site)
            })
        }
        Op::Norm(norm) => normalise(c, node, norm, site),
        Op::NormDInput(norm) => normalise_d_input(c, node, norm, site),
        Op::NormDAffine(norm) => normalise_d_affine(c, node, norm, site),
        Op::Relu => c.each("relu", Settings::new(), &[("x", c.view(x)), ("y", c.view(y))], c.count(x), site),
        Op::ReluDInput => {
            let operands = [("y", c.view(x)), ("dy", c.view(input(1))), ("dx", c.view(y))];
            c.each("relu_d_input", Settings::new(), &operands, c.count(x), site)
        }
        Op::Add => {
            let terms: Vec<View> = node.inputs.iter().map(|&v| c.view(v)).collect();
            add(c, &terms, c.count(x), c.view(y), site)
        }
        Op::Modulate => {
            let operands = [("b", c.view(x)), ("s", c.view(input(1))), ("y", c.view(y))];
            c.each("modulate", Settings::new(), &operands, c.count(x), site)
        }
        Op::ModulateDDrives => {
            let (db, ds) = (c.view(y), c.view(node.outputs[1]));
            let operands =
                [("b", c.view(x)), ("s", c.view(input(1))), ("dy", c.view(input(2))), ("db", db), ("ds", ds)];
            c.each("modulate_d_drives", Settings::new(), &operands, c.count(x), site)
        }
        Op::MaxPool => {
            let (xs, ys) = (c.shape(x).to_vec(), c.shape(y).to_vec());
            let operands = [("x", c.view(x)), ("y", c.view(y))];
            let vec = vector(ys[3]);
            let grid = [(ys[2] * ys[3] / vec).div_ceil(LANES), xs[0], 1];
            let settings = Settings::new().set("L", LANES as u32).images(vec);
            c.launch("max_pool", &settings, &operands, &pool_params(&xs, vec), grid, site)
        }
        Op::MaxPoolDInput { base } => {
            let xs = c.shape(x).to_vec();
            let mut operands = vec![("x", c.view(x)), ("dy", c.view(input(1))), ("dx", c.view(y))];
            if base {
                operands.push(("base", c.view(input(2))));
            }
            let vec = vector(xs[3]);
            let grid = [(xs[2].div_ceil(2) * xs[3] / vec).div_ceil(LANES), xs[0], 1];
            let settings = Settings::new().set("L", LANES as u32).images(vec).flag("BASE", base);
            c.launch("max_pool_d_input", &settings, &operands, &pool_params(&xs, vec), grid, site)
        }
        Op::AvgPool => {
            let xs = c.shape(x).to_vec();
            let operands = [("x", c.view(x)), ("y", c.view(y))];
            average(c, "avg_pool", &operands, &xs, site)
        }
        Op::AvgPoolDInput { .. } => {
            let ys = c.shape(y).to_vec();
            let operands = [("dy", c.view(x)), ("dx", c.view(y))];
            average(c, "avg_pool_d_input", &operands, &ys, site)
        }
        Op::SoftmaxCe => {
            let (classes, n) = (c.shape(x)[0], c.shape(x)[3]);
            let score = c.view(node.outputs[1]);
            let operands = [("z", c.view(x)), ("labels", c.view(input(1))), ("logprob", c.view(y)), ("score", score)];
            let settings = Settings::new().set("L", 8);
            let params: &[(&str, Param)] = &[("n", n.into()), ("classes", classes.into())];
            c.launch("softmax_ce", &settings, &operands, params, [n.div_ceil(8), 1, 1], site)
        }
        Op::SoftmaxCeDLogits => {
            let (classes, n) = (c.shape(x)[0], c.shape(x)[3]);
            let operands = [("z", c.view(x)), ("labels", c.view(input(1))), ("dz", c.view(y))];
            let settings = Settings::new().set("L", 8);
            let params: &[(&str, Param)] =
                &[("n", n.into()), ("classes", classes.into()), ("scale", (1.0 / n as f32).into())];
            c.launch("softmax_ce_d_logits", &settings, &operands, params, [n.div_ceil(8), 1, 1], site)
        }
    }
}

/// The convolution of stride 2 from the large map to the small one: the adjoint of the transposed convolution.
fn strided(large: &[usize], small: &[usize], k: usize) -> ConvShape {
    ConvShape {
        n: large[3],
        cin: large[0],
        cout: small[0],
        in_h: large[1],
        in_w: large[2],
        out_h: small[1],
        out_w: small[2],
        k,
        stride: 2,
    }
}

fn convolve(
    c: &mut Context,
    node: &Node,
    shape: &ConvShape,
    order: WeightOrder,
    bias: bool,
    base: bool,
    transposed: bool,
    site: Site,
) -> Result<()> {
    let start = Start {
        bias: bias.then(|| c.view(node.inputs[2])),
        base: base.then(|| c.view(node.inputs[2 + usize::from(bias)])),
    };
    let operands = (c.view(node.inputs[0]), c.view(node.inputs[1]), order, start, c.view(node.outputs[0]));
    let op = if transposed { ConvOp::ConvTranspose2d } else { ConvOp::Conv2d };
    let Variant::Conv(tile) = c.variant(Key { op, shape: *shape, steps: 1 }) else { unreachable!("a tile for {op:?}") };
    let run = if transposed { conv::conv_transpose2d } else { conv::conv2d };
    run(c.program, c.target, &tile, shape, operands, site)
}

fn d_weight(
    c: &mut Context,
    xs: &[ValueId],
    dys: &[ValueId],
    shape: &ConvShape,
    dw: ValueId,
    site: Site,
) -> Result<()> {
    let shape = *shape;
    folded(c, &[xs, dys], &[dw], site, move |c, run, outs, site| {
        let (x, x_step, steps) = run[0];
        let (dy, dy_step, _) = run[1];
        let op = ConvOp::Conv2dDWeight;
        let variant = c.variant(Key { op, shape, steps });
        variant.d_weight(c.program, c.target, &shape, (x, x_step, dy, dy_step, steps), outs[0], site)
    })
}

/// A stretch of timesteps that lie at equal distances in one buffer: view of all, distance in words, how many.
type Run = (View, usize, usize);

/// Runs `each` over lists of values that belong together timestep by timestep. Timesteps whose values lie at equal
/// distances in one buffer are served by one call; where there are several such stretches their results are added.
fn folded(
    c: &mut Context,
    lists: &[&[ValueId]],
    outputs: &[ValueId],
    site: Site,
    each: impl Fn(&mut Context, &[Run], &[View], Site) -> Result<()>,
) -> Result<()> {
    let total = lists[0].len();
    let mut runs: Vec<Vec<Run>> = Vec::new();
    let mut i = 0;
    while i < total {
        let mut length = 1;
        while i + length < total && lists.iter().all(|list| c.stretch(&list[i..=i + length]).is_some()) {
            length += 1;
        }
        runs.push(lists.iter().map(|list| c.stretch(&list[i..i + length]).expect("checked")).collect());
        i += length;
    }
    let outs: Vec<View> = outputs.iter().map(|&v| c.view(v)).collect();
    if runs.len() == 1 {
        return each(c, &runs[0], &outs, site);
    }
    let counts: Vec<usize> = outputs.iter().map(|&v| c.count(v)).collect();
    let mut parts: Vec<Vec<View>> = vec![Vec::new(); outs.len()];
    for run in &runs {
        let views: Vec<View> = counts.iter().map(|&count| c.program.scratch("fold", site.area, count)).collect();
        each(c, run, &views, site)?;
        views.iter().zip(&mut parts).for_each(|(view, list)| list.push(*view));
    }
    for ((terms, out), count) in parts.iter().zip(&outs).zip(counts) {
        add(c, terms, count, *out, Site { label: &format!("{} fold", site.label), area: site.area })?;
    }
    Ok(())
}

impl Context<'_> {
    /// The values as one run, if they lie at equal distances in one buffer and one binding may cover them.
    fn stretch(&self, values: &[ValueId]) -> Option<Run> {
        let views: Vec<View> = values.iter().map(|&v| self.view(v)).collect();
        let step = if views.len() > 1 { views[1].offset.checked_sub(views[0].offset)? } else { 0 };
        for pair in views.windows(2) {
            if pair[0].buffer != pair[1].buffer || pair[0].offset + step != pair[1].offset || step == 0 {
                return None;
            }
        }
        let (first, last) = (views[0], views[views.len() - 1]);
        let bytes = last.offset + last.bytes - first.offset;
        let whole = View { bytes, ..first };
        (bytes <= self.target.max_binding || views.len() == 1).then_some((whole, step as usize / 4, views.len()))
    }
}

/// y = the sum of `terms`, in order; more than fit into one launch are added in several.
fn add(c: &mut Context, terms: &[View], count: usize, y: View, site: Site) -> Result<()> {
    const NAMES: [&str; MOST_TERMS] = ["x0", "x1", "x2", "x3", "x4", "x5", "x6"];
    let mut terms = terms.to_vec();
    while terms.len() > MOST_TERMS {
        let partial = c.program.scratch("sum", site.area, count);
        let rest = terms.split_off(MOST_TERMS);
        add(c, &terms, count, partial, site)?;
        terms = [vec![partial], rest].concat();
    }
    let mut operands: Vec<(&'static str, View)> = NAMES.into_iter().zip(terms).collect();
    let settings = Settings::new().set("TERMS", operands.len() as u32);
    operands.push(("y", y));
    c.each("add", settings, &operands, count, site)
}

fn channel_sum(
    c: &mut Context,
    x: View,
    channels: usize,
    length: usize,
    (step, steps): (usize, usize),
    y: View,
    site: Site,
) -> Result<()> {
    let params: &[(&str, Param)] = &[("length", length.into()), ("steps", steps.into()), ("step", step.into())];
    let settings = Settings::new().set("L", LANES as u32);
    c.launch("channel_sum", &settings, &[("x", x), ("y", y)], params, [channels, 1, 1], site)
}

fn pool_params(x: &[usize], vec: usize) -> [(&'static str, Param); 5] {
    let (h, w) = (x[1], x[2]);
    let n = (x[3] / vec).into();
    [("n", n), ("in_h", h.into()), ("in_w", w.into()), ("out_h", (h / 2).into()), ("out_w", (w / 2).into())]
}

fn average(
    c: &mut Context,
    name: &'static str,
    operands: &[(&'static str, View)],
    map: &[usize],
    site: Site,
) -> Result<()> {
    let lanes = 8;
    let params: &[(&str, Param)] = &[("n", map[3].into()), ("pixels", (map[1] * map[2]).into())];
    let grid = [map[3].div_ceil(lanes), map[0], 1];
    c.launch(name, &Settings::new().set("L", lanes as u32), operands, params, grid, site)
}

/// Images (or elements) that a lane serves as one vector: a vector is cheaper to load than its elements.
fn vector(n: usize) -> usize {
    [4, 2].into_iter().find(|v| n.is_multiple_of(*v)).unwrap_or(1)
}

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
        let lanes_n = n.min(LANES);
        let slots = LANES / lanes_n;
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

fn norm_settings(norm: Norm, vec: usize) -> Settings {
    let settings = Settings::new().set("L", LANES as u32).images(vec);
    settings.flag("CHANNEL", norm.per_channel).flag("RELU", norm.relu)
}

fn normalise(c: &mut Context, node: &Node, norm: Norm, site: Site) -> Result<()> {
    let x = node.inputs[0];
    let r = Rows::new(c.shape(x), norm, c.target);
    let (y, stats) = (c.view(node.outputs[0]), c.view(node.outputs[1]));
    let x = c.view(x);
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
    let (gamma, beta) = (c.view(node.inputs[1]), c.view(node.inputs[2]));
    let operands = [("x", x), ("stats", stats), ("gamma", gamma), ("beta", beta), ("y", y)];
    c.launch("norm_apply", &norm_settings(norm, r.vec), &operands, &r.params(true), r.grid(), site)
}

fn normalise_d_input(c: &mut Context, node: &Node, norm: Norm, site: Site) -> Result<()> {
    let r = Rows::new(c.shape(node.inputs[0]), norm, c.target);
    let cells = 2 * r.groups * r.images;
    let partial = c.program.scratch("d_sums", site.area, r.parts() * cells);
    let sums = c.program.scratch("d_sums", site.area, cells);
    let names = ["x", "stats", "gamma", "dy", "y"];
    let inputs: Vec<(&'static str, View)> = names.into_iter().zip(node.inputs.iter().map(|&v| c.view(v))).collect();
    let operands = [inputs.clone(), vec![("partial", partial)]].concat();
    c.launch("norm_d_sums", &norm_settings(norm, r.vec), &operands, &r.params(true), r.grid(), site)?;
    // Parts of a slot beyond the rows of a short last chunk hold zeros: every part is written.
    conv::sum_partials(c.program, c.target, partial, cells, r.parts(), sums, site)?;
    let operands = [inputs, vec![("sums", sums), ("dx", c.view(node.outputs[0]))]].concat();
    c.launch("norm_d_input", &norm_settings(norm, r.vec), &operands, &r.params(true), r.grid(), site)
}

fn normalise_d_affine(c: &mut Context, node: &Node, norm: Norm, site: Site) -> Result<()> {
    let lists = if norm.relu { 4 } else { 3 };
    let steps = node.inputs.len() / lists;
    let (xs, rest) = node.inputs.split_at(steps);
    let (stats, rest) = rest.split_at(steps);
    let (dys, ys) = rest.split_at(steps);
    let map = c.shape(xs[0]).to_vec();
    let mut all = vec![xs, stats, dys];
    if norm.relu {
        all.push(ys);
    }
    folded(c, &all, &node.outputs, site, move |c, run, outs, site| {
        let (vec, pixels) = (vector(map[3]), map[1] * map[2]);
        let rows = map[0] * pixels;
        let (d_gamma, d_beta) = if norm.per_channel {
            (c.program.scratch("d_gamma", site.area, rows), c.program.scratch("d_beta", site.area, rows))
        } else {
            (outs[0], outs[1])
        };
        let mut operands = vec![("x", run[0].0), ("stats", run[1].0), ("dy", run[2].0)];
        operands.extend([("d_gamma", d_gamma), ("d_beta", d_beta)]);
        if norm.relu {
            operands.push(("y", run[3].0));
        }
        let params: &[(&str, Param)] = &[
            ("n", (map[3] / vec).into()),
            ("groups", norm.groups.into()),
            ("rows", (rows / norm.groups).into()),
            ("steps", run[0].2.into()),
            ("x_step", (run[0].1 / vec).into()),
            ("stats_step", (run[1].1 / vec).into()),
            ("y_step", run.get(3).map_or(0, |r| r.1 / vec).into()),
            ("dy_step", (run[2].1 / vec).into()),
        ];
        let lanes = if c.target.cpu { 8 } else { 64 };
        let settings = Settings::new().set("L", lanes as u32).images(vec).flag("RELU", norm.relu);
        c.launch("norm_d_affine", &settings, &operands, params, [rows.div_ceil(lanes), 1, 1], site)?;
        if norm.per_channel {
            channel_sum(c, d_gamma, map[0], pixels, (0, 1), outs[0], site)?;
            channel_sum(c, d_beta, map[0], pixels, (0, 1), outs[1], site)?;
        }
        Ok(())
    })
}
