//! From the network's description to a graph unrolled over all timesteps, as the published code computes it: every
//! area at every step. What does not change over time is merged by a pass, not here.

use super::{Graph, Origin, ValueId};
use crate::network::{AREAS, IMAGE_CHANNELS, Interaction, NetworkConfig, Norm as NormKind, parameters};
use crate::ops::{Norm, Op};
use std::collections::BTreeMap;

/// A network as a graph, with the values by which it is fed and read.
#[derive(Clone, Debug)]
pub struct Network {
    /// The graph.
    pub graph: Graph,
    /// Pictures [3, rows, columns, images], normalised.
    pub x: ValueId,
    /// Labels \[images\], `u32`.
    pub labels: ValueId,
    /// Parameters in the order of [`parameters()`]; `None` for those that take no part.
    pub parameters: Vec<Option<ValueId>>,
    /// Activations after ReLU by area (`retina`, `v1` … `it`, `gap`), one per timestep.
    pub activations: BTreeMap<String, Vec<ValueId>>,
    /// Input of the softmax, per timestep: [classes, 1, 1, images].
    pub logits: Vec<ValueId>,
    /// Clamped log-probabilities, per timestep.
    pub logprobs: Vec<ValueId>,
    /// Loss and correctness [2, images], per timestep.
    pub scores: Vec<ValueId>,
}

impl Network {
    /// Follows renamings of values by a pass.
    pub fn rename(&mut self, of: impl Fn(ValueId) -> ValueId) {
        let lists = self.activations.values_mut().flatten().chain(&mut self.logits).chain(&mut self.logprobs);
        lists.chain(&mut self.scores).for_each(|v| *v = of(*v));
    }
}

struct Builder<'a> {
    config: &'a NetworkConfig,
    graph: Graph,
    by_name: BTreeMap<String, ValueId>,
}

impl Builder<'_> {
    fn parameter(&self, name: &str) -> Option<ValueId> {
        self.by_name.get(name).copied()
    }

    /// A linear map with its weight `name.weight` and, where there is one, its bias; `None` if the network has no such
    /// map or nothing to apply it to.
    fn map(&mut self, name: &str, x: Option<ValueId>, output: &str, area: &str, t: usize) -> Option<ValueId> {
        let (weight, x) = (self.parameter(&format!("{name}.weight"))?, x?);
        let bias = self.parameter(&format!("{name}.bias"));
        let shape = &self.graph.values[weight.0].shape;
        let k = shape.get(2).copied().unwrap_or(1);
        let op = if name.ends_with("top_down") {
            Op::ConvTranspose2d { k, bias: bias.is_some(), base: false }
        } else {
            Op::Conv2d { k, bias: bias.is_some(), base: false }
        };
        let inputs: Vec<ValueId> = [Some(x), Some(weight), bias].into_iter().flatten().collect();
        Some(self.graph.node(op, &inputs, output, area, t)[0])
    }

    /// z = b + l + u or b * (1 + l + u), with whichever of l and u exist.
    fn mix(&mut self, b: ValueId, drives: &[Option<ValueId>], area: &str, t: usize) -> ValueId {
        let present: Vec<ValueId> = drives.iter().flatten().copied().collect();
        let name = format!("{area}.z");
        match (self.config.interaction, &present[..]) {
            (_, []) => b,
            (Interaction::Additive, _) => self.graph.node(Op::Add, &[vec![b], present].concat(), &name, area, t)[0],
            (Interaction::Multiplicative, [one]) => self.graph.node(Op::Modulate, &[b, *one], &name, area, t)[0],
            (Interaction::Multiplicative, _) => {
                let s = self.graph.node(Op::Add, &present, &format!("{area}.s"), area, t)[0];
                self.graph.node(Op::Modulate, &[b, s], &name, area, t)[0]
            }
        }
    }

    /// r = relu(norm(z)).
    fn rectify(&mut self, z: ValueId, area: &str, t: usize) -> ValueId {
        let per_channel = self.config.norm == NormKind::Group;
        let groups = if per_channel { self.config.groups } else { 1 };
        let z = match self.parameter(&format!("{area}_ln.weight")) {
            None => z,
            Some(gamma) => {
                let beta = self.parameter(&format!("{area}_ln.bias")).expect("a norm has both");
                let op = Op::Norm(Norm { groups, per_channel, relu: false });
                self.graph.node(op, &[z, gamma, beta], &format!("{area}.normed"), area, t)[0]
            }
        };
        self.graph.node(Op::Relu, &[z], &format!("{area}.r"), area, t)[0]
    }
}

/// Unrolls a network over its timesteps for batches of `batch` images. V1 gets its recurrent drive only with
/// `recurrent_from = "v1"`; recurrent terms are absent at t = 0, biases included.
pub fn unroll(config: &NetworkConfig, batch: usize) -> Network {
    let mut b = Builder { config, graph: Graph::default(), by_name: BTreeMap::new() };
    let side = config.image_size;
    let x = b.graph.value("x", &[IMAGE_CHANNELS, side, side, batch], Origin::Input, "input", None);
    let labels = b.graph.value("labels", &[batch], Origin::Input, "input", None);
    let mut values = Vec::new();
    for spec in parameters(config) {
        if !spec.used {
            values.push(None);
            continue;
        }
        let area = spec.name.split(['.', '_']).next().expect("names are not empty");
        let value = b.graph.value(&spec.name, &spec.shape, Origin::Parameter, area, None);
        b.by_name.insert(spec.name.clone(), value);
        values.push(Some(value));
    }

    let mut activations: BTreeMap<String, Vec<ValueId>> = BTreeMap::new();
    let (mut logits, mut logprobs, mut scores) = (Vec::new(), Vec::new(), Vec::new());
    for t in 0..config.timesteps {
        // What an area was one step ago; absent at t = 0.
        let before = |a: &BTreeMap<String, Vec<ValueId>>, area: &str| a.get(area).filter(|_| t > 0).map(|r| r[t - 1]);
        let drive = b.map("retina", Some(x), "retina.z", "retina", t).expect("every network has a retina");
        let mut signal = b.graph.node(Op::Relu, &[drive], "retina.r", "retina", t)[0];
        activations.entry("retina".into()).or_default().push(signal);
        for (a, area) in AREAS.iter().enumerate() {
            if a > 0 {
                signal = b.graph.node(Op::MaxPool, &[signal], &format!("{area}.pooled"), area, t)[0];
            }
            let name = |map: &str| format!("{area}.{map}");
            let bottom_up = b.map(&name("bottom_up"), Some(signal), &name("b"), area, t).expect("every area has one");
            let lateral = b.map(&name("lateral"), before(&activations, area), &name("l"), area, t);
            let above = AREAS.get(a + 1).and_then(|above| before(&activations, above));
            let top_down = b.map(&name("top_down"), above, &name("u"), area, t);
            let z = b.mix(bottom_up, &[lateral, top_down], area, t);
            signal = b.rectify(z, area, t);
            activations.entry(area.to_string()).or_default().push(signal);
        }
        let pooled = b.graph.node(Op::AvgPool, &[signal], "gap.b", "gap", t)[0];
        let lateral = b.map("gap.lateral", before(&activations, "gap"), "gap.l", "gap", t);
        let z = b.mix(pooled, &[lateral], "gap", t);
        let gap = b.rectify(z, "gap", t);
        activations.entry("gap".into()).or_default().push(gap);
        let z = b.map("readout", Some(gap), "readout.z", "readout", t).expect("every network has a readout");
        let loss = b.graph.node(Op::SoftmaxCe, &[z, labels], "readout.logprob", "readout", t);
        logits.push(z);
        logprobs.push(loss[0]);
        scores.push(loss[1]);
    }
    Network { graph: b.graph, x, labels, parameters: values, activations, logits, logprobs, scores }
}
