//! A sample of a convolution's results by plain loops: the whole twin of a large convolution takes minutes, some of its
//! results take none. Maps are in the engine's order, `[channel][row][column][image]`; weights `[co][ci][ky][kx]`.
//!
//! ```text
//! y[co,i,j,n] = sum over ci,ky,kx of x[ci, s i + ky - p, s j + kx - p, n] * w[co,ci,ky,kx],   p = (k-1)/2, s = stride
//! ```
//!
//! Forward, input gradient and weight gradient are the three sums of that product. The transposed convolution is the same
//! with x and y exchanged: its forward pass is [`Product::DInput`], its input gradient [`Product::Forward`],
//! its weight gradient [`Product::DWeight`], with the large map as x and its weight `[in][out][k][k]` as `[co][ci][k][k]`.

use super::{check_len, tap};

/// Extents of a convolution with stride: x `[cin][in_h][in_w][n]`, y `[cout][out_h][out_w][n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// Images.
    pub n: usize,
    /// Channels of x.
    pub cin: usize,
    /// Channels of y.
    pub cout: usize,
    /// Rows of x.
    pub in_h: usize,
    /// Columns of x.
    pub in_w: usize,
    /// Rows of y.
    pub out_h: usize,
    /// Columns of y.
    pub out_w: usize,
    /// Kernel size, odd.
    pub k: usize,
    /// Stride.
    pub stride: usize,
}

/// Which of x, w and y is computed from the other two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// y from x and w.
    Forward,
    /// d_x from d_y and w.
    DInput,
    /// d_w from x and d_y, summed over as many pairs of maps as both hold behind each other.
    DWeight,
}

/// Results that are checked: those of a stride through all of them that has no factor in common with usual extents, and
/// the first and the last.
const SAMPLES: usize = 64;

/// Positions of the sample among `count` results.
pub fn positions(count: usize) -> impl Iterator<Item = usize> {
    (0..SAMPLES).map(move |trial| trial * 1_000_003 % count).chain([count - 1])
}

/// Largest difference between `result` and plain loops (f64 sums) over the sample, relative to the largest result of the
/// sample. `start` is added to each sum, if given: a map like the result. The operand that is computed may be empty.
pub fn sample_error(
    s: &Sampled,
    product: Product,
    (x, w, y): (&[f32], &[f32], &[f32]),
    start: Option<&[f32]>,
    result: &[f32],
) -> f64 {
    let (mut worst, mut largest) = (0.0, f64::MIN_POSITIVE);
    for i in positions(result.len()) {
        let expected = sampled(s, product, (x, w, y), i) + start.map_or(0.0, |start| f64::from(start[i]));
        let error = (expected - f64::from(result[i])).abs();
        worst = f64::max(worst, if error.is_nan() { f64::INFINITY } else { error });
        largest = largest.max(expected.abs());
    }
    worst / largest
}

/// Result number `i` of a product.
pub fn sampled(s: &Sampled, product: Product, (x, w, y): (&[f32], &[f32], &[f32]), i: usize) -> f64 {
    let Sampled { n, cin, cout, in_h, in_w, out_h, out_w, k, stride } = *s;
    let (x_len, y_len, p) = (cin * in_h * in_w * n, cout * out_h * out_w * n, (k - 1) / 2);
    let at_x = |c: usize, row: usize, column: usize, image: usize| ((c * in_h + row) * in_w + column) * n + image;
    let at_y = |c: usize, row: usize, column: usize, image: usize| ((c * out_h + row) * out_w + column) * n + image;
    let at_w = |co: usize, ci: usize, ky: usize, kx: usize| ((co * cin + ci) * k + ky) * k + kx;
    let mut sum = 0.0;
    let mut add = |a: f32, b: f32| sum += f64::from(a) * f64::from(b);
    match product {
        Product::Forward => {
            check_len("x", x, x_len);
            check_len("w", w, cout * cin * k * k);
            let (image, column, row, co) = (i % n, i / n % out_w, i / (n * out_w) % out_h, i / (n * out_w * out_h));
            for (ci, ky, kx) in taps(cin, k) {
                if let (Some(r), Some(q)) = (tap(stride * row, ky, p, in_h), tap(stride * column, kx, p, in_w)) {
                    add(x[at_x(ci, r, q, image)], w[at_w(co, ci, ky, kx)]);
                }
            }
        }
        Product::DInput => {
            check_len("y", y, y_len);
            check_len("w", w, cout * cin * k * k);
            let (image, column, row, ci) = (i % n, i / n % in_w, i / (n * in_w) % in_h, i / (n * in_w * in_h));
            // The row of y that meets `row` of x through tap ky, if there is one.
            let meets = |row: usize, ky: usize, len: usize| {
                let reached = (row + p).checked_sub(ky)?;
                (reached.is_multiple_of(stride) && reached / stride < len).then_some(reached / stride)
            };
            for (co, ky, kx) in taps(cout, k) {
                if let (Some(r), Some(q)) = (meets(row, ky, out_h), meets(column, kx, out_w)) {
                    add(y[at_y(co, r, q, image)], w[at_w(co, ci, ky, kx)]);
                }
            }
        }
        Product::DWeight => {
            let steps = x.len() / x_len;
            check_len("x", x, steps * x_len);
            check_len("y", y, steps * y_len);
            let (kx, ky, ci, co) = (i % k, i / k % k, i / (k * k) % cin, i / (k * k * cin));
            for (x, y) in x.chunks(x_len).zip(y.chunks(y_len)) {
                for row in 0..out_h {
                    let Some(r) = tap(stride * row, ky, p, in_h) else { continue };
                    for column in 0..out_w {
                        let Some(q) = tap(stride * column, kx, p, in_w) else { continue };
                        (0..n).for_each(|image| add(x[at_x(ci, r, q, image)], y[at_y(co, row, column, image)]));
                    }
                }
            }
        }
    }
    sum
}

fn taps(channels: usize, k: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..channels * k * k).map(move |i| (i / (k * k), i / k % k, i % k))
}

#[cfg(test)]
mod tests {
    use super::super::conv_transpose2d::*;
    use super::super::conv2d::*;
    use super::super::random::normal;
    use super::*;

    /// [N, …] to […, N].
    fn image_last(values: &[f32], n: usize) -> Vec<f32> {
        let rest = values.len() / n;
        (0..values.len()).map(|i| values[i % n * rest + i / n]).collect()
    }

    fn agrees(s: &Sampled, product: Product, operands: (&[f32], &[f32], &[f32]), twin: &[f32]) {
        let error = sample_error(s, product, operands, None, twin);
        assert!(error < 1e-6, "{product:?}: {error:e}");
        let mut spoilt = twin.to_vec();
        spoilt[twin.len() - 1] += 0.1 * spoilt.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
        assert!(sample_error(s, product, operands, None, &spoilt) > 0.05, "{product:?}");
        spoilt[0] = f32::NAN;
        assert_eq!(sample_error(s, product, operands, None, &spoilt), f64::INFINITY, "{product:?}");
    }

    #[test]
    fn the_twins_agree() {
        for (k, stride, upwards) in
            [(1, 1, 2), (3, 1, 2), (5, 1, 2), (1, 2, 1), (3, 2, 4), (5, 4, 4), (3, 4, 1), (1, 4, 4)]
        {
            let (n, c_in, c_out, h, w) = (2, 3, 4, 5, 3);
            let c = Conv2d { n, c_in, c_out, h, w, k, stride };
            let (out_h, out_w) = (c.output().h, c.output().w);
            let s = Sampled { n, cin: c_in, cout: c_out, in_h: h, in_w: w, out_h, out_w, k, stride };
            let (x, weight, y) = (normal(1, c.input().len()), normal(2, c.weight_len()), normal(3, c.output().len()));
            let (xs, ys) = (image_last(&x, n), image_last(&y, n));
            let operands = (&xs[..], &weight[..], &ys[..]);
            agrees(&s, Product::Forward, operands, &image_last(&conv2d(&c, &x, &weight, None), n));
            agrees(&s, Product::DInput, operands, &image_last(&conv2d_d_input(&c, &weight, &y), n));
            agrees(&s, Product::DWeight, operands, &conv2d_d_weight(&c, &x, &y));

            // x of the transposed convolution is y of the sample, the small map.
            let t = ConvTranspose2d { n, c_in, c_out, h, w, k, stride: upwards };
            let (in_h, in_w) = (t.output().h, t.output().w);
            let s = Sampled { n, cin: c_out, cout: c_in, in_h, in_w, out_h: h, out_w: w, k, stride: upwards };
            let (small, large) = (normal(4, t.input().len()), normal(5, t.output().len()));
            let (smalls, larges) = (image_last(&small, n), image_last(&large, n));
            let operands = (&larges[..], &weight[..], &smalls[..]);
            agrees(&s, Product::DInput, operands, &image_last(&conv_transpose2d(&t, &small, &weight, None), n));
            agrees(&s, Product::Forward, operands, &image_last(&conv_transpose2d_d_input(&t, &weight, &large), n));
            agrees(&s, Product::DWeight, operands, &conv_transpose2d_d_weight(&t, &small, &large));
        }
    }

    #[test]
    fn several_maps_and_a_start() {
        let s = Sampled { n: 1, cin: 1, cout: 1, in_h: 1, in_w: 2, out_h: 1, out_w: 2, k: 1, stride: 1 };
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(sampled(&s, Product::DWeight, (&x, &[], &y), 0), 4321.0);
        assert_eq!(sample_error(&s, Product::Forward, (&x[..2], &[2.0], &[]), Some(&[5.0, 6.0]), &[7.0, 10.0]), 0.0);
    }
}
