//! Convolutions: conv2d, transposed convolution and weight gradients, with strides 1, 2 and 4. Linear layers are 1x1
//! convolutions on 1x1 maps; a matrix product is a 1x1 convolution whose pixels and images are the columns.
//!
//! The gradient of a convolution with respect to its input is the transposed convolution with the same stride, and the other
//! way round; both have [`conv2d_d_weight`] as gradient with respect to the weight.

mod d_weight;
mod d_weight_transformed;
mod forward;
mod pack;
mod product;
mod shape;
mod stage;
mod tile;
mod winograd;

pub use super::packing::WeightOrder;
pub use super::program::Site;
pub use d_weight::{conv2d_d_weight, sum_partials};
pub use d_weight_transformed::{Parts, conv2d_d_weight_transformed};
pub use forward::{conv_transpose2d, conv2d};
pub use product::{Matrices, product};
pub use shape::{ConvShape, Pairs, Series, Start};
pub use stage::{Stage, State};
pub use tile::{Lanes, Outputs, Source, Tile, WeightTile};
pub use winograd::{Winograd, met_variants};
