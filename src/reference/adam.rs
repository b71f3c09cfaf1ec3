//! One step of Adam (Kingma & Ba 2015) in PyTorch's form, without weight decay.
//!
//! ```text
//! m' = beta1 m + (1 - beta1) g,   v' = beta2 v + (1 - beta2) g^2
//! p' = p - lr / (1 - beta1^s) * m' / (sqrt(v') / sqrt(1 - beta2^s) + eps),   s = steps already taken + 1
//! ```
//!
//! The factors `1 - beta` are formed in f64: `1 - 0.999` in f32 is wrong by 5e-5.

use super::check_len;

/// Hyper-parameters; the default is the published training's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the bias-corrected root.
    pub epsilon: f64,
}

impl Default for Adam {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// Updates p, m and v (equal lengths) in place from the gradient g, as step number `steps_taken + 1`.
pub fn adam(s: &Adam, steps_taken: u64, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
    check_len("m", m, p.len());
    check_len("v", v, p.len());
    check_len("g", g, p.len());
    let step = (steps_taken + 1) as f64;
    let (correction1, correction2) = (1.0 - s.beta1.powf(step), 1.0 - s.beta2.powf(step));
    for i in 0..p.len() {
        let g = g[i] as f64;
        let mean = s.beta1 * m[i] as f64 + (1.0 - s.beta1) * g;
        let square = s.beta2 * v[i] as f64 + (1.0 - s.beta2) * g * g;
        let denominator = square.sqrt() / correction2.sqrt() + s.epsilon;
        p[i] = (p[i] as f64 - s.learning_rate / correction1 * mean / denominator) as f32;
        m[i] = mean as f32;
        v[i] = square as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_step_is_the_learning_rate_against_the_sign_of_the_gradient() {
        let (mut p, mut m, mut v) = ([1.0, 1.0, 1.0], [0.0; 3], [0.0; 3]);
        adam(&Adam { learning_rate: 0.25, ..Adam::default() }, 0, &mut p, &mut m, &mut v, &[100.0, -0.5, 0.0]);
        assert!((p[0] - 0.75).abs() < 1e-6 && (p[1] - 1.25).abs() < 1e-6 && p[2] == 1.0, "{p:?}");
        assert_eq!(m, [10.0, -0.05, 0.0]);
        assert_eq!(v, [10.0, 0.00025, 0.0]);
    }
}
