//! Reverse-mode differentiation of an unrolled graph: backpropagation through time is ordinary reverse traversal.

use super::{Graph, ValueId};
use crate::ops::{Add, Call, Op};
use std::collections::{BTreeMap, HashMap};

/// What one use of a parameter contributes to its gradient, not yet evaluated.
struct Use {
    op: Op,
    output: usize,
    inputs: Vec<ValueId>,
    area: String,
    timestep: Option<usize>,
}

/// The state of a reverse traversal.
struct Tape<'a> {
    /// The graph that is being extended.
    graph: &'a mut Graph,
    contributions: BTreeMap<ValueId, Vec<ValueId>>,
    uses: BTreeMap<ValueId, Vec<Use>>,
    differentiable: Vec<bool>,
    here: (String, Option<usize>),
}

impl crate::ops::Tape for Tape<'_> {
    fn shape(&self, value: ValueId) -> &[usize] {
        &self.graph.values[value.0].shape
    }

    fn name(&self, value: ValueId) -> &str {
        &self.graph.values[value.0].name
    }

    fn needs(&self, value: ValueId) -> bool {
        self.differentiable.get(value.0).is_some_and(|&d| d)
    }

    fn emit(&mut self, op: Op, inputs: &[ValueId], name: &str) -> Vec<ValueId> {
        let (area, timestep) = &self.here;
        self.graph.node(op, inputs, &format!("{area}.{name}"), area, *timestep)
    }

    fn add(&mut self, value: ValueId, gradient: ValueId) {
        if self.needs(value) {
            self.contributions.entry(value).or_default().push(gradient);
        }
    }

    fn parameter(&mut self, parameter: ValueId, op: Op, output: usize, inputs: &[ValueId]) {
        if self.needs(parameter) {
            let (area, timestep) = self.here.clone();
            let inputs = inputs.to_vec();
            self.uses.entry(parameter).or_default().push(Use { op, output, inputs, area, timestep });
        }
    }
}

impl Tape<'_> {
    /// The sum of the contributions to `value` so far.
    fn total(&mut self, value: ValueId) -> Option<ValueId> {
        let list = self.contributions.remove(&value)?;
        if list.len() == 1 {
            return Some(list[0]);
        }
        let value = &self.graph.values[value.0];
        let (name, area, timestep) = (format!("d_{}", value.name), value.area.clone(), value.timestep.unwrap_or(0));
        Some(self.graph.node(Add, &list, &name, &area, timestep)[0])
    }
}

/// Extends `graph` by the gradients of `wrt`, given gradients of some values (`seeds`: value, its gradient; a
/// `softmax_ce` output is seeded with itself). Returns the gradient of each of `wrt`, `None` where nothing depends on
/// it.
///
/// With `fold`, a parameter that is used at several timesteps gets its gradient from one node that reduces over all of
/// them; else from one node each and a sum.
pub fn differentiate(
    graph: &mut Graph,
    seeds: &[(ValueId, ValueId)],
    wrt: &[ValueId],
    fold: bool,
) -> Vec<Option<ValueId>> {
    let mut differentiable = vec![false; graph.values.len()];
    for value in wrt {
        differentiable[value.0] = true;
    }
    for node in &graph.nodes {
        if node.inputs.iter().any(|v| differentiable[v.0]) {
            node.outputs.iter().for_each(|v| differentiable[v.0] = true);
        }
    }
    let forward = graph.nodes.clone();
    let (contributions, uses, here) = (BTreeMap::new(), BTreeMap::new(), (String::new(), None));
    let mut tape = Tape { graph, contributions, uses, differentiable, here };
    for (value, seed) in seeds {
        tape.contributions.entry(*value).or_default().push(*seed);
    }
    for node in forward.iter().rev() {
        if !node.outputs.iter().any(|v| tape.contributions.contains_key(v)) {
            continue;
        }
        tape.here = (node.area.clone(), node.timestep);
        let d_outputs: Vec<Option<ValueId>> = node.outputs.iter().map(|&v| tape.total(v)).collect();
        node.op.gradient(&mut tape, Call { inputs: &node.inputs, outputs: &node.outputs }, &d_outputs);
    }

    // Gradients of parameters. Uses were met from the last timestep to the first, and are summed in this order, in which their
    // gradients come: so they can be summed as they come.
    // gamma and beta of a norm come from one node; parameters of their own get nodes of their own.
    let mut evaluated: HashMap<(Op, Vec<ValueId>), Vec<ValueId>> = HashMap::new();
    wrt.iter()
        .map(|&parameter| {
            let Some(list) = tape.uses.remove(&parameter) else { return tape.total(parameter) };
            let name = format!("d_{}", tape.graph.values[parameter.0].name);
            // One operation each: where something else reads a norm at some steps, its ReLU is apart at these alone.
            let groups: Vec<&[Use]> = match fold {
                true => list.chunk_by(|a, b| a.op == b.op).collect(),
                false => list.chunks(1).collect(),
            };
            for group in groups {
                let arity = group[0].inputs.len();
                let inputs: Vec<ValueId> = (0..arity).flat_map(|i| group.iter().map(move |u| u.inputs[i])).collect();
                let (area, t) = (&group[0].area, group[0].timestep);
                let graph = &mut tape.graph;
                let mut node = || graph.node(group[0].op, &inputs, &name, area, t);
                let outputs = match group[0].op {
                    op @ Op::NormDAffine(_) => evaluated.entry((op, inputs.clone())).or_insert_with(node).clone(),
                    _ => node(),
                };
                tape.contributions.entry(parameter).or_default().push(outputs[group[0].output]);
            }
            tape.total(parameter)
        })
        .collect()
}
