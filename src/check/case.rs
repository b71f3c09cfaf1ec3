//! A case: a small graph with its inputs, run on a device and held against the twins of its nodes.

use super::rows::{Operand, Shaped, row};
use super::run::run_graph;
use crate::Result;
use crate::gpu::Gpu;
use crate::graph::autodiff::differentiate;
use crate::graph::lower::lower;
use crate::graph::passes::drop_unused;
use crate::graph::precision::{half_a_unit, is_map, rounded};
use crate::graph::{Graph, Origin, ValueId};
use crate::kernels::choose::{Choices, Variant, wide_streams};
use crate::kernels::{Kernel, Program, Target};
use crate::ops::Op;
use crate::reference::golden::{Comparison, Results};
use crate::reference::random::normal;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// A graph with its inputs and what is read from it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Operation and shape.
    pub name: String,
    /// Operation and forced variant.
    pub kind: String,
    /// What is computed.
    pub graph: Graph,
    /// What the host writes. Of a case with gradients, the last is the gradient that arrives at the first result.
    pub inputs: Vec<(ValueId, Vec<f32>)>,
    /// What is compared: results, then gradients in the order of the inputs.
    pub wanted: Vec<(String, ValueId)>,
    /// Variants that are forced, or the table's.
    pub choices: Choices,
    /// Every value of the graph by the twins, made when it is first asked for.
    expected: Arc<OnceLock<Vec<Vec<f32>>>>,
}

/// Whether maps of this shape can be stored in f16.
fn in_pairs(shape: &[usize]) -> bool {
    is_map(shape) && shape[3].is_multiple_of(2)
}

impl Case {
    /// A case without nodes.
    pub fn new(kind: &str, name: &str) -> Case {
        Case {
            name: name.to_string(),
            kind: kind.to_string(),
            graph: Graph::default(),
            inputs: Vec::new(),
            wanted: Vec::new(),
            choices: Choices::default(),
            expected: Arc::default(),
        }
    }

    /// An operation and its gradients, on inputs that `change` makes of random ones; the last that it gets is the gradient that
    /// arrives, if there is one.
    pub fn of(kind: &str, name: &str, shaped: &Shaped, change: impl FnOnce(&mut [Vec<f32>])) -> Case {
        let row = row(&shaped.op);
        let count = row.differentiable(&shaped.op, shaped.inputs.len());
        let mut values = shaped.values(|input, count| normal(input as u64 + 1, count));
        let results = shaped.op.output_shapes(&shaped.shapes());
        let (d_shape, d_values) = row.upstream(&results[0]);
        if count > 0 {
            values.push(d_values);
        }
        change(&mut values);
        let mut case = Case::new(kind, name);
        let mut values = values.into_iter();
        let inputs: Vec<ValueId> =
            shaped.inputs.iter().zip(&mut values).map(|(shape, values)| case.input(shape, values)).collect();
        let outputs = case.results(shaped.op, &inputs);
        if let Some(d_values) = values.next() {
            let d = case.input(&d_shape, d_values);
            let wrt = &inputs[..count];
            let gradients = differentiate(&mut case.graph, &[(outputs[0], d)], wrt, true);
            for (i, gradient) in gradients.into_iter().enumerate() {
                case.want(&format!("d_input {i}"), gradient.expect("every input that the row names has a gradient"));
            }
        }
        case.finished()
    }

    /// An operation without its gradients, on random inputs.
    pub fn forward(kind: &str, name: &str, shaped: &Shaped) -> Case {
        let mut case = Case::new(kind, name);
        let values = shaped.values(|input, count| normal(input as u64 + 1, count));
        let inputs: Vec<ValueId> =
            shaped.inputs.iter().zip(values).map(|(shape, values)| case.input(shape, values)).collect();
        case.results(shaped.op, &inputs);
        case.finished()
    }

    /// An operation without its gradients, its maps in half precision, on random inputs that are rounded so.
    pub fn halved(kind: &str, name: &str, shaped: &Shaped) -> Case {
        let mut case = Case::in_f16(kind, &format!("{name} in f16"), shaped);
        // Kernels have odd sizes, so no weight is taken for a map of pairs of images.
        let gradients = shaped.op.lists().map_or(usize::MAX, |_| shaped.inputs.len()); // of weights
        for value in case.graph.values.iter_mut().take(gradients) {
            value.half = in_pairs(&value.shape);
        }
        case
    }

    /// The same with the first map alone in half precision, as where activations are packed and their gradients are not.
    pub fn packed(kind: &str, name: &str, shaped: &Shaped) -> Case {
        let mut case = Case::in_f16(kind, &format!("{name}, x in f16"), shaped);
        case.graph.values[0].half = in_pairs(&shaped.inputs[0]);
        case
    }

    /// An operation without its gradients, on random inputs that are rounded to f16.
    fn in_f16(kind: &str, name: &str, shaped: &Shaped) -> Case {
        let mut case = Case::new(kind, name);
        let values = shaped.values(|input, count| rounded(&normal(input as u64 + 1, count)));
        let inputs: Vec<ValueId> =
            shaped.inputs.iter().zip(values).map(|(shape, values)| case.input(shape, values)).collect();
        case.results(shaped.op, &inputs);
        case.finished()
    }

    /// The same case by a forced variant; both share what is expected.
    pub fn forced(&self, name: &str, variant: Variant) -> Case {
        Case { kind: format!("{name} {variant}"), choices: Choices::force(variant), ..self.clone() }
    }

    /// The kernels that it launches with these choices; none where it cannot be lowered.
    pub fn kernels(&self, target: &Target, choices: &Choices) -> Vec<Arc<Kernel>> {
        let lowered = lower(&self.graph, target, choices, Program::default(), &HashMap::new());
        lowered.map_or(Vec::new(), |l| l.program.launches.into_iter().map(|launch| launch.kernel).collect())
    }

    /// The same case with words of 64 bits loaded where its operations would not, or the other way round; none where that
    /// makes no difference.
    pub fn other_loads(&self, target: &Target) -> Option<Case> {
        let wide = !self.choices.wide(target);
        let choices = Choices { wide: Some(wide), ..self.choices.clone() };
        let kernels = |choices: &Choices| -> Vec<String> {
            self.kernels(target, choices).iter().map(|kernel| kernel.label()).collect()
        };
        let differs = wide_streams(target) && kernels(&choices) != kernels(&self.choices);
        let kind = format!("{} {}", self.kind, if wide { "wide" } else { "not wide" });
        differs.then(|| Case { kind, choices, ..self.clone() })
    }

    /// Adds an input.
    pub fn input(&mut self, shape: &[usize], values: Vec<f32>) -> ValueId {
        let value = self.graph.value(&format!("input {}", self.inputs.len()), shape, Origin::Input, "op", None);
        self.inputs.push((value, values));
        value
    }

    /// Adds an input of random values.
    pub fn random(&mut self, shape: &[usize]) -> ValueId {
        let values = normal(100 + self.inputs.len() as u64, shape.iter().product());
        self.input(shape, values)
    }

    /// Adds an operation of which all results are compared: `y`, `y.1`, ...
    fn results(&mut self, op: Op, inputs: &[ValueId]) -> Vec<ValueId> {
        let outputs = self.node(op, inputs);
        for (i, &value) in outputs.iter().enumerate() {
            let name = if i == 0 { "y".to_string() } else { format!("y.{i}") };
            self.want(&name, value);
        }
        outputs
    }

    /// Adds an operation.
    pub fn node(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> Vec<ValueId> {
        self.graph.node(op, inputs, "y", "op", 0)
    }

    /// Compares a value under a name.
    pub fn want(&mut self, name: &str, value: ValueId) {
        self.wanted.push((name.to_string(), value));
    }

    /// What is not wanted is not computed, nor is what that alone would read written.
    pub fn finished(mut self) -> Case {
        self.graph.outputs = self.wanted.iter().map(|(_, value)| *value).collect();
        drop_unused(&mut self.graph);
        let uses = self.graph.uses();
        self.inputs.retain(|(value, _)| uses[value.0] > 0);
        self
    }

    /// Results on the device, by name.
    ///
    /// # Errors
    /// What the device says.
    pub async fn run(&self, gpu: &Gpu) -> Result<Results> {
        let values: Vec<Vec<f32>> = self.inputs.iter().map(|(_, values)| values.clone()).collect();
        self.run_with(gpu, &values).await
    }

    /// The same with other values of the inputs.
    ///
    /// # Errors
    /// What the device says.
    pub async fn run_with(&self, gpu: &Gpu, values: &[Vec<f32>]) -> Result<Results> {
        let words = values.iter().map(|v| v.iter().map(|x| x.to_bits()).collect());
        let inputs: Vec<(ValueId, Vec<u32>)> = self.inputs.iter().map(|(value, _)| *value).zip(words).collect();
        let wanted: Vec<ValueId> = self.wanted.iter().map(|(_, value)| *value).collect();
        let read = run_graph(gpu, &self.graph, &self.choices, &inputs, &wanted).await?;
        Ok(self.wanted.iter().map(|(name, _)| name.clone()).zip(read).collect())
    }

    /// Every value of the graph by the twins, node after node.
    fn expected(&self) -> &[Vec<f32>] {
        self.expected.get_or_init(|| {
            let mut values = vec![Vec::new(); self.graph.values.len()];
            for (value, list) in &self.inputs {
                values[value.0] = self.stored(*value, list);
            }
            for node in &self.graph.nodes {
                let shapes: Vec<&[usize]> = node.outputs.iter().map(|&v| self.shape(v)).collect();
                let read: Vec<Vec<f32>> = node.inputs.iter().map(|&v| self.stored(v, &values[v.0])).collect();
                let operands: Vec<Operand> = node
                    .inputs
                    .iter()
                    .zip(&read)
                    .map(|(&v, values)| Operand { shape: self.shape(v), values })
                    .collect();
                let results = row(&node.op).twin(&node.op, &operands, &shapes);
                node.outputs.iter().zip(results).for_each(|(v, result)| values[v.0] = result);
            }
            values
        })
    }

    /// Numbers as they are once they have been stored as that value is.
    fn stored(&self, value: ValueId, list: &[f32]) -> Vec<f32> {
        if self.graph.values[value.0].half { rounded(list) } else { list.to_vec() }
    }

    fn shape(&self, value: ValueId) -> &[usize] {
        &self.graph.values[value.0].shape
    }

    fn operands<'a>(&'a self, list: &[ValueId], values: &'a [Vec<f32>]) -> Vec<Operand<'a>> {
        list.iter().map(|&v| Operand { shape: self.shape(v), values: &values[v.0] }).collect()
    }

    /// What is expected of each wanted value, with the error allowed for each element: what the row of its operation says,
    /// none where the value is an input itself.
    pub fn wanted_values<'a>(&'a self) -> Vec<(&'a str, &'a [f32], Vec<f64>)> {
        let (values, producers) = (self.expected(), self.graph.producers());
        let one = |(name, value): &'a (String, ValueId)| {
            let expected = &values[value.0][..];
            let allowed = match producers[value.0].map(|node| &self.graph.nodes[node]) {
                Some(node) => {
                    let result = node.outputs.iter().position(|v| v == value).expect("its own");
                    row(&node.op).allowed(&node.op, &self.operands(&node.inputs, values), result, expected)
                }
                None => vec![0.0; expected.len()],
            };
            let allowed = match self.graph.values[value.0].half {
                true => expected.iter().zip(allowed).map(|(v, error)| error + half_a_unit(*v)).collect(),
                false => allowed,
            };
            (name.as_str(), expected, allowed)
        };
        self.wanted.iter().map(one).collect()
    }

    /// Compares results with the expected ones.
    pub fn compare(&self, found: &Results) -> Vec<Comparison> {
        let wanted = self.wanted_values().into_iter();
        wanted.map(|(name, expected, allowed)| Comparison::of(name, expected, &found[name], &allowed)).collect()
    }
}
