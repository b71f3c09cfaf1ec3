//! Two-dimensional convolution (cross-correlation, as in PyTorch's `Conv2d`): stride s, zero padding (k-1)/2.
//!
//! ```text
//! y[n,o,i,j] = b[o] + sum over c,u,v of x[n,c,si+u-p,sj+v-p] * w[o,c,u,v],   p = (k-1)/2, x = 0 outside
//! ```

use super::{ImageShape, check_len, rounded, tap};

/// Extents of a convolution: x `[n,c_in,h,w]`, weight `[c_out,c_in,k,k]`, bias `[c_out]`, y `[n,c_out,h/s,w/s]`, where
/// quotients are rounded up: the kernel is centred on pixels 0, s, 2s, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Images in the batch.
    pub n: usize,
    /// Input channels.
    pub c_in: usize,
    /// Output channels.
    pub c_out: usize,
    /// Rows of the input.
    pub h: usize,
    /// Columns of the input.
    pub w: usize,
    /// Kernel size, odd.
    pub k: usize,
    /// Distance s of neighbouring outputs, in pixels of the input.
    pub stride: usize,
}

impl Conv2d {
    /// Shape of x.
    pub fn input(&self) -> ImageShape {
        ImageShape::new(self.n, self.c_in, self.h, self.w)
    }

    /// Shape of y.
    pub fn output(&self) -> ImageShape {
        ImageShape::new(self.n, self.c_out, self.h.div_ceil(self.stride), self.w.div_ceil(self.stride))
    }

    /// Number of weights.
    pub fn weight_len(&self) -> usize {
        self.c_out * self.c_in * self.k * self.k
    }

    /// Calls `f(position in x, position in weight, position in y)` once for each product of the formula: the
    /// operation is linear in x and in the weight, so that forward and both gradients are sums over these triples.
    fn for_each_product(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (x, y, k, p, stride) = (self.input(), self.output(), self.k, (self.k - 1) / 2, self.stride);
        for n in 0..self.n {
            for o in 0..self.c_out {
                for c in 0..self.c_in {
                    for i in 0..y.h {
                        for u in 0..k {
                            let Some(row) = tap(stride * i, u, p, self.h) else { continue };
                            for j in 0..y.w {
                                for v in 0..k {
                                    let Some(column) = tap(stride * j, v, p, self.w) else { continue };
                                    f(x.at(n, c, row, column), ((o * self.c_in + c) * k + u) * k + v, y.at(n, o, i, j));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// y `[n,c_out,h/s,w/s]` from x `[n,c_in,h,w]`, weight `[c_out,c_in,k,k]` and, where given, bias `[c_out]`.
pub fn conv2d(s: &Conv2d, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    check_len("x", x, s.input().len());
    check_len("weight", weight, s.weight_len());
    let out = s.output();
    let mut y = vec![0.0; out.len()];
    if let Some(bias) = bias {
        check_len("bias", bias, s.c_out);
        for (map, sums) in y.chunks_mut(out.h * out.w).enumerate() {
            sums.fill(bias[map % s.c_out] as f64);
        }
    }
    s.for_each_product(|ix, iw, iy| y[iy] += x[ix] as f64 * weight[iw] as f64);
    rounded(y)
}

/// d_x `[n,c_in,h,w]`: `d_x[n,c,si+u-p,sj+v-p] += d_y[n,o,i,j] * w[o,c,u,v]`.
pub fn conv2d_d_input(s: &Conv2d, weight: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("weight", weight, s.weight_len());
    check_len("d_y", d_y, s.output().len());
    let mut d_x = vec![0.0; s.input().len()];
    s.for_each_product(|ix, iw, iy| d_x[ix] += d_y[iy] as f64 * weight[iw] as f64);
    rounded(d_x)
}

/// d_weight `[c_out,c_in,k,k]`: `d_w[o,c,u,v] += d_y[n,o,i,j] * x[n,c,si+u-p,sj+v-p]`.
pub fn conv2d_d_weight(s: &Conv2d, x: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("x", x, s.input().len());
    check_len("d_y", d_y, s.output().len());
    let mut d_weight = vec![0.0; s.weight_len()];
    s.for_each_product(|ix, iw, iy| d_weight[iw] += d_y[iy] as f64 * x[ix] as f64);
    rounded(d_weight)
}

/// d_bias `[c_out]`: d_y `[n,c_out,h/s,w/s]` summed over images, rows and columns.
pub fn conv2d_d_bias(s: &Conv2d, d_y: &[f32]) -> Vec<f32> {
    channel_sums(s.output(), d_y)
}

/// Sum over images, rows and columns: `[n,c,h,w] -> [c]`.
pub(super) fn channel_sums(s: ImageShape, d_y: &[f32]) -> Vec<f32> {
    check_len("d_y", d_y, s.len());
    let mut sums = vec![0.0; s.c];
    for (map, values) in d_y.chunks(s.h * s.w).enumerate() {
        sums[map % s.c] += values.iter().map(|&d| d as f64).sum::<f64>();
    }
    rounded(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        // One channel, 1 x 3 picture, kernel 3: only the kernel's middle row meets the picture.
        let s = Conv2d { n: 1, c_in: 1, c_out: 1, h: 1, w: 3, k: 3, stride: 1 };
        let weight = [9.0, 9.0, 9.0, 1.0, 2.0, 4.0, 9.0, 9.0, 9.0];
        assert_eq!(conv2d(&s, &[1.0, 10.0, 100.0], &weight, Some(&[0.5])), [42.5, 421.5, 210.5]);
        assert_eq!(conv2d_d_input(&s, &weight, &[1.0, 10.0, 100.0]), [12.0, 124.0, 240.0]);
        let d_weight = conv2d_d_weight(&s, &[1.0, 10.0, 100.0], &[1.0, 2.0, 3.0]);
        assert_eq!(d_weight, [0.0, 0.0, 0.0, 32.0, 321.0, 210.0, 0.0, 0.0, 0.0]);
        assert_eq!(conv2d_d_bias(&s, &[1.0, 2.0, 3.0]), [6.0]);
    }

    #[test]
    fn a_stride_takes_every_other_pixel() {
        // The same row of 5 pixels: the kernel's middle row is centred on pixels 0, 2 and 4.
        let s = Conv2d { n: 1, c_in: 1, c_out: 1, h: 1, w: 5, k: 3, stride: 2 };
        let weight = [9.0, 9.0, 9.0, 1.0, 2.0, 4.0, 9.0, 9.0, 9.0];
        let x = [1.0, 10.0, 100.0, 1000.0, 10000.0];
        assert_eq!(conv2d(&s, &x, &weight, None), [42.0, 4210.0, 21000.0]);
        assert_eq!(conv2d_d_input(&s, &weight, &[1.0, 10.0, 100.0]), [2.0, 14.0, 20.0, 140.0, 200.0]);
        assert_eq!(conv2d_d_weight(&s, &x, &[1.0, 0.0, 2.0]), [0.0, 0.0, 0.0, 2000.0, 20001.0, 10.0, 0.0, 0.0, 0.0]);
        let four = Conv2d { stride: 4, ..s };
        assert_eq!(conv2d(&four, &x, &weight, None), [42.0, 21000.0]);
    }

    #[test]
    #[should_panic(expected = "`weight` has 3 elements, its shape says 1")]
    fn wrong_length_names_the_operand() {
        conv2d(&Conv2d { n: 1, c_in: 1, c_out: 1, h: 1, w: 1, k: 1, stride: 1 }, &[0.0], &[0.0; 3], None);
    }
}
