//! Half precision: which values are stored in it.
//!
//! Maps are, as they fill the memory: activations, what areas are driven by, and their gradients. Everything else stays in f32:
//! parameters, their gradients and moments, statistics of norms, vectors such as what the readout sees, logits, losses, and what
//! the host reads. All kernels compute in f32 whatever they read.

use super::{Graph, Origin, ValueId};
use crate::ops::{Add, Op};
use crate::{Error, Result};
use half::f16;
use std::collections::BTreeSet;

/// Numbers as they lie in a map in half precision: two to a word, the first the lower half.
pub fn packed(values: &[f32]) -> Vec<u32> {
    let bits = |value: f32| u32::from(f16::from_f32(value).to_bits());
    values.chunks(2).map(|pair| bits(pair[0]) | pair.get(1).map_or(0, |&second| bits(second) << 16)).collect()
}

/// The numbers of a map in half precision.
pub fn unpacked(words: &[u32]) -> Vec<f32> {
    words
        .iter()
        .flat_map(|word| [*word as u16, (word >> 16) as u16])
        .map(|bits| f16::from_bits(bits).to_f32())
        .collect()
}

/// Numbers rounded to f16.
pub fn rounded(values: &[f32]) -> Vec<f32> {
    let mut rounded = unpacked(&packed(values));
    rounded.truncate(values.len());
    rounded
}

/// What rounding to f16 may change: half of the distance between its numbers, all of it where they are subnormal.
pub fn half_a_unit(v: f32) -> f64 {
    (f64::from(v.abs()) / 2048.0).max(2.0_f64.powi(-24))
}

/// Whether a value of this shape is a map.
pub fn is_map(shape: &[usize]) -> bool {
    matches!(shape, [_, rows, columns, _] if rows * columns > 1)
}

/// Checks that so many images can be stored in f16.
///
/// # Errors
/// Where they are not even: two images share a word.
pub fn check_pairs(images: usize) -> Result<()> {
    if images.is_multiple_of(2) {
        return Ok(());
    }
    Err(Error::Config(format!(
        "where maps are stored in f16 two images share a word, so a pass must take an even number of them, not {images}: change \
         batch, accumulate or the number of ranks"
    )))
}

/// Stores the maps of a graph in f16, but for its outputs and those that lie `apart` for others to read.
///
/// # Errors
/// A batch that is not even.
pub fn halve_maps(graph: &mut Graph, apart: &BTreeSet<ValueId>) -> Result<()> {
    let is_output = graph.is_output();
    for node in &graph.nodes {
        // The gradient of a weight has the weight's shape; a sum of such gradients too.
        let of_weights = node.op.lists().is_some();
        let sum = node.op == Op::Add(Add) && node.inputs.iter().all(|v| !graph.values[v.0].half);
        for output in node.outputs.iter().filter(|v| !of_weights && !sum && !is_output[v.0] && !apart.contains(v)) {
            let value = &mut graph.values[output.0];
            if value.origin != Origin::Node || !is_map(&value.shape) {
                continue;
            }
            check_pairs(value.shape[3])?;
            value.half = true;
        }
    }
    Ok(())
}
