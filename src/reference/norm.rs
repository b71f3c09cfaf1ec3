//! Layer and group normalisation (Ba et al. 2016; Wu & He 2018), biased variance, eps 1e-5 inside the square root.
//!
//! ```text
//! over each group of m values of one image:  mean = sum x / m,  var = sum (x - mean)^2 / m   (two passes)
//! xhat = (x - mean) / sqrt(var + eps),   y = weight * xhat + bias
//! d_x  = (g - mean(g) - xhat * mean(g * xhat)) / sqrt(var + eps),   g = weight * d_y
//! ```
//!
//! `Layer` is the published network's norm: one group, an affine pair for every element of `[c,h,w]`. `Group` has
//! `groups` groups of neighbouring channels and an affine pair per channel. A vector `[n,c]` is a map with h = w = 1.

use super::{ImageShape, check_len, rounded};

/// Added to the variance, as PyTorch's default.
pub const EPSILON: f64 = 1e-5;

/// Which values are normalised together, and which share an affine pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// All of `[c,h,w]` together; weight and bias `[c,h,w]`.
    Layer,
    /// `groups` groups of c / groups neighbouring channels each; weight and bias `[c]`.
    Group {
        /// Number of groups, a divisor of the channel count.
        groups: usize,
    },
}

/// A norm on maps `[n,c,h,w]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Norm {
    /// Shape of x and of y.
    pub shape: ImageShape,
    /// Layer or group.
    pub kind: NormKind,
}

impl Norm {
    /// Number of weights and of biases.
    pub fn affine_len(&self) -> usize {
        let ImageShape { c, h, w, .. } = self.shape;
        match self.kind {
            NormKind::Layer => c * h * w,
            NormKind::Group { .. } => c,
        }
    }

    /// Number of values normalised together.
    pub fn group_len(&self) -> usize {
        let ImageShape { c, h, w, .. } = self.shape;
        match self.kind {
            NormKind::Layer => c * h * w,
            NormKind::Group { groups } => {
                assert_eq!(c % groups, 0, "{c} channels do not divide into {groups} groups");
                c / groups * h * w
            }
        }
    }

    /// Which weight and bias belong to the element at `position` of x.
    fn affine_at(&self, position: usize) -> usize {
        let ImageShape { c, h, w, .. } = self.shape;
        match self.kind {
            NormKind::Layer => position % (c * h * w),
            NormKind::Group { .. } => position / (h * w) % c,
        }
    }

    /// xhat and 1 / sqrt(var + eps), both for every element of x.
    fn normalised(&self, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
        check_len("x", x, self.shape.len());
        let m = self.group_len();
        let (mut xhat, mut rstd) = (Vec::with_capacity(x.len()), Vec::with_capacity(x.len()));
        for group in x.chunks(m) {
            let mean = group.iter().map(|&x| x as f64).sum::<f64>() / m as f64;
            let variance = group.iter().map(|&x| (x as f64 - mean).powi(2)).sum::<f64>() / m as f64;
            let r = 1.0 / (variance + EPSILON).sqrt();
            xhat.extend(group.iter().map(|&x| (x as f64 - mean) * r));
            rstd.extend(group.iter().map(|_| r));
        }
        (xhat, rstd)
    }
}

/// y `[n,c,h,w]` from x `[n,c,h,w]`, weight and bias ([`Norm::affine_len`]).
pub fn norm(s: &Norm, x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    check_len("weight", weight, s.affine_len());
    check_len("bias", bias, s.affine_len());
    let (xhat, _) = s.normalised(x);
    let affine = |(i, xhat): (usize, &f64)| weight[s.affine_at(i)] as f64 * xhat + bias[s.affine_at(i)] as f64;
    rounded(xhat.iter().enumerate().map(affine).collect())
}

/// d_x `[n,c,h,w]`; the statistics depend on x too, hence the two means that are taken off.
pub fn norm_d_input(s: &Norm, x: &[f32], weight: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("weight", weight, s.affine_len());
    check_len("d_y", d_y, s.shape.len());
    let (xhat, rstd) = s.normalised(x);
    let m = s.group_len();
    let g: Vec<f64> = d_y.iter().enumerate().map(|(i, &d)| d as f64 * weight[s.affine_at(i)] as f64).collect();
    let mut d_x = vec![0.0; x.len()];
    for start in (0..x.len()).step_by(m) {
        let group = start..start + m;
        let mean_g = group.clone().map(|i| g[i]).sum::<f64>() / m as f64;
        let mean_g_xhat = group.clone().map(|i| g[i] * xhat[i]).sum::<f64>() / m as f64;
        for i in group {
            d_x[i] = rstd[i] * (g[i] - mean_g - xhat[i] * mean_g_xhat);
        }
    }
    rounded(d_x)
}

/// d_weight ([`Norm::affine_len`]): `d_y * xhat` summed over all elements that share the weight.
pub fn norm_d_weight(s: &Norm, x: &[f32], d_y: &[f32]) -> Vec<f32> {
    check_len("d_y", d_y, s.shape.len());
    let (xhat, _) = s.normalised(x);
    let mut d_weight = vec![0.0; s.affine_len()];
    for i in 0..x.len() {
        d_weight[s.affine_at(i)] += d_y[i] as f64 * xhat[i];
    }
    rounded(d_weight)
}

/// d_bias ([`Norm::affine_len`]): d_y summed over all elements that share the bias.
pub fn norm_d_bias(s: &Norm, d_y: &[f32]) -> Vec<f32> {
    check_len("d_y", d_y, s.shape.len());
    let mut d_bias = vec![0.0; s.affine_len()];
    for i in 0..d_y.len() {
        d_bias[s.affine_at(i)] += d_y[i] as f64;
    }
    rounded(d_bias)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worked_by_hand() {
        // Two groups of two values: (0, 2) has mean 1 and variance 1, (5, 5) has variance 0.
        let s = Norm { shape: ImageShape::new(1, 4, 1, 1), kind: NormKind::Group { groups: 2 } };
        let y = norm(&s, &[0.0, 2.0, 5.0, 5.0], &[1.0, 2.0, 3.0, 4.0], &[0.0, 10.0, 20.0, 30.0]);
        let one = (1.0 / (1.0 + EPSILON).sqrt()) as f32;
        assert_eq!(y, [-one, 10.0 + 2.0 * one, 20.0, 30.0]);
    }

    #[test]
    fn layer_is_one_group_when_the_affine_is_the_same_everywhere() {
        let shape = ImageShape::new(2, 3, 2, 2);
        let x: Vec<f32> = (0..shape.len()).map(|i| (i * i % 17) as f32).collect();
        let layer = norm(&Norm { shape, kind: NormKind::Layer }, &x, &[2.0; 12], &[1.0; 12]);
        let group = norm(&Norm { shape, kind: NormKind::Group { groups: 1 } }, &x, &[2.0; 3], &[1.0; 3]);
        assert_eq!(layer, group);
    }
}
