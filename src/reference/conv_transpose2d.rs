//! Transposed convolution that makes a map s times as large (PyTorch's `ConvTranspose2d` with stride s, padding (k-1)/2
//! and output padding s-1): a top-down connection into an area of larger maps.
//!
//! ```text
//! y[n,o,si+u-p,sj+v-p] += x[n,c,i,j] * w[c,o,u,v],   p = (k-1)/2, on top of b[o]; the output is exactly sh x sw
//! ```
//!
//! Where k < s, pixels that no tap reaches hold the bias alone.

use super::conv2d::channel_sums;
use super::{ImageShape, check_len, rounded, tap};

/// Extents: x `[n,c_in,h,w]`, weight `[c_in,c_out,k,k]`, bias `[c_out]`, y `[n,c_out,sh,sw]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvTranspose2d {
    /// Images in the batch.
    pub n: usize,
    /// Input channels (of the area above).
    pub c_in: usize,
    /// Output channels (of the area below).
    pub c_out: usize,
    /// Rows of the input; the output has s times as many.
    pub h: usize,
    /// Columns of the input; the output has s times as many.
    pub w: usize,
    /// Kernel size, odd.
    pub k: usize,
    /// Distance s, in pixels of the output, of where neighbouring pixels of the input go.
    pub stride: usize,
}

impl ConvTranspose2d {
    /// Shape of x.
    pub fn input(&self) -> ImageShape {
        ImageShape::new(self.n, self.c_in, self.h, self.w)
    }

    /// Shape of y.
    pub fn output(&self) -> ImageShape {
        ImageShape::new(self.n, self.c_out, self.stride * self.h, self.stride * self.w)
    }

    /// Number of weights.
    pub fn weight_len(&self) -> usize {
        self.c_in * self.c_out * self.k * self.k
    }

    /// Calls `f(position in x, position in weight, position in y)` once for each product of the formula.
    fn for_each_product(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (x, y, k, p, stride) = (self.input(), self.output(), self.k, (self.k - 1) / 2, self.stride);
        for n in 0..self.n {
            for c in 0..self.c_in {
                for o in 0..self.c_out {
                    for i in 0..self.h {
                        for u in 0..k {
                            let Some(row) = tap(stride * i, u, p, y.h) else { continue };
                            for j in 0..self.w {
                                for v in 0..k {
                                    let Some(column) = tap(stride * j, v, p, y.w) else { continue };
                                    f(
                                        x.at(n, c, i, j),
                                        ((c * self.c_out + o) * k + u) * k + v,
                                        y.at(n, o, row, column),
                                    );
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// y `[n,c_out,sh,sw]` from x `[n,c_in,h,w]`, weight `[c_in,c_out,k,k]` and, where given, bias `[c_out]`.
pub fn conv_transpose2d(s: &ConvTranspose2d, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
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

/// d_x `[n,c_in,h,w]`: `d_x[n,c,i,j] += d_y[n,o,si+u-p,sj+v-p] * w[c,o,u,v]`, a convolution with stride s.
pub fn conv_transpose2d_d_input(s: &ConvTranspose2d, weight: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("weight", weight, s.weight_len());
    check_len("d_y", d_y, s.output().len());
    let mut d_x = vec![0.0; s.input().len()];
    s.for_each_product(|ix, iw, iy| d_x[ix] += d_y[iy] as f64 * weight[iw] as f64);
    rounded(d_x)
}

/// d_weight `[c_in,c_out,k,k]`: `d_w[c,o,u,v] += d_y[n,o,si+u-p,sj+v-p] * x[n,c,i,j]`.
pub fn conv_transpose2d_d_weight(s: &ConvTranspose2d, x: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("x", x, s.input().len());
    check_len("d_y", d_y, s.output().len());
    let mut d_weight = vec![0.0; s.weight_len()];
    s.for_each_product(|ix, iw, iy| d_weight[iw] += d_y[iy] as f64 * x[ix] as f64);
    rounded(d_weight)
}

/// d_bias `[c_out]`: d_y `[n,c_out,sh,sw]` summed over images, rows and columns.
pub fn conv_transpose2d_d_bias(s: &ConvTranspose2d, d_y: &[f32]) -> Vec<f32> {
    channel_sums(s.output(), d_y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        // A single pixel spreads the kernel from (-1,-1): the first row and column fall off.
        let s = ConvTranspose2d { n: 1, c_in: 1, c_out: 1, h: 1, w: 1, k: 3, stride: 2 };
        let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        assert_eq!(conv_transpose2d(&s, &[2.0], &weight, Some(&[0.5])), [10.5, 12.5, 16.5, 18.5]);
        assert_eq!(conv_transpose2d_d_input(&s, &weight, &[1.0, 1.0, 1.0, 1.0]), [28.0]);
        let d_weight = conv_transpose2d_d_weight(&s, &[2.0], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(d_weight, [0.0, 0.0, 0.0, 0.0, 2.0, 4.0, 0.0, 6.0, 8.0]);
        assert_eq!(conv_transpose2d_d_bias(&s, &[1.0, 2.0, 3.0, 4.0]), [10.0]);
    }

    #[test]
    fn kernel_1_fills_every_other_pixel() {
        let s = ConvTranspose2d { n: 1, c_in: 1, c_out: 1, h: 1, w: 2, k: 1, stride: 2 };
        assert_eq!(conv_transpose2d(&s, &[1.0, 2.0], &[3.0], None), [3.0, 0.0, 6.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_kernel_smaller_than_the_stride_leaves_the_bias_between_its_pixels() {
        // Pixel 1 goes to column 4; the kernel reaches columns 3 to 5 around it, -1 to 1 around pixel 0.
        let s = ConvTranspose2d { n: 1, c_in: 1, c_out: 1, h: 1, w: 2, k: 3, stride: 4 };
        let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        let y = conv_transpose2d(&s, &[1.0, 10.0], &weight, Some(&[0.5]));
        assert_eq!(y[..8], [5.5, 6.5, 0.5, 40.5, 50.5, 60.5, 0.5, 0.5]);
        assert_eq!(y[8..16], [8.5, 9.5, 0.5, 70.5, 80.5, 90.5, 0.5, 0.5]);
        assert_eq!(y[16..], [0.5; 16]);
        let d_y: Vec<f32> = (0..32).map(|i| if i < 8 { i as f32 } else { 0.0 }).collect();
        assert_eq!(conv_transpose2d_d_input(&s, &weight, &d_y), [6.0, 62.0]);
        let d_weight = conv_transpose2d_d_weight(&s, &[1.0, 10.0], &d_y);
        assert_eq!(d_weight, [0.0, 0.0, 0.0, 30.0, 40.0, 51.0, 0.0, 0.0, 0.0]);
    }
}
