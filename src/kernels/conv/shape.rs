//! Extents of convolutions, and what they start from.

use crate::kernels::{Param, View};

/// A convolution from `x` [cin, in_h, in_w, n] to `y` [cout, out_h, out_w, n] with a k x k kernel, padding k / 2; or a transposed
/// one, whose output has `stride` times as many rows and columns as its input, not the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct ConvShape {
    /// Images.
    pub n: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Input rows.
    pub in_h: usize,
    /// Input columns.
    pub in_w: usize,
    /// Output rows.
    pub out_h: usize,
    /// Output columns.
    pub out_w: usize,
    /// Kernel size, odd.
    pub k: usize,
    /// Stride: 1, 2 or 4.
    pub stride: usize,
}

impl ConvShape {
    /// The same map size in and out, stride 1.
    pub fn same(n: usize, cin: usize, cout: usize, h: usize, w: usize, k: usize) -> Self {
        ConvShape { n, cin, cout, in_h: h, in_w: w, out_h: h, out_w: w, k, stride: 1 }
    }

    /// A convolution to out_h x out_w from `stride` times as many rows and columns.
    pub fn strided(n: usize, cin: usize, cout: usize, [out_h, out_w]: [usize; 2], k: usize, stride: usize) -> Self {
        ConvShape { n, cin, cout, in_h: stride * out_h, in_w: stride * out_w, out_h, out_w, k, stride }
    }

    /// A transposed convolution from in_h x in_w to `stride` times as many rows and columns.
    pub fn transposed(n: usize, cin: usize, cout: usize, [in_h, in_w]: [usize; 2], k: usize, stride: usize) -> Self {
        ConvShape { n, cin, cout, in_h, in_w, out_h: stride * in_h, out_w: stride * in_w, k, stride }
    }

    /// Multiplications and additions of the forward pass, padding included: each place of the smaller map meets the whole
    /// kernel.
    pub fn flops(&self) -> f64 {
        let places = self.in_h.min(self.out_h) * self.in_w.min(self.out_w);
        2.0 * (self.n * self.cin * self.cout * places * self.k * self.k) as f64
    }
}

/// Maps that lie at equal distances in one buffer, one for each timestep.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// From the first map to the end of the last.
    pub view: View,
    /// Words from one map to the next.
    pub step: usize,
}

/// The operands of a weight gradient: at each of `steps` timesteps a map and the gradient of what a convolution made of it.
#[derive(Clone, Copy, Debug)]
pub struct Pairs {
    /// The maps.
    pub x: Series,
    /// The gradients.
    pub dy: Series,
    /// How many there are of each.
    pub steps: usize,
}

/// What the accumulators start from: the sum of what is present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// A map like the output.
    pub base: Option<View>,
    /// One value per output channel.
    pub bias: Option<View>,
    /// Whether the result must be exactly this where all inputs under the kernel are 0: a method that leaves rounding noise
    /// there then looks.
    pub exact: bool,
}

impl Start {
    /// What the kernels are told of it.
    pub(super) fn params(&self) -> [(&'static str, Param); 2] {
        let has = |view: Option<View>| u32::from(view.is_some()).into();
        [("has_base", has(self.base)), ("has_bias", has(self.bias))]
    }

    /// Its bindings. What is absent is bound to something that the kernel only reads, and not read from there.
    pub(super) fn operands(&self, read: View) -> [(&'static str, View); 2] {
        let read = View { half: false, ..read };
        [("base", self.base.unwrap_or(read)), ("bias", self.bias.unwrap_or(read))]
    }
}
