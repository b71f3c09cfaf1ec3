//! Sum along one axis: `y[o,i] = sum over a of x[o,a,i]`.

use super::{check_len, rounded};

/// An axis of a row-major tensor: `outer` is the product of the extents before it, `inner` of those after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    /// Product of the extents before the axis.
    pub outer: usize,
    /// Extent of the axis.
    pub len: usize,
    /// Product of the extents after the axis.
    pub inner: usize,
}

/// y `[outer,inner]` from x `[outer,len,inner]`.
pub fn sum_axis(s: &Axis, x: &[f32]) -> Vec<f32> {
    check_len("x", x, s.outer * s.len * s.inner);
    let mut y = vec![0.0; s.outer * s.inner];
    for o in 0..s.outer {
        for a in 0..s.len {
            for i in 0..s.inner {
                y[o * s.inner + i] += x[(o * s.len + a) * s.inner + i] as f64;
            }
        }
    }
    rounded(y)
}

/// d_x `[outer,len,inner]`: d_y `[outer,inner]` repeated along the axis.
pub fn sum_axis_d_input(s: &Axis, d_y: &[f32]) -> Vec<f32> {
    check_len("d_y", d_y, s.outer * s.inner);
    let mut d_x = Vec::with_capacity(s.outer * s.len * s.inner);
    for row in d_y.chunks(s.inner) {
        for _ in 0..s.len {
            d_x.extend_from_slice(row);
        }
    }
    d_x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let s = Axis { outer: 2, len: 3, inner: 1 };
        assert_eq!(sum_axis(&s, &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]), [6.0, 60.0]);
        assert_eq!(sum_axis_d_input(&s, &[1.0, 2.0]), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
        let s = Axis { outer: 1, len: 3, inner: 2 };
        assert_eq!(sum_axis(&s, &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]), [24.0, 42.0]);
    }
}
