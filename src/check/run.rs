//! Runs a small graph on a device: lowered, planned and recorded as any network's. Cases of golden files become such graphs by
//! the rows of their operations.

use super::rows::ROWS;
use crate::Result;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::autodiff::differentiate;
use crate::graph::checker;
use crate::graph::lower::lower;
use crate::graph::passes::drop_unused;
use crate::graph::plan::Plan;
use crate::graph::precision::{packed, unpacked};
use crate::graph::{Graph, Origin, ValueId};
use crate::kernels::Program;
use crate::kernels::choose::Choices;
use crate::ops::Op;
use crate::reference::Tensor;
use crate::reference::golden::{OpCase, Results};
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
pub async fn run_graph(
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
    let recording = Recording::new(gpu, &lowered.program, &plan, &mut Store::default()).await?;
    recording.poison(gpu, &lowered.program);
    for (value, words) in inputs {
        let view = lowered.view(*value);
        match view.half {
            true => {
                recording.write(gpu, view, &packed(&words.iter().map(|&bits| f32::from_bits(bits)).collect::<Vec<_>>()))
            }
            false => recording.write(gpu, view, words),
        }
    }
    recording.run_poisoned(gpu, &lowered.program);
    let mut found = Vec::new();
    for &value in outputs {
        let view = lowered.view(value);
        found.push(match view.half {
            true => unpacked(&recording.read(gpu, view).await?),
            false => recording.read(gpu, view).await?,
        });
    }
    Ok(found)
}

/// The graph of a case of a golden file under construction: what goes in, and which results come out under which name.
pub struct OpGraph<'a> {
    pub(super) case: &'a OpCase,
    /// Images.
    pub(super) n: usize,
    graph: Graph,
    inputs: Vec<(ValueId, Vec<u32>)>,
    results: Vec<OpResult>,
}

/// A value with its name in the file.
struct OpResult {
    name: String,
    value: ValueId,
    /// Whether it is a map, whose images are innermost.
    map: bool,
}

fn words(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

impl OpGraph<'_> {
    /// A map, given as [N, C] or [N, C, H, W].
    pub(super) fn map(&mut self, name: &str) -> Option<ValueId> {
        let Tensor { shape, values } = self.case.inputs.get(name)?;
        let dim = |i: usize| shape.get(i).copied().unwrap_or(1);
        let engine = [dim(1), dim(2), dim(3), self.n];
        Some(self.given(name, &engine, words(&image_last(values, self.n))))
    }

    /// A weight or bias, as it is.
    pub(super) fn parameter(&mut self, name: &str) -> Option<ValueId> {
        let Tensor { shape, values } = self.case.inputs.get(name)?;
        Some(self.given(name, shape, words(values)))
    }

    /// An input in the engine's order.
    pub(super) fn given(&mut self, name: &str, shape: &[usize], words: Vec<u32>) -> ValueId {
        let value = self.graph.value(name, shape, Origin::Input, "op", None);
        self.inputs.push((value, words));
        value
    }

    /// An operation on those of the inputs that the case has.
    pub(super) fn node(&mut self, op: impl Into<Op>, inputs: &[Option<ValueId>], name: &str) -> Vec<ValueId> {
        let inputs: Vec<ValueId> = inputs.iter().flatten().copied().collect();
        self.graph.node(op, &inputs, name, "op", 0)
    }

    /// Names a result.
    pub(super) fn result(&mut self, name: &str, value: ValueId, map: bool) {
        self.results.push(OpResult { name: name.to_string(), value, map });
    }

    /// Adds the gradients of `wrt` (name, value, whether a map) for the upstream gradient of `y`.
    pub(super) fn gradients(&mut self, y: ValueId, d_y: ValueId, wrt: &[(&str, Option<ValueId>, bool)]) {
        let present: Vec<(&str, ValueId, bool)> = wrt.iter().filter_map(|&(n, v, m)| Some((n, v?, m))).collect();
        let values: Vec<ValueId> = present.iter().map(|(_, value, _)| *value).collect();
        let gradients = differentiate(&mut self.graph, &[(y, d_y)], &values, true);
        for ((name, _, map), gradient) in present.iter().zip(gradients) {
            self.result(&format!("g{name}"), gradient.expect("every input of an op has a gradient"), *map);
        }
    }

    /// An operation on x, w and perhaps b (which `op` is told), with its gradients.
    pub(super) fn weighted(&mut self, op: impl Fn(bool) -> Op) {
        let (x, w, b, gy) = (self.map("x"), self.parameter("w"), self.parameter("b"), self.map("gy"));
        let y = self.node(op(b.is_some()), &[x, w, b], "y")[0];
        self.result("y", y, true);
        self.gradients(y, gy.expect("gy"), &[("x", x, true), ("w", w, false), ("b", b, false)]);
    }

    /// An operation on x, with its gradient.
    pub(super) fn unary(&mut self, op: impl Into<Op>) {
        let (x, gy) = (self.map("x"), self.map("gy"));
        let y = self.node(op, &[x], "y")[0];
        self.result("y", y, true);
        self.gradients(y, gy.expect("gy"), &[("x", x, true)]);
    }

    /// y as the interaction of the maps b, l and t, with its gradients.
    pub(super) fn mixed(&mut self, y: ValueId, [b, l, t]: [Option<ValueId>; 3]) {
        let gy = self.map("gy").expect("gy");
        self.result("y", y, true);
        self.gradients(y, gy, &[("b", b, true), ("l", l, true), ("t", t, true)]);
    }
}

/// Runs a case of a golden file on the device and gives the results under the names of the file.
///
/// # Errors
/// What the device says.
pub async fn run_case(gpu: &Gpu, case: &OpCase, choices: &Choices) -> Result<Results> {
    let first = case.inputs.get("x").or(case.inputs.get("b").or(case.inputs.get("z")));
    let n = first.map_or(1, |x| x.shape[0]);
    let mut g = OpGraph { case, n, graph: Graph::default(), inputs: Vec::new(), results: Vec::new() };
    let built = ROWS.iter().any(|row| row.golden(&mut g));
    assert!(built, "{:?} has golden files, and no row of check/rows builds its graph", case.op);
    let wanted: Vec<ValueId> = g.results.iter().map(|r| r.value).collect();
    g.graph.outputs = wanted.clone();
    drop_unused(&mut g.graph);
    let read = run_graph(gpu, &g.graph, choices, &g.inputs, &wanted).await?;
    let mut results = Results::new();
    for (OpResult { name, map, .. }, values) in g.results.into_iter().zip(read) {
        let values = match name.as_str() {
            "loss" => vec![(values[..n].iter().map(|&x| f64::from(x)).sum::<f64>() / n as f64) as f32],
            _ if map => image_first(&values, n),
            _ => values,
        };
        results.insert(name, values);
    }
    Ok(results)
}
