//! Results held against the expected ones, each element with the error that is allowed for it.

use std::collections::BTreeMap;

use crate::reference::Tensor;

/// Results by name, as a twin or a kernel produces them.
pub type Results = BTreeMap<String, Vec<f32>>;

/// How far one result is from the expected one, at the element where the error is largest relative to what is allowed.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Name of the result.
    pub tensor: String,
    /// Position of that element, row-major.
    pub position: usize,
    /// The expected value there.
    pub expected: f64,
    /// The value found there; NaN when the result is missing, unexpected or of the wrong length.
    pub found: f64,
    /// `|found - expected|`; infinite when that is no number.
    pub error: f64,
    /// The largest error allowed there.
    pub allowed: f64,
}

impl Comparison {
    /// Error relative to what is allowed: at most 1 when the result passes. 0 when there is no error.
    pub fn ratio(&self) -> f64 {
        let ratio = self.error / self.allowed;
        match self.error {
            0.0 => 0.0,
            _ if ratio.is_nan() => f64::INFINITY,
            _ => ratio,
        }
    }

    /// Whether the error is within what is allowed.
    pub fn passes(&self) -> bool {
        self.error <= self.allowed
    }

    /// The comparison of a result that cannot be compared.
    pub(super) fn failed(tensor: &str) -> Self {
        let (expected, found, error, allowed) = (f64::NAN, f64::NAN, f64::INFINITY, 0.0);
        Self { tensor: tensor.to_owned(), position: 0, expected, found, error, allowed }
    }

    /// Finds the worst element. All three have the same length.
    pub(crate) fn of(tensor: &str, expected: &[f32], found: &[f32], allowed: &[f64]) -> Self {
        let at = |position: usize| {
            let (expected, found) = (expected[position] as f64, found[position] as f64);
            let difference = (found - expected).abs();
            let error = if difference.is_finite() { difference } else { f64::INFINITY };
            Self { tensor: tensor.to_owned(), position, expected, found, error, allowed: allowed[position] }
        };
        (0..expected.len())
            .map(at)
            .reduce(|worst, next| if next.ratio() > worst.ratio() { next } else { worst })
            .unwrap_or(Self::failed(tensor))
    }
}

/// Compares each expected tensor with the result of that name. `allowed` gives the largest error allowed for each
/// element of a tensor. A missing or unexpected result fails.
pub(super) fn compare(
    expected: &BTreeMap<String, Tensor>,
    found: &Results,
    allowed: impl Fn(&str) -> Vec<f64>,
) -> Vec<Comparison> {
    let unexpected = found.keys().filter(|name| !expected.contains_key(*name)).map(|name| Comparison::failed(name));
    let compared = expected.iter().map(|(name, tensor)| match found.get(name) {
        Some(values) if values.len() == tensor.values.len() => {
            Comparison::of(name, &tensor.values, values, &allowed(name))
        }
        _ => Comparison::failed(name),
    });
    compared.chain(unexpected).collect()
}

/// The comparison whose error is largest relative to what is allowed; `None` of none.
pub fn worst(comparisons: &[Comparison]) -> Option<&Comparison> {
    comparisons.iter().reduce(|worst, next| if next.ratio() > worst.ratio() { next } else { worst })
}

/// Largest absolute value of a tensor.
pub(super) fn max_abs(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |max: f64, &v| max.max(v.abs() as f64))
}
