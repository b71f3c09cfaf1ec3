//! How weights lie in parameters, and how they are packed for kernels.

use super::view::View;

/// How the weights of a convolution lie in the parameter: `w[co * out_step + ci * in_step + ky * k + kx]`, turned by
/// 180 degrees if `flip`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WeightOrder {
    /// Distance between output channels.
    pub out_step: usize,
    /// Distance between input channels.
    pub in_step: usize,
    /// Whether taps run backwards.
    pub flip: bool,
}

impl WeightOrder {
    /// A weight `[cout][cin][k][k]`: of a convolution, and of the gradient of a transposed one with respect to its input.
    pub fn out_first(cin: usize, k: usize) -> WeightOrder {
        WeightOrder { out_step: cin * k * k, in_step: k * k, flip: false }
    }

    /// A weight `[cin][cout][k][k]`: of a transposed convolution, and of the gradient of a convolution with stride with respect
    /// to its input, which is one.
    pub fn in_first(cout: usize, k: usize) -> WeightOrder {
        WeightOrder { out_step: k * k, in_step: cout * k * k, flip: false }
    }

    /// The same weight turned by 180 degrees: the gradient of a convolution of stride 1 with respect to its input is a
    /// convolution with its weight `in_first` and turned.
    pub fn turned(self) -> WeightOrder {
        WeightOrder { flip: !self.flip, ..self }
    }
}

/// How a weight is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Packing {
    /// The weight as the host wrote it.
    pub(super) w: View,
    /// How it lies there.
    pub(super) order: WeightOrder,
    /// Input and output channels: with one channel, a strided map and its gradient have one order.
    pub(super) channels: [usize; 2],
    /// Output channels of a panel.
    pub(super) r: usize,
    /// Outputs in a row of Winograd's tile, for which it is transformed, if it is.
    pub(super) m: Option<usize>,
}

/// How a map is transformed for the products of Winograd's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Transform {
    /// The map, which is written once.
    pub(super) x: View,
    /// Its channels, rows, columns and images.
    pub(super) extents: [usize; 4],
    /// Outputs in a row of a tile, and the kernel size.
    pub(super) tile: [usize; 2],
    /// Tiles of a panel.
    pub(super) width: usize,
}
