//! What `bench kernels` measures: operations in the shapes in which a preset's training step runs them, or in shapes given by
//! the user. A case is one node of a graph with its operands placed as in the step, so that it is lowered to the same
//! launches.

use crate::check::rows::{Operand, ROWS, Shaped, Sizes, row};
use crate::graph::compile::{Compiled, Request, compile};
use crate::graph::lower::{Lowered, lower};
use crate::graph::{Graph, Node, Origin, ValueId};
use crate::kernels::choose::{Choices, ConvOp, Variant, variants};
use crate::kernels::{BufferSpec, Program, Role, Target, View, align};
use crate::network::{Preset, Schedule};
use crate::ops::{
    Conv2d, Conv2dDInput, Conv2dDWeight, ConvTranspose2d, ConvTranspose2dDInput, ConvTranspose2dDWeight, Op,
};
use crate::reference::random::normal;
use crate::{Error, Result};
use std::collections::HashMap;

/// An operation in a shape.
pub struct Case {
    /// Name of the operation.
    pub op: &'static str,
    /// Sizes and flags; the same operation and shape is the same case.
    pub shape: String,
    /// How often a step runs it.
    pub uses: usize,
    /// Arguments of `recurve bench kernels` that give this case among others.
    pub from: String,
    /// The node, alone in its graph.
    placed: Placed,
}

/// A graph of one node; where its operands lie.
struct Placed {
    graph: Graph,
    /// Distinct inputs: value, buffer, bytes from the buffer's start.
    inputs: Vec<(ValueId, usize, u64)>,
    /// Bytes of the buffers of the inputs.
    buffers: Vec<u64>,
}

/// A case as launches.
pub struct Prepared {
    /// Buffers and launches.
    pub program: Program,
    /// Places and contents of the distinct inputs.
    pub inputs: Vec<(View, Vec<f32>)>,
    /// Places of the results.
    pub outputs: Vec<View>,
}

impl Placed {
    /// The node of a graph whose values lie at `views`: values of lists keep their distances, all others get a buffer of
    /// their own.
    fn new(graph: &Graph, node: &Node, views: Option<&[Option<View>]>) -> Placed {
        let folded = node.op.lists().is_some();
        let mut alone = Graph::default();
        let mut known: HashMap<ValueId, ValueId> = HashMap::new();
        let mut inputs: Vec<(ValueId, usize, u64)> = Vec::new();
        let mut buffers: Vec<u64> = Vec::new();
        let mut series: HashMap<usize, (usize, u64)> = HashMap::new(); // buffer of the step -> buffer here, its first byte there
        let view_of = |v: ValueId| views.and_then(|views| views[v.0]).filter(|_| folded);
        for &v in &node.inputs {
            if known.contains_key(&v) {
                continue;
            }
            let value = &graph.values[v.0];
            let new = alone.value(&value.name, &value.shape, Origin::Input, "bench", value.timestep);
            known.insert(v, new);
            let bytes = align(4 * value.count() as u64);
            let (buffer, offset) = match view_of(v) {
                Some(view) => {
                    let first = || {
                        let same = node.inputs.iter().filter_map(|&o| view_of(o)).filter(|o| o.buffer == view.buffer);
                        same.map(|o| o.offset).min().expect("itself")
                    };
                    let (buffer, first) = *series.entry(view.buffer.0).or_insert_with(|| {
                        buffers.push(0);
                        (buffers.len() - 1, first())
                    });
                    (buffer, view.offset - first)
                }
                None => {
                    buffers.push(0);
                    (buffers.len() - 1, 0)
                }
            };
            buffers[buffer] = buffers[buffer].max(offset + bytes);
            inputs.push((new, buffer, offset));
        }
        let outputs: Vec<ValueId> = node
            .outputs
            .iter()
            .map(|v| {
                let value = &graph.values[v.0];
                alone.value(&value.name, &value.shape, Origin::Node, "bench", value.timestep)
            })
            .collect();
        let inputs_of_node = node.inputs.iter().map(|v| known[v]).collect();
        alone.outputs = outputs.clone();
        alone.nodes.push(Node { op: node.op, inputs: inputs_of_node, outputs, area: "bench".into(), timestep: None });
        Placed { graph: alone, inputs, buffers }
    }

    fn node(&self) -> &Node {
        &self.graph.nodes[0]
    }

    fn shape_of(&self, v: ValueId) -> &[usize] {
        &self.graph.values[v.0].shape
    }

    /// Shapes of inputs and outputs.
    fn shapes(&self) -> (Vec<&[usize]>, Vec<&[usize]>) {
        let of = |values: &[ValueId]| values.iter().map(|&v| self.shape_of(v)).collect();
        (of(&self.node().inputs), of(&self.node().outputs))
    }

    /// All that makes this case another than a second one.
    fn key(&self) -> String {
        let node = self.node();
        let shapes: Vec<&[usize]> = node.inputs.iter().chain(&node.outputs).map(|&v| self.shape_of(v)).collect();
        let places: Vec<(usize, u64)> = self.inputs.iter().map(|&(_, buffer, offset)| (buffer, offset)).collect();
        format!("{:?} {shapes:?} {:?} {places:?}", node.op, node.inputs)
    }

    /// The launches and where all values lie.
    fn lowered(&self, target: &Target, choices: &Choices) -> Result<(Lowered, HashMap<ValueId, View>)> {
        let mut program = Program::default();
        let mut buffer = |name: &str, bytes: u64, role: Role| {
            program.buffer(BufferSpec { name: name.into(), bytes, role, area: "bench".into(), timestep: None })
        };
        // What is written over is kept from run to run.
        let role = if self.node().op.in_place().is_empty() { Role::Input } else { Role::Persistent };
        let named = |(i, &bytes): (usize, &u64)| buffer(&format!("input {i}"), bytes, role);
        let ids: Vec<_> = self.buffers.iter().enumerate().map(named).collect();
        let bytes = |v: ValueId| 4 * self.graph.values[v.0].count() as u64;
        let mut placed = HashMap::new();
        for &(v, buffer, offset) in &self.inputs {
            placed.insert(v, View { buffer: ids[buffer], offset, bytes: bytes(v), half: false });
        }
        for &v in &self.node().outputs[self.node().op.in_place().len()..] {
            let buffer = buffer("output", align(bytes(v)), Role::Output);
            placed.insert(v, View { buffer, offset: 0, bytes: bytes(v), half: false });
        }
        let lowered = lower(&self.graph, target, choices, program, &placed)?;
        placed.extend(self.node().outputs.iter().map(|&v| (v, lowered.view(v))));
        Ok((lowered, placed))
    }

    fn prepared(&self, target: &Target, choices: &Choices) -> Result<Prepared> {
        let (Lowered { program, .. }, placed) = self.lowered(target, choices)?;
        let node = self.node();
        let shapes: Vec<&[usize]> = node.inputs.iter().map(|&v| self.shape_of(v)).collect();
        let mut values = self.values(&shapes);
        let one = |&(v, ..): &(ValueId, usize, u64)| {
            let place = node.inputs.iter().position(|&i| i == v).expect("an input of the node");
            (placed[&v], std::mem::take(&mut values[place]))
        };
        let inputs = self.inputs.iter().map(one).collect();
        let outputs = node.outputs.iter().map(|v| placed[v]).collect();
        Ok(Prepared { program, inputs, outputs })
    }

    /// Contents of all inputs of the node; what is one value has one content.
    fn values(&self, shapes: &[&[usize]]) -> Vec<Vec<f32>> {
        let node = self.node();
        let random = |v: &ValueId| normal(v.0 as u64 + 1, self.graph.values[v.0].count());
        let mut values: Vec<Vec<f32>> = node.inputs.iter().map(random).collect();
        row(&node.op).prepare(&node.op, shapes, &mut values);
        values
    }

    /// Largest relative difference between results and twin.
    fn error(&self, results: &[Vec<f32>]) -> f64 {
        let node = self.node();
        let shapes: Vec<&[usize]> = node.inputs.iter().map(|&v| self.shape_of(v)).collect();
        let values = self.values(&shapes);
        let inputs: Vec<Operand> =
            shapes.iter().zip(&values).map(|(shape, values)| Operand { shape, values }).collect();
        let outputs: Vec<Operand> =
            node.outputs.iter().zip(results).map(|(&v, values)| Operand { shape: self.shape_of(v), values }).collect();
        row(&node.op).error(&node.op, &inputs, &outputs)
    }
}

impl Case {
    fn of(placed: Placed, uses: usize, from: &str) -> Case {
        let (op, shape) = (placed.node().op.name(), describe(&placed));
        Case { op, shape, uses, from: from.into(), placed }
    }

    /// `op/shape`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.op, self.shape)
    }

    /// The variants that can serve the operation: Winograd's method has none of stride 2.
    pub fn variants(&self, target: &Target) -> Vec<Variant> {
        let (op, k, stride) = match self.placed.node().op {
            Op::Conv2d(Conv2d { k, stride, .. }) => (ConvOp::Conv2d, k, stride),
            Op::Conv2dDInput(Conv2dDInput { k, stride: 1, .. }) => (ConvOp::Conv2d, k, 1),
            Op::Conv2dDInput(Conv2dDInput { k, stride, .. }) => (ConvOp::ConvTranspose2d, k, stride),
            Op::ConvTranspose2dDInput(ConvTranspose2dDInput { k, stride, .. }) => (ConvOp::Conv2d, k, stride),
            Op::ConvTranspose2d(ConvTranspose2d { k, stride, .. }) => (ConvOp::ConvTranspose2d, k, stride),
            Op::Conv2dDWeight(Conv2dDWeight { k, stride, .. }) => (ConvOp::Conv2dDWeight, k, stride),
            Op::ConvTranspose2dDWeight(ConvTranspose2dDWeight { k, stride }) => (ConvOp::Conv2dDWeight, k, stride),
            _ => return Vec::new(),
        };
        variants(target, op, k, stride)
    }

    /// The variant that serves the operation, if it is one that has variants.
    ///
    /// # Errors
    /// When naga refuses a variant.
    pub fn variant(&self, target: &Target, choices: &Choices) -> Result<Option<Variant>> {
        Ok(self.placed.lowered(target, choices)?.0.uses.values().next().map(|used| used.variant))
    }

    /// Launches alone.
    ///
    /// # Errors
    /// When naga refuses a variant.
    pub fn program(&self, target: &Target, choices: &Choices) -> Result<Program> {
        Ok(self.placed.lowered(target, choices)?.0.program)
    }

    /// Launches and contents.
    ///
    /// # Errors
    /// When naga refuses a variant.
    pub fn prepared(&self, target: &Target, choices: &Choices) -> Result<Prepared> {
        self.placed.prepared(target, choices)
    }

    /// Largest difference between results and twin, relative to the largest result.
    pub fn error(&self, results: &[Vec<f32>]) -> f64 {
        self.placed.error(results)
    }

    /// Bytes of all operands, each counted once; what is written over an operand counts again.
    pub fn bytes(&self) -> f64 {
        let values = self.placed.inputs.iter().map(|i| i.0).chain(self.placed.node().outputs.iter().copied());
        values.map(|v| 4.0 * self.placed.graph.values[v.0].count() as f64).sum()
    }

    /// Additions and multiplications: see [`Operation::flops`].
    ///
    /// [`Operation::flops`]: crate::ops::Operation::flops
    pub fn flops(&self) -> f64 {
        let (inputs, outputs) = self.placed.shapes();
        self.placed.node().op.flops(&inputs, &outputs)
    }
}

/// `32x16x32x32-64-k3-bias-base-t5`: images, channels, rows, columns of the input; channels of the result; kernel; what the
/// sums start from; timesteps of a reduction.
fn describe(p: &Placed) -> String {
    let (inputs, outputs) = p.shapes();
    let x = match *inputs[p.node().op.in_place().first().copied().unwrap_or(0)] {
        [c, h, w, n] => format!("{n}x{c}x{h}x{w}"),
        ref other => other.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    };
    x + &p.node().op.label(&inputs, &outputs)
}

/// The distinct operations and shapes of a preset's training step.
///
/// # Errors
/// A batch that is too large to index; a variant that naga refuses.
pub fn preset_cases(target: &Target, preset: Preset, batch: usize) -> Result<Vec<Case>> {
    let (network, schedule) = (preset.network().network(), Schedule::plain(preset.network().timesteps));
    let request = Request::training(&network, &schedule, batch, target);
    Ok(step_cases(&compile(&request)?, &format!("--preset {} --batch {batch}", preset.name())))
}

/// The distinct operations and shapes of a compiled training step, in the order in which it first runs them, and the
/// optimiser's. `from` are the arguments that give them again.
pub fn step_cases(compiled: &Compiled, from: &str) -> Vec<Case> {
    let pass = &compiled.unrolled.graph;
    let (mut cases, mut keys): (Vec<Case>, Vec<String>) = (Vec::new(), Vec::new());
    let nodes = pass.nodes.iter().map(|node| (pass, node, Some(&compiled.views[..])));
    let after = compiled.after.iter().flat_map(|graph| graph.nodes.iter().map(move |node| (graph, node, None)));
    for (graph, node, views) in nodes.chain(after) {
        let placed = Placed::new(graph, node, views);
        let key = placed.key();
        match keys.iter().position(|k| *k == key) {
            Some(i) => cases[i].uses += 1,
            None => {
                keys.push(key);
                cases.push(Case::of(placed, 1, from));
            }
        }
    }
    // One shape whose timesteps lie differently in memory is another case under the same name: told apart by a number.
    for i in 0..cases.len() {
        let same =
            cases[..i].iter().filter(|c| c.op == cases[i].op && c.shape.split('#').next() == Some(&cases[i].shape));
        let earlier = same.count();
        if earlier > 0 {
            cases[i].shape += &format!("#{}", earlier + 1);
        }
    }
    cases
}

/// Operations in a shape given by the user. Six numbers: images, channels in, channels out, rows, columns, kernel size: the
/// convolution and the transposed one with their gradients. Four: images, channels, rows, columns: what works on maps.
/// Three: M, N, K of a matrix product.
///
/// # Errors
/// Another number of sizes; sizes that no such operation has.
pub fn shape_cases(sizes: &[usize]) -> Result<Vec<Case>> {
    const MOST_BYTES: f64 = (1_u64 << 33) as f64;
    let cases = unchecked_shape_cases(sizes)?;
    if cases.iter().any(|case| case.bytes() > MOST_BYTES) {
        return Err(Error::Config(format!("shape {sizes:?}: the operands of an operation are larger than 8 GiB")));
    }
    Ok(cases)
}

fn unchecked_shape_cases(sizes: &[usize]) -> Result<Vec<Case>> {
    let bad = |what: &str| Err(Error::Config(format!("shape {sizes:?}: {what}")));
    if sizes.contains(&0) {
        return bad("sizes must be at least 1");
    }
    if sizes.iter().try_fold(1_usize, |product, &s| product.checked_mul(s)).is_none_or(|p| p > 1 << 40) {
        return bad("the product of the sizes must be below 2^40");
    }
    let listed = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let from = format!("--shape {listed}");
    let sizes = match *sizes {
        [.., k] if sizes.len() == 6 && k % 2 == 0 => return bad("the kernel size, the last number, must be odd"),
        [n, cin, cout, h, w, k] => Sizes::Convolution { n, cin, cout, h, w, k },
        [m, n, k] => Sizes::Product { m, n, k },
        [n, c, h, w] => Sizes::Map { n, c, h, w },
        _ => {
            return bad(
                "six numbers are a convolution (images, channels in, channels out, rows, columns, kernel size), four a \
                 map (images, channels, rows, columns), three a matrix product (M, N, K)",
            );
        }
    };
    let case = |Shaped { op, inputs }: Shaped| {
        let mut graph = Graph::default();
        let inputs: Vec<ValueId> =
            inputs.iter().map(|shape| graph.value("x", shape, Origin::Input, "bench", None)).collect();
        graph.node(op, &inputs, "y", "bench", 0);
        Case::of(Placed::new(&graph, &graph.nodes[0], None), 0, &from)
    };
    Ok(ROWS.iter().flat_map(|row| row.of_sizes(&sizes)).map(case).collect())
}
