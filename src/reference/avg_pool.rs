//! Global average pooling: `y[n,c] = sum over i,j of x[n,c,i,j] / (h w)`.

use super::{ImageShape, check_len, rounded};

/// y `[n,c]` from x `[n,c,h,w]`.
pub fn avg_pool(s: ImageShape, x: &[f32]) -> Vec<f32> {
    check_len("x", x, s.len());
    let area = s.h * s.w;
    rounded(x.chunks(area).map(|map| map.iter().map(|&x| x as f64).sum::<f64>() / area as f64).collect())
}

/// d_x `[n,c,h,w]`: `d_y[n,c] / (h w)` at every pixel.
pub fn avg_pool_d_input(s: ImageShape, d_y: &[f32]) -> Vec<f32> {
    check_len("d_y", d_y, s.n * s.c);
    let area = s.h * s.w;
    rounded((0..s.len()).map(|i| d_y[i / area] as f64 / area as f64).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let s = ImageShape::new(1, 2, 1, 2);
        assert_eq!(avg_pool(s, &[1.0, 3.0, 10.0, 30.0]), [2.0, 20.0]);
        assert_eq!(avg_pool_d_input(s, &[4.0, 6.0]), [2.0, 2.0, 3.0, 3.0]);
    }
}
