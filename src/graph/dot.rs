//! The graph as Graphviz DOT.

use super::{Graph, Origin};
use std::fmt::Write;

/// Writes the graph in the DOT language: a box per operation, grouped by timestep; parameters and inputs as ellipses.
pub fn dot(graph: &Graph) -> String {
    let mut out =
        String::from("digraph recurve {\n  rankdir = TB;\n  node [fontname = \"sans-serif\", fontsize = 10];\n");
    let producers = graph.producers();
    let mut leaves = vec![false; graph.values.len()];
    let last = graph.nodes.iter().filter_map(|n| n.timestep).max().unwrap_or(0);
    for t in 0..=last {
        let _ = writeln!(out, "  subgraph cluster_t{t} {{\n    label = \"t = {t}\";");
        for (i, node) in graph.nodes.iter().enumerate().filter(|(_, n)| n.timestep.unwrap_or(0) == t) {
            let value = &graph.values[node.outputs[0].0];
            let _ = writeln!(
                out,
                "    n{i} [shape = box, label = \"{}\\n{} {:?}\"];",
                node.op.name(),
                value.name,
                value.shape
            );
        }
        out.push_str("  }\n");
    }
    for (i, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            match producers[input.0] {
                Some(p) => {
                    let _ = writeln!(out, "  n{p} -> n{i};");
                }
                None => {
                    if !leaves[input.0] {
                        leaves[input.0] = true;
                        let value = &graph.values[input.0];
                        let style = if value.origin == Origin::Parameter { "dashed" } else { "solid" };
                        let _ = writeln!(out, "  v{} [style = {style}, label = \"{}\"];", input.0, value.name);
                    }
                    let _ = writeln!(out, "  v{} -> n{i};", input.0);
                }
            }
        }
    }
    out.push_str("}\n");
    out
}
