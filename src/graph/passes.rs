//! Rewrites that leave the result as it is (to rounding): each can be switched off.

use super::{Graph, Node, ValueId};
use crate::ops::{Add, Norm, Op, Relu};
use std::collections::HashMap;

/// Which passes run. All, by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Passes {
    /// Compute once what does not change over time (retina, V1, V2's bottom-up drive).
    pub hoist: bool,
    /// Norm and ReLU in one; sums start from a map instead of being added afterwards.
    pub fuse: bool,
    /// One reduction over all timesteps for the gradient of a shared weight.
    pub fold: bool,
    /// Buffers whose lifetimes do not overlap share memory.
    pub reuse: bool,
}

impl Default for Passes {
    fn default() -> Self {
        Passes { hoist: true, fuse: true, fold: true, reuse: true }
    }
}

impl Passes {
    /// The names by which a pass is switched off on the command line.
    pub const NAMES: [&'static str; 4] = ["hoist", "fuse", "fold", "reuse"];

    /// All but the named ones.
    ///
    /// # Errors
    /// An unknown name.
    pub fn without<S: AsRef<str>>(names: &[S]) -> crate::Result<Passes> {
        let mut passes = Passes::default();
        for name in names {
            match name.as_ref() {
                "hoist" => passes.hoist = false,
                "fuse" => passes.fuse = false,
                "fold" => passes.fold = false,
                "reuse" => passes.reuse = false,
                other => {
                    let known = Self::NAMES.join(", ");
                    return Err(crate::Error::Config(format!("no pass is called `{other}`; there are {known}")));
                }
            }
        }
        Ok(passes)
    }
}

/// Merges nodes that do the same with the same inputs; returns what each value is now called. In an unrolled network
/// these are the nodes that nothing recurrent reaches: the same at every timestep.
pub fn hoist(graph: &mut Graph) -> impl Fn(ValueId) -> ValueId + use<> {
    let mut now: Vec<ValueId> = (0..graph.values.len()).map(ValueId).collect();
    let mut seen: HashMap<(Op, Vec<ValueId>), Vec<ValueId>> = HashMap::new();
    let is_output = graph.is_output();
    let nodes = std::mem::take(&mut graph.nodes);
    for mut node in nodes {
        node.inputs.iter_mut().for_each(|v| *v = now[v.0]);
        if node.outputs.iter().any(|v| is_output[v.0]) {
            graph.nodes.push(node);
            continue;
        }
        match seen.get(&(node.op, node.inputs.clone())) {
            Some(outputs) => {
                for (old, new) in node.outputs.iter().zip(outputs) {
                    now[old.0] = *new;
                    if graph.values[old.0].timestep != graph.values[new.0].timestep {
                        graph.values[new.0].timestep = None; // it serves several
                    }
                }
            }
            None => {
                seen.insert((node.op, node.inputs.clone()), node.outputs.clone());
                graph.nodes.push(node);
            }
        }
    }
    move |v| now.get(v.0).copied().unwrap_or(v)
}

/// Norm followed by ReLU, where nothing else reads the norm's result, becomes one operation.
pub fn fuse_norm_relu(graph: &mut Graph) {
    let (uses, producers) = (graph.uses(), graph.producers());
    let mut gone = vec![false; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        if node.op != Op::Relu(Relu) || uses[node.inputs[0].0] != 1 {
            continue;
        }
        let Some(norm) = producers[node.inputs[0].0] else { continue };
        if let Op::Norm(kind) = graph.nodes[norm].op {
            let rectified = graph.nodes[i].outputs[0];
            graph.nodes[norm].op = Op::Norm(Norm { relu: true, ..kind });
            graph.nodes[norm].outputs[0] = rectified;
            gone[i] = true;
        }
    }
    let mut gone = gone.iter();
    graph.nodes.retain(|_| !gone.next().expect("one each"));
}

/// `Add(a, f(x))` becomes `f(x)` started from `a`, where nothing else reads `f(x)`; likewise for several terms, one after
/// the other. Serves the mixing b + l + t and sums of gradients alike.
pub fn fuse_add(graph: &mut Graph) {
    let (uses, producers) = (graph.uses(), graph.producers());
    let mut slots: Vec<Option<Node>> = std::mem::take(&mut graph.nodes).into_iter().map(Some).collect();
    let mut placed: Vec<Vec<Node>> = vec![Vec::new(); slots.len()];
    for i in 0..slots.len() {
        let Some(sum) = slots[i].as_ref().filter(|n| n.op == Op::Add(Add)).cloned() else { continue };
        // Terms that can be started from a map. Nothing but this sum reads them, so they may run here.
        let mut fused: Vec<usize> = Vec::new(); // places of the nodes
        let mut rest: Vec<ValueId> = Vec::new();
        for &term in &sum.inputs {
            let producer = producers[term.0]
                .filter(|&p| uses[term.0] == 1 && slots[p].as_ref().is_some_and(|n| n.op.with_base().is_some()));
            // Such a node has one output, and a term that is read once stands in the sum once: no node comes twice.
            match producer {
                Some(p) => fused.push(p),
                None => rest.push(term),
            }
        }
        if fused.is_empty() {
            continue;
        }
        fused.sort_unstable();
        let mut nodes: Vec<Node> = Vec::new();
        let mut so_far = match rest[..] {
            [] => None,
            [one] => Some(one),
            _ => {
                let like = sum.outputs[0];
                let mut value = graph.values[like.0].clone();
                value.name += ".part";
                graph.values.push(value);
                let partial = ValueId(graph.values.len() - 1);
                nodes.push(Node { inputs: rest, outputs: vec![partial], ..sum.clone() });
                Some(partial)
            }
        };
        for (j, &p) in fused.iter().enumerate() {
            let mut node = slots[p].take().expect("checked");
            if let Some(base) = so_far {
                node.op = node.op.with_base().expect("checked");
                node.inputs.push(base);
            }
            if j + 1 == fused.len() {
                node.outputs = sum.outputs.clone();
            }
            so_far = Some(node.outputs[0]);
            nodes.push(node);
        }
        slots[i] = None;
        placed[i] = nodes;
    }
    for (slot, nodes) in slots.into_iter().zip(placed) {
        graph.nodes.extend(nodes);
        graph.nodes.extend(slot);
    }
}

/// Drops nodes that no output depends on.
pub fn drop_unused(graph: &mut Graph) {
    let mut wanted = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|v| wanted[v.0] = true);
    let mut kept: Vec<Node> = Vec::new();
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        if node.outputs.iter().any(|v| wanted[v.0]) {
            node.inputs.iter().for_each(|v| wanted[v.0] = true);
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
}
