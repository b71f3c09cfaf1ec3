//! Rectification: `y = max(x, 0)`; the gradient at exactly 0 is 0, as in PyTorch.

use super::check_len;

/// y, of the same shape as x.
pub fn relu(x: &[f32]) -> Vec<f32> {
    x.iter().map(|&x| x.max(0.0)).collect()
}

/// d_x: d_y where x > 0, else 0.
pub fn relu_d_input(x: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("d_y", d_y, x.len());
    x.iter().zip(d_y).map(|(&x, &d_y)| if x > 0.0 { d_y } else { 0.0 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        assert_eq!(relu(&[-1.0, -0.0, 0.0, 2.0]), [0.0, 0.0, 0.0, 2.0]);
        assert_eq!(relu_d_input(&[-1.0, -0.0, 0.0, 2.0], &[5.0; 4]), [0.0, 0.0, 0.0, 5.0]);
    }
}
