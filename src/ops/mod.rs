//! Operations: mathematics, shapes and gradients. The gradient of `x` is called `d_x` everywhere; an operation that
//! computes it is named after the forward operation, `conv2d` -> `conv2d_d_input`.
//!
//! Layout: maps [channels, rows, columns, images]; weights as in the published state dict, conv2d [out, in, k, k],
//! transposed convolution [in, out, k, k], linear [out, in].

mod gradient;
mod lower;

pub use gradient::gradient;
pub use lower::{Context, lower};

/// Normalisation, as golden data and paper name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Norm {
    /// Groups of channels that are normalised together (1: the published LayerNorm).
    pub groups: usize,
    /// Whether gamma and beta have one value per channel; else one per element of [channels, rows, columns].
    pub per_channel: bool,
    /// Whether the result is rectified.
    pub relu: bool,
}

/// Added to the variance (PyTorch's default).
pub const NORM_EPS: f32 = 1e-5;

/// An operation. Inputs -> outputs stand beside each; `[…]` only where the flag says so, `…` repeated per timestep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// x, w, \[bias\], \[base\] -> y. Same padding, stride 1: y = base + bias + w * x. A linear layer is k = 1 on 1x1 maps.
    Conv2d {
        /// Kernel size, odd.
        k: usize,
        /// Whether a bias is added.
        bias: bool,
        /// Whether a map is added.
        base: bool,
    },
    /// x, w, \[bias\], \[base\] -> y of twice the rows and columns. Stride 2, padding (k-1)/2, output padding 1.
    ConvTranspose2d {
        /// Kernel size, odd.
        k: usize,
        /// Whether a bias is added.
        bias: bool,
        /// Whether a map is added.
        base: bool,
    },
    /// dy, w, \[base\] -> d_x.
    Conv2dDInput {
        /// Kernel size.
        k: usize,
        /// Whether a map is added.
        base: bool,
    },
    /// dy, w, \[base\] -> d_x.
    ConvTranspose2dDInput {
        /// Kernel size.
        k: usize,
        /// Whether a map is added.
        base: bool,
    },
    /// x…, dy… -> d_w, summed over the pairs.
    Conv2dDWeight {
        /// Kernel size.
        k: usize,
        /// Whether the weight has only two dimensions.
        linear: bool,
    },
    /// x…, dy… -> d_w, summed over the pairs.
    ConvTranspose2dDWeight {
        /// Kernel size.
        k: usize,
    },
    /// dy… -> d_bias, summed over pixels, images and timesteps.
    ChannelSum,
    /// x, gamma, beta -> y, stats \[2, groups, images\] (mean, 1 / standard deviation).
    Norm(Norm),
    /// x, stats, gamma, dy, \[y\] -> d_x.
    NormDInput(Norm),
    /// x…, stats…, dy…, \[y…\] -> d_gamma, d_beta, summed over images and timesteps.
    NormDAffine(Norm),
    /// x -> max(x, 0).
    Relu,
    /// y, dy -> d_x.
    ReluDInput,
    /// Any number of maps -> their sum: additive interaction, and the sum of gradients.
    Add,
    /// b, s -> b * (1 + s): multiplicative interaction.
    Modulate,
    /// b, s, dy -> d_b, d_s.
    ModulateDDrives,
    /// x -> y: 2x2, stride 2.
    MaxPool,
    /// x, dy, \[base\] -> d_x.
    MaxPoolDInput {
        /// Whether a map is added.
        base: bool,
    },
    /// x -> y \[channels, 1, 1, images\]: mean over pixels.
    AvgPool,
    /// dy -> d_x.
    AvgPoolDInput {
        /// Rows of x.
        h: usize,
        /// Columns of x.
        w: usize,
    },
    /// logits, labels -> log-probabilities (clamped at 1e-10), score \[2, images\]: loss, and 1 where the first maximum
    /// is the label.
    SoftmaxCe,
    /// logits, labels -> d_logits of the mean loss over images.
    SoftmaxCeDLogits,
}

impl Op {
    /// How many lists over timesteps the inputs are, one after the other; `None` if they are no lists.
    pub fn lists(&self) -> Option<usize> {
        match self {
            Op::Conv2dDWeight { .. } | Op::ConvTranspose2dDWeight { .. } => Some(2),
            Op::NormDAffine(norm) => Some(if norm.relu { 4 } else { 3 }),
            Op::ChannelSum => Some(1),
            _ => None,
        }
    }

    /// The name of the operation, which is also that of its (main) kernel, twin and test case.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv2d { .. } => "conv2d",
            Op::ConvTranspose2d { .. } => "conv_transpose2d",
            Op::Conv2dDInput { .. } => "conv2d_d_input",
            Op::ConvTranspose2dDInput { .. } => "conv_transpose2d_d_input",
            Op::Conv2dDWeight { .. } => "conv2d_d_weight",
            Op::ConvTranspose2dDWeight { .. } => "conv_transpose2d_d_weight",
            Op::ChannelSum => "channel_sum",
            Op::Norm(_) => "norm",
            Op::NormDInput(_) => "norm_d_input",
            Op::NormDAffine(_) => "norm_d_affine",
            Op::Relu => "relu",
            Op::ReluDInput => "relu_d_input",
            Op::Add => "add",
            Op::Modulate => "modulate",
            Op::ModulateDDrives => "modulate_d_drives",
            Op::MaxPool => "max_pool",
            Op::MaxPoolDInput { .. } => "max_pool_d_input",
            Op::AvgPool => "avg_pool",
            Op::AvgPoolDInput { .. } => "avg_pool_d_input",
            Op::SoftmaxCe => "softmax_ce",
            Op::SoftmaxCeDLogits => "softmax_ce_d_logits",
        }
    }

    /// Shapes of the outputs from those of the inputs. Panics where they do not fit.
    pub fn output_shapes(&self, inputs: &[&[usize]]) -> Vec<Vec<usize>> {
        let map = |c: usize, h: usize, w: usize, like: &[usize]| vec![c, h, w, like[3]];
        let x = inputs[0];
        match *self {
            Op::Conv2d { .. } => {
                assert_eq!(inputs[1][1], x[0], "conv2d: weight {:?} on map {x:?}", inputs[1]);
                vec![map(inputs[1][0], x[1], x[2], x)]
            }
            Op::ConvTranspose2d { .. } => {
                assert_eq!(inputs[1][0], x[0], "conv_transpose2d: weight {:?} on map {x:?}", inputs[1]);
                vec![map(inputs[1][1], 2 * x[1], 2 * x[2], x)]
            }
            Op::Conv2dDInput { .. } => vec![map(inputs[1][1], x[1], x[2], x)],
            Op::ConvTranspose2dDInput { .. } => vec![map(inputs[1][0], x[1] / 2, x[2] / 2, x)],
            Op::Conv2dDWeight { k, linear } => {
                let dy = inputs[inputs.len() / 2];
                vec![if linear { vec![dy[0], x[0]] } else { vec![dy[0], x[0], k, k] }]
            }
            Op::ConvTranspose2dDWeight { k } => vec![vec![x[0], inputs[inputs.len() / 2][0], k, k]],
            Op::ChannelSum => vec![vec![x[0]]],
            Op::Norm(norm) => {
                assert!(x[0].is_multiple_of(norm.groups), "norm: {} channels in {} groups", x[0], norm.groups);
                let affine = if norm.per_channel { x[0] } else { x[0] * x[1] * x[2] };
                assert_eq!(inputs[1].iter().product::<usize>(), affine, "norm: gamma {:?} on map {x:?}", inputs[1]);
                vec![x.to_vec(), vec![2, norm.groups, x[3]]]
            }
            Op::NormDInput(_) => vec![x.to_vec()],
            Op::NormDAffine(norm) => {
                let shape = if norm.per_channel { vec![x[0]] } else { x[..3].to_vec() };
                vec![shape.clone(), shape]
            }
            Op::Relu | Op::ReluDInput | Op::Add | Op::Modulate | Op::MaxPoolDInput { .. } | Op::SoftmaxCeDLogits => {
                vec![x.to_vec()]
            }
            Op::ModulateDDrives => vec![x.to_vec(), x.to_vec()],
            Op::MaxPool => vec![map(x[0], x[1] / 2, x[2] / 2, x)],
            Op::AvgPool => vec![map(x[0], 1, 1, x)],
            Op::AvgPoolDInput { h, w } => vec![map(x[0], h, w, x)],
            Op::SoftmaxCe => vec![x.to_vec(), vec![2, x[3]]],
        }
    }
}
