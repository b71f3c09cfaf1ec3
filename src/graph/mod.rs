//! Pure Rust: the unrolled graph, reverse mode, passes, memory plan. Never imports wgpu.
//!
//! A graph is a list of nodes in an order in which they can run; every value is written by one node. Maps have the
//! shape [channels, rows, columns, images] (image innermost, see `shaders/conv2d.wgsl`), vectors of a layer
//! [channels, 1, 1, images].

pub mod autodiff;
pub mod buckets;
pub mod budget;
pub mod build;
pub mod checker;
pub mod compile;
pub mod dot;
pub mod fit;
pub mod lower;
pub mod passes;
pub mod plan;
pub mod precision;
pub mod recompute;
pub mod taps;

use crate::ops::Op;
pub use crate::ops::ValueId;
use std::collections::BTreeSet;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Written by the host before each run.
    Input,
    /// A parameter of the network.
    Parameter,
    /// Computed by a node.
    Node,
}

/// A tensor.
#[derive(Clone, Debug)]
pub struct Value {
    /// `v2.r` for the output of V2; the name of the state dict for parameters.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Where it comes from.
    pub origin: Origin,
    /// Area of the network.
    pub area: String,
    /// Timestep, for what changes over time.
    pub timestep: Option<usize>,
    /// Whether it is stored in half precision (see [`precision`]).
    pub half: bool,
}

impl Value {
    /// Number of elements.
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes in which it is stored.
    pub fn bytes(&self) -> u64 {
        if self.half { 2 * self.count() as u64 } else { 4 * self.count() as u64 }
    }
}

/// An operation applied to values.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// In the order that the op documents.
    pub inputs: Vec<ValueId>,
    /// In the order that the op documents.
    pub outputs: Vec<ValueId>,
    /// Area of the network.
    pub area: String,
    /// Timestep at which the network asks for it; none for what is done once.
    pub timestep: Option<usize>,
}

/// A computation as data.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// All tensors.
    pub values: Vec<Value>,
    /// All operations, in running order.
    pub nodes: Vec<Node>,
    /// Values that the host reads after a run.
    pub outputs: Vec<ValueId>,
    /// Areas in which convolutions may leave rounding noise in place of an exact 0: a norm follows, forward and backward,
    /// after which nothing is exactly 0. Elsewhere noise could open a rectification, or move a weight that nothing should
    /// move.
    pub rounded: BTreeSet<String>,
}

impl Graph {
    /// Adds a tensor.
    pub fn value(&mut self, name: &str, shape: &[usize], origin: Origin, area: &str, t: Option<usize>) -> ValueId {
        let (name, shape, area) = (name.to_string(), shape.to_vec(), area.to_string());
        self.values.push(Value { name, shape, origin, area, timestep: t, half: false });
        ValueId(self.values.len() - 1)
    }

    /// Adds a node; the outputs are named `name` (then `name.1`, …) and get their shapes from the op. Panics if the
    /// inputs do not fit: networks are checked when their configuration is read.
    pub fn node(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        name: &str,
        area: &str,
        timestep: impl Into<Option<usize>>,
    ) -> Vec<ValueId> {
        let timestep = timestep.into();
        let op = op.into();
        let shapes: Vec<&[usize]> = inputs.iter().map(|v| &self.values[v.0].shape[..]).collect();
        let shapes = op.output_shapes(&shapes);
        let outputs: Vec<ValueId> = shapes
            .iter()
            .enumerate()
            .map(|(i, shape)| {
                let name = if i == 0 { name.to_string() } else { format!("{name}.{i}") };
                self.value(&name, shape, Origin::Node, area, timestep)
            })
            .collect();
        self.nodes.push(Node {
            op,
            inputs: inputs.to_vec(),
            outputs: outputs.clone(),
            area: area.to_string(),
            timestep,
        });
        outputs
    }

    /// How many nodes read each value (outputs of the graph count once more).
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.values.len()];
        for value in self.nodes.iter().flat_map(|n| &n.inputs).chain(&self.outputs) {
            uses[value.0] += 1;
        }
        uses
    }

    /// Whether the host reads each value after a run.
    pub fn is_output(&self) -> Vec<bool> {
        let mut is_output = vec![false; self.values.len()];
        self.outputs.iter().for_each(|v| is_output[v.0] = true);
        is_output
    }

    /// The index of the node that writes each value.
    pub fn producers(&self) -> Vec<Option<usize>> {
        let mut producers = vec![None; self.values.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            for output in &node.outputs {
                producers[output.0] = Some(i);
            }
        }
        producers
    }
}
