//! From a network to a planned program in phases that can be submitted apart: one pass (forward, and when training
//! backward), the sum of gradients over the parts of a batch, the update.

use super::autodiff::differentiate;
use super::buckets::{Bucket, buckets};
use super::budget::{Bound, cost, within};
use super::build::{Inputs, Unrolled, unroll};
use super::fit::{does_not_fit, indexable_batch};
use super::lower::{Arenas, Lowered, Order, lower, lower_in};
use super::passes::{Passes, drop_unused, fuse_add, fuse_norm_relu, hoist};
use super::plan::{Plan, UNDER_WAY};
use super::precision::{check_pairs, halve_maps};
use super::taps::{Quantity, Reader, Series, Tap, Tapped};
use super::{Graph, Origin, ValueId};
use crate::kernels::choose::{Choices, Uses};
use crate::kernels::pace::{Cost, Pace};
use crate::kernels::{BufferSpec, Program, Role, Target, View, align};
use crate::network::{Network, Precision, Schedule};
use crate::ops::{Accumulate, Adam, Add, Clip, FollowGradients, GradientNorm, Scale};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// What is compiled and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The network.
    pub network: &'a Network,
    /// What happens at which step.
    pub schedule: &'a Schedule,
    /// Images of one pass.
    pub batch: usize,
    /// The adapter.
    pub target: &'a Target,
    /// Graph passes.
    pub passes: Passes,
    /// Which kernel variant serves which shape.
    pub choices: &'a Choices,
    /// Whether gradients and the optimiser's step are part of it.
    pub train: bool,
    /// Passes whose gradients add up before an update; 1 unless a batch is computed in parts.
    pub parts: usize,
    /// Devices that compute a part of the batch each and add up their gradients before an update; 1 where this one is alone.
    pub ranks: usize,
    /// Whether gradients are clipped by their norm before the optimiser's step.
    pub clip: bool,
    /// What is read besides scores, and when training gradients.
    pub taps: &'a [Tap],
    /// Bytes that the plan of a training step may take: what does not fit is given up and computed again.
    pub memory: Option<u64>,
    /// Whether maps may be packed to f16 for the backward pass where that bound asks for less: gradients are rounded then.
    pub pack: bool,
    /// In what maps are stored.
    pub precision: Precision,
}

impl<'a> Request<'a> {
    /// A training step in one part, with all passes and the table's variants.
    pub fn training(network: &'a Network, schedule: &'a Schedule, batch: usize, target: &'a Target) -> Request<'a> {
        let (passes, choices) = (Passes::default(), Choices::TABLE);
        Request {
            network,
            schedule,
            batch,
            target,
            passes,
            choices,
            train: true,
            parts: 1,
            ranks: 1,
            clip: false,
            taps: &[],
            memory: None,
            pack: false,
            precision: Precision::F32,
        }
    }

    /// Whether a pass takes images in pairs, as two share a word.
    pub fn in_pairs(&self) -> bool {
        self.pack || !self.precision.is_f32()
    }

    /// A forward pass, with all passes and the table's variants.
    pub fn forward(network: &'a Network, schedule: &'a Schedule, batch: usize, target: &'a Target) -> Request<'a> {
        Request { train: false, ..Request::training(network, schedule, batch, target) }
    }
}

/// The launches of each phase. They run in this order; the pass and its accumulation as often as there are parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Forward, and when training backward.
    pub pass: Range<usize>,
    /// The gradients of a part are added to the sum; empty where a batch has one part.
    pub accumulate: Range<usize>,
    /// The optimiser's step, with the clipping before it; empty without training.
    pub update: Range<usize>,
}

/// Where the host writes.
#[derive(Clone, Debug)]
pub struct Feeds {
    /// Pictures, bytes \[images, rows, columns, 3\].
    pub pictures: View,
    /// The pictures that follow them, if the schedule shows them.
    pub next: Option<View>,
    /// What bytes become, [3, 256].
    pub table: View,
    /// Labels \[images\].
    pub labels: View,
    /// Gains, as [`Schedule::gains`] lists them.
    pub gains: Option<View>,
    /// What each image's loss counts in the whole, \[images\]; when training.
    pub loss_weight: Option<View>,
    /// Whether a part is the first of its batch, \[1\]; with several parts.
    pub first: Option<View>,
    /// The optimiser's numbers, [`crate::ops::Hyper::numbers`]; when training.
    pub hyper: Option<View>,
    /// The largest norm of the gradients, \[1\]; where they are clipped, or their norm is asked for.
    pub clip_norm: Option<View>,
    /// The loss scale, [`crate::ops::LossScale::numbers`], which follows the gradients from then on; in mixed precision.
    pub loss_scale: Option<View>,
}

impl Feeds {
    /// What is written at each step or part; the others when what they say changes.
    pub fn per_step(&self) -> impl Iterator<Item = View> {
        let optional = [self.next, self.loss_weight, self.first, self.hyper];
        [self.pictures, self.labels].into_iter().chain(optional.into_iter().flatten())
    }
}

/// Parameters on the device: those that are learned lie in arenas, the same ranges for values, gradients and moments.
#[derive(Clone, Debug)]
pub struct Places {
    /// Ranges of the arenas.
    pub arenas: Arenas,
    /// Name of the parameter in each range.
    pub learned: Vec<String>,
    /// Values.
    pub values: Vec<View>,
    /// Gradients of one pass; empty without training.
    pub gradients: Vec<View>,
    /// Sums of gradients over parts; the gradients themselves where there is one part.
    pub sums: Vec<View>,
    /// Adam's first moments; empty without training.
    pub m: Vec<View>,
    /// Adam's second moments; empty without training.
    pub v: Vec<View>,
    /// Parameters that are read but have no gradient: what they do comes too late for the loss.
    pub constants: BTreeMap<String, View>,
}

/// A planned program and the places of what goes in and comes out.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The graph of a pass, after all graph passes.
    pub unrolled: Unrolled,
    /// The graphs of accumulation and update.
    pub after: Vec<Graph>,
    /// Buffers and launches.
    pub program: Program,
    /// Where each value of the pass lies; `None` for those that nothing uses.
    pub views: Vec<Option<View>>,
    /// The shapes that have variants, and which were chosen.
    pub uses: Uses,
    /// The launches of each node of the pass, in the order of its graph.
    pub launches: Vec<Range<usize>>,
    /// The launches of each node, and of the timesteps of those on lists where they come apart, in the order in which they run.
    pub events: Vec<Range<usize>>,
    /// Of nodes on lists over timesteps, by what they write first: the timesteps of each sum.
    pub stretches: BTreeMap<ValueId, Vec<usize>>,
    /// What a bound of memory asked for and took, if there is one.
    pub bound: Option<Bound>,
    /// Which launches belong together.
    pub phases: Phases,
    /// Memory.
    pub plan: Plan,
    /// Where the host writes.
    pub feeds: Feeds,
    /// Where parameters and their gradients and moments lie.
    pub places: Places,
    /// Loss and correctness: [2, images] for each timestep that has logits.
    pub scores: Series,
    /// Gradients that go to the other ranks together, in the order in which they are finished; none where there are no others.
    pub buckets: Vec<Bucket>,
    /// The norm of the gradients before they are clipped, and what they are multiplied with, \[2\]; where they are clipped.
    pub gradient_norm: Option<View>,
    /// What was asked for, in the order of the request.
    pub taps: Vec<Tapped>,
    /// Nodes of the graph as first unrolled and differentiated, before passes.
    pub nodes_unrolled: usize,
}

impl Compiled {
    /// Bytes that a recording of this program allocates in all.
    pub fn peak_bytes(&self) -> u64 {
        self.plan.peak_bytes()
    }

    /// Seconds that a training step, or a forward pass, is predicted to take, all parts of it: to compare plans, not to tell the
    /// time by. The pace of the adapter's kind is taken for its own.
    pub fn predicted_seconds(&self, request: &Request) -> f64 {
        let pace = Pace::expected(request.target);
        let (_, pass) = cost(self, &pace);
        let seconds = |phase: &Range<usize>| {
            let launches = &self.program.launches[phase.clone()];
            pace.predicted(&Cost::of(launches, launches.iter().map(|launch| launch.operations).sum()))
        };
        request.parts as f64 * (pass + seconds(&self.phases.accumulate)) + seconds(&self.phases.update)
    }

    /// Where a value of the pass lies. Panics if nothing uses it.
    pub fn view(&self, value: ValueId) -> View {
        self.views[value.0].expect("the value is used")
    }

    /// Learned parameters in the order in which their gradients are finished, each with the launch after which it is.
    pub fn gradients_finished(&self) -> Vec<(usize, &str)> {
        let mut order: Vec<(usize, &str)> = finished(&self.program, &self.places, &self.phases.pass)
            .into_iter()
            .map(|(launch, range)| (launch, self.places.learned[range].as_str()))
            .collect();
        order.sort_unstable();
        order
    }
}

/// The ranges of the arenas in the order in which the gradients there are finished, each with the launch after which it is.
fn finished(program: &Program, places: &Places, pass: &Range<usize>) -> Vec<(usize, usize)> {
    let last = |range: usize| {
        let view = places.arenas.view(&places.gradients, range);
        let writes = |launch: &crate::kernels::Launch| launch.operands.iter().any(|(_, v)| *v == view);
        program.launches[pass.clone()].iter().rposition(writes)
    };
    let ranges = if places.gradients.is_empty() { 0 } else { places.learned.len() };
    let mut order: Vec<(usize, usize)> = (0..ranges).filter_map(|range| Some((last(range)?, range))).collect();
    order.sort_unstable();
    order
}

/// A buffer that the host writes or that outlives a run: programs with one store share it by name.
fn persistent(program: &mut Program, name: &str, words: usize, area: &str) -> View {
    let (name, area, bytes) = (name.to_string(), area.to_string(), 4 * words as u64);
    let buffer = program.buffer(BufferSpec { name, bytes: align(bytes), role: Role::Persistent, area, timestep: None });
    View { buffer, offset: 0, bytes, half: false }
}

/// One buffer for the values of successive timesteps; the places of those that exist.
fn series(
    program: &mut Program,
    name: &str,
    values: &[Option<ValueId>],
    bytes: u64,
    placed: &mut HashMap<ValueId, View>,
) -> Series {
    let first = values.iter().position(Option::is_some).unwrap_or(values.len());
    let existing = values[first..].iter().flatten();
    let (steps, distance) = (existing.clone().count(), align(bytes));
    let (name, area) = (name.to_string(), "outputs".to_string());
    let spec = BufferSpec { name, bytes: distance * steps as u64, role: Role::Output, area, timestep: None };
    let buffer = program.buffer(spec);
    for (i, &value) in existing.enumerate() {
        placed.insert(value, View { buffer, offset: i as u64 * distance, bytes, half: false });
    }
    Series { view: program.whole(buffer), first, steps, distance: distance as usize / 4 }
}

/// The values of a series, each of which can lie in a place that it has to itself: a copy of those that the host writes, that
/// stand in the series or in an earlier one (`taken`) already, or that are computed from another of the series, which no
/// launch can read where it writes.
fn places_of_their_own(
    graph: &mut Graph,
    mut values: Vec<Option<ValueId>>,
    taken: &mut BTreeSet<ValueId>,
) -> Vec<Option<ValueId>> {
    let (producers, all) = (graph.producers(), values.clone());
    for value in values.iter_mut().flatten() {
        let beside = |node: usize| graph.nodes[node].inputs.iter().any(|&input| all.contains(&Some(input)));
        let often = all.iter().flatten().filter(|other| *other == value).count() > 1;
        if producers[value.0].is_none_or(beside) || often || !taken.insert(*value) {
            let of = graph.values[value.0].clone();
            *value = graph.node(Add, &[*value], &format!("{} copied", of.name), &of.area, of.timestep)[0];
        }
    }
    values
}

/// The graph of a pass, before anything has a place.
#[derive(Clone)]
struct Unplaced {
    unrolled: Unrolled,
    /// Names of what is learned.
    learned: Vec<String>,
    /// Their values.
    values: Vec<ValueId>,
    /// Their gradients.
    gradients: Vec<ValueId>,
    loss_weight: Option<ValueId>,
    loss_scale: Option<ValueId>,
    /// What taps want in series.
    to_series: Vec<Option<Vec<Option<ValueId>>>>,
    nodes_unrolled: usize,
}

/// Compiles a network for a batch size: unroll, pass, differentiate, pass, lower, plan; and where a training step takes more
/// than its bound, again with less that is kept. Pure: nothing is allocated.
///
/// # Errors
/// A batch beyond what 32-bit indices reach; logits at no timestep; a kernel variant that naga refuses.
pub fn compile(request: &Request) -> Result<Compiled> {
    let unplaced = unplaced(request)?;
    if request.train && request.pack {
        check_pairs(request.batch)?;
    }
    let free = placed(request, unplaced.clone(), None)?;
    let Some(bytes) = request.memory else { return Ok(free) };
    let bound = |met| {
        let without = free.peak_bytes();
        Bound { bytes, without, met, extra_operations: 0.0, extra_time: 0.0, kept: 0, packed: 0, given_up: 0 }
    };
    match unplaced.loss_weight {
        Some(seed) if free.peak_bytes() > bytes => {
            let compiled = |graph, order: &Order| {
                let unrolled = Unrolled { graph, ..unplaced.unrolled.clone() };
                placed(request, Unplaced { unrolled, ..unplaced.clone() }, Some(order))
            };
            let within =
                |pack| within(&unplaced.unrolled.graph, (seed, pack), (&free, bytes), request.target, compiled);
            let found = within(request.pack)?;
            if !request.pack || found.peak_bytes() <= bytes {
                return Ok(found);
            }
            // What is estimated to take the least does not always: without packing it may be less.
            let plain = within(false)?;
            Ok(if plain.peak_bytes() < found.peak_bytes() { plain } else { found })
        }
        _ => Ok(Compiled { bound: Some(bound(free.peak_bytes() <= bytes)), ..free }),
    }
}

/// The graph of a pass: unrolled, differentiated, rewritten by all passes.
fn unplaced(request: &Request) -> Result<Unplaced> {
    let Request { network, schedule, batch, passes, train, .. } = *request;
    let most = indexable_batch(network);
    if batch > most {
        let why = format!("32-bit indices reach the maps of at most {most} images of this network");
        return Err(does_not_fit(request, &why)?);
    }
    let mut unrolled = unroll(network, schedule, batch);
    if unrolled.scores.iter().all(Option::is_none) {
        let (area, steps) = (&network.areas[network.readout.area].name, schedule.timesteps);
        let what =
            format!("area `{area}`, which is read out, does not exist within {steps} timesteps: raise timesteps");
        return Err(Error::Config(what));
    }
    let learned: Vec<String> = {
        let learned = unrolled.learned();
        network.parameters.iter().map(|p| p.name.clone()).filter(|name| learned.contains(name)).collect()
    };
    let mut nodes_unrolled = unrolled.graph.nodes.len();
    // What kernels read is computed at every step, so that it lies in a series of its own.
    unrolled.graph.outputs = unrolled.scores.iter().flatten().copied().collect();
    for tap in request.taps.iter().filter(|tap| tap.reader == Reader::Series) {
        let values = quantity(&unrolled, tap.of).iter().flatten().copied().collect::<Vec<_>>();
        unrolled.graph.outputs.extend(values);
    }
    if passes.hoist {
        let renamed = hoist(&mut unrolled.graph);
        unrolled.rename(renamed);
    }
    for tap in request.taps.iter().filter(|tap| tap.reader != Reader::Series) {
        let steps = quantity(&unrolled, tap.of).iter().enumerate();
        let values: Vec<ValueId> = steps.filter(|(t, _)| tap.wants(*t)).filter_map(|(_, v)| *v).collect();
        unrolled.graph.outputs.extend(values);
    }
    if passes.fuse {
        fuse_norm_relu(&mut unrolled.graph);
        fuse_add(&mut unrolled.graph);
    }
    let values: Vec<ValueId> = learned.iter().map(|name| unrolled.parameters[name]).collect();
    let (mut gradients, mut loss_weight, mut loss_scale) = (Vec::new(), None, None);
    if train {
        let before = unrolled.graph.nodes.len();
        let weight = unrolled.graph.value("loss weight", &[batch], Origin::Input, "input", None);
        loss_weight = Some(weight);
        let seed = match request.precision {
            Precision::F32 => weight,
            Precision::Mixed => {
                let scale = unrolled.graph.value("loss scale", &[6], Origin::Input, "input", None);
                loss_scale = Some(scale);
                unrolled.graph.node(Scale { at: 0 }, &[weight, scale], "loss weight scaled", "input", None)[0]
            }
        };
        let seeds: Vec<(ValueId, ValueId)> = unrolled.logprobs.iter().flatten().map(|&v| (v, seed)).collect();
        let found = differentiate(&mut unrolled.graph, &seeds, &values, passes.fold);
        gradients = found.into_iter().map(|g| g.expect("every learned parameter reaches the loss")).collect();
        nodes_unrolled += unrolled.graph.nodes.len() - before;
        unrolled.graph.outputs.extend(&gradients);
        if passes.fuse {
            fuse_add(&mut unrolled.graph);
        }
    }
    drop_unused(&mut unrolled.graph);
    let mut taken = BTreeSet::new();
    let mut own = |tap: &Tap| {
        let values = quantity(&unrolled, tap.of).to_vec();
        (tap.reader == Reader::Series).then(|| places_of_their_own(&mut unrolled.graph, values, &mut taken))
    };
    let to_series: Vec<Option<Vec<Option<ValueId>>>> = request.taps.iter().map(&mut own).collect();
    if request.precision == Precision::Mixed {
        halve_maps(&mut unrolled.graph, &taken)?;
    }
    Ok(Unplaced { unrolled, learned, values, gradients, loss_weight, loss_scale, to_series, nodes_unrolled })
}

/// A graph with everything in its place, lowered and planned; in an order where memory is bounded.
fn placed(request: &Request, unplaced: Unplaced, order: Option<&Order>) -> Result<Compiled> {
    let Unplaced { mut unrolled, learned, values, gradients, loss_weight, loss_scale, to_series, nodes_unrolled } =
        unplaced;
    let Request { batch, target, passes, train, parts, .. } = *request;
    let mut program = Program::default();
    let mut placed: HashMap<ValueId, View> = HashMap::new();
    let places = place_parameters(&mut program, request, &unrolled, (learned, &values, &gradients), &mut placed);
    let feeds = place_inputs(&mut program, request, &unrolled, (loss_weight, loss_scale), &mut placed);
    let scores = series(&mut program, "scores", &unrolled.scores, 8 * batch as u64, &mut placed);
    let mut in_series: Vec<Option<Series>> = Vec::new();
    for (tap, values) in request.taps.iter().zip(&to_series) {
        let values = values.as_deref().unwrap_or_default();
        in_series.push(values.iter().flatten().next().map(|value| {
            let bytes = unrolled.graph.values[value.0].bytes();
            series(&mut program, &format!("{:?}", tap.of), values, bytes, &mut placed)
        }));
    }
    // Persistent and placed values are no outputs of their own.
    let owned: Vec<ValueId> = unrolled.graph.outputs.iter().filter(|v| !placed.contains_key(v)).copied().collect();
    let all_outputs = std::mem::replace(&mut unrolled.graph.outputs, owned);
    let lowered = lower_in(order, &unrolled.graph, target, request.choices, program, &placed)?;
    unrolled.graph.outputs = all_outputs;
    let Lowered { mut program, views, uses, launches, events, stretches } = lowered;

    let pass = 0..program.launches.len();
    let mut after = Vec::new();
    let mut phases = Phases { pass: pass.clone(), accumulate: pass.end..pass.end, update: pass.end..pass.end };
    if let Some(first) = feeds.first {
        let (graph, placed) = accumulation(&places, first);
        program = lower(&graph, target, request.choices, program, &placed)?.program;
        phases.accumulate = pass.end..program.launches.len();
        after.push(graph);
    }
    let gradient_norm = feeds.clip_norm.map(|_| {
        let (name, area) = ("gradient norm".to_string(), "outputs".to_string());
        let spec = BufferSpec { name, bytes: align(8), role: Role::Output, area, timestep: None };
        View { buffer: program.buffer(spec), offset: 0, bytes: 8, half: false }
    });
    if let Some(hyper) = feeds.hyper {
        let norm = feeds.clip_norm.zip(gradient_norm);
        let (graph, placed) = update(&places, hyper, norm, request.clip, feeds.loss_scale);
        program = lower(&graph, target, request.choices, program, &placed)?.program;
        phases.update = phases.accumulate.end..program.launches.len();
        after.push(graph);
    }
    debug_assert!(parts == 1 || train, "parts of a batch are for training");
    let tapped = |(tap, series): (&Tap, Option<Series>)| {
        let values = quantity(&unrolled, tap.of);
        let steps = values.iter().enumerate();
        let views = steps.map(|(t, v)| v.filter(|_| tap.wants(t)).and_then(|v| views[v.0])).collect();
        let shape = values.iter().flatten().next().map(|v| unrolled.graph.values[v.0].shape.clone());
        Tapped { of: tap.of, shape: shape.unwrap_or_default(), views, series }
    };
    let taps: Vec<Tapped> = request.taps.iter().zip(in_series).map(tapped).collect();
    let norms = [gradient_norm, feeds.loss_scale].into_iter().flatten().map(|view| (view.bytes, UNDER_WAY));
    let sums = finished(&program, &places, &phases.pass).into_iter();
    let sums = sums.map(|(launch, range)| (launch, places.arenas.view(&places.sums, range)));
    let buckets = if request.ranks > 1 { buckets(&sums.collect::<Vec<_>>(), &phases.accumulate) } else { Vec::new() };
    let exchanged = || buckets.iter().flat_map(|bucket| &bucket.views).map(|view| view.bytes);
    let plan = Plan::new(&program, passes.reuse).with_rings(
        feeds.per_step().map(|v| v.bytes).chain(exchanged()),
        readings(request, &scores, &taps).chain(norms).chain(exchanged().map(|bytes| (bytes, 1))),
    );
    Ok(Compiled {
        unrolled,
        after,
        program,
        views,
        uses,
        launches,
        events,
        stretches,
        bound: None,
        phases,
        plan,
        feeds,
        places,
        scores,
        buckets,
        gradient_norm,
        taps,
        nodes_unrolled,
    })
}

/// What is read of each step while others are under way: bytes, and how often. The scores of every part when training; else
/// what was tapped for the host.
fn readings(request: &Request, scores: &Series, taps: &[Tapped]) -> impl Iterator<Item = (u64, usize)> {
    let parts = request.train.then_some((scores.view.bytes, UNDER_WAY * request.parts));
    let of_host = request.taps.iter().zip(taps).filter(|(tap, _)| tap.reader == Reader::Host);
    let of_host = of_host.flat_map(|(_, tapped)| tapped.views.iter().flatten());
    let tapped: Vec<u64> = of_host.map(|view| view.bytes).collect();
    parts.into_iter().chain(tapped.into_iter().map(|bytes| (bytes, UNDER_WAY)))
}

/// A quantity at every timestep.
fn quantity(unrolled: &Unrolled, of: Quantity) -> &[Option<ValueId>] {
    match of {
        Quantity::Input => &unrolled.shown,
        Quantity::Activation(area) => &unrolled.activations[area],
        Quantity::Drive(area) => &unrolled.drives[area],
        Quantity::Representation => &unrolled.representations,
        Quantity::Logits => &unrolled.logits,
        Quantity::LogProbs => &unrolled.logprobs,
    }
}

fn place_parameters(
    program: &mut Program,
    request: &Request,
    unrolled: &Unrolled,
    (learned, values, gradients): (Vec<String>, &[ValueId], &[ValueId]),
    placed: &mut HashMap<ValueId, View>,
) -> Places {
    let counts: Vec<usize> = values.iter().map(|v| unrolled.graph.values[v.0].count()).collect();
    let arenas = Arenas::new(&counts, request.target);
    let value_arenas = arenas.buffers(program, "parameters");
    for (i, &value) in values.iter().enumerate() {
        placed.insert(value, arenas.view(&value_arenas, i));
    }
    let (mut gradient_arenas, mut sums, mut m, mut v) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    if request.train {
        gradient_arenas = arenas.buffers(program, "gradients");
        m = arenas.buffers(program, "adam_m");
        v = arenas.buffers(program, "adam_v");
        sums = match request.parts {
            1 => gradient_arenas.clone(),
            _ => arenas.buffers(program, "sums of gradients"),
        };
        for (i, &gradient) in gradients.iter().enumerate() {
            placed.insert(gradient, arenas.view(&gradient_arenas, i));
        }
    }
    let mut constants = BTreeMap::new();
    for (name, value) in unrolled.parameters.iter().filter(|(name, _)| !learned.contains(name)) {
        let count = unrolled.graph.values[value.0].count();
        let view = persistent(program, &format!("constant {name}"), count, "parameters");
        placed.insert(*value, view);
        constants.insert(name.clone(), view);
    }
    Places { arenas, learned, values: value_arenas, gradients: gradient_arenas, sums, m, v, constants }
}

fn place_inputs(
    program: &mut Program,
    request: &Request,
    unrolled: &Unrolled,
    (loss_weight, loss_scale): (Option<ValueId>, Option<ValueId>),
    placed: &mut HashMap<ValueId, View>,
) -> Feeds {
    let Inputs { pictures, next, blank, table, labels, gains, .. } = unrolled.inputs;
    let mut place = |value: ValueId| {
        let it = &unrolled.graph.values[value.0];
        let view = persistent(program, &it.name, it.count(), "input");
        placed.insert(value, view);
        view
    };
    blank.map(&mut place);
    let (pictures, next, table) = (place(pictures), next.map(&mut place), place(table));
    let (labels, gains, loss_weight) = (place(labels), gains.map(&mut place), loss_weight.map(&mut place));
    let loss_scale = loss_scale.map(&mut place);
    let mut number = |name: &str, words: usize, is: bool| is.then(|| persistent(program, name, words, "input"));
    let first = number("first part", 1, request.train && request.parts > 1);
    let hyper = number("hyper", 6, request.train);
    let clip_norm = number("clip norm", 1, request.train && (request.clip || loss_scale.is_some()));
    Feeds { pictures, next, table, labels, gains, loss_weight, first, hyper, clip_norm, loss_scale }
}

type Placed = HashMap<ValueId, View>;

/// A value that lies in a place that another graph shares.
fn shared(graph: &mut Graph, placed: &mut Placed, name: &str, view: View, words: usize) -> ValueId {
    let value = graph.value(name, &[words], Origin::Input, "parameters", None);
    placed.insert(value, view);
    value
}

/// sum += gradient, arena by arena.
fn accumulation(places: &Places, first: View) -> (Graph, Placed) {
    let (mut graph, mut placed) = (Graph::default(), Placed::new());
    let first = shared(&mut graph, &mut placed, "first part", first, 1);
    for (&sum, &part) in places.sums.iter().zip(&places.gradients) {
        let words = sum.bytes as usize / 4;
        let sum = shared(&mut graph, &mut placed, "sum", sum, words);
        let part = shared(&mut graph, &mut placed, "part", part, words);
        graph.node(Accumulate, &[sum, part, first], "sums of gradients", "parameters", None);
    }
    (graph, placed)
}

/// Adam's step, arena by arena; before it the norm of the gradients, where a largest one and a place are given; the loss scale that
/// follows it, if there is one; and the clipping.
fn update(
    places: &Places,
    hyper: View,
    norm: Option<(View, View)>,
    clip: bool,
    loss_scale: Option<View>,
) -> (Graph, Placed) {
    let (mut graph, mut placed) = (Graph::default(), Placed::new());
    let mut hyper = shared(&mut graph, &mut placed, "hyper", hyper, 6);
    if let Some((limit, norm)) = norm {
        let state = loss_scale.map(|view| shared(&mut graph, &mut placed, "loss scale", view, 6));
        // Parameter by parameter, as what lies between them in an arena is nobody's.
        let mut inputs = vec![state.unwrap_or(hyper), shared(&mut graph, &mut placed, "clip norm", limit, 1)];
        for (range, name) in places.learned.iter().enumerate() {
            let view = places.arenas.view(&places.sums, range);
            inputs.push(shared(&mut graph, &mut placed, name, view, view.bytes as usize / 4));
        }
        let found = graph.node(GradientNorm, &inputs, "gradient norm", "parameters", None)[0];
        placed.insert(found, norm);
        if let Some(state) = state {
            hyper = graph.node(FollowGradients, &[hyper, state, found], "loss scale", "parameters", None)[1];
        }
        for &gradients in places.sums.iter().filter(|_| clip) {
            let words = gradients.bytes as usize / 4;
            let gradients = shared(&mut graph, &mut placed, "gradients", gradients, words);
            graph.node(Clip, &[gradients, found], "gradients clipped", "parameters", None);
        }
    }
    for arena in 0..places.values.len() {
        let of = [("gradient", &places.sums), ("parameter", &places.values), ("m", &places.m), ("v", &places.v)];
        let words = places.values[arena].bytes as usize / 4;
        let operands = of.map(|(name, arenas)| shared(&mut graph, &mut placed, name, arenas[arena], words));
        graph.node(Adam, &[&[hyper], &operands[..]].concat(), "parameters", "parameters", None);
    }
    (graph, placed)
}
