//! The one table of cases: a row for each operation, together with those that compute its gradients. A row says on which inputs
//! the operation is defined, what its plain loops give in the engine's order of values, how far a kernel may be from that, and in
//! which shapes it is checked, differentiated by finite differences, held against the adapters' limits and measured.
//!
//! `recurve check` and `bench`, and the tests of gradients, limits and NaN, all go through this table: an operation that has
//! its row here is covered by each of them.

mod accumulate;
mod adam;
mod add;
mod avg_pool;
mod channel_sum;
mod clip;
mod conv2d;
mod conv_transpose2d;
mod convolution;
mod loss_scale;
mod max_pool;
mod modulate;
mod norm;
mod normalise;
mod relu;
mod scale;
mod softmax_ce;

pub use convolution::sampled_key;

use super::case::Case;
use super::run::{OpGraph, image_first, image_last};
use crate::kernels::Target;
use crate::kernels::choose::{ConvOp, Variant, variants};
use crate::ops::{Conv2d, Conv2dDWeight, Op};
use crate::reference::ImageShape;
use crate::reference::random::normal;
use std::collections::BTreeSet;

/// What the table holds of an operation.
pub trait Row: Sync {
    /// The operation's name, then those of the operations that compute its gradients.
    fn names(&self) -> &'static [&'static str];

    /// Turns random values, one list for each input, into inputs on which the operation is defined: statistics become those of
    /// x, what was rectified becomes so, labels become classes.
    fn prepare(&self, _op: &Op, _shapes: &[&[usize]], _values: &mut [Vec<f32>]) {}

    /// All results by plain loops, of the given shapes: for small operands.
    fn twin(&self, op: &Op, inputs: &[Operand], shapes: &[&[usize]]) -> Vec<Vec<f32>>;

    /// The largest difference between `results` and the twin, relative to the largest value of each result. Where the twin of
    /// a large shape takes minutes, of a sample of the results.
    fn error(&self, op: &Op, inputs: &[Operand], results: &[Operand]) -> f64 {
        let shapes: Vec<&[usize]> = results.iter().map(|result| result.shape).collect();
        let expected = self.twin(op, inputs, &shapes);
        assert_eq!(expected.len(), results.len(), "{}: one twin per result", op.name());
        let errors = expected.iter().zip(results).map(|(twin, result)| difference(twin, result.values));
        errors.fold(0.0, f64::max)
    }

    /// The largest error allowed for each element of a result.
    fn allowed(&self, _op: &Op, _inputs: &[Operand], _result: usize, expected: &[f32]) -> Vec<f64> {
        scaled(1e-5, expected)
    }

    /// How many of the inputs, from the first on, have a gradient: none of an operation that computes one itself.
    fn differentiable(&self, _op: &Op, _inputs: usize) -> usize {
        0
    }

    /// The gradient that arrives at the first result, of this shape.
    fn upstream(&self, result: &[usize]) -> (Vec<usize>, Vec<f32>) {
        (result.to_vec(), normal(99, result.iter().product()))
    }

    /// What `recurve check` runs on an adapter.
    fn cases(&self, target: &Target) -> Vec<Case>;

    /// Small cases away from the points where the operation has no derivative, for finite differences.
    fn smooth(&self) -> Vec<Case> {
        Vec::new()
    }

    /// Shapes whose launches would exceed an adapter's limits if nobody took care: long loops, many workgroups.
    fn large(&self) -> Vec<Shaped> {
        Vec::new()
    }

    /// What `bench kernels --shape` measures in sizes given by the user.
    fn of_sizes(&self, sizes: &Sizes) -> Vec<Shaped>;

    /// Builds the graph of a case of a golden file, if it is of this operation.
    fn golden(&self, _graph: &mut OpGraph) -> bool {
        false
    }
}

/// The table, in the order in which it is run.
pub static ROWS: [&dyn Row; 16] = [
    &conv2d::Row,
    &conv_transpose2d::Row,
    &norm::Row,
    &relu::Row,
    &add::Row,
    &modulate::Row,
    &channel_sum::Row,
    &avg_pool::Row,
    &max_pool::Row,
    &softmax_ce::Row,
    &normalise::Row,
    &scale::Row,
    &accumulate::Row,
    &clip::Row,
    &loss_scale::Row,
    &adam::Row,
];

/// All cases of the table. Operations without variants of their own run as the table of variants says, and, where the adapter
/// has words of 64 bits, the other way too.
pub fn cases(target: &Target) -> Vec<Case> {
    let both = |case: Case| {
        let other = case.other_loads(target);
        [Some(case), other].into_iter().flatten()
    };
    ROWS.iter().flat_map(|row| row.cases(target)).flat_map(both).chain(halves(target)).collect()
}

/// Maps and convolutions in which operations are checked in half precision: vectors of two and of four images.
const IN_PAIRS: [Sizes; 6] = [
    Sizes::Map { n: 4, c: 6, h: 6, w: 5 },
    Sizes::Map { n: 6, c: 4, h: 5, w: 7 },
    Sizes::Convolution { n: 4, cin: 5, cout: 9, h: 8, w: 4, k: 3 },
    Sizes::Convolution { n: 6, cin: 40, cout: 36, h: 6, w: 7, k: 3 },
    Sizes::Convolution { n: 2, cin: 3, cout: 19, h: 4, w: 8, k: 5 },
    Sizes::Convolution { n: 10, cin: 7, cout: 33, h: 3, w: 5, k: 1 },
];

/// Cases in half precision: every operation on maps in few shapes, and a convolution and its weight's gradient by each way in which
/// variants read and write maps.
fn halves(target: &Target) -> Vec<Case> {
    let mut list: Vec<Case> = Vec::new();
    for shaped in IN_PAIRS.iter().flat_map(|sizes| ROWS.iter().flat_map(|row| row.of_sizes(sizes))) {
        let name = format!("{} {}", shaped.op.name(), text_of(&shaped.inputs));
        if !shaped.op.in_place().is_empty() {
            continue; // of parameters, not of maps
        }
        let case = Case::halved(shaped.op.name(), &name, &shaped);
        let maps = case.graph.values.iter().filter(|value| value.half).count();
        list.extend((maps > 0).then_some(case));
        let packed = Case::packed(shaped.op.name(), &name, &shaped);
        list.extend((maps > 1 && packed.graph.values[0].half).then_some(packed));
    }
    let mut seen = BTreeSet::new();
    for op in [ConvOp::Conv2d, ConvOp::Conv2dDWeight] {
        let (k, stride) = (3, 1);
        let shaped = match op {
            ConvOp::Conv2dDWeight => {
                Shaped::new(Conv2dDWeight { k, stride, linear: false }, &[&[5, 6, 7, 4], &[11, 6, 7, 4]])
            }
            _ => {
                let conv = Conv2d { k, stride, bias: true, base: true };
                Shaped::new(conv, &[&[5, 6, 7, 4], &[11, 5, 3, 3], &[11], &[11, 6, 7, 4]])
            }
        };
        let name = format!("{} {}", shaped.op.name(), text_of(&shaped.inputs));
        let case = Case::halved(shaped.op.name(), &name, &shaped);
        let packed = Case::packed(shaped.op.name(), &name, &shaped);
        for variant in variants(target, op, k, stride) {
            let way = match variant {
                Variant::Conv(tile) => format!("{:?} {} {} {:?}", tile.source, tile.vec, tile.wide, tile.winograd),
                Variant::Weight(tile) => format!("{:?} {} {} {}", tile.along, tile.subgroup, tile.vec, tile.wide),
            };
            if seen.insert((shaped.op.name(), way)) {
                list.push(case.forced(shaped.op.name(), variant));
                list.push(packed.forced(shaped.op.name(), variant));
            }
        }
    }
    // Large enough that Winograd's method goes through it in pieces.
    let large =
        Shaped::new(Conv2d { k: 3, stride: 1, bias: false, base: false }, &[&[32, 16, 16, 64], &[32, 32, 3, 3]]);
    list.push(Case::halved("conv2d", &format!("conv2d {}", text_of(&large.inputs)), &large));
    list
}

/// `5x6x7x4, 11x5x3x3`: extents in the engine's order.
fn text_of(shapes: &[Vec<usize>]) -> String {
    let one = |shape: &Vec<usize>| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    shapes.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The row of an operation. Panics where there is none: `every_operation_has_a_case` of this module's tests finds it first.
pub fn row(op: &Op) -> &'static dyn Row {
    let found = ROWS.into_iter().find(|row| row.names().contains(&op.name()));
    found.unwrap_or_else(|| panic!("{} has no row in check/rows", op.name()))
}

/// An operation with the shapes of its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaped {
    /// What is computed.
    pub op: Op,
    /// Extents of each input, in the engine's order.
    pub inputs: Vec<Vec<usize>>,
}

impl Shaped {
    /// An operation on inputs of these shapes.
    pub fn new(op: impl Into<Op>, inputs: &[&[usize]]) -> Shaped {
        Shaped { op: op.into(), inputs: inputs.iter().map(|shape| shape.to_vec()).collect() }
    }

    /// Extents of the inputs.
    pub fn shapes(&self) -> Vec<&[usize]> {
        self.inputs.iter().map(Vec::as_slice).collect()
    }

    /// Inputs on which the operation is defined, from `random` values: the input's number and how many.
    pub fn values(&self, random: impl Fn(usize, usize) -> Vec<f32>) -> Vec<Vec<f32>> {
        let counts = self.inputs.iter().map(|shape| shape.iter().product());
        let mut values: Vec<Vec<f32>> = counts.enumerate().map(|(input, count)| random(input, count)).collect();
        row(&self.op).prepare(&self.op, &self.shapes(), &mut values);
        values
    }

    /// All results by the twin.
    pub fn twin(&self, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
        let shapes = self.shapes();
        let operands: Vec<Operand> =
            shapes.iter().zip(values).map(|(shape, values)| Operand { shape, values }).collect();
        let results = self.op.output_shapes(&shapes);
        row(&self.op).twin(&self.op, &operands, &results.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }
}

/// Sizes that a user gives to `bench kernels --shape`, each at least 1.
#[derive(Clone, Copy, Debug)]
pub enum Sizes {
    /// A convolution, and the transposed one from the same map.
    Convolution {
        /// Images.
        n: usize,
        /// Channels of x.
        cin: usize,
        /// Channels of the result.
        cout: usize,
        /// Rows of x.
        h: usize,
        /// Columns of x.
        w: usize,
        /// Kernel size, odd.
        k: usize,
    },
    /// A map that operations on maps take.
    Map {
        /// Images.
        n: usize,
        /// Channels.
        c: usize,
        /// Rows.
        h: usize,
        /// Columns.
        w: usize,
    },
    /// A matrix \[m, k\] times a matrix \[k, n\].
    Product {
        /// Rows of the result.
        m: usize,
        /// Columns of the result.
        n: usize,
        /// Terms of each sum.
        k: usize,
    },
}

impl Sizes {
    /// Extents of a map, if that is what the sizes are.
    fn map(&self) -> Option<Vec<usize>> {
        let Sizes::Map { n, c, h, w } = *self else { return None };
        Some(vec![c, h, w, n])
    }
}

/// Every operation that the table's cases run, each flag and kernel size apart, in the first shape in which it occurs.
pub fn operations(target: &Target) -> Vec<Shaped> {
    let mut list: Vec<Shaped> = Vec::new();
    for case in ROWS.iter().flat_map(|row| row.cases(target)) {
        for node in &case.graph.nodes {
            if !list.iter().any(|known| known.op == node.op) {
                let inputs = node.inputs.iter().map(|v| case.graph.values[v.0].shape.clone()).collect();
                list.push(Shaped { op: node.op, inputs });
            }
        }
    }
    list
}

/// A tensor in the engine's order. Labels and bytes are numbers by their bits.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    /// Its extents, outermost first.
    pub shape: &'a [usize],
    /// Its values, innermost extent last.
    pub values: &'a [f32],
}

impl Operand<'_> {
    /// Extents in PyTorch's order.
    fn image_shape(&self) -> ImageShape {
        image_shape(self.shape)
    }

    /// Values in PyTorch's order.
    fn first(&self) -> Vec<f32> {
        image_first(self.values, self.shape[self.shape.len() - 1])
    }

    fn labels(&self) -> Vec<usize> {
        self.values.iter().map(|v| v.to_bits() as usize).collect()
    }

    /// `f` of each position.
    fn each(&self, f: impl Fn(usize) -> f32) -> Vec<f32> {
        (0..self.values.len()).map(f).collect()
    }
}

/// [N, C, H, W] of a map [C, H, W, N].
fn image_shape(shape: &[usize]) -> ImageShape {
    ImageShape::new(shape[3], shape[0], shape[1], shape[2])
}

/// A map of PyTorch's order in the engine's.
fn last(values: &[f32], shape: &[usize]) -> Vec<f32> {
    image_last(values, shape[3])
}

/// `3x5x5x7`: images, channels, rows, columns of a map [C, H, W, N].
fn text(shape: &[usize]) -> String {
    format!("{}x{}x{}x{}", shape[3], shape[0], shape[1], shape[2])
}

fn rectify(values: &mut [f32]) {
    values.iter_mut().for_each(|v| *v = v.max(0.0));
}

/// The sum of lists of equal length, in f64.
fn sums(parts: &[Vec<f32>]) -> Vec<f32> {
    (0..parts[0].len()).map(|i| parts.iter().map(|p| f64::from(p[i])).sum::<f64>() as f32).collect()
}

/// `tolerance` times the largest value, or times 1 if all are smaller.
fn scaled(tolerance: f64, expected: &[f32]) -> Vec<f64> {
    let largest = expected.iter().fold(1.0_f64, |m, v| m.max(f64::from(v.abs())));
    vec![tolerance * largest; expected.len()]
}

/// Largest difference relative to the largest expected value; infinite for NaN.
fn difference(twin: &[f32], result: &[f32]) -> f64 {
    assert_eq!(twin.len(), result.len(), "twin and result have one length");
    let largest = twin.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(f64::from(v.abs())));
    let worst = twin.iter().zip(result).fold(0.0, |worst, (a, b)| {
        let error = (f64::from(*a) - f64::from(*b)).abs();
        f64::max(worst, if error.is_nan() { f64::INFINITY } else { error })
    });
    worst / largest
}

/// Maps [C, H, W, N] in which elementwise operations and pooling are checked.
const MAPS: [[usize; 4]; 4] = [[1, 2, 2, 1], [5, 5, 7, 3], [3, 2, 3, 8], [2, 16, 8, 33]];

/// A small map for finite differences.
const SMALL: [usize; 4] = [4, 5, 6, 3];

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule `covered`.
    #[test]
    fn every_operation_has_a_case() {
        let target = Target { cpu: true, subgroup: 8, ..Target::minimum() };
        let checked = operations(&target);
        for kind in Op::KINDS {
            let found = checked.iter().any(|shaped| format!("{:?}", shaped.op).starts_with(&format!("{kind}(")));
            assert!(found, "no case of check/rows runs {kind}");
        }
    }

    /// Rule `covered`.
    #[test]
    fn whatever_has_a_gradient_is_differentiated() {
        let target = Target { cpu: true, subgroup: 8, ..Target::minimum() };
        for row in ROWS {
            let runs = row.cases(&target);
            let nodes = runs.iter().flat_map(|case| &case.graph.nodes);
            let differentiable = nodes.filter(|n| row.names()[0] == n.op.name());
            let differentiable = differentiable.map(|n| row.differentiable(&n.op, n.inputs.len())).max();
            assert_eq!(row.smooth().is_empty(), differentiable == Some(0), "{}", row.names()[0]);
        }
    }
}
