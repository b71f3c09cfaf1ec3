//! Two tensors against each other.

use super::TensorFacts;
use serde::{Serialize, Serializer};

/// What came of one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct Compared {
    /// The tensor.
    #[serde(flatten)]
    pub facts: TensorFacts,
    /// Largest difference, relative to `largest`; infinite where a number is not finite.
    #[serde(serialize_with = "f64_or_word")]
    pub error: f64,
    /// Whether that is within the tolerance.
    pub passed: bool,
    /// Whether all bits are equal.
    pub identical: bool,
    /// Where the difference is largest: the element's number in memory, images innermost.
    pub index: usize,
    /// The same as a place along each extent.
    pub position: Vec<usize>,
    /// The number there, in this execution.
    #[serde(serialize_with = "f32_or_word")]
    pub found: f32,
    /// And in the other.
    #[serde(serialize_with = "f32_or_word")]
    pub expected: f32,
    /// The largest magnitude in the two tensors.
    #[serde(serialize_with = "f32_or_word")]
    pub largest: f32,
}

/// JSON has no word for numbers that are not finite.
fn f64_or_word<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { to.serialize_f64(*value) } else { to.serialize_str(&value.to_string()) }
}

fn f32_or_word<S: Serializer>(value: &f32, to: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() { to.serialize_f32(*value) } else { to.serialize_str(&value.to_string()) }
}

/// Compares two tensors of the same extents.
pub fn judge(facts: &TensorFacts, found: &[f32], expected: &[f32], tolerance: f64) -> Compared {
    assert_eq!(found.len(), expected.len(), "{}: one shape", facts.name);
    let pairs = || found.iter().zip(expected);
    let magnitude = |values: &[f32]| values.iter().filter(|v| v.is_finite()).fold(0.0_f32, |m, v| m.max(v.abs()));
    let largest = magnitude(found).max(magnitude(expected));
    let error = |a: f32, b: f32| match a.is_finite() && b.is_finite() {
        false => f64::INFINITY,
        true if a == b => 0.0,
        true => (f64::from(a) - f64::from(b)).abs() / f64::from(largest),
    };
    let (mut index, mut worst) = (0, 0.0);
    for (i, (&a, &b)) in pairs().enumerate() {
        let error = error(a, b);
        if error > worst {
            (index, worst) = (i, error);
        }
    }
    let identical = pairs().all(|(a, b)| a.to_bits() == b.to_bits());
    let passed = worst <= tolerance && worst.is_finite() && (tolerance > 0.0 || identical);
    let number = |values: &[f32]| values.get(index).copied().unwrap_or(0.0);
    let (found, expected) = (number(found), number(expected));
    let position = position(index, &facts.shape);
    Compared { facts: facts.clone(), error: worst, passed, identical, index, position, found, expected, largest }
}

/// The place along each extent of the element with this number.
fn position(index: usize, shape: &[usize]) -> Vec<usize> {
    let mut rest = index;
    let mut place: Vec<usize> = shape
        .iter()
        .rev()
        .map(|&extent| {
            let at = rest % extent.max(1);
            rest /= extent.max(1);
            at
        })
        .collect();
    place.reverse();
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(shape: &[usize]) -> TensorFacts {
        TensorFacts { shape: shape.to_vec(), ..TensorFacts::default() }
    }

    fn of(found: &[f32], expected: &[f32]) -> Compared {
        judge(&facts(&[found.len()]), found, expected, 1e-4)
    }

    #[test]
    fn differences_count_relative_to_the_largest_magnitude() {
        let same = of(&[1.0, -4.0], &[1.0, -4.0]);
        assert!(same.passed && same.identical && same.error == 0.0);
        let near = of(&[1.0003, -4.0], &[1.0, -4.0]);
        assert!(near.passed && !near.identical && (near.error - 0.0003 / 4.0).abs() < 1e-7, "{near:?}");
        let far = of(&[0.0, 1.0, -4.0], &[0.0, 1.001, -4.0]);
        assert!(!far.passed && far.index == 1 && far.found == 1.0 && far.expected == 1.001, "{far:?}");
        // Small tensors are not compared with 1.
        assert!(!of(&[1e-9], &[2e-9]).passed);
        assert!(!of(&[0.0], &[1e-30]).passed);
        assert!(of(&[], &[]).passed);
    }

    #[test]
    fn no_number_that_is_not_finite_passes() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (found, expected) in [([1.0, bad], [1.0, 1.0]), ([1.0, 1.0], [1.0, bad]), ([1.0, bad], [1.0, bad])] {
                for tolerance in [1e-4, 1e9, f64::INFINITY] {
                    let compared = judge(&facts(&[2]), &found, &expected, tolerance);
                    assert!(!compared.passed && compared.index == 1 && compared.error == f64::INFINITY, "{compared:?}");
                    assert!(serde_json::to_string(&compared).unwrap().contains(r#""error":"inf""#));
                }
            }
        }
    }

    #[test]
    fn tolerance_zero_asks_for_equal_bits() {
        assert!(of(&[0.0], &[-0.0]).passed);
        assert!(!judge(&facts(&[1]), &[0.0], &[-0.0], 0.0).passed);
        assert!(judge(&facts(&[1]), &[3.0], &[3.0], 0.0).passed);
    }

    #[test]
    fn an_element_has_its_place() {
        assert_eq!(position(0, &[2, 3]), [0, 0]);
        assert_eq!(position(5, &[2, 3]), [1, 2]);
        assert_eq!(position(4, &[2, 3]), [1, 1]);
    }
}
