//! How certain the network is: entropy -sum p ln p (Shannon 1948) and largest element of p = softmax(outputs).
//!
//! Logits and log-probabilities give the same p: what differs between them is the same for all classes.

use super::sets::ByOutcome;
use super::values::{Datum, Values};

/// Mean entropy in nats.
pub fn entropy(values: &Values) -> ByOutcome {
    ByOutcome::of(values, |t, i| values.get(Datum::Entropy, t, i))
}

/// Mean confidence: the probability of the most probable class.
pub fn confidence(values: &Values) -> ByOutcome {
    ByOutcome::of(values, |t, i| values.get(Datum::Confidence, t, i))
}
