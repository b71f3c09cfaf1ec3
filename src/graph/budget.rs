//! What is kept, what is packed to f16 and what is computed again so that a training step stays within so many bytes, at the
//! least predicted time.
//!
//! The choices that are looked at: along time, the state of every k-th timestep is kept, and what lies between is computed
//! again from it once, or as often as it is read; packed weights stay, or are packed again; and whatever room is left, more is
//! kept, first what takes the longest to compute for its size. Where maps may be packed, all of this once more with all that is
//! kept packed: whatever room is left, more is then kept in f16, or in f32, first what saves the most time for the bytes that
//! it takes. How much memory a choice takes is estimated from the lives of values (`Model::estimate`, some 100 µs). Of the
//! choices that are the fastest for what they take, the first is then sought whose compiled plan is within the bound: plans
//! take more than estimates, as slots do not fill up. Everything is counted, nothing timed: the same request gives the same
//! plan.

use super::compile::Compiled;
use super::lower::{Event, Order};
use super::recompute::{Choice, Fate, Passes, Runs, summed_in_turn, with_copies};
use super::{Graph, ValueId};
use crate::Result;
use crate::kernels::pace::{Cost, Pace};
use crate::kernels::{Program, Role, Target, View, align};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// What recomputation takes and gives, for people.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Bound {
    /// Bytes that a plan may take.
    pub bytes: u64,
    /// Bytes of the plan without a bound.
    pub without: u64,
    /// Whether the plan is within the bound; else it is the smallest that was found.
    pub met: bool,
    /// Operations that are computed again, by what a step's pass has without a bound.
    pub extra_operations: f64,
    /// Predicted time that the bound costs, by that of a pass without it.
    pub extra_time: f64,
    /// Values of the forward pass that are kept for the backward pass.
    pub kept: usize,
    /// Those that are kept in f16, so that gradients are not those of f32 to the last bit.
    pub packed: usize,
    /// Those that are given up.
    pub given_up: usize,
}

/// What a plan is estimated from: the bytes that live while each node runs, and what each takes.
pub(super) struct Model<'a> {
    passes: Passes<'a>,
    /// Bytes of each value; 0 for those that have a place of their own.
    bytes: Vec<u64>,
    /// Bytes up to which it does not matter whether a value is kept.
    least: u64,
    /// Bytes that are taken whatever is chosen.
    constant: u64,
    /// What only the launches of an event take, and what they cost.
    events: HashMap<Event, (u64, Cost)>,
    /// What several events share: packed weights, and sums that have come so far.
    shared: Vec<Shared>,
    /// Shared things of each event.
    shares: HashMap<Event, Vec<usize>>,
    pace: Pace,
}

struct Shared {
    bytes: u64,
    /// The cost of packing it, if it is a packed weight.
    packing: Option<Cost>,
}

/// What a choice is expected to take.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) bytes: u64,
    pub(super) seconds: f64,
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
        let Bound { bytes, without, extra_operations, extra_time, kept, packed, given_up, .. } = self;
        write!(f, "at most {:.1} MiB, without a bound {:.1}: ", mib(*bytes), mib(*without))?;
        if without <= bytes {
            return write!(f, "nothing has to be computed again");
        }
        write!(
            f,
            "{:.1} % of the step's operations are computed again ({given_up} values of {} are given up), which is predicted to \
             cost {:.1} % of its time",
            100.0 * extra_operations,
            kept + packed + given_up,
            100.0 * extra_time.max(0.0)
        )?;
        match packed {
            0 => Ok(()),
            _ => write!(f, "; {packed} values are packed to f16 for the backward pass, which rounds gradients"),
        }
    }
}

impl<'a> Model<'a> {
    /// From a pass that keeps everything and was lowered to `program`, whose events were those of `runs`.
    pub(super) fn new(passes: Passes<'a>, lowered: (&Compiled, &Runs), target: &Target) -> Model<'a> {
        let (Compiled { program, views, events, plan, .. }, runs) = lowered;
        let graph = passes.graph;
        let mut of_value: BTreeSet<usize> = BTreeSet::new();
        let mut bytes = vec![0; graph.values.len()];
        for (i, view) in views.iter().enumerate().take(graph.values.len()) {
            // Several values lie in one buffer only where they have a place of their own.
            let own = |view: &View| {
                let spec = &program.buffers[view.buffer.0];
                matches!(spec.role, Role::Temporary | Role::Output) && spec.bytes == align(view.bytes)
            };
            if let Some(view) = view.filter(own) {
                of_value.insert(view.buffer.0);
                bytes[i] = align(view.bytes);
            }
        }
        let least = bytes.iter().sum::<u64>() / 4000;
        for (_, copy) in passes.packing() {
            bytes[copy.0] = align(graph.values[copy.0].bytes());
        }
        let slots: u64 = plan.slots.iter().sum();
        let others = program.buffers.iter().enumerate().filter(|(i, spec)| {
            let slot = matches!(spec.role, Role::Input | Role::Output);
            slot && !of_value.contains(i) && plan.lifetime[*i].0 != usize::MAX
        });
        let constant = plan.peak_bytes() - slots + others.map(|(_, spec)| spec.bytes).sum::<u64>();
        // Temporaries of launches alone: which events touch them, and whether they are packed weights.
        let scratch = |buffer: usize| program.buffers[buffer].role == Role::Temporary && !of_value.contains(&buffer);
        let mut touched: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        let mut packs: HashMap<usize, Cost> = HashMap::new();
        for (at, range) in events.iter().enumerate() {
            for launch in &program.launches[range.clone()] {
                for (_, view) in launch.operands.iter().filter(|(_, view)| scratch(view.buffer.0)) {
                    touched.entry(view.buffer.0).or_default().insert(at);
                    if launch.packs_weight {
                        packs.insert(view.buffer.0, Cost::of(std::slice::from_ref(launch), 0.0));
                    }
                }
            }
        }
        let (mut shared, mut shares): (Vec<Shared>, HashMap<Event, Vec<usize>>) = Default::default();
        for (buffer, at) in &touched {
            let packing = packs.get(buffer).copied();
            if at.len() < 2 && packing.is_none() {
                continue;
            }
            for &at in at {
                shares.entry(runs.runs[at].event).or_default().push(shared.len());
            }
            shared.push(Shared { bytes: program.buffers[*buffer].bytes, packing });
        }
        let own = |buffer: usize| scratch(buffer) && touched[&buffer].len() < 2 && !packs.contains_key(&buffer);
        let mut costs = HashMap::new();
        let mut done: HashMap<usize, usize> = HashMap::new();
        for (run, range) in runs.runs.iter().zip(events) {
            let launches = &program.launches[range.clone()];
            let Event { node, until } = run.event;
            let share = until.zip(passes.timesteps(node)).map_or(1.0, |(until, all)| {
                let before = done.insert(node, until).unwrap_or_default();
                (until - before) as f64 / all as f64
            });
            let operations = share * operations(graph, node);
            let without_packing: Vec<_> = launches.iter().filter(|l| !l.packs_weight).cloned().collect();
            let cost = Cost::of(&without_packing, operations);
            costs.insert(run.event, (most_alive(program, range.clone(), &own), cost));
        }
        // Each reads its map once and writes the copy. That later nodes read fewer bytes is not counted: taking numbers of f16 apart is
        // work, too.
        for (node, copy) in passes.packing() {
            let bytes = (3 * graph.values[copy.0].bytes()) as f64;
            costs.insert(Event { node, until: None }, (0, Cost { operations: 0.0, bytes, launches: 1.0 }));
        }
        let pace = Pace::expected(target);
        Model { passes, bytes, least, constant, events: costs, shared, shares, pace }
    }

    /// Whether a value is large enough that it matters whether it is kept.
    fn matters(&self, value: ValueId) -> bool {
        self.passes.is_forward(value) && self.bytes[value.0] > self.least
    }

    /// The choice that keeps everything.
    pub(super) fn everything(passes: &Passes) -> Choice {
        Choice { fates: vec![Fate::Kept; passes.graph.values.len()], patience: usize::MAX, packed_weights: usize::MAX }
    }

    pub(super) fn estimate(&self, runs: &Runs, choice: &Choice) -> Estimate {
        let count = runs.runs.len();
        let mut change = vec![0_i64; count + 1];
        let mut live = |first: usize, last: usize, bytes: u64| {
            change[first] += bytes as i64;
            change[last + 1] -= bytes as i64;
        };
        let mut life: Vec<Option<(usize, usize)>> = vec![None; runs.values.len()];
        let mut shared: Vec<Option<(usize, usize)>> = vec![None; self.shared.len()];
        let mut seconds = 0.0;
        for (at, run) in runs.runs.iter().enumerate() {
            for &value in run.inputs.iter().chain(&run.outputs) {
                life[value] = Some((life[value].map_or(at, |(first, _)| first), at));
            }
            let (bytes, cost) = self.events[&run.event];
            live(at, at, bytes);
            seconds += self.pace.predicted(&cost);
            for &which in self.shares.get(&run.event).into_iter().flatten() {
                let Shared { bytes, packing } = self.shared[which];
                let patience = if packing.is_some() { choice.packed_weights } else { usize::MAX };
                match &mut shared[which] {
                    Some((_, last)) if at - *last <= patience => *last = at,
                    one => {
                        if let Some((first, last)) = one.replace((at, at)) {
                            live(first, last, bytes);
                        }
                        seconds += packing.map_or(0.0, |cost| self.pace.predicted(&cost));
                    }
                }
            }
        }
        for (life, shared) in shared.iter().zip(&self.shared) {
            life.iter().for_each(|&(first, last)| live(first, last, shared.bytes));
        }
        let mut is_output = vec![false; self.bytes.len()];
        self.passes.graph.outputs.iter().for_each(|v| is_output[v.0] = true);
        for (life, value) in life.iter().zip(&runs.values) {
            let end = |last: usize| if is_output[value.0] { count - 1 } else { last };
            life.iter().for_each(|&(first, last)| live(first, end(last), self.bytes[value.0]));
        }
        let mut now = 0_i64;
        let most = change.iter().map(|change| {
            now += change;
            now
        });
        Estimate { bytes: self.constant + most.max().unwrap_or_default() as u64, seconds }
    }

    /// Values that later timesteps read, of the timesteps `k` apart from the last but one; with what all timesteps read, and
    /// what the backward pass reads first.
    fn states(&self, k: Option<usize>, patience: usize) -> Vec<bool> {
        let graph = self.passes.graph;
        let last = graph.nodes.iter().filter_map(|node| node.timestep).max().unwrap_or_default();
        let mut kept: Vec<bool> = (0..graph.values.len()).map(|v| !self.matters(ValueId(v))).collect();
        let mut readers: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); graph.values.len()];
        for &node in &self.passes.forward {
            let node = &graph.nodes[node];
            for value in &node.inputs {
                readers[value.0].extend(node.timestep);
            }
        }
        for (v, value) in graph.values.iter().enumerate() {
            kept[v] |= match value.timestep {
                None => readers[v].len() > 1,
                Some(t) => {
                    let later = readers[v].last().is_some_and(|&reader| reader > t);
                    let boundary = k.is_some_and(|k| t < last && (last - t).is_multiple_of(k));
                    let open = if patience == usize::MAX { k.unwrap_or(1) } else { 1 };
                    (later && boundary) || t + open > last
                }
            };
        }
        kept
    }

    /// Choices that are expected to be the fastest for what they take: each takes less than the one before, and longer; the first
    /// about `bytes`, the last the least.
    pub(super) fn front(&self, bytes: u64) -> Vec<Choice> {
        /// Shares of the bound up to which there may be values, as slots do not fill up.
        const SHARES: [f64; 5] = [1.0, 0.94, 0.88, 0.82, 0.76];
        let graph = self.passes.graph;
        let last = graph.nodes.iter().filter_map(|node| node.timestep).max().unwrap_or_default();
        let window = (5 * self.passes.events.len()).div_ceil(4 * (last + 1));
        let mut apart: Vec<Option<usize>> = vec![None];
        let mut k = 1;
        while k <= last + 1 {
            apart.push(Some(k));
            k = if k < 6 { k + 1 } else { k * 3 / 2 };
        }
        let mut tried: Vec<(Choice, Estimate)> = Vec::new();
        for patience in [usize::MAX, window, 0] {
            for &k in &apart {
                let kept = self.states(k, patience);
                let fates = |in_f16: bool| -> Vec<Fate> {
                    let can = |v: usize| in_f16 && self.can_pack(ValueId(v));
                    let one = |(v, &kept): (usize, &bool)| match kept {
                        false => Fate::Again,
                        true if can(v) => Fate::Packed,
                        true => Fate::Kept,
                    };
                    kept.iter().enumerate().map(one).collect()
                };
                let (plain, in_f16) = (fates(false), fates(true));
                for fates in [Some(&plain), Some(&in_f16).filter(|_| in_f16 != plain)].into_iter().flatten() {
                    for packed_weights in [usize::MAX, window, 0] {
                        let choice = Choice { fates: fates.clone(), patience, packed_weights };
                        self.fill_up(&choice, &SHARES.map(|share| (share * bytes as f64) as u64), &mut tried);
                    }
                }
            }
        }
        tried.sort_by(|(_, a), (_, b)| a.seconds.total_cmp(&b.seconds).then(a.bytes.cmp(&b.bytes)));
        let mut front: Vec<Choice> = Vec::new();
        let mut least = u64::MAX;
        for (choice, estimate) in tried {
            // What is expected to take more than the bound is of no use, unless nothing takes less.
            if estimate.bytes < least {
                if least > bytes {
                    front.clear();
                }
                least = estimate.bytes;
                front.push(choice);
            }
        }
        front
    }

    /// Whether a value can be packed, and is large enough for it.
    fn can_pack(&self, value: ValueId) -> bool {
        self.matters(value) && self.passes.copies[value.0].is_some()
    }

    /// Tries `choice`, and keeps more than it does as long as the estimate stays within each of `rooms`, the largest first. Where it
    /// packs values, more are packed, too.
    fn fill_up(&self, choice: &Choice, rooms: &[u64], tried: &mut Vec<(Choice, Estimate)>) {
        let packs = choice.fates.contains(&Fate::Packed);
        let runs = self.passes.runs(choice);
        // What is computed again, and what is packed, by the time that it takes for its size.
        let mut times: BTreeMap<usize, usize> = BTreeMap::new();
        runs.runs.iter().filter(|run| run.again).for_each(|run| *times.entry(run.event.node).or_default() += 1);
        let seconds = |node: usize| self.pace.predicted(&self.events[&Event { node, until: None }].1);
        let mut order: Vec<(f64, usize, Fate)> = Vec::new();
        for (&node, &times) in &times {
            let again = seconds(node) * times as f64;
            for value in self.passes.graph.nodes[node].outputs.iter().filter(|v| choice.fates[v.0] == Fate::Again) {
                let whole = self.bytes[value.0].max(1) as f64;
                let copy = self.passes.copies[value.0].filter(|_| packs && self.can_pack(*value));
                let copy = copy.map(|copy| {
                    let packing = seconds(self.passes.producers[copy.0].expect("a node packs it"));
                    (packing, self.bytes[copy.0] as f64)
                });
                match copy {
                    // The first bytes save more than those that make f32 of f16.
                    Some((packing, half)) if (again - packing) / half > packing / (whole - half) => {
                        order.push(((again - packing) / half, value.0, Fate::Packed));
                        order.push((packing / (whole - half), value.0, Fate::Kept));
                    }
                    _ => order.push((again / whole, value.0, Fate::Kept)),
                }
            }
        }
        for (node, copy) in self.passes.packing() {
            let value = self.passes.graph.nodes[node].inputs[0];
            if choice.fates[value.0] == Fate::Packed {
                let more = self.bytes[value.0] - self.bytes[copy.0];
                order.push((seconds(node) / more as f64, value.0, Fate::Kept));
            }
        }
        order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut attempt = |more: usize| {
            let mut choice = choice.clone();
            order[..more].iter().for_each(|&(_, value, fate)| choice.fates[value] = fate);
            let estimate = self.estimate(&self.passes.runs(&choice), &choice);
            tried.push((choice, estimate));
            estimate.bytes
        };
        let base = attempt(0);
        let mut above = order.len() + 1; // of the room before, which was larger
        for &room in rooms.iter().take_while(|&&room| base <= room) {
            let (mut low, mut high) = (0, above);
            while low + 1 < high {
                let middle = (low + high) / 2;
                if attempt(middle) <= room { low = middle } else { high = middle }
            }
            above = high;
        }
    }

    /// How many of the values that matter are kept, packed, and given up.
    pub(super) fn counts(&self, choice: &Choice) -> [usize; 3] {
        let matter = || (0..self.bytes.len()).filter(|&v| self.matters(ValueId(v)));
        [Fate::Kept, Fate::Packed, Fate::Again].map(|fate| matter().filter(|&v| choice.fates[v] == fate).count())
    }
}

/// Most bytes that temporaries of some launches alone take at a time.
fn most_alive(program: &Program, launches: Range<usize>, own: &dyn Fn(usize) -> bool) -> u64 {
    let mut life: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for at in launches.clone() {
        for (_, view) in program.launches[at].operands.iter().filter(|(_, view)| own(view.buffer.0)) {
            life.entry(view.buffer.0).or_insert((at, at)).1 = at;
        }
    }
    let at = |at: usize| {
        let alive = life.iter().filter(|(_, life)| life.0 <= at && at <= life.1);
        alive.map(|(buffer, _)| program.buffers[*buffer].bytes).sum::<u64>()
    };
    launches.map(at).max().unwrap_or_default()
}

/// Operations of a node.
fn operations(graph: &Graph, node: usize) -> f64 {
    let node = &graph.nodes[node];
    let extents = |values: &[ValueId]| values.iter().map(|v| &graph.values[v.0].shape[..]).collect::<Vec<_>>();
    node.op.flops(&extents(&node.inputs), &extents(&node.outputs))
}

/// Operations and predicted seconds of a pass.
pub(super) fn cost(compiled: &Compiled, pace: &Pace) -> (f64, f64) {
    let graph = &compiled.unrolled.graph;
    let operations = (0..graph.nodes.len()).map(|node| operations(graph, node)).sum();
    let cost = Cost::of(&compiled.program.launches[compiled.phases.pass.clone()], operations);
    (operations, pace.predicted(&cost))
}

/// The choice for which a pass is within `bytes`, compiled: the fastest by prediction, or where none is, the smallest. `compiled`
/// compiles a graph in an order; `free` is the pass without a bound, whose backward pass begins with `seed`; `pack` says whether maps
/// may be packed.
///
/// # Errors
/// Those of `compiled`.
pub(super) fn within(
    graph: &Graph,
    (seed, pack): (ValueId, bool),
    (free, bytes): (&Compiled, u64),
    target: &Target,
    compiled: impl Fn(Graph, &Order) -> Result<Compiled>,
) -> Result<Compiled> {
    let mut graph = summed_in_turn(graph, seed);
    let mut copies = Vec::new();
    if pack {
        (graph, copies) = with_copies(&graph, seed);
    }
    let passes = Passes::new(&graph, seed, &copies);
    let everything = Model::everything(&passes);
    let runs = passes.runs(&everything);
    let (all, order) = passes.graph_of(&runs, &free.stretches, &everything);
    let all = compiled(all, &order)?;
    let model = Model::new(passes, (&all, &runs), target);
    let (operations, seconds) = cost(free, &model.pace);
    let attempt = |choice: &Choice| -> Result<Compiled> {
        let runs = model.passes.runs(choice);
        let (graph, order) = model.passes.graph_of(&runs, &free.stretches, choice);
        let mut found = compiled(graph, &order)?;
        let (more, longer) = cost(&found, &model.pace);
        let [kept, packed, given_up] = model.counts(choice);
        found.bound = Some(Bound {
            bytes,
            without: free.peak_bytes(),
            met: found.peak_bytes() <= bytes,
            extra_operations: more / operations - 1.0,
            extra_time: longer / seconds - 1.0,
            kept,
            packed,
            given_up,
        });
        Ok(found)
    };
    // The fastest whose plan is within the bound. Plans mostly get smaller along the front; a few before the first that is small
    // enough are looked at, as that is not always so.
    const BEFORE: usize = 3;
    let front = model.front(bytes);
    let mut smallest = attempt(front.last().expect("choices were looked at"))?;
    let mut best: Option<Compiled> = None;
    let (mut low, mut high) = (0, front.len()); // below `low` none was small enough; `high` or a later one was, if any
    while low < high {
        let middle = (low + high) / 2;
        let found = attempt(&front[middle])?;
        if found.peak_bytes() <= bytes {
            (best, high) = (Some(found), middle);
        } else {
            low = middle + 1;
            if found.peak_bytes() < smallest.peak_bytes() {
                smallest = found;
            }
        }
    }
    for choice in &front[low.saturating_sub(BEFORE + 1)..low.saturating_sub(1)] {
        let found = attempt(choice)?;
        if found.peak_bytes() <= bytes {
            best = Some(found);
            break;
        }
    }
    if best.is_none() && smallest.peak_bytes() <= bytes {
        best = Some(smallest.clone());
    }
    Ok(best.unwrap_or(smallest))
}
