//! What the rows of convolutions share: sums of products by plain loops, whole or as a sample, and maps full of zeros.

use super::{Operand, Shaped, scaled};
use crate::kernels::choose::{ConvOp, Key};
use crate::kernels::conv::{ConvShape, WeightOrder};
use crate::reference::random::uniform;
use crate::reference::sample::{Product, Sampled, sample_error, sampled};

/// One of the three sums of a convolution: the operand that is computed is empty.
pub(super) struct Sums {
    pub(super) extents: Sampled,
    pub(super) product: Product,
    pub(super) x: Vec<f32>,
    pub(super) w: Vec<f32>,
    pub(super) y: Vec<f32>,
    /// What each sum starts from.
    pub(super) start: Option<Vec<f32>>,
}

impl Sums {
    /// A convolution with these extents from `x`.
    pub(super) fn forward(extents: Sampled, x: Operand, w: Operand, start: Option<Vec<f32>>) -> Sums {
        let (x, w, y) = (x.values.to_vec(), w.values.to_vec(), Vec::new());
        Sums { extents, product: Product::Forward, x, w, y, start }
    }

    /// The sums that go back from `y` to the x of the convolution with these extents.
    pub(super) fn backward(extents: Sampled, y: Operand, w: Operand, start: Option<Vec<f32>>) -> Sums {
        let (x, w, y) = (Vec::new(), w.values.to_vec(), y.values.to_vec());
        Sums { extents, product: Product::DInput, x, w, y, start }
    }

    /// The weight gradient over all pairs of `x` and `y`.
    pub(super) fn weight(extents: Sampled, x: &[Operand], y: &[Operand]) -> Sums {
        let all = |list: &[Operand]| list.iter().flat_map(|o| o.values).copied().collect();
        Sums { extents, product: Product::DWeight, x: all(x), w: Vec::new(), y: all(y), start: None }
    }

    /// All `count` results.
    pub(super) fn all(&self, count: usize) -> Vec<Vec<f32>> {
        let start = |i: usize| self.start.as_ref().map_or(0.0, |start| f64::from(start[i]));
        let one = |i| (sampled(&self.extents, self.product, (&self.x, &self.w, &self.y), i) + start(i)) as f32;
        vec![(0..count).map(one).collect()]
    }

    /// The largest difference to a sample of the results, relative to the largest.
    pub(super) fn error(&self, result: &[f32]) -> f64 {
        let operands = (&self.x[..], &self.w[..], &self.y[..]);
        sample_error(&self.extents, self.product, operands, self.start.as_deref(), result)
    }
}

/// Extents of the convolution of a stride from the map `large` to the map `small`.
pub(super) fn extents(large: &[usize], small: &[usize], k: usize, stride: usize) -> Sampled {
    Sampled {
        n: large[3],
        cin: large[0],
        cout: small[0],
        in_h: large[1],
        in_w: large[2],
        out_h: small[1],
        out_w: small[2],
        k,
        stride,
    }
}

/// What the sums of the map `result` start from, of the inputs after x and w: \[bias\], \[base\].
pub(super) fn start(inputs: &[Operand], result: &[usize], bias: bool, base: bool) -> Option<Vec<f32>> {
    let count: usize = result.iter().product();
    let per_channel = count / result[0];
    let of_channel = |i: usize| if bias { inputs[2].values[i / per_channel] } else { 0.0 };
    let of_map = |i: usize| if base { inputs[2 + usize::from(bias)].values[i] } else { 0.0 };
    (bias || base).then(|| (0..count).map(|i| of_channel(i) + of_map(i)).collect())
}

/// A sum without a product other than 0 is 0, and not what rounding leaves of it: Adam makes steps of that.
pub(super) fn allowed(expected: &[f32]) -> Vec<f64> {
    let exact = |(allowed, v): (f64, &f32)| if *v == 0.0 { 0.0 } else { allowed };
    scaled(1e-5, expected).into_iter().zip(expected).map(exact).collect()
}

/// Leaves few values of x and of the arriving gradient other than 0, a pixel being 0 in all channels more often than not: many
/// sums of the forward pass and of both gradients have no product other than 0. They must be exactly 0.
pub(super) fn sparse(shaped: &Shaped, values: &mut [Vec<f32>]) {
    let x = &shaped.inputs[0];
    let y = &shaped.op.output_shapes(&shaped.shapes())[0];
    let arriving = values.len() - 1;
    for (seed, list, map) in [(15, 0, x), (16, arriving, y)] {
        let (channels, size, n) = (map[0], map[1] * map[2], map[3]);
        let (pixels, single) = (uniform(seed, size * n, 0.0, 1.0), uniform(seed + 2, channels * size * n, 0.0, 1.0));
        for (i, v) in values[list].iter_mut().enumerate() {
            let (channel, pixel, image) = (i / (size * n), i / n % size, i % n);
            let alone = single[(image * channels + channel) * size + pixel];
            if channel == 1 || pixels[image * size + pixel] > 0.3 || alone > 0.3 {
                *v = 0.0;
            }
        }
    }
}

/// How weights lie, and which product of a convolution the key is: the transposed one goes from y to x.
pub fn sampled_key(key: &Key) -> (WeightOrder, Sampled, Product) {
    let ConvShape { n, cin, cout, in_h, in_w, out_h, out_w, k, stride } = key.shape;
    let straight = WeightOrder::out_first(cin, k);
    let same = Sampled { n, cin, cout, in_h, in_w, out_h, out_w, k, stride };
    match key.op {
        ConvOp::Conv2d => (straight, same, Product::Forward),
        ConvOp::Conv2dDWeight => (straight, same, Product::DWeight),
        ConvOp::ConvTranspose2d => {
            let order = WeightOrder::in_first(cout, k);
            let (cin, cout) = (cout, cin);
            let (in_h, in_w, out_h, out_w) = (out_h, out_w, in_h, in_w);
            (order, Sampled { n, cin, cout, in_h, in_w, out_h, out_w, k, stride }, Product::DInput)
        }
    }
}
