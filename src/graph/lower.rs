//! From a graph to a program: where each value lies, and the launches of every node in order.

use super::{Graph, Origin, Value, ValueId};
use crate::Result;
use crate::kernels::choose::{Choices, Uses};
use crate::kernels::{BufferSpec, Program, Role, Site, Target, View, align};
use crate::ops::{self, Call, Fold};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// A graph's program.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// Buffers and launches.
    pub program: Program,
    /// Where each value lies; `None` for values that nothing uses.
    pub views: Vec<Option<View>>,
    /// The shapes that have variants, and which were chosen.
    pub uses: Uses,
    /// The launches of each node, in the order of the graph; of one whose timesteps come apart, those of the last.
    pub launches: Vec<Range<usize>>,
    /// The launches of each event of the order in which nodes run.
    pub events: Vec<Range<usize>>,
    /// Of nodes on lists over timesteps, by what they write first: the timesteps of each sum.
    pub stretches: BTreeMap<ValueId, Vec<usize>>,
}

/// A node that runs, or the next timesteps of one on lists over timesteps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event {
    /// The node's number.
    pub node: usize,
    /// Timesteps of its lists that are summed once this has run; `None`: all.
    pub until: Option<usize>,
}

/// How a graph is lowered under a bound of memory: see [`super::recompute`].
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// What runs, in this order.
    pub events: Vec<Event>,
    /// The timesteps of each sum of nodes on lists, by what they write first: those of the graph that is lowered without a bound,
    /// so that sums have the same bits.
    pub stretches: BTreeMap<ValueId, Vec<usize>>,
    /// A packed weight that is not used for more events than these is given up, and packed again.
    pub patience: usize,
}

impl Lowered {
    /// Where a value lies. Panics if nothing uses it.
    pub fn view(&self, value: ValueId) -> View {
        self.views[value.0].expect("the value is used")
    }
}

/// Ranges of the persistent buffers in which parameters lie, the same for values, gradients and Adam's moments.
#[derive(Clone, Debug, Default)]
pub struct Arenas {
    /// Bytes of each arena; several only where one binding could not cover all.
    pub bytes: Vec<u64>,
    /// Arena, offset and bytes of each parameter.
    pub ranges: Vec<(usize, u64, u64)>,
}

impl Arenas {
    /// Lays out tensors of the given element counts.
    pub fn new(counts: &[usize], target: &Target) -> Arenas {
        let mut arenas = Arenas::default();
        for &count in counts {
            let bytes = 4 * count as u64;
            let room =
                arenas.bytes.last().is_some_and(|used| used + bytes <= target.max_binding.min(target.max_buffer));
            if !room {
                arenas.bytes.push(0);
            }
            let arena = arenas.bytes.len() - 1;
            arenas.ranges.push((arena, arenas.bytes[arena], bytes));
            arenas.bytes[arena] += align(bytes);
        }
        arenas
    }

    /// One persistent buffer per arena, named `kind.0`, `kind.1`, …
    pub fn buffers(&self, program: &mut Program, kind: &str) -> Vec<View> {
        let views = self.bytes.iter().enumerate().map(|(i, &bytes)| {
            let (name, area) = (format!("{kind}.{i}"), "parameters".to_string());
            let id = program.buffer(BufferSpec { name, bytes, role: Role::Persistent, area, timestep: None });
            program.whole(id)
        });
        views.collect()
    }

    /// The range of parameter `index` within the arenas `of`.
    pub fn view(&self, of: &[View], index: usize) -> View {
        let (arena, offset, bytes) = self.ranges[index];
        View { buffer: of[arena].buffer, offset, bytes, half: false }
    }
}

/// Values of several timesteps, the last one first.
type Series = BTreeSet<(Reverse<Option<usize>>, ValueId)>;

/// Whether values can lie in one buffer at equal distances: one of each timestep, all of one size. And a state that is carried
/// over time without anything in between (z[t] = z[t-1] + ...) is read and written by one launch, which no buffer can be: its
/// steps lie apart.
fn lies_together(graph: &Graph, target: &Target, series: &Series) -> bool {
    let Some(&(_, first)) = series.first() else { return false };
    let first = &graph.values[first.0];
    let alike = |value: &Value| value.shape == first.shape && value.half == first.half;
    let timesteps: BTreeSet<_> = series.iter().map(|(timestep, _)| timestep).collect();
    let within: BTreeSet<ValueId> = series.iter().map(|&(_, v)| v).collect();
    let any = |values: &[ValueId]| values.iter().any(|v| within.contains(v));
    let mut nodes = graph.nodes.iter().filter(|n| n.op.in_place().is_empty());
    within.iter().all(|v| alike(&graph.values[v.0]))
        && timesteps.len() == series.len()
        && align(first.bytes()) * series.len() as u64 <= target.max_buffer
        && !nodes.any(|n| any(&n.outputs) && any(&n.inputs))
}

/// The series that lie in one buffer each: values of one name of which a node wants a list, together with what stands beside them
/// in a list under another name, as the first and the last timestep often come from another operation.
fn series(graph: &Graph, target: &Target, placed: &HashMap<ValueId, View>) -> Vec<Vec<ValueId>> {
    let mut by_name: BTreeMap<&str, Series> = BTreeMap::new();
    let mut lists: Vec<Vec<&str>> = Vec::new(); // of names that follow each other in a list
    for node in &graph.nodes {
        let Some(many) = node.op.lists() else { continue };
        for list in node.inputs.chunks(node.inputs.len() / many) {
            let movable = |v: &&ValueId| {
                let value = &graph.values[v.0];
                value.timestep.is_some() && value.origin == Origin::Node && !placed.contains_key(v)
            };
            let mut names = Vec::new();
            for &v in list.iter().filter(movable) {
                let value = &graph.values[v.0];
                by_name.entry(&value.name).or_default().insert((Reverse(value.timestep), v));
                names.push(&value.name[..]);
            }
            names.dedup();
            lists.push(names);
        }
    }
    by_name.retain(|_, series| lies_together(graph, target, series));
    // The name under which each name's values are now.
    let mut joined: BTreeMap<&str, &str> = by_name.keys().map(|&name| (name, name)).collect();
    for names in lists {
        let mut known = names.iter().filter_map(|name| joined.get(name).copied()).collect::<Vec<_>>().into_iter();
        let Some(first) = known.next() else { continue };
        for other in known.filter(|&other| other != first) {
            let Some(series) = by_name.get(other) else { continue }; // joined already
            let both: Series = by_name[first].union(series).copied().collect();
            if lies_together(graph, target, &both) {
                by_name.insert(first, both);
                by_name.remove(other);
                joined.values_mut().filter(|name| **name == other).for_each(|name| *name = first);
            }
        }
    }
    let several = by_name.into_values().filter(|series| series.len() > 1);
    several.map(|series| series.into_iter().map(|(_, v)| v).collect()).collect()
}

/// Lowers `graph`, node by node. `placed` are values that already have a place in `program` (parameters and their gradients).
///
/// Values at different timesteps, of which some node wants a list, lie at equal distances in one buffer, the last timestep
/// first, so that one launch can reduce over time.
///
/// # Errors
/// When naga refuses a kernel variant.
pub fn lower(
    graph: &Graph,
    target: &Target,
    choices: &Choices,
    program: Program,
    placed: &HashMap<ValueId, View>,
) -> Result<Lowered> {
    lower_in(None, graph, target, choices, program, placed)
}

/// [`lower`] in an order of its own, if there is one; all values then lie apart, so that each can give up its place.
///
/// # Errors
/// As there.
pub fn lower_in(
    order: Option<&Order>,
    graph: &Graph,
    target: &Target,
    choices: &Choices,
    mut program: Program,
    placed: &HashMap<ValueId, View>,
) -> Result<Lowered> {
    let mut used = vec![false; graph.values.len()];
    for node in &graph.nodes {
        node.inputs.iter().chain(&node.outputs).for_each(|v| used[v.0] = true);
    }
    graph.outputs.iter().for_each(|v| used[v.0] = true);
    let mut overwritten = vec![false; graph.values.len()];
    for node in graph.nodes.iter().filter(|n| !n.op.in_place().is_empty()) {
        node.outputs.iter().zip(node.op.in_place()).for_each(|(v, _)| used[v.0] = false); // they lie where inputs lie
        node.op.in_place().iter().for_each(|&input| overwritten[node.inputs[input].0] = true);
    }
    let is_output = graph.is_output();

    let mut views: Vec<Option<View>> = vec![None; graph.values.len()];
    for members in if order.is_none() { series(graph, target, placed) } else { Vec::new() } {
        let first = &graph.values[members[0].0];
        let bytes = first.bytes();
        let total = align(bytes) * members.len() as u64;
        let role = if members.iter().any(|v| is_output[v.0]) { Role::Output } else { Role::Temporary };
        let spec =
            BufferSpec { name: first.name.clone(), bytes: total, role, area: first.area.clone(), timestep: None };
        let buffer = program.buffer(spec);
        for (i, v) in members.iter().enumerate() {
            views[v.0] = Some(View { buffer, offset: i as u64 * align(bytes), bytes, half: first.half });
        }
    }
    for (i, value) in graph.values.iter().enumerate() {
        if let Some(view) = placed.get(&ValueId(i)) {
            views[i] = Some(*view);
        } else if used[i] && views[i].is_none() {
            let role = match value.origin {
                Origin::Node if is_output[i] => Role::Output,
                Origin::Node => Role::Temporary,
                _ if overwritten[i] => Role::Persistent,
                _ => Role::Input,
            };
            let bytes = value.bytes();
            let (name, area, timestep) = (value.name.clone(), value.area.clone(), value.timestep);
            let buffer = program.buffer(BufferSpec { name, bytes: align(bytes), role, area, timestep });
            views[i] = Some(View { buffer, offset: 0, bytes, half: value.half });
        }
    }
    for node in &graph.nodes {
        for (&output, &input) in node.outputs.iter().zip(node.op.in_place()) {
            views[output.0] = views[node.inputs[input].0];
        }
    }
    let mut uses = Uses::new();
    let shapes: Vec<&[usize]> = graph.values.iter().map(|value| &value.shape[..]).collect();
    let mut context = ops::Context {
        program: &mut program,
        target,
        shapes: &shapes,
        views: &views,
        choices,
        uses: &mut uses,
        exact: true,
        operations: 0.0,
        fold: Fold::default(),
    };
    let in_turn: Vec<Event> = (0..graph.nodes.len()).map(|node| Event { node, until: None }).collect();
    let (mut launches, mut events) = (vec![0..0; graph.nodes.len()], Vec::new());
    let (mut folds, mut stretches): (HashMap<usize, Fold>, _) = (HashMap::new(), BTreeMap::new());
    for (at, event) in order.map_or(&in_turn, |order| &order.events).iter().enumerate() {
        let node = &graph.nodes[event.node];
        context.exact = !graph.rounded.contains(&node.area);
        let when = node.timestep.map_or(String::new(), |t| format!(" t={t}"));
        let label = format!("{} {}{when}", node.op.name(), graph.values[node.outputs[0].0].name);
        let call = Call { inputs: &node.inputs, outputs: &node.outputs };
        let site = Site { op: node.op.name(), timestep: node.timestep, area: &node.area, label: &label };
        let extents = |values: &[ValueId]| values.iter().map(|v| shapes[v.0]).collect::<Vec<_>>();
        context.operations = node.op.flops(&extents(&node.inputs), &extents(&node.outputs));
        context.fold = folds.remove(&event.node).unwrap_or_default();
        if let Some(order) = order {
            context.program.now(at, order.patience);
            if context.fold.done == 0 {
                context.fold.stretches = order.stretches.get(&node.outputs[0]).cloned().unwrap_or_default();
            }
        }
        context.fold.until = event.until;
        let from = context.program.launches.len();
        node.op.lower(&mut context, call, site)?;
        launches[event.node] = from..context.program.launches.len();
        events.push(launches[event.node].clone());
        context.tell(from, context.operations);
        if node.op.lists().is_some() {
            stretches.insert(node.outputs[0], context.fold.stretches.clone());
            folds.insert(event.node, std::mem::take(&mut context.fold));
        }
    }
    Ok(Lowered { program, views, uses, launches, events, stretches })
}
