//! What an operation's gradient is written on.

use super::{Op, ValueId};

/// A reverse traversal of a graph, as one operation sees it: `graph/autodiff.rs` holds the other side.
pub trait Tape {
    /// Extents of a value.
    fn shape(&self, value: ValueId) -> &[usize];

    /// Name of a value.
    fn name(&self, value: ValueId) -> &str;

    /// Whether anything upstream of a value wants its gradient.
    fn needs(&self, value: ValueId) -> bool;

    /// Adds an operation that belongs to the area and timestep of the one that is differentiated; gives its outputs, the
    /// first of which is called `<area>.<name>`.
    fn emit(&mut self, op: Op, inputs: &[ValueId], name: &str) -> Vec<ValueId>;

    /// `gradient` contributes to the gradient of `value`.
    fn add(&mut self, value: ValueId, gradient: ValueId);

    /// Output `output` of `op` on `inputs` contributes to the gradient of `parameter`.
    fn parameter(&mut self, parameter: ValueId, op: Op, output: usize, inputs: &[ValueId]);
}
