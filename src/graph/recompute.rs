//! Recomputation: which values of the forward pass are kept until the backward pass reads them, and which are given up and
//! computed again, by the same operations from the same values, right before they are read (Chen et al. 2016,
//! arXiv:1604.06174; along time Gruslys et al. 2016, arXiv:1606.03401). Where that is asked for, maps may also be packed: once the
//! forward pass has read one for the last time, it is copied to f16, and the backward pass reads the copy.
//!
//! The order of the nodes decides how long each value lives. Under a bound of memory it is this: the forward pass; the backward
//! pass, before each node what it reads and what is gone; and as soon as a timestep's gradient is there, what it adds to the
//! gradients of weights, so that it is not wanted any more. What is computed again is computed once, or, with `patience`, as
//! often as it is read again only after so many nodes that it is not worth its place until then.

use super::lower::{Event, Order};
use super::precision::is_map;
use super::{Graph, Node, Origin, Value, ValueId};
use crate::ops::{Add, Op};
use std::collections::{BTreeMap, HashMap};

/// What becomes of a value of the forward pass between that and the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Kept,
    /// It stays as a copy in f16.
    Packed,
    /// It is given up and computed again.
    Again,
}

/// A node that runs: the node itself, the next timesteps of one on lists, or once more one of the forward pass.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) event: Event,
    /// Whether it has run before.
    pub(super) again: bool,
    /// What is read, of lists what the timesteps that come now read: see [`Runs::values`].
    pub(super) inputs: Vec<usize>,
    /// What is written.
    pub(super) outputs: Vec<usize>,
}

/// All that runs, in order.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    pub(super) runs: Vec<Run>,
    /// The value of the graph that each place holds: first all values themselves, then those that are computed again.
    pub(super) values: Vec<ValueId>,
}

/// What of the forward pass stays, and how long what was computed again waits.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    /// What becomes of each value.
    pub(super) fates: Vec<Fate>,
    /// Nodes of the backward pass after which a value that was computed again is given up if none has read it.
    pub(super) patience: usize,
    /// The same for packed weights; see [`Order::patience`].
    pub(super) packed_weights: usize,
}

/// A graph of forward and backward pass, as recomputation sees it.
pub(super) struct Passes<'a> {
    pub(super) graph: &'a Graph,
    /// The value that holds each in f16, for those that can be packed. Its node runs only where that is chosen.
    pub(super) copies: Vec<Option<ValueId>>,
    /// What each node packs, if that is what it is for.
    packs: Vec<Option<ValueId>>,
    /// The node that writes each value.
    pub(super) producers: Vec<Option<usize>>,
    /// Whether each node belongs to the backward pass: it depends on the gradients with which that begins.
    pub(super) backward: Vec<bool>,
    /// The nodes of the forward pass, in order.
    pub(super) forward: Vec<usize>,
    /// The nodes of the backward pass, and the timesteps of those on lists as soon as they can be summed.
    pub(super) events: Vec<Event>,
}

/// Which nodes depend on `seed`.
fn backward(graph: &Graph, seed: ValueId) -> Vec<bool> {
    let mut reached = vec![false; graph.values.len()];
    reached[seed.0] = true;
    let mut backward = Vec::new();
    for node in &graph.nodes {
        let is = node.inputs.iter().any(|v| reached[v.0]);
        backward.push(is);
        node.outputs.iter().for_each(|v| reached[v.0] |= is);
    }
    backward
}

/// The graph with sums of several gradients, such as those of what all timesteps share, added up as their terms come, in the same
/// order and so with the same bits: no term waits for the last.
pub(super) fn summed_in_turn(graph: &Graph, seed: ValueId) -> Graph {
    let (producers, backward) = (graph.producers(), backward(graph, seed));
    let mut values = graph.values.clone();
    let mut after: Vec<Vec<Node>> = vec![Vec::new(); graph.nodes.len()];
    let mut replaced = vec![false; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        let [first, second, .., last] = node.inputs[..] else { continue };
        if node.op != Op::Add(Add) || !backward[i] || second == last {
            continue;
        }
        replaced[i] = true;
        let (mut sum, mut at) = (first, producers[first.0].unwrap_or(0));
        for (n, &term) in node.inputs.iter().enumerate().skip(1) {
            at = at.max(producers[term.0].unwrap_or(0));
            let outputs = if n + 1 == node.inputs.len() {
                node.outputs.clone()
            } else {
                let of = &graph.values[node.outputs[0].0];
                values.push(Value { name: format!("{}.so_far", of.name), ..of.clone() });
                vec![ValueId(values.len() - 1)]
            };
            let inputs = vec![sum, term];
            sum = outputs[0];
            after[at].push(Node { inputs, outputs, ..node.clone() });
        }
    }
    let mut nodes = Vec::new();
    for ((node, replaced), after) in graph.nodes.iter().zip(replaced).zip(after) {
        nodes.extend((!replaced).then(|| node.clone()));
        nodes.extend(after);
    }
    Graph { values, nodes, ..graph.clone() }
}

/// The graph with a node for each map of the forward pass that can be packed, behind the last node of the forward pass that reads
/// it; and the copies in f16 that these write, by what they copy.
pub(super) fn with_copies(graph: &Graph, seed: ValueId) -> (Graph, Vec<(ValueId, ValueId)>) {
    let (producers, backward, is_output) = (graph.producers(), backward(graph, seed), graph.is_output());
    let mut last = producers.clone();
    for (i, node) in graph.nodes.iter().enumerate().filter(|(i, _)| !backward[*i]) {
        node.inputs.iter().for_each(|v| last[v.0] = Some(i));
    }
    let mut values = graph.values.clone();
    let mut after: Vec<Vec<Node>> = vec![Vec::new(); graph.nodes.len()];
    let mut copies = Vec::new();
    for (v, value) in graph.values.iter().enumerate() {
        let Some(producer) = producers[v].filter(|&node| !backward[node]) else { continue };
        let in_place = !graph.nodes[producer].op.in_place().is_empty();
        if in_place || is_output[v] || value.half || value.origin != Origin::Node || !is_map(&value.shape) {
            continue;
        }
        values.push(Value { name: format!("{} in f16", value.name), half: true, ..value.clone() });
        let copy = ValueId(values.len() - 1);
        copies.push((ValueId(v), copy));
        after[last[v].expect("something writes it")].push(Node {
            op: Op::Add(Add),
            inputs: vec![ValueId(v)],
            outputs: vec![copy],
            area: value.area.clone(),
            timestep: value.timestep,
        });
    }
    let mut nodes = Vec::new();
    for (node, after) in graph.nodes.iter().zip(after) {
        nodes.push(node.clone());
        nodes.extend(after);
    }
    (Graph { values, nodes, ..graph.clone() }, copies)
}

impl<'a> Passes<'a> {
    /// Of a graph whose backward pass begins with `seed`, and that has these copies in f16, by what they copy.
    pub(super) fn new(graph: &'a Graph, seed: ValueId, of_copies: &[(ValueId, ValueId)]) -> Passes<'a> {
        let (producers, backward) = (graph.producers(), backward(graph, seed));
        let forward = (0..graph.nodes.len()).filter(|&node| !backward[node]).collect();
        let (mut copies, mut packs) = (vec![None; graph.values.len()], vec![None; graph.nodes.len()]);
        for &(value, copy) in of_copies {
            copies[value.0] = Some(copy);
            packs[producers[copy.0].expect("a node packs it")] = Some(value);
        }
        let mut passes = Passes { graph, copies, packs, producers, backward, forward, events: Vec::new() };
        passes.events = passes.backward_events();
        passes
    }

    /// How many timesteps a node on lists sums; `None` for others.
    pub(super) fn timesteps(&self, node: usize) -> Option<usize> {
        let node = &self.graph.nodes[node];
        node.op.lists().map(|lists| node.inputs.len() / lists)
    }

    /// The values that an event reads; `before` is the event of the same node before it.
    fn reads(&self, event: Event, before: usize) -> Vec<ValueId> {
        let inputs = &self.graph.nodes[event.node].inputs;
        match event.until {
            None => inputs.clone(),
            Some(until) => {
                let total = self.timesteps(event.node).expect("it has lists");
                inputs.chunks(total).flat_map(|list| &list[before..until]).copied().collect()
            }
        }
    }

    fn backward_events(&self) -> Vec<Event> {
        let waits = |v: &ValueId| self.producers[v.0].is_some_and(|node| self.backward[node]);
        // Nodes on lists, by what their timesteps wait for.
        let (mut missing, mut done): (HashMap<usize, Vec<usize>>, HashMap<usize, usize>) = Default::default();
        let mut waiting: HashMap<ValueId, Vec<(usize, usize)>> = HashMap::new();
        for node in (0..self.graph.nodes.len()).filter(|&node| self.backward[node]) {
            let Some(total) = self.timesteps(node) else { continue };
            let counts = missing.entry(node).or_insert_with(|| vec![0; total]);
            for (i, value) in self.graph.nodes[node].inputs.iter().enumerate().filter(|(_, v)| waits(v)) {
                waiting.entry(*value).or_default().push((node, i % total));
                counts[i % total] += 1;
            }
        }
        let mut events = Vec::new();
        for node in (0..self.graph.nodes.len()).filter(|&node| self.backward[node]) {
            if self.timesteps(node).is_some() {
                continue; // complete by now, as all that it reads is
            }
            events.push(Event { node, until: None });
            let mut woken: Vec<usize> = Vec::new();
            for (fold, step) in self.graph.nodes[node].outputs.iter().flat_map(|v| waiting.get(v)).flatten() {
                missing.get_mut(fold).expect("it waits")[*step] -= 1;
                woken.push(*fold);
            }
            woken.sort_unstable();
            woken.dedup();
            for fold in woken {
                let next = done.entry(fold).or_default();
                while missing[&fold].get(*next) == Some(&0) {
                    *next += 1;
                    events.push(Event { node: fold, until: Some(*next) });
                }
            }
        }
        events
    }

    /// Whether something has to become of a value, as it is one of the forward pass.
    pub(super) fn is_forward(&self, value: ValueId) -> bool {
        self.producers[value.0].is_some_and(|node| !self.backward[node] && self.packs[node].is_none())
    }

    /// The nodes that pack, each with its copy in f16.
    pub(super) fn packing(&self) -> impl Iterator<Item = (usize, ValueId)> {
        let nodes = self.packs.iter().enumerate().filter(|(_, packed)| packed.is_some());
        nodes.map(|(node, _)| (node, self.graph.nodes[node].outputs[0]))
    }

    /// All that runs by a choice.
    pub(super) fn runs(&self, choice: &Choice) -> Runs {
        let ids = |values: &[ValueId]| values.iter().map(|v| v.0).collect::<Vec<usize>>();
        let mut values: Vec<ValueId> = (0..self.graph.values.len()).map(ValueId).collect();
        let mut runs: Vec<Run> = Vec::new();
        let fate = |v: ValueId| if self.is_forward(v) { choice.fates[v.0] } else { Fate::Kept };
        for &node in self.forward.iter().filter(|&&node| self.packs[node].is_none_or(|v| fate(v) == Fate::Packed)) {
            let Node { inputs, outputs, .. } = &self.graph.nodes[node];
            let event = Event { node, until: None };
            runs.push(Run { event, again: false, inputs: ids(inputs), outputs: ids(outputs) });
        }
        // Where a value was computed again, and the event that read it last.
        let mut copies: Vec<Option<(usize, usize)>> = vec![None; values.len()];
        let gone = |v: ValueId| fate(v) == Fate::Again;
        let mut wanted = vec![false; self.graph.nodes.len()];
        let mut done: HashMap<usize, usize> = HashMap::new();
        for (at, &event) in self.events.iter().enumerate() {
            let before = event.until.map_or(0, |until| done.insert(event.node, until).unwrap_or_default());
            let reads = self.reads(event, before);
            // What is gone, and what is gone of what that is computed from.
            let mut last = None;
            let want = |v: ValueId, wanted: &mut Vec<bool>, copies: &[Option<(usize, usize)>]| {
                let there = copies[v.0].is_some_and(|(_, read)| at - read <= choice.patience);
                (gone(v) && !there)
                    .then(|| self.producers[v.0].expect("of the forward pass"))
                    .inspect(|&node| wanted[node] = true)
            };
            for &value in &reads {
                last = last.max(want(value, &mut wanted, &copies));
            }
            let mut again: Vec<usize> = Vec::new();
            for node in (0..last.map_or(0, |last| last + 1)).rev() {
                if std::mem::take(&mut wanted[node]) {
                    again.push(node);
                    for &value in &self.graph.nodes[node].inputs {
                        want(value, &mut wanted, &copies);
                    }
                }
            }
            let place = |v: ValueId, copies: &mut Vec<Option<(usize, usize)>>| match &mut copies[v.0] {
                Some((place, read)) if gone(v) => {
                    *read = at;
                    *place
                }
                _ if fate(v) == Fate::Packed => self.copies[v.0].expect("it can be packed").0,
                _ => v.0,
            };
            for node in again.into_iter().rev() {
                let Node { inputs, outputs, .. } = &self.graph.nodes[node];
                let inputs = inputs.iter().map(|&v| place(v, &mut copies)).collect();
                let mut written = Vec::new();
                for &output in outputs {
                    written.push(values.len());
                    copies[output.0] = Some((values.len(), at));
                    values.push(output);
                }
                let event = Event { node, until: None };
                runs.push(Run { event, again: true, inputs, outputs: written });
            }
            let inputs = reads.iter().map(|&v| place(v, &mut copies)).collect();
            let outputs = match event.until {
                Some(until) if self.timesteps(event.node) != Some(until) => Vec::new(),
                _ => ids(&self.graph.nodes[event.node].outputs),
            };
            runs.push(Run { event, again: false, inputs, outputs });
        }
        Runs { runs, values }
    }

    /// The graph of what runs, and its order. `stretches` are those of the graph itself.
    pub(super) fn graph_of(
        &self,
        runs: &Runs,
        stretches: &BTreeMap<ValueId, Vec<usize>>,
        choice: &Choice,
    ) -> (Graph, Order) {
        let mut graph = Graph { nodes: Vec::new(), ..self.graph.clone() };
        for &value in &runs.values[self.graph.values.len()..] {
            let Value { name, .. } = &self.graph.values[value.0];
            let copy =
                Value { name: format!("{name} again"), origin: Origin::Node, ..self.graph.values[value.0].clone() };
            graph.values.push(copy);
        }
        let mut order = Order { events: Vec::new(), stretches: stretches.clone(), patience: choice.packed_weights };
        // Nodes on lists stand where their last timestep comes.
        let last: HashMap<usize, usize> =
            runs.runs.iter().enumerate().filter(|(_, run)| !run.again).map(|(i, run)| (run.event.node, i)).collect();
        let stands = |i: usize, run: &Run| run.again || last[&run.event.node] == i;
        let mut number: Vec<usize> = Vec::new(); // of the node of each run, if it stands there
        let mut nodes = 0;
        for (i, run) in runs.runs.iter().enumerate() {
            number.push(nodes);
            nodes += usize::from(stands(i, run));
        }
        let mut lists: HashMap<usize, (usize, Vec<usize>)> = HashMap::new(); // timesteps so far, inputs
        for (i, run) in runs.runs.iter().enumerate() {
            let node = &self.graph.nodes[run.event.node];
            let stands_at = if run.again { i } else { last[&run.event.node] };
            order.events.push(Event { node: number[stands_at], until: run.event.until });
            let mut inputs = run.inputs.clone();
            if let Some(until) = run.event.until {
                let total = self.timesteps(run.event.node).expect("it has lists");
                let (before, all) = lists.entry(run.event.node).or_insert_with(|| (0, vec![0; node.inputs.len()]));
                let now = until - *before;
                for (j, &input) in run.inputs.iter().enumerate() {
                    all[j / now * total + *before + j % now] = input;
                }
                *before = until;
                inputs = all.clone();
            }
            if !stands(i, run) {
                continue;
            }
            let values = |list: &[usize]| list.iter().map(|&v| ValueId(v)).collect::<Vec<_>>();
            let outputs = if run.again { values(&run.outputs) } else { node.outputs.clone() };
            graph.nodes.push(Node { inputs: values(&inputs), outputs, ..node.clone() });
        }
        (graph, order)
    }
}
