//! From a network of areas and connections to a graph unrolled over all timesteps: every area at every step at which it
//! exists. What does not change over time is merged by a pass, not here.

use super::{Graph, Origin, ValueId};
use crate::network::{
    Area, Connection, From, IMAGE_CHANNELS, Interaction, Kind, Map, Network, Schedule, Shown, Unroll,
};
use crate::ops::{Add, AvgPool, Conv2d, ConvTranspose2d, MaxPool, Modulate, Norm, Normalise, Relu, Scale, SoftmaxCe};
use std::collections::{BTreeMap, BTreeSet};

/// A network as a graph, with the values by which it is fed and read. Lists run over timesteps; `None` where an area, or the
/// area that is read out, does not exist yet.
#[derive(Clone, Debug)]
pub struct Unrolled {
    /// The graph.
    pub graph: Graph,
    /// What the host writes.
    pub inputs: Inputs,
    /// Parameters that the graph reads, by name.
    pub parameters: BTreeMap<String, ValueId>,
    /// What is shown: normalised pictures [3, rows, columns, images].
    pub shown: Vec<Option<ValueId>>,
    /// By area: the sum or product of its drives after the norm, before the activation.
    pub drives: Vec<Vec<Option<ValueId>>>,
    /// By area: its activation.
    pub activations: Vec<Vec<Option<ValueId>>>,
    /// What the readout sees: [channels, 1, 1, images].
    pub representations: Vec<Option<ValueId>>,
    /// Input of the softmax: [classes, 1, 1, images].
    pub logits: Vec<Option<ValueId>>,
    /// Clamped log-probabilities.
    pub logprobs: Vec<Option<ValueId>>,
    /// Loss and correctness [2, images].
    pub scores: Vec<Option<ValueId>>,
}

/// What the host writes before a run.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// Pictures as bytes; see [`Normalise`].
    pub pictures: ValueId,
    /// The pictures that follow them, if they are ever shown.
    pub next: Option<ValueId>,
    /// x = 0, if it is ever shown.
    pub blank: Option<ValueId>,
    /// What bytes become: [3, 256].
    pub table: ValueId,
    /// Labels \[images\], `u32`.
    pub labels: ValueId,
    /// Gains, one for each step of each connection that has them, if any has.
    pub gains: Option<ValueId>,
}

impl Unrolled {
    /// Follows renamings of values by a pass.
    pub fn rename(&mut self, of: impl Fn(ValueId) -> ValueId) {
        let areas = self.drives.iter_mut().chain(&mut self.activations).flatten();
        let readout = self.logits.iter_mut().chain(&mut self.logprobs).chain(&mut self.scores);
        areas
            .chain(readout)
            .chain(&mut self.representations)
            .chain(&mut self.shown)
            .flatten()
            .for_each(|v| *v = of(*v));
    }

    /// Names of the parameters on which the scores depend: those that have a gradient.
    pub fn learned(&self) -> BTreeSet<String> {
        let mut reaches = vec![false; self.graph.values.len()];
        self.scores.iter().flatten().for_each(|v| reaches[v.0] = true);
        for node in self.graph.nodes.iter().rev() {
            if node.outputs.iter().any(|v| reaches[v.0]) {
                node.inputs.iter().for_each(|v| reaches[v.0] = true);
            }
        }
        self.parameters.iter().filter(|(_, v)| reaches[v.0]).map(|(name, _)| name.clone()).collect()
    }
}

struct Builder<'a> {
    network: &'a Network,
    schedule: &'a Schedule,
    graph: Graph,
    parameters: BTreeMap<String, ValueId>,
    gains: Option<ValueId>,
}

impl Builder<'_> {
    /// A parameter of an area; it enters the graph when it is first used.
    fn parameter(&mut self, name: &str, area: &str) -> ValueId {
        if let Some(&value) = self.parameters.get(name) {
            return value;
        }
        let spec = self.network.parameters.iter().find(|p| p.name == name);
        let shape = &spec.unwrap_or_else(|| panic!("`{name}` is no parameter of the network")).shape;
        let value = self.graph.value(name, shape, Origin::Parameter, area, None);
        self.parameters.insert(name.to_string(), value);
        value
    }

    /// A value of a connection, times the connection's gain at this step if it has one.
    fn gained(&mut self, connection: usize, value: ValueId, area: &str, t: usize) -> ValueId {
        let Some(which) = self.schedule.gains.iter().position(|(c, _)| *c == connection) else { return value };
        let gains = self.gains.expect("made with the schedule");
        let name = format!("{}.gained", self.graph.values[value.0].name);
        let at = which * self.schedule.timesteps + t;
        self.graph.node(Scale { at }, &[value, gains], &name, area, t)[0]
    }

    /// What a connection adds to its area at step t. A gain acts on weight and bias, and so on the whole term.
    fn term(&mut self, index: usize, source: ValueId, t: usize) -> ValueId {
        let network = self.network;
        let Connection { label, map, to, .. } = &network.connections[index];
        let area = &network.areas[*to].name;
        let (weight, bias, pool) = match map {
            Map::Average => {
                let mean = self.graph.node(AvgPool, &[source], label, area, t)[0];
                return self.gained(index, mean, area, t);
            }
            Map::Convolution { weight, bias, pool, .. } => (weight, bias, *pool),
            Map::Transposed { weight, bias, .. } => (weight, bias, 1),
        };
        let x = match pool {
            1 => source,
            _ => self.graph.node(MaxPool, &[source], &format!("{label}.pooled"), area, t)[0],
        };
        let mut inputs = vec![x];
        for name in std::iter::once(weight).chain(bias) {
            let parameter = self.parameter(name, area);
            inputs.push(self.gained(index, parameter, area, t));
        }
        let (bias, base) = (bias.is_some(), false);
        match *map {
            Map::Transposed { kernel: k, stride, .. } => {
                self.graph.node(ConvTranspose2d { k, stride, bias, base }, &inputs, label, area, t)[0]
            }
            Map::Convolution { kernel: k, stride, .. } => {
                self.graph.node(Conv2d { k, stride, bias, base }, &inputs, label, area, t)[0]
            }
            Map::Average => unreachable!("above"),
        }
    }

    /// z = b + s or b (1 + s): bottom-up drive with what lateral and top-down terms there are.
    fn mix(&mut self, area: &Area, bottom_up: &[ValueId], recurrent: &[ValueId], t: usize) -> ValueId {
        let name = |what: &str| format!("{}.{what}", area.name);
        let mut sum = |terms: &[ValueId], what: &str| match terms {
            [one] => *one,
            _ => self.graph.node(Add, terms, &name(what), &area.name, t)[0],
        };
        match area.interaction {
            _ if recurrent.is_empty() => sum(bottom_up, "z"),
            Interaction::Additive => sum(&[bottom_up, recurrent].concat(), "z"),
            Interaction::Multiplicative => {
                let (b, s) = (sum(bottom_up, "b"), sum(recurrent, "s"));
                self.graph.node(Modulate, &[b, s], &name("z"), &area.name, t)[0]
            }
        }
    }

    /// The norm of z, if there is one.
    fn norm(&mut self, area: &Area, z: ValueId, t: usize) -> ValueId {
        let Some(norm) = &area.norm else { return z };
        let (gamma, beta) = (self.parameter(&norm.weight, &area.name), self.parameter(&norm.bias, &area.name));
        let op = Norm { groups: norm.groups, per_channel: norm.per_channel, relu: false };
        self.graph.node(op, &[z, gamma, beta], &format!("{}.normed", area.name), &area.name, t)[0]
    }

    /// What the readout sees of the activation of its area, and the logits.
    fn readout(&mut self, source: ValueId, t: usize) -> [ValueId; 2] {
        let network = self.network;
        let readout = &network.readout;
        let x = match network.areas[readout.area].vector {
            true => source,
            false => self.graph.node(AvgPool, &[source], "readout.averaged", "readout", t)[0],
        };
        let mut inputs = vec![x];
        for name in std::iter::once(&readout.weight).chain(&readout.bias) {
            inputs.push(self.parameter(name, "readout"));
        }
        let op = Conv2d { k: 1, stride: 1, bias: readout.bias.is_some(), base: false };
        [x, self.graph.node(op, &inputs, "readout.z", "readout", t)[0]]
    }
}

/// Unrolls a network for batches of `batch` images. Recurrent terms whose source does not exist yet are absent, biases
/// included.
pub fn unroll(network: &Network, schedule: &Schedule, batch: usize) -> Unrolled {
    let (side, areas) = (network.image_size, network.areas.len());
    let mut b = Builder { network, schedule, graph: Graph::default(), parameters: BTreeMap::new(), gains: None };
    let normed = |from: From| matches!(from, From::Area(area) if network.areas[area].norm.is_some());
    let rounded = |a: &usize| network.areas[*a].norm.is_some() && network.into_area(*a).all(|c| normed(c.from));
    b.graph.rounded = (0..areas).filter(rounded).map(|a| network.areas[a].name.clone()).collect();
    let normalise = Normalise { side, images: batch };
    let input = |graph: &mut Graph, name: &str, shape: &[usize]| graph.value(name, shape, Origin::Input, "input", None);
    let pictures = input(&mut b.graph, "pictures", &[normalise.words()]);
    let table = input(&mut b.graph, "table", &[3, 256]);
    let labels = input(&mut b.graph, "labels", &[batch]);
    let next = schedule.shows_next().then(|| input(&mut b.graph, "next pictures", &[normalise.words()]));
    let blank = schedule.shown.contains(&Shown::Blank);
    let blank = blank.then(|| input(&mut b.graph, "blank", &[IMAGE_CHANNELS, side, side, batch]));
    let gains = schedule.gains.len() * schedule.timesteps;
    b.gains = (gains > 0).then(|| input(&mut b.graph, "gains", &[gains]));
    let x = b.graph.node(normalise, &[pictures, table], "x", "input", None)[0];
    let x_next = next.map(|next| b.graph.node(normalise, &[next, table], "x.next", "input", None)[0]);

    let mut drives: Vec<Vec<Option<ValueId>>> = vec![Vec::new(); areas];
    let mut activations = drives.clone();
    let (mut representations, mut logits, mut logprobs, mut scores) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut shown = Vec::new();
    for t in 0..schedule.timesteps {
        let picture = match schedule.shown[t] {
            Shown::Picture => x,
            Shown::Next => x_next.expect("made with the schedule"),
            Shown::Blank => blank.expect("made with the schedule"),
        };
        shown.push(Some(picture));
        for (a, area) in network.areas.iter().enumerate() {
            let (mut bottom_up, mut recurrent) = (Vec::new(), Vec::new());
            for (index, connection) in network.connections.iter().enumerate().filter(|(_, c)| c.to == a) {
                let delayed = connection.kind != Kind::BottomUp || network.unroll == Unroll::Biological;
                let source = match connection.from {
                    From::Input => Some(picture),
                    From::Area(from) if delayed => t.checked_sub(1).and_then(|before| activations[from][before]),
                    From::Area(from) => activations[from][t],
                };
                let Some(source) = source else { continue };
                let list = if connection.kind == Kind::BottomUp { &mut bottom_up } else { &mut recurrent };
                list.push((index, source));
            }
            if bottom_up.is_empty() {
                drives[a].push(None); // nothing has woken it yet
                activations[a].push(None);
                continue;
            }
            let mut terms = |list: Vec<(usize, ValueId)>| -> Vec<ValueId> {
                list.into_iter().map(|(index, source)| b.term(index, source, t)).collect()
            };
            let (bottom_up, recurrent) = (terms(bottom_up), terms(recurrent));
            let z = b.mix(area, &bottom_up, &recurrent, t);
            let drive = b.norm(area, z, t);
            let activation = match area.relu {
                true => b.graph.node(Relu, &[drive], &format!("{}.r", area.name), &area.name, t)[0],
                false => drive,
            };
            drives[a].push(Some(drive));
            activations[a].push(Some(activation));
        }
        let [x, z] = match activations[network.readout.area][t] {
            Some(source) => b.readout(source, t).map(Some),
            None => [None; 2],
        };
        representations.push(x);
        let judged = z.map(|z| b.graph.node(SoftmaxCe, &[z, labels], "readout.logprob", "readout", t));
        logits.push(z);
        logprobs.push(judged.as_ref().map(|outputs| outputs[0]));
        scores.push(judged.map(|outputs| outputs[1]));
    }
    let inputs = Inputs { pictures, next, blank, table, labels, gains: b.gains };
    let (graph, parameters) = (b.graph, b.parameters);
    Unrolled { graph, inputs, parameters, shown, drives, activations, representations, logits, logprobs, scores }
}
