//! Fully connected map (PyTorch's `Linear`): `y[n,o] = b[o] + sum over i of x[n,i] * w[o,i]`.

use super::{check_len, rounded};

/// Extents: x `[n,inputs]`, weight `[outputs,inputs]`, bias `[outputs]`, y `[n,outputs]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Rows of x: images in the batch.
    pub n: usize,
    /// Values per row of x.
    pub inputs: usize,
    /// Values per row of y.
    pub outputs: usize,
}

impl Linear {
    /// Calls `f(position in x, position in weight, position in y)` once for each product of the formula.
    fn for_each_product(&self, mut f: impl FnMut(usize, usize, usize)) {
        for n in 0..self.n {
            for o in 0..self.outputs {
                for i in 0..self.inputs {
                    f(n * self.inputs + i, o * self.inputs + i, n * self.outputs + o);
                }
            }
        }
    }
}

/// y `[n,outputs]` from x `[n,inputs]`, weight `[outputs,inputs]` and, where given, bias `[outputs]`.
pub fn linear(s: &Linear, x: &[f32], weight: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    check_len("x", x, s.n * s.inputs);
    check_len("weight", weight, s.outputs * s.inputs);
    let mut y = vec![0.0; s.n * s.outputs];
    if let Some(bias) = bias {
        check_len("bias", bias, s.outputs);
        for (i, y) in y.iter_mut().enumerate() {
            *y = bias[i % s.outputs] as f64;
        }
    }
    s.for_each_product(|ix, iw, iy| y[iy] += x[ix] as f64 * weight[iw] as f64);
    rounded(y)
}

/// d_x `[n,inputs]`: `d_x[n,i] = sum over o of d_y[n,o] * w[o,i]`.
pub fn linear_d_input(s: &Linear, weight: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("weight", weight, s.outputs * s.inputs);
    check_len("d_y", d_y, s.n * s.outputs);
    let mut d_x = vec![0.0; s.n * s.inputs];
    s.for_each_product(|ix, iw, iy| d_x[ix] += d_y[iy] as f64 * weight[iw] as f64);
    rounded(d_x)
}

/// d_weight `[outputs,inputs]`: `d_w[o,i] = sum over n of d_y[n,o] * x[n,i]`.
pub fn linear_d_weight(s: &Linear, x: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("x", x, s.n * s.inputs);
    check_len("d_y", d_y, s.n * s.outputs);
    let mut d_weight = vec![0.0; s.outputs * s.inputs];
    s.for_each_product(|ix, iw, iy| d_weight[iw] += d_y[iy] as f64 * x[ix] as f64);
    rounded(d_weight)
}

/// d_bias `[outputs]`: d_y `[n,outputs]` summed over the rows.
pub fn linear_d_bias(s: &Linear, d_y: &[f32]) -> Vec<f32> {
    super::reduce::sum_axis(&super::reduce::Axis { outer: 1, len: s.n, inner: s.outputs }, d_y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let s = Linear { n: 2, inputs: 2, outputs: 1 };
        assert_eq!(linear(&s, &[1.0, 2.0, 3.0, 4.0], &[10.0, 100.0], Some(&[0.5])), [210.5, 430.5]);
        assert_eq!(linear_d_input(&s, &[10.0, 100.0], &[1.0, 2.0]), [10.0, 100.0, 20.0, 200.0]);
        assert_eq!(linear_d_weight(&s, &[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0]), [7.0, 10.0]);
        assert_eq!(linear_d_bias(&s, &[1.0, 2.0]), [3.0]);
    }
}
