//! What `bench kernels` measures: operations in the shapes in which a preset's training step runs them, or in shapes given by
//! the user. A case is one node of a graph with its operands placed as in the step, so that it is lowered to the same
//! launches.

use crate::check::twin::{Operand, prepare, twin_error};
use crate::graph::compile::{Compiled, Request, compile};
use crate::graph::lower::lower;
use crate::graph::passes::Passes;
use crate::graph::{Graph, Node, Origin, ValueId};
use crate::kernels::choose::{Choices, ConvOp, Variant, variants};
use crate::kernels::grid::{Cover, cover};
use crate::kernels::{BufferSpec, Kernel, Param, Program, Role, Settings, Target, View, align};
use crate::network::Preset;
use crate::ops::{Norm, Op};
use crate::reference::adam;
use crate::reference::random::normal;
use crate::{Error, Result, engine};
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
    work: Work,
}

enum Work {
    /// A node, alone in its graph.
    Node(Placed),
    /// The optimiser's step over so many parameters: no node of a graph.
    Adam(usize),
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
        alone.nodes.push(Node { op: node.op, inputs: inputs_of_node, outputs, area: "bench".into(), timestep: 0 });
        Placed { graph: alone, inputs, buffers }
    }

    fn node(&self) -> &Node {
        &self.graph.nodes[0]
    }

    fn shape_of(&self, v: ValueId) -> &[usize] {
        &self.graph.values[v.0].shape
    }

    /// All that makes this case another than a second one.
    fn key(&self) -> String {
        let node = self.node();
        let shapes: Vec<&[usize]> = node.inputs.iter().chain(&node.outputs).map(|&v| self.shape_of(v)).collect();
        let places: Vec<(usize, u64)> = self.inputs.iter().map(|&(_, buffer, offset)| (buffer, offset)).collect();
        format!("{:?} {shapes:?} {:?} {places:?}", node.op, node.inputs)
    }

    /// The launches and where all values lie.
    fn lowered(&self, target: &Target, choices: &Choices) -> Result<(Program, HashMap<ValueId, View>)> {
        let mut program = Program::default();
        let mut buffer = |name: &str, bytes: u64, role: Role| {
            program.buffer(BufferSpec { name: name.into(), bytes, role, area: "bench".into(), timestep: None })
        };
        let ids: Vec<_> = self.buffers.iter().map(|&bytes| buffer("input", bytes, Role::Input)).collect();
        let bytes = |v: ValueId| 4 * self.graph.values[v.0].count() as u64;
        let mut placed = HashMap::new();
        for &(v, buffer, offset) in &self.inputs {
            placed.insert(v, View { buffer: ids[buffer], offset, bytes: bytes(v) });
        }
        for &v in &self.node().outputs {
            let buffer = buffer("output", align(bytes(v)), Role::Output);
            placed.insert(v, View { buffer, offset: 0, bytes: bytes(v) });
        }
        Ok((lower(&self.graph, target, choices, program, &placed)?.program, placed))
    }

    fn prepared(&self, target: &Target, choices: &Choices) -> Result<Prepared> {
        let (program, placed) = self.lowered(target, choices)?;
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
        prepare(&node.op, shapes, &mut values);
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
        twin_error(&node.op, &inputs, &outputs)
    }
}

impl Case {
    fn of(placed: Placed, uses: usize, from: &str) -> Case {
        let (op, shape) = (placed.node().op.name(), describe(&placed));
        Case { op, shape, uses, from: from.into(), work: Work::Node(placed) }
    }

    /// `op/shape`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.op, self.shape)
    }

    /// The variants that can serve the operation: Winograd's method has none of stride 2.
    pub fn variants(&self, target: &Target) -> Vec<Variant> {
        let Work::Node(placed) = &self.work else { return Vec::new() };
        let (op, k, stride) = match placed.node().op {
            Op::Conv2d { k, .. } | Op::Conv2dDInput { k, .. } => (ConvOp::Conv2d, k, 1),
            Op::ConvTranspose2dDInput { k, .. } => (ConvOp::Conv2d, k, 2),
            Op::ConvTranspose2d { k, .. } => (ConvOp::ConvTranspose2d, k, 2),
            Op::Conv2dDWeight { k, .. } => (ConvOp::Conv2dDWeight, k, 1),
            Op::ConvTranspose2dDWeight { k } => (ConvOp::Conv2dDWeight, k, 2),
            _ => return Vec::new(),
        };
        variants(target, op, k, stride)
    }

    /// Launches alone.
    ///
    /// # Errors
    /// When naga refuses a variant.
    pub fn program(&self, target: &Target, choices: &Choices) -> Result<Program> {
        match &self.work {
            Work::Node(placed) => Ok(placed.lowered(target, choices)?.0),
            Work::Adam(count) => Ok(prepared_adam(target, *count)?.program),
        }
    }

    /// Launches and contents.
    ///
    /// # Errors
    /// When naga refuses a variant.
    pub fn prepared(&self, target: &Target, choices: &Choices) -> Result<Prepared> {
        match &self.work {
            Work::Node(placed) => placed.prepared(target, choices),
            Work::Adam(count) => prepared_adam(target, *count),
        }
    }

    /// Largest difference between results and twin, relative to the largest result.
    pub fn error(&self, results: &[Vec<f32>]) -> f64 {
        match &self.work {
            Work::Node(placed) => placed.error(results),
            Work::Adam(count) => adam_error(*count, results),
        }
    }

    /// Bytes of all operands, each counted once.
    pub fn bytes(&self) -> f64 {
        match &self.work {
            Work::Node(p) => {
                let values = p.inputs.iter().map(|i| i.0).chain(p.node().outputs.iter().copied());
                values.map(|v| 4.0 * p.graph.values[v.0].count() as f64).sum()
            }
            Work::Adam(count) => 4.0 * 7.0 * *count as f64, // reads g, p, m, v and writes p, m, v
        }
    }

    /// Additions and multiplications (divisions, roots, exponentials and comparisons count as one): of convolutions all
    /// products of the formula, padding included; of the rest what the formula asks per element.
    pub fn flops(&self) -> f64 {
        let Work::Node(p) = &self.work else {
            let Work::Adam(count) = self.work else { unreachable!("two kinds") };
            return 12.0 * count as f64;
        };
        let node = p.node();
        let count = |v: ValueId| p.graph.values[v.0].count() as f64;
        let (x, y) = (p.shape_of(node.inputs[0]), node.outputs[0]);
        let all: f64 = node.inputs.iter().map(|&v| count(v)).sum();
        match node.op {
            // Each value of the smaller map's side meets k x k taps of every channel of the other.
            Op::Conv2d { k, .. } | Op::Conv2dDInput { k, .. } | Op::ConvTranspose2dDInput { k, .. } => {
                2.0 * count(y) * (x[0] * k * k) as f64
            }
            Op::ConvTranspose2d { k, .. } => 2.0 * count(node.inputs[0]) * (p.shape_of(y)[0] * k * k) as f64,
            Op::Conv2dDWeight { .. } => {
                let pixels = x[1] * x[2] * x[3] * node.inputs.len() / 2;
                2.0 * count(y) * pixels as f64
            }
            Op::ConvTranspose2dDWeight { .. } => {
                let pixels = x[1] * x[2] * x[3] * node.inputs.len() / 2; // of the small map
                2.0 * count(y) * pixels as f64
            }
            Op::Norm(norm) => count(node.inputs[0]) * if norm.relu { 9.0 } else { 8.0 },
            Op::NormDInput(_) => 12.0 * count(node.inputs[0]),
            Op::NormDAffine(_) => {
                5.0 * count(node.inputs[0]) * node.inputs.len() as f64 / node.op.lists().unwrap_or(1) as f64
            }
            Op::Add => all - count(y),
            Op::ModulateDDrives => 3.0 * count(y),
            Op::Modulate => 2.0 * count(y),
            Op::MaxPool | Op::AvgPool | Op::ChannelSum => all,
            Op::SoftmaxCe | Op::SoftmaxCeDLogits => 5.0 * count(y),
            Op::Relu | Op::ReluDInput | Op::MaxPoolDInput { .. } | Op::AvgPoolDInput { .. } => count(y),
        }
    }
}

/// `32x16x32x32-64-k3-bias-base-t5`: images, channels, rows, columns of the input; channels of the result; kernel; what the
/// sums start from; timesteps of a reduction.
fn describe(p: &Placed) -> String {
    let node = p.node();
    let shape = |v: ValueId| match *p.shape_of(v) {
        [c, h, w, n] => format!("{n}x{c}x{h}x{w}"),
        ref other => other.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    };
    let flags = |list: &[(&str, bool)]| list.iter().filter(|f| f.1).map(|f| format!("-{}", f.0)).collect::<String>();
    let x = shape(node.inputs[0]);
    let channels = |v: ValueId| p.shape_of(v)[0];
    let steps = |lists: usize| match node.inputs.len() / lists {
        1 => String::new(),
        steps => format!("-t{steps}"),
    };
    let norm = |norm: &Norm| {
        let kind = if norm.per_channel { format!("groups{}", norm.groups) } else { "layer".into() };
        format!("-{kind}{}", flags(&[("relu", norm.relu)]))
    };
    match &node.op {
        Op::Conv2d { k, bias, base } | Op::ConvTranspose2d { k, bias, base } => {
            format!("{x}-{}-k{k}{}", channels(node.outputs[0]), flags(&[("bias", *bias), ("base", *base)]))
        }
        Op::Conv2dDInput { k, base } | Op::ConvTranspose2dDInput { k, base } => {
            format!("{x}-{}-k{k}{}", channels(node.outputs[0]), flags(&[("base", *base)]))
        }
        Op::Conv2dDWeight { k, .. } | Op::ConvTranspose2dDWeight { k } => {
            format!("{x}-{}-k{k}{}", channels(node.inputs[node.inputs.len() / 2]), steps(2))
        }
        Op::Norm(n) | Op::NormDInput(n) => format!("{x}{}", norm(n)),
        Op::NormDAffine(n) => format!("{x}{}{}", norm(n), steps(node.op.lists().unwrap_or(1))),
        Op::ChannelSum => format!("{x}{}", steps(1)),
        Op::Add => format!("{x}-{}terms", node.inputs.len()),
        Op::MaxPoolDInput { base } => format!("{x}{}", flags(&[("base", *base)])),
        Op::AvgPoolDInput { h, w } => format!("{x}-{h}x{w}"),
        _ => x,
    }
}

/// The distinct operations and shapes of a preset's training step.
///
/// # Errors
/// A batch that is too large to index; a variant that naga refuses.
pub fn preset_cases(target: &Target, preset: Preset, batch: usize) -> Result<Vec<Case>> {
    let config = preset.network();
    let (passes, choices) = (Passes::default(), Choices::TABLE);
    let request =
        Request { config: &config, batch, target, passes, choices, train: true, inspect: false, trajectory: false };
    Ok(step_cases(&compile(&request)?, &format!("--preset {} --batch {batch}", preset.name())))
}

/// The distinct operations and shapes of a compiled training step, in the order in which it first runs them, and the
/// optimiser's. `from` are the arguments that give them again.
pub fn step_cases(compiled: &Compiled, from: &str) -> Vec<Case> {
    let graph = &compiled.network.graph;
    let (mut cases, mut keys): (Vec<Case>, Vec<String>) = (Vec::new(), Vec::new());
    for node in &graph.nodes {
        let placed = Placed::new(graph, node, Some(&compiled.lowered.views));
        let key = placed.key();
        match keys.iter().position(|k| *k == key) {
            Some(i) => cases[i].uses += 1,
            None => {
                keys.push(key);
                cases.push(Case::of(placed, 1, from));
            }
        }
    }
    for arena in &compiled.values {
        let count = arena.bytes as usize / 4;
        let (op, shape, work) = ("adam", count.to_string(), Work::Adam(count));
        cases.push(Case { op, shape, uses: 1, from: from.into(), work });
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
    let case = |op: Op, inputs: &[Vec<usize>]| {
        let mut graph = Graph::default();
        let inputs: Vec<ValueId> =
            inputs.iter().map(|shape| graph.value("x", shape, Origin::Input, "bench", None)).collect();
        graph.node(op, &inputs, "y", "bench", 0);
        Case::of(Placed::new(&graph, &graph.nodes[0], None), 0, &from)
    };
    match *sizes {
        [n, cin, cout, h, w, k] => {
            if k % 2 == 0 {
                return bad("the kernel size, the last number, must be odd");
            }
            let map = |c: usize, scale: usize| vec![c, scale * h, scale * w, n];
            let (x, y, weight) = (map(cin, 1), map(cout, 1), vec![cout, cin, k, k]);
            let (large, turned) = (map(cout, 2), vec![cin, cout, k, k]);
            let (bias, base) = (false, false);
            Ok(vec![
                case(Op::Conv2d { k, bias, base }, &[x.clone(), weight.clone()]),
                case(Op::Conv2dDInput { k, base }, &[y.clone(), weight]),
                case(Op::Conv2dDWeight { k, linear: false }, &[x.clone(), y]),
                case(Op::ConvTranspose2d { k, bias, base }, &[x.clone(), turned.clone()]),
                case(Op::ConvTranspose2dDInput { k, base }, &[large.clone(), turned]),
                case(Op::ConvTranspose2dDWeight { k }, &[x, large]),
            ])
        }
        [m, n, k] => {
            let columns = (1..=128).rev().find(|c| n.is_multiple_of(*c)).unwrap_or(1);
            let op = Op::Conv2d { k: 1, bias: false, base: false };
            Ok(vec![case(op, &[vec![k, n / columns, columns, 1], vec![m, k, 1, 1]])])
        }
        [n, c, h, w] => {
            let (x, flat, stats) = (vec![c, h, w, n], vec![c, h, w], vec![2, 1, n]);
            let norm = Norm { groups: 1, per_channel: false, relu: true };
            let twice = || vec![x.clone(), x.clone()];
            let mut cases = vec![
                case(Op::Norm(norm), &[x.clone(), flat.clone(), flat.clone()]),
                case(Op::NormDInput(norm), &[x.clone(), stats.clone(), flat, x.clone(), x.clone()]),
                case(Op::NormDAffine(norm), &[x.clone(), stats, x.clone(), x.clone()]),
                case(Op::Relu, std::slice::from_ref(&x)),
                case(Op::ReluDInput, &twice()),
                case(Op::Add, &twice()),
                case(Op::Modulate, &twice()),
                case(Op::ModulateDDrives, &[x.clone(), x.clone(), x.clone()]),
                case(Op::ChannelSum, std::slice::from_ref(&x)),
                case(Op::AvgPool, std::slice::from_ref(&x)),
                case(Op::AvgPoolDInput { h, w }, &[vec![c, 1, 1, n]]),
            ];
            if h > 1 && w > 1 {
                let pooled = vec![c, h / 2, w / 2, n];
                cases.push(case(Op::MaxPool, std::slice::from_ref(&x)));
                cases.push(case(Op::MaxPoolDInput { base: false }, &[x, pooled]));
            } else if h == 1 && w == 1 && c > 1 {
                cases.push(case(Op::SoftmaxCe, &[x.clone(), vec![n]]));
                cases.push(case(Op::SoftmaxCeDLogits, &[x, vec![n]]));
            }
            Ok(cases)
        }
        _ => bad(
            "six numbers are a convolution (images, channels in, channels out, rows, columns, kernel size), four a map \
                  (images, channels, rows, columns), three a matrix product (M, N, K)",
        ),
    }
}

const ADAM: engine::Adam = engine::Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/// g, p, m, v.
fn adam_values(count: usize) -> [Vec<f32>; 4] {
    let small = |seed: u64, scale: f32| -> Vec<f32> { normal(seed, count).iter().map(|v| v * scale).collect() };
    [small(1, 0.02), small(2, 1.0), small(3, 0.01), small(4, 0.01).iter().map(|v| v * v).collect()]
}

fn prepared_adam(target: &Target, count: usize) -> Result<Prepared> {
    let mut program = Program::default();
    let mut buffer = |name: &str, count: usize| -> View {
        let (name, bytes, area) = (name.to_string(), align(4 * count as u64), "bench".to_string());
        let buffer = program.buffer(BufferSpec { name, bytes, role: Role::Input, area, timestep: None });
        View { buffer, offset: 0, bytes: 4 * count as u64 }
    };
    let hyper = buffer("hyper", 5);
    let views = ["g", "p", "m", "v"].map(|name| buffer(name, count));
    let Cover { groups, unroll } = cover(count, 64, 4, target);
    let kernel = Kernel::new("adam", &Settings::new().set("L", 64).set("UNROLL", unroll as u32))?;
    let operands: Vec<_> = ["grad", "param", "m", "v"].into_iter().zip(views).chain([("hyper", hyper)]).collect();
    let params: &[(&str, Param)] = &[("count", count.into())];
    program.launch(&kernel, &operands, params, [groups, 1, 1], "adam", "parameters");
    let inputs = [(hyper, ADAM.hyper(1).to_vec())].into_iter().chain(views.into_iter().zip(adam_values(count)));
    Ok(Prepared { program, inputs: inputs.collect(), outputs: views[1..].to_vec() })
}

fn adam_error(count: usize, results: &[Vec<f32>]) -> f64 {
    let [g, mut p, mut m, mut v] = adam_values(count);
    adam::adam(&adam::Adam::default(), 0, &mut p, &mut m, &mut v, &g);
    let twin = [p, m, v];
    let mut worst = 0.0;
    for (twin, result) in twin.iter().zip(results) {
        let largest = twin.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
        for (a, b) in twin.iter().zip(result) {
            let error = f64::from((a - b).abs() / largest);
            worst = f64::max(worst, if error.is_nan() { f64::INFINITY } else { error });
        }
    }
    worst
}
