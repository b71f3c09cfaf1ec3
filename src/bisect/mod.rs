//! Two executions of one training step held against each other, tensor by tensor in the order of the program: the first that
//! differs beyond a tolerance names the operation that went another way. The two differ in adapter, in kernel variants, in graph
//! passes, or in the version of this program, of which one then left a trace in a file ([`trace`]).
//!
//! **Each operation is judged alone.** As soon as an operation has written a tensor, the numbers of the execution that it is held
//! against are put in its place, so that the next operation gets the same bits as there. Otherwise differences of rounding would
//! go on through the whole pass and may grow (a rectification opens here and stays closed there), and the first tensor beyond a
//! tolerance would only say where they had grown enough. With the same bits going in, an operation of another result is the
//! cause. [`Settings::drift`] leaves each execution its own numbers, to see what becomes of a difference; then the operation at
//! which it grows most is told too.
//!
//! **What is beyond.** The difference of two numbers counts relative to the largest magnitude in the two tensors; a number that is
//! not finite is beyond any tolerance, on both sides too. The default is [`TOLERANCE`], by which the tuner and `bench` take a
//! kernel for wrong. At tolerance 0 all bits must be equal.
//!
//! **What is compared.** Executions with the same graph passes have the same graph, so that all of its values are compared. With
//! other passes the values between have other meanings (a convolution that starts from a sum holds more than one that does
//! not), and what both have is compared: what is shown, drives, activations, representations, logits, log-probabilities and
//! scores of every timestep, and the gradient of every parameter.
//!
//! **Memory.** Two executions on devices run side by side, an operation here and the same there, and only the tensors of
//! one operation are on the host. Where their graphs differ, one writes a temporary trace to the disk first. Buffers share memory
//! as they do in training: a tensor is read, and replaced, right after the operation that completes it.

pub mod execution;
pub mod judge;
pub mod step;
pub mod trace;

pub use execution::{Execution, Side, TensorFacts};
pub use judge::Compared;
pub use step::Step;
pub use trace::Trace;

use crate::kernels::Target;
use crate::kernels::choose::{Choices, ConvOp, Uses, Variant, tile, weight_tile};
pub use crate::tune::TOLERANCE;
use crate::{Error, Result};
use judge::judge;
use serde::Serialize;
use std::collections::HashMap;

/// How two executions are compared.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Largest difference allowed, relative to the largest magnitude in the two tensors.
    pub tolerance: f64,
    /// Whether each execution goes on with its own numbers.
    pub drift: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { tolerance: TOLERANCE, drift: false }
    }
}

/// What the comparison of two executions found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// Tensors that were compared.
    pub compared: usize,
    /// Tensors of this execution that the other does not have.
    pub left_out: usize,
    /// How many were equal in all bits.
    pub identical: usize,
    /// How many differ beyond the tolerance.
    pub beyond: usize,
    /// The first that does.
    pub first: Option<Compared>,
    /// The one with the largest difference, the first of equals; none where all are identical.
    pub largest: Option<Compared>,
    /// With [`Settings::drift`]: where the difference grew most.
    pub grown: Option<Grown>,
}

/// An operation that made of the differences in what it read a larger one.
#[derive(Clone, Debug, Serialize)]
pub struct Grown {
    /// What it wrote.
    pub tensor: Compared,
    /// The largest relative difference of what it read.
    pub before: f64,
}

/// What an execution is held against.
pub enum Reference<'g> {
    /// One that runs beside it.
    Beside(Box<Execution<'g>>),
    /// One that left a trace.
    Traced(Box<Trace>),
}

impl<'g> Reference<'g> {
    /// `other` as what `this` is held against: beside it where both have the same tensors, else by a temporary trace.
    ///
    /// # Errors
    /// A lost device; a disk that does not take the trace.
    pub async fn of(mut other: Execution<'g>, this: &Execution<'_>) -> Result<Reference<'g>> {
        if other.facts().eq(this.facts()) {
            return Ok(Reference::Beside(Box::new(other)));
        }
        Ok(Reference::Traced(Box::new(Trace::temporary(&mut other).await?)))
    }

    fn facts(&self) -> Vec<&TensorFacts> {
        match self {
            Reference::Beside(execution) => execution.facts().collect(),
            Reference::Traced(trace) => trace.head.tensors.iter().collect(),
        }
    }

    /// Who computes or computed it.
    pub fn side(&self) -> &Side {
        match self {
            Reference::Beside(execution) => &execution.side,
            Reference::Traced(trace) => &trace.head.side,
        }
    }

    async fn values(&mut self, tensor: usize) -> Result<Vec<f32>> {
        match self {
            Reference::Beside(execution) => execution.values(tensor).await,
            Reference::Traced(trace) => trace.values(tensor),
        }
    }
}

/// Runs an execution and holds it against another; `tell` hears of every tensor in order.
///
/// # Errors
/// A lost device; a trace that cannot be read; executions of which no tensor can be compared.
pub async fn bisect(
    this: &mut Execution<'_>,
    reference: &mut Reference<'_>,
    settings: Settings,
    tell: &mut dyn FnMut(&Compared),
) -> Result<Findings> {
    let pairs = pairs(this, reference);
    let mut findings = Findings::default();
    let mut errors: HashMap<crate::ops::ValueId, f64> = HashMap::new();
    for (tensor, pair) in pairs.into_iter().enumerate() {
        let Some(pair) = pair else {
            findings.left_out += 1;
            continue;
        };
        let found = this.values(tensor).await?;
        let expected = reference.values(pair).await?;
        let compared = judge(this.facts_of(tensor), &found, &expected, settings.tolerance);
        if settings.drift {
            let read = this.read_by(tensor);
            let before = read.iter().filter_map(|value| errors.get(value)).copied().fold(0.0, f64::max);
            errors.insert(this.value_of(tensor), compared.error);
            let grown = |grown: &Grown| grown.tensor.error - grown.before;
            // After what is not finite nothing grows.
            let growth = if before.is_finite() { compared.error - before } else { 0.0 };
            if growth > findings.grown.as_ref().map_or(0.0, grown) {
                findings.grown = Some(Grown { tensor: compared.clone(), before });
            }
        } else if !compared.identical {
            this.replace(tensor, &expected);
        }
        tell(&compared);
        findings.compared += 1;
        findings.identical += usize::from(compared.identical);
        if compared.error > findings.largest.as_ref().map_or(0.0, |largest| largest.error) {
            findings.largest = Some(compared.clone());
        }
        if !compared.passed {
            findings.beyond += 1;
            findings.first.get_or_insert(compared);
        }
    }
    match findings.compared {
        0 => Err(Error::Config(format!(
            "none of the {} tensors of this execution is in the other ({}): they are not of one network",
            findings.left_out,
            reference.side()
        ))),
        _ => Ok(findings),
    }
}

/// For each tensor of an execution, that of the other which has the same meaning.
fn pairs(this: &Execution, reference: &Reference) -> Vec<Option<usize>> {
    let others = reference.facts();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let same_graph = this.side.same_graph(reference.side());
    for (i, other) in others.iter().enumerate() {
        match same_graph {
            true => _ = by_name.insert(&other.name, i),
            false => other.stands_for.iter().for_each(|name| _ = by_name.insert(name, i)),
        }
    }
    let of = |facts: &TensorFacts| {
        let names: Vec<&str> = match same_graph {
            true => vec![&facts.name],
            false => facts.stands_for.iter().map(String::as_str).collect(),
        };
        let found = names.iter().find_map(|name| by_name.get(name)).copied();
        found.filter(|&i| others[i].shape == facts.shape)
    };
    this.facts().map(of).collect()
}

/// The direct method for every shape, by the built-in table's tiles: no transforms, the fewest steps between input and result.
pub fn direct(uses: &Uses, target: &Target) -> Choices {
    let variant = |key: &crate::kernels::choose::Key| match key.op {
        ConvOp::Conv2dDWeight => Variant::Weight(weight_tile(target, &key.shape, key.steps)),
        op => Variant::Conv(tile(target, op, &key.shape)),
    };
    Choices { tuned: uses.keys().map(|key| (*key, variant(key))).collect(), ..Choices::default() }
}
