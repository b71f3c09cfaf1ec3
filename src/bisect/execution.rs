//! One execution of a training step, operation by operation.

use super::Step;
use crate::engine::Engine;
use crate::gpu::{Gpu, Store, driver};
use crate::graph::compile::{Compiled, Request};
use crate::graph::passes::Passes;
use crate::kernels::View;
use crate::kernels::choose::Choices;
use crate::network::{Network, Schedule};
use crate::ops::{Op, ValueId};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// What tells one execution from another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Version of this program.
    pub version: String,
    /// The adapter.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
    /// Where the kernel variants come from.
    pub variants: String,
    /// Graph passes that are switched off.
    pub without: Vec<String>,
}

impl Side {
    /// An execution by this program.
    pub fn here(gpu: &Gpu, variants: &str, passes: Passes) -> Side {
        let Passes { hoist, fuse, fold, reuse } = passes;
        let off = Passes::NAMES.into_iter().zip([hoist, fuse, fold, reuse]).filter(|(_, on)| !on);
        Side {
            version: env!("CARGO_PKG_VERSION").into(),
            adapter: gpu.info.name.clone(),
            driver: driver(&gpu.info),
            variants: variants.into(),
            without: off.map(|(name, _)| name.into()).collect(),
        }
    }

    /// Whether the passes that shape the graph are the same; `reuse` moves buffers only.
    pub fn same_graph(&self, other: &Side) -> bool {
        let shaping = |side: &Side| -> Vec<String> { side.without.iter().filter(|p| *p != "reuse").cloned().collect() };
        shaping(self) == shaping(other)
    }
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Side { version, adapter, driver, variants, without } = self;
        write!(f, "{adapter}, {driver}, recurve {version}, kernel variants {variants}")?;
        if without.is_empty() { Ok(()) } else { write!(f, ", without {}", without.join(", ")) }
    }
}

/// How the meaning of a parameter's gradient begins.
const GRADIENT: &str = "gradient ";

/// What is said of a tensor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TensorFacts {
    /// Unique in its execution: `forward v2.z t=1`.
    #[serde(rename = "tensor")]
    pub name: String,
    /// The operation that writes it: `conv2d v2.z t=1`.
    pub operation: String,
    /// Area of the network.
    pub area: String,
    /// Timestep; none for what serves several.
    pub timestep: Option<usize>,
    /// Whether it is of the backward pass.
    pub backward: bool,
    /// Extents; maps are [channels, rows, columns, images].
    pub shape: Vec<usize>,
    /// What of the network it is, whatever the graph passes: `v2 activation t=1`, `gradient v2.lateral.weight`.
    pub stands_for: Vec<String>,
}

/// A tensor of an execution.
struct Traced {
    facts: TensorFacts,
    value: ValueId,
    view: View,
    /// The node that writes it.
    node: usize,
}

/// A training step on a device, which goes on as far as what is read of it needs.
pub struct Execution<'g> {
    /// What tells it from others.
    pub side: Side,
    engine: Engine<'g>,
    tensors: Vec<Traced>,
    /// Nodes that have run.
    done: usize,
    /// Hashes of what it was given.
    pub(super) given: BTreeMap<String, String>,
}

impl<'g> Execution<'g> {
    /// Compiles a step, feeds it, and stands before its first operation.
    ///
    /// # Errors
    /// What does not fit the adapter; kernels that the driver refuses; a lost device.
    pub async fn new(
        gpu: &'g Gpu,
        step: &Step,
        passes: Passes,
        choices: &Choices,
        variants: &str,
    ) -> Result<Execution<'g>> {
        let schedule = Schedule::plain(step.network.timesteps);
        let images = step.batch.labels.len();
        let request = Request { passes, choices, ..Request::training(&step.network, &schedule, images, &gpu.target) };
        let mut engine = Engine::new(gpu, &request, &mut Store::default()).await?;
        engine.set_parameters(&step.parameters)?;
        engine.set_normaliser(&step.normaliser);
        engine.set_hyper(&step.hyper, 1, 1.0).await?;
        engine.feed(&step.batch).await?;
        engine.weigh(step.batch.n, step.batch.whole, 1.0).await?;
        let tensors = tensors(&engine.compiled, &step.network);
        Ok(Execution { side: Side::here(gpu, variants, passes), engine, tensors, done: 0, given: step.hashes() })
    }

    /// All tensors that its operations write, in the order of the program.
    pub fn facts(&self) -> impl Iterator<Item = &TensorFacts> {
        self.tensors.iter().map(|tensor| &tensor.facts)
    }

    /// Of one of them.
    pub fn facts_of(&self, tensor: usize) -> &TensorFacts {
        &self.tensors[tensor].facts
    }

    pub(super) fn value_of(&self, tensor: usize) -> ValueId {
        self.tensors[tensor].value
    }

    /// What the operation that writes a tensor reads.
    pub(super) fn read_by(&self, tensor: usize) -> &[ValueId] {
        &self.engine.compiled.unrolled.graph.nodes[self.tensors[tensor].node].inputs
    }

    /// The numbers of a tensor, as the operation that completes it left them; operations up to that one are run. Tensors are
    /// asked for in order, as later operations may take the place.
    ///
    /// # Errors
    /// A lost device.
    pub async fn values(&mut self, tensor: usize) -> Result<Vec<f32>> {
        let Traced { view, node, ref facts, .. } = self.tensors[tensor];
        assert!(self.done <= node + 1, "{}: tensors are asked for in order", facts.name);
        while self.done <= node {
            let launches = self.engine.compiled.launches[self.done].clone();
            self.engine.recording().run_range(self.engine.gpu, launches);
            self.done += 1;
        }
        self.engine.read(view).await
    }

    /// Puts other numbers in the place of a tensor, which the operations after it read.
    pub fn replace(&self, tensor: usize, values: &[f32]) {
        self.engine.recording().write(self.engine.gpu, self.tensors[tensor].view, values);
    }

    /// Images of the step.
    pub fn images(&self) -> usize {
        self.engine.batch
    }

    /// Refuses another execution that was given other things.
    ///
    /// # Errors
    /// What differs.
    pub fn was_given(&self, other: &BTreeMap<String, String>, whose: &str) -> Result<()> {
        let differ = self.given.iter().filter(|(what, hash)| other.get(*what) != Some(hash));
        let differ: Vec<&str> = differ.map(|(what, _)| what.as_str()).collect();
        if differ.is_empty() {
            return Ok(());
        }
        Err(Error::Config(format!(
            "{whose} is of another step than this one: other {}; both need the same RUN and --checkpoint (or preset or \
             configuration), --data and --batch",
            differ.join(", ")
        )))
    }
}

impl TensorFacts {
    /// What its extents are, where that is known.
    pub fn extents(&self) -> &'static str {
        match self.shape.len() == 4 && !self.name.contains("weight") {
            true => "channel, row, column, image",
            false => "",
        }
    }
}

/// The tensors that the operations of a pass write, in its order.
fn tensors(compiled: &Compiled, network: &Network) -> Vec<Traced> {
    let graph = &compiled.unrolled.graph;
    let stands_for = meanings(compiled, network);
    let backward = graph.nodes.iter().position(|node| matches!(node.op, Op::SoftmaxCeDLogits(_)));
    let backward = backward.unwrap_or(graph.nodes.len());
    let mut met: HashMap<String, usize> = HashMap::new();
    let mut list = Vec::new();
    for (node, of) in graph.nodes.iter().enumerate() {
        for value in &of.outputs {
            let Some(view) = compiled.views[value.0] else { continue };
            let is = &graph.values[value.0];
            let stands_for = stands_for.get(value).cloned().unwrap_or_default();
            // The gradient of a parameter is of all timesteps, though its node carries the first.
            let timestep = is.timestep.filter(|_| !stands_for.iter().any(|what| what.starts_with(GRADIENT)));
            let time = timestep.map_or(String::new(), |t| format!(" t={t}"));
            let phase = if node < backward { "forward" } else { "backward" };
            let mut name = format!("{phase} {}{time}", is.name);
            let times = met.entry(name.clone()).and_modify(|times| *times += 1).or_insert(1);
            if *times > 1 {
                name += &format!(" #{times}");
            }
            let at = of.timestep.map_or(String::new(), |t| format!(" t={t}"));
            let operation = format!("{} {}{at}", of.op.name(), graph.values[of.outputs[0].0].name);
            let facts = TensorFacts {
                name,
                operation,
                area: is.area.clone(),
                timestep,
                backward: node >= backward,
                shape: is.shape.clone(),
                stands_for,
            };
            list.push(Traced { facts, value: *value, view, node });
        }
    }
    list
}

/// What of the network values are, whatever graph passes made of the rest.
fn meanings(compiled: &Compiled, network: &Network) -> HashMap<ValueId, Vec<String>> {
    let unrolled = &compiled.unrolled;
    let mut series: Vec<(String, &[Option<ValueId>])> = vec![
        ("shown".into(), &unrolled.shown),
        ("representation".into(), &unrolled.representations),
        ("logits".into(), &unrolled.logits),
        ("log-probabilities".into(), &unrolled.logprobs),
        ("scores".into(), &unrolled.scores),
    ];
    for (a, area) in network.areas.iter().enumerate() {
        series.push((format!("{} drive", area.name), &unrolled.drives[a]));
        series.push((format!("{} activation", area.name), &unrolled.activations[a]));
    }
    let mut meanings: HashMap<ValueId, Vec<String>> = HashMap::new();
    for (what, values) in series {
        for (t, value) in values.iter().enumerate().filter_map(|(t, value)| Some((t, (*value)?))) {
            meanings.entry(value).or_default().push(format!("{what} t={t}"));
        }
    }
    let places = &compiled.places;
    for (range, name) in places.learned.iter().enumerate() {
        let place = places.arenas.view(&places.gradients, range);
        // The node that writes a parameter's gradient last is the one that has its place.
        if let Some(value) = compiled.views.iter().position(|view| *view == Some(place)) {
            meanings.entry(ValueId(value)).or_default().push(format!("{GRADIENT}{name}"));
        }
    }
    meanings
}
