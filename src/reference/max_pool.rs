//! 2 x 2 max-pooling, stride 2, no padding: `y[n,c,i,j] = max of x[n,c,2i..2i+2,2j..2j+2]`.
//!
//! An odd last row or column is dropped. Of equal candidates the first in scan order (0,0), (0,1), (1,0), (1,1) is the
//! maximum, and the whole gradient goes to it, as in PyTorch. A NaN is larger than any number.

use super::{ImageShape, check_len};

/// Shape `[n,c,h/2,w/2]` of the output for an input of shape `s`, halves rounded down.
pub fn max_pool_output(s: ImageShape) -> ImageShape {
    ImageShape::new(s.n, s.c, s.h / 2, s.w / 2)
}

/// Position in x of the maximum of each window, in the order of the output.
fn maxima(s: ImageShape, x: &[f32]) -> Vec<usize> {
    check_len("x", x, s.len());
    let out = max_pool_output(s);
    let mut positions = Vec::with_capacity(out.len());
    for n in 0..out.n {
        for c in 0..out.c {
            for i in 0..out.h {
                for j in 0..out.w {
                    let mut best = s.at(n, c, 2 * i, 2 * j);
                    for (row, column) in [(0, 1), (1, 0), (1, 1)] {
                        let candidate = s.at(n, c, 2 * i + row, 2 * j + column);
                        if x[candidate] > x[best] || x[candidate].is_nan() && !x[best].is_nan() {
                            best = candidate;
                        }
                    }
                    positions.push(best);
                }
            }
        }
    }
    positions
}

/// y `[n,c,h/2,w/2]` from x of shape `s`.
pub fn max_pool(s: ImageShape, x: &[f32]) -> Vec<f32> {
    maxima(s, x).into_iter().map(|position| x[position]).collect()
}

/// d_x of shape `s`: d_y `[n,c,h/2,w/2]` at the maximum of each window, 0 elsewhere.
pub fn max_pool_d_input(s: ImageShape, x: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("d_y", d_y, max_pool_output(s).len());
    let mut d_x = vec![0.0; x.len()];
    for (position, &d_y) in maxima(s, x).into_iter().zip(d_y) {
        d_x[position] = d_y;
    }
    d_x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_maximum_wins_and_odd_edges_are_dropped() {
        let s = ImageShape::new(1, 1, 3, 5);
        #[rustfmt::skip]
        let x = [
            1.0, 2.0, 0.0, 3.0, 9.0,
            2.0, 2.0, 3.0, 3.0, 9.0,
            9.0, 9.0, 9.0, 9.0, 9.0,
        ];
        assert_eq!(max_pool(s, &x), [2.0, 3.0]);
        #[rustfmt::skip]
        let d_x = [
            0.0, 7.0, 0.0, 8.0, 0.0,
            0.0, 0.0, 0.0, 0.0, 0.0,
            0.0, 0.0, 0.0, 0.0, 0.0,
        ];
        assert_eq!(max_pool_d_input(s, &x, &[7.0, 8.0]), d_x);
    }

    #[test]
    fn a_nan_is_the_maximum_wherever_it_stands() {
        let s = ImageShape::new(1, 1, 2, 2);
        for position in 0..4 {
            let mut x = [1.0, 4.0, 3.0, 2.0];
            x[position] = f32::NAN;
            assert!(max_pool(s, &x)[0].is_nan(), "{position}");
            assert_eq!(max_pool_d_input(s, &x, &[7.0])[position], 7.0);
        }
    }
}
