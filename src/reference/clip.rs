//! Clipping of gradients by their norm, as `torch.nn.utils.clip_grad_norm_` does it.
//!
//! ```text
//! norm = sqrt(sum of the squares of all elements of all gradients),   g' = min(1, limit / (norm + 1e-6)) g
//! ```

/// The norm of all gradients taken together.
pub fn gradient_norm(gradients: &[&[f32]]) -> f64 {
    gradients.iter().flat_map(|gradient| gradient.iter()).map(|&g| g as f64 * g as f64).sum::<f64>().sqrt()
}

/// What gradients of this norm are multiplied with: NaN where the norm is.
pub fn clip_factor(norm: f64, limit: f64) -> f64 {
    let factor = limit / (norm + 1e-6);
    if factor > 1.0 { 1.0 } else { factor }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        let norm = gradient_norm(&[&[3.0, 0.0], &[-4.0]]);
        assert_eq!(norm, 5.0);
        assert!((clip_factor(norm, 1.0) - 0.2).abs() < 1e-7);
        assert_eq!((clip_factor(norm, 6.0), clip_factor(0.0, 1.0)), (1.0, 1.0));
        assert!(clip_factor(f64::NAN, 1.0).is_nan());
    }
}
