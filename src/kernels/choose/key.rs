//! What a variant is chosen for, and the variants of all kernels as one type.

use crate::kernels::conv::{self, ConvShape, Pairs, Parts, Stage, Tile, WeightTile};
use crate::kernels::{Program, Site, Target, View};
use crate::{Error, Result};

/// The three convolution kernels that have variants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConvOp {
    /// Convolution: forward, and the gradients with respect to inputs that are convolutions themselves.
    Conv2d,
    /// Transposed convolution, and the input gradients of convolutions with a stride.
    ConvTranspose2d,
    /// Gradient with respect to the weight.
    Conv2dDWeight,
}

/// What a variant is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Key {
    /// Which sums are computed.
    pub op: ConvOp,
    /// Extents of maps and kernel.
    pub shape: ConvShape,
    /// Timesteps that one launch adds up: weight gradients; else 1.
    pub steps: usize,
    /// Whether its maps are stored in f16.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub half: bool,
}

impl Key {
    /// Multiplications and additions of one launch, padding included.
    pub fn flops(&self) -> f64 {
        self.steps as f64 * self.shape.flops()
    }
}

impl ConvOp {
    /// All that variants are chosen for.
    pub const ALL: [ConvOp; 3] = [ConvOp::Conv2d, ConvOp::ConvTranspose2d, ConvOp::Conv2dDWeight];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            ConvOp::Conv2d => "conv2d",
            ConvOp::ConvTranspose2d => "conv_transpose2d",
            ConvOp::Conv2dDWeight => "conv2d_d_weight",
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let ConvShape { n, cin, cout, in_h, in_w, k, stride, .. } = self.shape;
        write!(f, "{} {n}x{cin}->{cout} {in_h}x{in_w} k{k}", self.op.name())?;
        if stride > 1 {
            write!(f, " stride {stride}")?;
        }
        if self.steps > 1 {
            write!(f, " x{}", self.steps)?;
        }
        if self.half { write!(f, " in f16") } else { Ok(()) }
    }
}

/// A variant of one of the kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Variant {
    /// Of conv2d or conv_transpose2d; by Winograd's method, of a weight gradient too.
    Conv(Tile),
    /// Of a weight gradient.
    Weight(WeightTile),
}

impl Variant {
    /// Whether it is one of this kernel.
    pub fn serves(&self, op: ConvOp) -> bool {
        match self {
            Variant::Conv(tile) => op != ConvOp::Conv2dDWeight || tile.winograd.is_some(),
            Variant::Weight(_) => op == ConvOp::Conv2dDWeight,
        }
    }

    /// The launches of a weight gradient; see [`conv::conv2d_d_weight`].
    ///
    /// # Errors
    /// When naga refuses the variant; when it is none of a weight gradient in this shape.
    pub fn d_weight(
        &self,
        p: &mut Program,
        target: &Target,
        shape: &ConvShape,
        (pairs, stage): (Pairs, &mut Stage),
        dw: View,
        site: Site,
    ) -> Result<()> {
        match self {
            Variant::Weight(tile) => conv::conv2d_d_weight(p, target, tile, shape, (pairs, stage), dw, site),
            Variant::Conv(tile) => {
                let none = || Error::Config(format!("{self} is no variant for the weight gradient of {shape:?}"));
                let parts = Parts::of(tile, shape, stage.of, target).ok_or_else(none)?;
                conv::conv2d_d_weight_transformed(p, target, (tile, &parts), shape, (pairs, stage), dw, site)
            }
        }
    }
}

impl std::fmt::Display for Variant {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Variant::Conv(tile) => tile.fmt(f),
            Variant::Weight(tile) => tile.fmt(f),
        }
    }
}
