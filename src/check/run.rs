//! Runs a single operation, forward and backward, on a device: the graph of the op, differentiated, lowered, planned and
//! recorded as any network's.

use crate::Result;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::autodiff::differentiate;
use crate::graph::checker;
use crate::graph::lower::lower;
use crate::graph::plan::Plan;
use crate::graph::{Graph, Origin, ValueId};
use crate::kernels::Program;
use crate::kernels::choose::Choices;
use crate::ops::{Adam, Add, AvgPool, Conv2d, ConvTranspose2d, Hyper, MaxPool, Modulate, Norm, Op, Relu, SoftmaxCe};
use crate::reference::golden::{Op as Case, OpCase, Results};
use crate::reference::{Tensor, mix, norm};
use std::collections::HashMap;

/// [N, …] to […, N]: from PyTorch's order to the engine's, where the image is innermost.
pub fn image_last(values: &[f32], n: usize) -> Vec<f32> {
    let rest = values.len() / n.max(1);
    (0..values.len()).map(|i| values[i % n * rest + i / n]).collect()
}

/// […, N] to [N, …].
pub fn image_first(values: &[f32], n: usize) -> Vec<f32> {
    let rest = values.len() / n.max(1);
    (0..values.len()).map(|i| values[i % rest * n + i / rest]).collect()
}

/// Runs a graph once. Temporaries start and end as NaN, so that a launch that reads what nobody wrote, or what lies in a
/// slot shared too early, shows.
///
/// # Errors
/// What the device says.
pub fn run_graph(
    gpu: &Gpu,
    graph: &Graph,
    choices: &Choices,
    inputs: &[(ValueId, Vec<u32>)],
    outputs: &[ValueId],
) -> Result<Vec<Vec<f32>>> {
    let lowered = lower(graph, &gpu.target, choices, Program::default(), &HashMap::new())?;
    let plan = Plan::new(&lowered.program, true);
    checker::check(&lowered.program, &plan)?;
    plan.fits(&lowered.program, &gpu.target)?;
    let recording = Recording::new(gpu, &lowered.program, &plan, &mut Store::default())?;
    recording.poison(gpu, &lowered.program);
    for (value, words) in inputs {
        recording.write(gpu, lowered.view(*value), words);
    }
    recording.run_poisoned(gpu, &lowered.program);
    outputs.iter().map(|&v| recording.read(gpu, lowered.view(v))).collect()
}

/// A graph under construction for one case: what goes in, and which results come out under which name.
struct OpGraph<'a> {
    case: &'a OpCase,
    n: usize,
    graph: Graph,
    inputs: Vec<(ValueId, Vec<u32>)>,
    /// Name, value, whether it is a map (image innermost).
    outputs: Vec<(String, ValueId, bool)>,
}

fn words(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

impl OpGraph<'_> {
    /// A map, given as [N, C] or [N, C, H, W].
    fn map(&mut self, name: &str) -> Option<ValueId> {
        let Tensor { shape, values } = self.case.inputs.get(name)?;
        let dim = |i: usize| shape.get(i).copied().unwrap_or(1);
        let engine = [dim(1), dim(2), dim(3), self.n];
        let value = self.graph.value(name, &engine, Origin::Input, "op", None);
        self.inputs.push((value, words(&image_last(values, self.n))));
        Some(value)
    }

    /// A weight or bias, as it is.
    fn parameter(&mut self, name: &str) -> Option<ValueId> {
        let Tensor { shape, values } = self.case.inputs.get(name)?;
        let value = self.graph.value(name, shape, Origin::Input, "op", None);
        self.inputs.push((value, words(values)));
        Some(value)
    }

    fn node(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>], name: &str) -> Vec<ValueId> {
        let inputs: Vec<ValueId> = inputs.iter().flatten().copied().collect();
        self.graph.node(op, &inputs, name, "op", 0)
    }

    /// Adds the gradients of `wrt` (name, value, whether a map) for the upstream gradient of `y`.
    fn gradients(&mut self, y: ValueId, d_y: ValueId, wrt: &[(&str, Option<ValueId>, bool)]) {
        let present: Vec<(&str, ValueId, bool)> = wrt.iter().filter_map(|&(n, v, m)| Some((n, v?, m))).collect();
        let values: Vec<ValueId> = present.iter().map(|w| w.1).collect();
        let gradients = differentiate(&mut self.graph, &[(y, d_y)], &values, true);
        for ((name, _, map), gradient) in present.iter().zip(gradients) {
            self.outputs.push((format!("g{name}"), gradient.expect("every input of an op has a gradient"), *map));
        }
    }
}

/// Runs a case on the device and gives the results under the names of the golden files.
///
/// # Errors
/// What the device says.
pub fn run_case(gpu: &Gpu, case: &OpCase, choices: &Choices) -> Result<Results> {
    if let Case::Adam { .. } = case.op {
        return run_adam(gpu, case);
    }
    let first = case.inputs.get("x").or(case.inputs.get("b").or(case.inputs.get("z")));
    let n = first.map_or(1, |x| x.shape[0]);
    let mut g = OpGraph { case, n, graph: Graph::default(), inputs: Vec::new(), outputs: Vec::new() };
    match &case.op {
        Case::Conv2d(shape) => linear_map(&mut g, |bias| Conv2d { k: shape.k, stride: 1, bias, base: false }.into()),
        Case::ConvTranspose2d(shape) => {
            linear_map(&mut g, |bias| ConvTranspose2d { k: shape.k, stride: 2, bias, base: false }.into())
        }
        Case::Linear(_) => linear_map(&mut g, |bias| Conv2d { k: 1, stride: 1, bias, base: false }.into()),
        Case::Norm(kind) => {
            let (groups, per_channel) = match kind.kind {
                norm::NormKind::Layer => (1, false),
                norm::NormKind::Group { groups } => (groups, true),
            };
            let (x, w, b, gy) = (g.map("x"), g.parameter("w"), g.parameter("b"), g.map("gy"));
            let y = g.node(Norm { groups, per_channel, relu: false }, &[x, w, b], "y")[0];
            g.outputs.push(("y".into(), y, true));
            g.gradients(y, gy.expect("gy"), &[("x", x, true), ("w", w, false), ("b", b, false)]);
        }
        Case::Relu => unary(&mut g, Relu),
        Case::MaxPool(_) => unary(&mut g, MaxPool),
        Case::AvgPool(_) => unary(&mut g, AvgPool),
        Case::Mix(kind) => {
            let (b, l, t, gy) = (g.map("b"), g.map("l"), g.map("t"), g.map("gy"));
            let y = match (kind, l, t) {
                (_, None, None) => g.node(Add, &[b], "y")[0],
                (mix::Interaction::Additive, ..) => g.node(Add, &[b, l, t], "y")[0],
                (mix::Interaction::Multiplicative, Some(s), None)
                | (mix::Interaction::Multiplicative, None, Some(s)) => g.node(Modulate, &[b, Some(s)], "y")[0],
                (mix::Interaction::Multiplicative, ..) => {
                    let s = g.node(Add, &[l, t], "s")[0];
                    g.node(Modulate, &[b, Some(s)], "y")[0]
                }
            };
            g.outputs.push(("y".into(), y, true));
            g.gradients(y, gy.expect("gy"), &[("b", b, true), ("l", l, true), ("t", t, true)]);
        }
        Case::SoftmaxCe(_) => {
            let z = g.map("z");
            let labels = g.graph.value("labels", &[n], Origin::Input, "op", None);
            g.inputs.push((labels, case.labels.iter().map(|&l| l as u32).collect()));
            let out = g.node(SoftmaxCe, &[z, Some(labels)], "logprob");
            g.outputs.push(("logprob".into(), out[0], true));
            g.outputs.push(("loss".into(), out[1], false));
            let weight = g.graph.value("weight", &[1], Origin::Input, "op", None);
            g.inputs.push((weight, words(&[1.0 / n as f32])));
            g.gradients(out[0], weight, &[("z", z, true)]);
        }
        Case::Adam { .. } => unreachable!("above"),
    }
    let wanted: Vec<ValueId> = g.outputs.iter().map(|o| o.1).collect();
    g.graph.outputs = wanted.clone();
    crate::graph::passes::drop_unused(&mut g.graph);
    let read = run_graph(gpu, &g.graph, choices, &g.inputs, &wanted)?;
    let mut results = Results::new();
    for ((name, _, map), values) in g.outputs.into_iter().zip(read) {
        let values = match name.as_str() {
            "loss" => vec![(values[..n].iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64) as f32],
            _ if map => image_first(&values, n),
            _ => values,
        };
        results.insert(name, values);
    }
    Ok(results)
}

fn linear_map(g: &mut OpGraph, op: impl Fn(bool) -> Op) {
    let (x, w, b, gy) = (g.map("x"), g.parameter("w"), g.parameter("b"), g.map("gy"));
    let y = g.node(op(b.is_some()), &[x, w, b], "y")[0];
    g.outputs.push(("y".into(), y, true));
    g.gradients(y, gy.expect("gy"), &[("x", x, true), ("w", w, false), ("b", b, false)]);
}

fn unary(g: &mut OpGraph, op: impl Into<Op>) {
    let (x, gy) = (g.map("x"), g.map("gy"));
    let y = g.node(op, &[x], "y")[0];
    g.outputs.push(("y".into(), y, true));
    g.gradients(y, gy.expect("gy"), &[("x", x, true)]);
}

fn run_adam(gpu: &Gpu, case: &OpCase) -> Result<Results> {
    let Case::Adam { settings, steps_taken } = &case.op else { unreachable!("asked for Adam") };
    let hyper = Hyper {
        learning_rate: settings.learning_rate,
        beta1: settings.beta1,
        beta2: settings.beta2,
        epsilon: settings.epsilon,
    };
    let mut graph = Graph::default();
    let count = case.inputs["p"].values.len();
    let numbers = graph.value("hyper", &[6], Origin::Input, "op", None);
    let mut inputs = vec![(numbers, words(&hyper.numbers(steps_taken + 1, 1.0)))];
    for name in ["g", "p", "m", "v"] {
        let value = graph.value(name, &[count], Origin::Input, "op", None);
        inputs.push((value, words(&case.inputs[name].values)));
    }
    let operands: Vec<ValueId> = inputs.iter().map(|i| i.0).collect();
    let outputs = graph.node(Adam, &operands, "p1", "op", 0);
    graph.outputs = outputs.clone();
    let read = run_graph(gpu, &graph, Choices::TABLE, &inputs, &outputs)?;
    Ok(["p1", "m1", "v1"].map(String::from).into_iter().zip(read).collect())
}
