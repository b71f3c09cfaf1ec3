//! Single results of a convolution by plain loops: for shapes so large that the whole twin would take too long, which is
//! what benchmarks and the tuner have to check. Works on the engine's layout, [channel][row][column][image].

use crate::kernels::choose::{ConvOp, Key};
use crate::kernels::conv::{ConvShape, WeightOrder};

/// Most products that are summed up for one sample, if eight results allow it.
const MOST_PRODUCTS: usize = 1 << 22;

/// Some results of a convolution, exactly.
pub struct Sample {
    /// Where in the result, and the value there.
    values: Vec<(usize, f64)>,
    /// The largest value.
    largest: f64,
}

impl Sample {
    /// Computes up to 64 results, the first and the last among them; all of a small result. `a` is x; `b` the weight, in
    /// `order`, or for weight gradients dy. Weight gradients add up `key.steps` maps that lie behind each other.
    pub fn new(key: &Key, order: WeightOrder, a: &[f32], b: &[f32]) -> Sample {
        let (count, terms) = (result_count(key), terms(key));
        let most = if count * terms <= MOST_PRODUCTS { count } else { (MOST_PRODUCTS / terms).clamp(8, 64).min(count) };
        // A multiplicative hash scatters the positions over channels, rows, columns and images.
        let scattered = |i: usize| ((i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 11) as usize % count;
        let positions = (0..most).map(|i| match i {
            _ if most == count => i,
            0 => 0,
            1 => count - 1,
            _ => scattered(i),
        });
        let values: Vec<(usize, f64)> = positions.map(|i| (i, result(key, order, a, b, i))).collect();
        let largest = values.iter().fold(1e-30, |m, v| f64::max(m, v.1.abs()));
        Sample { values, largest }
    }

    /// Largest difference of the sampled results, relative to the largest of them; infinite if one is not finite.
    pub fn error(&self, results: &[f32]) -> f64 {
        let differences = self.values.iter().map(|&(i, exact)| (exact - f64::from(results[i])).abs());
        differences.fold(0.0, |worst, d| if d.is_finite() { f64::max(worst, d) } else { f64::INFINITY }) / self.largest
    }
}

/// Values of x: of all timesteps for weight gradients.
pub fn x_count(key: &Key) -> usize {
    let s = &key.shape;
    key.steps * s.cin * s.in_h * s.in_w * s.n
}

/// Values of y, or of dy of all timesteps.
pub fn y_count(key: &Key) -> usize {
    let (rows, columns) = y_size(key);
    key.steps * key.shape.cout * rows * columns * key.shape.n
}

/// Rows and columns of y. The shape of a transposed convolution is that of its small map.
fn y_size(key: &Key) -> (usize, usize) {
    let s = &key.shape;
    if key.op == ConvOp::ConvTranspose2d { (2 * s.in_h, 2 * s.in_w) } else { (s.out_h, s.out_w) }
}

/// Values of the weight.
pub fn weight_count(key: &Key) -> usize {
    key.shape.cout * key.shape.cin * key.shape.k * key.shape.k
}

/// Values of the result.
pub fn result_count(key: &Key) -> usize {
    if key.op == ConvOp::Conv2dDWeight { weight_count(key) } else { y_count(key) }
}

/// Products in one result, those with the padding included.
fn terms(key: &Key) -> usize {
    let s = &key.shape;
    match key.op {
        ConvOp::Conv2dDWeight => key.steps * s.out_h * s.out_w * s.n,
        _ => s.cin * s.k * s.k,
    }
}

/// The result at position `i`.
fn result(key: &Key, order: WeightOrder, a: &[f32], b: &[f32], i: usize) -> f64 {
    let ConvShape { n, cin, cout, in_h, in_w, k, stride, .. } = key.shape;
    let (out_h, out_w) = y_size(key);
    let x = |t: usize, c: usize, row: usize, column: usize, image: usize| {
        f64::from(a[(((t * cin + c) * in_h + row) * in_w + column) * n + image])
    };
    let mut sum = 0.0;
    if key.op == ConvOp::Conv2dDWeight {
        let (kx, ky, ci, co) = (i % k, i / k % k, i / (k * k) % cin, i / (k * k * cin));
        for t in 0..key.steps {
            for row in 0..out_h {
                let Some(from) = inside(row * stride + ky, k, in_h) else { continue };
                for column in 0..out_w {
                    let Some(at) = inside(column * stride + kx, k, in_w) else { continue };
                    let dy = (((t * cout + co) * out_h + row) * out_w + column) * n;
                    sum += (0..n).map(|image| x(t, ci, from, at, image) * f64::from(b[dy + image])).sum::<f64>();
                }
            }
        }
        return sum;
    }
    let (image, column, row, co) = (i % n, i / n % out_w, i / (n * out_w) % out_h, i / (n * out_w * out_h));
    // The row or column of x that meets `at` in the result through `tap`.
    let source = |at: usize, tap: usize, length: usize| match key.op {
        ConvOp::ConvTranspose2d => {
            let doubled = (at + k / 2).checked_sub(tap)?;
            (doubled % 2 == 0 && doubled / 2 < length).then_some(doubled / 2)
        }
        _ => inside(at * stride + tap, k, length),
    };
    for ky in 0..k {
        let Some(from) = source(row, ky, in_h) else { continue };
        for kx in 0..k {
            let Some(at) = source(column, kx, in_w) else { continue };
            let tap = if order.flip { k * k - 1 - (ky * k + kx) } else { ky * k + kx };
            for ci in 0..cin {
                sum += x(0, ci, from, at, image) * f64::from(b[co * order.out_step + ci * order.in_step + tap]);
            }
        }
    }
    sum
}

/// `at - k / 2`, if that lies in `0..length`.
fn inside(at: usize, k: usize, length: usize) -> Option<usize> {
    at.checked_sub(k / 2).filter(|&i| i < length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::run::{image_first, image_last};
    use crate::reference::conv_transpose2d::{ConvTranspose2d, conv_transpose2d};
    use crate::reference::conv_transpose2d::{conv_transpose2d_d_input, conv_transpose2d_d_weight};
    use crate::reference::conv2d::{Conv2d, conv2d, conv2d_d_input, conv2d_d_weight};
    use crate::reference::random::normal;

    fn agree(what: &str, key: Key, order: WeightOrder, a: &[f32], b: &[f32], twin: &[f32]) {
        let sample = Sample::new(&key, order, a, b);
        assert_eq!(sample.values.len(), twin.len(), "{what}: a small result is compared whole");
        assert!(sample.error(twin) < 1e-6, "{what}: {:e}", sample.error(twin));
        for bad in [f32::NAN, f32::INFINITY] {
            let mut spoilt = twin.to_vec();
            spoilt[twin.len() / 2] = bad;
            assert!(sample.error(&spoilt) == f64::INFINITY, "{what}");
        }
    }

    #[test]
    fn samples_are_the_twins_results() {
        let (n, c_in, c_out, h, w) = (3, 4, 5, 3, 4);
        let map = |seed: u64, c: usize, h: usize, w: usize| normal(seed, n * c * h * w);
        let last = |values: &[f32]| image_last(values, n);
        let key = |op, shape, steps| Key { op, shape, steps };
        for k in [1, 3, 5] {
            let weight = normal(9, c_in * c_out * k * k);
            let straight = |cin: usize| WeightOrder { out_step: cin * k * k, in_step: k * k, flip: false };
            let turned = |cout: usize, flip| WeightOrder { out_step: k * k, in_step: cout * k * k, flip };

            let s = Conv2d { n, c_in, c_out, h, w, k };
            let (x, dy) = (map(1, c_in, h, w), map(2, c_out, h, w));
            let there = ConvShape::same(n, c_in, c_out, h, w, k);
            let back = ConvShape::same(n, c_out, c_in, h, w, k);
            let twin = last(&conv2d(&s, &x, &weight, None));
            agree("conv2d", key(ConvOp::Conv2d, there, 1), straight(c_in), &last(&x), &weight, &twin);
            let twin = last(&conv2d_d_input(&s, &weight, &dy));
            agree("d_input", key(ConvOp::Conv2d, back, 1), turned(c_in, true), &last(&dy), &weight, &twin);
            let twin = conv2d_d_weight(&s, &x, &dy);
            let unused = straight(c_in);
            agree("d_weight", key(ConvOp::Conv2dDWeight, there, 1), unused, &last(&x), &last(&dy), &twin);
            let twice: Vec<f32> = twin.iter().map(|v| 2.0 * v).collect();
            let (xs, dys) = ([last(&x), last(&x)].concat(), [last(&dy), last(&dy)].concat());
            agree("two steps", key(ConvOp::Conv2dDWeight, there, 2), unused, &xs, &dys, &twice);

            let s = ConvTranspose2d { n, c_in, c_out, h, w, k };
            let dy = map(3, c_out, 2 * h, 2 * w);
            let twin = last(&conv_transpose2d(&s, &x, &weight, None));
            agree(
                "transposed",
                key(ConvOp::ConvTranspose2d, there, 1),
                turned(c_out, false),
                &last(&x),
                &weight,
                &twin,
            );
            let strided = ConvShape { in_h: 2 * h, in_w: 2 * w, stride: 2, out_h: h, out_w: w, ..back };
            let twin = last(&conv_transpose2d_d_input(&s, &weight, &dy));
            agree("stride 2", key(ConvOp::Conv2d, strided, 1), straight(c_out), &last(&dy), &weight, &twin);
            let twin = conv_transpose2d_d_weight(&s, &x, &dy);
            let strided = key(ConvOp::Conv2dDWeight, strided, 1);
            agree("d_weight, stride 2", strided, unused, &last(&dy), &last(&x), &twin);
        }
        assert_eq!(image_first(&image_last(&[1.0, 2.0, 3.0, 4.0], 2), 2), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn large_results_are_sampled() {
        let key = Key { op: ConvOp::Conv2d, shape: ConvShape::same(8, 32, 32, 16, 16, 3), steps: 1 };
        let order = WeightOrder { out_step: 32 * 9, in_step: 9, flip: false };
        let sample = Sample::new(&key, order, &vec![1.0; x_count(&key)], &vec![1.0; weight_count(&key)]);
        assert_eq!(sample.values.len(), 64);
        assert_eq!((sample.values[0].0, sample.values[1].0), (0, result_count(&key) - 1));
        let channels: std::collections::BTreeSet<usize> = sample.values.iter().map(|v| v.0 / (8 * 256)).collect();
        assert!(channels.len() > 16, "the sample covers {} of 32 channels", channels.len());
        assert!(sample.values.iter().all(|v| [128.0, 192.0, 288.0].contains(&v.1)), "corners, edges, middle");
    }
}
