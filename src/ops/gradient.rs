//! The gradient of every differentiable operation, as nodes of the same graph.

use super::Op;
use crate::graph::autodiff::Tape;
use crate::graph::{Node, ValueId};

/// Adds to the tape what the gradients `d_outputs` of the outputs of `node` (where there are any) contribute to its
/// inputs. Gradients of parameters are handed over unevaluated ([`Tape::parameter`]), so that all timesteps of a
/// shared weight can be reduced at once.
pub fn gradient(tape: &mut Tape, node: &Node, d_outputs: &[Option<ValueId>]) {
    let Some(dy) = d_outputs[0] else { return };
    let (inputs, outputs) = (&node.inputs, &node.outputs);
    match node.op {
        Op::Conv2d { k, bias, base } => {
            let (x, w) = (inputs[0], inputs[1]);
            let linear = tape.graph.values[w.0].shape.len() == 2;
            tape.parameter(w, Op::Conv2dDWeight { k, linear }, 0, &[x, dy]);
            if tape.needs(x) {
                let d_x = tape.emit(node, Op::Conv2dDInput { k, base: false }, &[dy, w], &d_name(tape, w));
                tape.add(x, d_x[0]);
            }
            drives(tape, inputs, dy, bias, base);
        }
        Op::ConvTranspose2d { k, bias, base } => {
            let (x, w) = (inputs[0], inputs[1]);
            tape.parameter(w, Op::ConvTranspose2dDWeight { k }, 0, &[x, dy]);
            if tape.needs(x) {
                let d_x = tape.emit(node, Op::ConvTranspose2dDInput { k, base: false }, &[dy, w], &d_name(tape, w));
                tape.add(x, d_x[0]);
            }
            drives(tape, inputs, dy, bias, base);
        }
        Op::Norm(norm) => {
            let (x, gamma, beta) = (inputs[0], inputs[1], inputs[2]);
            let (y, stats) = (outputs[0], outputs[1]);
            let mut affine = vec![x, stats, dy];
            let mut needed = vec![x, stats, gamma, dy];
            if norm.relu {
                affine.push(y);
                needed.push(y);
            }
            tape.parameter(gamma, Op::NormDAffine(norm), 0, &affine);
            tape.parameter(beta, Op::NormDAffine(norm), 1, &affine);
            if tape.needs(x) {
                let d_x = tape.emit(node, Op::NormDInput(norm), &needed, "d_z");
                tape.add(x, d_x[0]);
            }
        }
        Op::Relu => {
            let d_x = tape.emit(node, Op::ReluDInput, &[outputs[0], dy], "d_x");
            tape.add(inputs[0], d_x[0]);
        }
        Op::Add => inputs.iter().for_each(|&x| tape.add(x, dy)),
        Op::Modulate => {
            let d = tape.emit(node, Op::ModulateDDrives, &[inputs[0], inputs[1], dy], "d_drive");
            tape.add(inputs[0], d[0]);
            tape.add(inputs[1], d[1]);
        }
        Op::MaxPool => {
            let d_x = tape.emit(node, Op::MaxPoolDInput { base: false }, &[inputs[0], dy], "d_pooled");
            tape.add(inputs[0], d_x[0]);
        }
        Op::AvgPool => {
            let shape = &tape.graph.values[inputs[0].0].shape;
            let d_x = tape.emit(node, Op::AvgPoolDInput { h: shape[1], w: shape[2] }, &[dy], "d_averaged");
            tape.add(inputs[0], d_x[0]);
        }
        // The loss is where gradients start: `dy` is only the mark that its gradient is wanted.
        Op::SoftmaxCe => {
            let d_z = tape.emit(node, Op::SoftmaxCeDLogits, inputs, "d_logits");
            tape.add(inputs[0], d_z[0]);
        }
        _ => panic!("{} has no gradient", node.op.name()),
    }
}

/// Gradients of what a convolution adds to its sum.
fn drives(tape: &mut Tape, inputs: &[ValueId], dy: ValueId, bias: bool, base: bool) {
    if bias {
        tape.parameter(inputs[2], Op::ChannelSum, 0, &[dy]);
    }
    if base {
        tape.add(inputs[2 + usize::from(bias)], dy);
    }
}

/// What a map sends back to its input: `d_by.v2.lateral`.
fn d_name(tape: &Tape, w: ValueId) -> String {
    format!("d_by.{}", tape.graph.values[w.0].name.trim_end_matches(".weight"))
}
