//! What convolution, transposed convolution and their gradients share: from extents and the order of weights to launches.

use super::context::{Context, Run};
use super::{Call, Tape, ValueId};
use crate::Result;
use crate::kernels::choose::{ConvOp, Key, Variant};
use crate::kernels::conv::{self, ConvShape, Lanes, Pairs, Series, Start, WeightOrder};
use crate::kernels::{Site, View};

/// What is computed from x and a weight.
pub(super) struct Product {
    /// A convolution, or (scattering) a transposed one.
    pub(super) op: ConvOp,
    pub(super) shape: ConvShape,
    pub(super) order: WeightOrder,
    pub(super) bias: bool,
    pub(super) base: bool,
}

/// Extents of the convolution of a stride from the map `large` to the map `small`.
pub(super) fn strided(large: &[usize], small: &[usize], k: usize, stride: usize) -> ConvShape {
    ConvShape::strided(small[3], large[0], small[0], [small[1], small[2]], k, stride)
}

/// Extents of the transposed convolution from the map `small` to the map `large`.
pub(super) fn transposed(small: &[usize], large: &[usize], k: usize, stride: usize) -> ConvShape {
    ConvShape::transposed(small[3], small[0], large[0], [small[1], small[2]], k, stride)
}

/// Launches x, w, \[bias\], \[base\] -> y.
pub(super) fn lower(c: &mut Context, call: Call, product: Product, site: Site) -> Result<()> {
    let Product { op, shape, order, bias, base } = product;
    let start = Start {
        bias: bias.then(|| c.view(call.inputs[2])),
        base: base.then(|| c.view(call.inputs[2 + usize::from(bias)])),
        exact: c.exact,
    };
    let operands = (c.view(call.inputs[0]), c.view(call.inputs[1]), order, start, c.view(call.outputs[0]));
    let half = operands.0.half && operands.4.half;
    let Variant::Conv(tile) = c.variant(Key { op, shape, steps: 1, half }) else { unreachable!("a tile for {op:?}") };
    let run = if op == ConvOp::ConvTranspose2d { conv::conv_transpose2d } else { conv::conv2d };
    run(c.program, c.target, &tile, &shape, operands, site)
}

/// Launches the weight gradient of the convolution with these extents from the maps `xs` to those of which `dys` are the
/// gradients.
pub(super) fn lower_d_weight(
    c: &mut Context,
    (xs, dys): (&[ValueId], &[ValueId]),
    shape: ConvShape,
    dw: ValueId,
    site: Site,
) -> Result<()> {
    // Lanes that exchange their sums keep none that a later launch could go on with. Where a timestep is work enough for a launch,
    // each has a sum of its own, so that they can be computed apart and together with the same bits.
    const ENOUGH: f64 = 0.01; // seconds
    const ENOUGH_OF_A_CPU: f64 = 1e8;
    let otherwise = if c.target.cpu { ENOUGH_OF_A_CPU } else { f64::INFINITY };
    let enough = c.target.pace.map_or(otherwise, |pace| ENOUGH * pace.operations);
    let steps = xs.len();
    // Of all timesteps alike, as one variant goes on with the sums of another.
    let half = xs.iter().chain(dys).all(|&v| c.view(v).half);
    let key = move |steps: usize| Key { op: ConvOp::Conv2dDWeight, shape, steps, half };
    let exchanged = match c.choices.variant(c.target, &key(steps)) {
        Variant::Weight(tile) => tile.along == Lanes::Pixels,
        Variant::Conv(_) => false,
    };
    let apart = steps > 1 && exchanged && shape.flops() >= enough;
    c.folded(&[xs, dys], &[dw], site, apart, move |c, (runs, stage), outs: &[View], site| {
        let series = |run: Run| Series { view: run.view, step: run.step };
        let pairs = Pairs { x: series(runs[0]), dy: series(runs[1]), steps: runs[0].steps };
        let key = key(stage.of);
        let variant = if stage.goes_on() { c.choices.variant(c.target, &key) } else { c.variant(key) };
        variant.d_weight(c.program, c.target, &shape, (pairs, stage), outs[0], site)
    })
}

/// Gradients of what a convolution adds to its sum.
pub(super) fn start_gradient(tape: &mut dyn Tape, call: Call, dy: ValueId, bias: bool, base: bool) {
    if bias {
        tape.parameter(call.inputs[2], super::ChannelSum.into(), 0, &[dy]);
    }
    if base {
        tape.add(call.inputs[2 + usize::from(bias)], dy);
    }
}

/// What a map sends back to its input: `d_by.v2.lateral`.
pub(super) fn d_name(tape: &dyn Tape, w: ValueId) -> String {
    format!("d_by.{}", tape.name(w).trim_end_matches(".weight"))
}

/// Rows or columns of the smaller map of a convolution with a stride. Panics where they do not divide.
pub(super) fn divided(large: usize, stride: usize) -> usize {
    assert!(large.is_multiple_of(stride), "{large} rows or columns do not divide by a stride of {stride}");
    large / stride
}

/// `-s2` where the stride is not 1.
pub(super) fn stride_label(stride: usize) -> String {
    if stride == 1 { String::new() } else { format!("-s{stride}") }
}
