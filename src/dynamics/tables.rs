//! The values of every single image, for data sets small enough to look at.

use super::path;
use super::values::{Datum, Values};
use serde::Serialize;

/// Values by image, as the measures of the same names have them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tables {
    /// \[T\]\[N\] Margin.
    pub margin: Vec<Vec<Option<f64>>>,
    /// \[T\]\[N\] Margin in the zone of the label.
    pub label_margin: Vec<Vec<Option<f64>>>,
    /// \[T\]\[N\] Margin / |r|.
    pub relative_margin: Vec<Vec<Option<f64>>>,
    /// \[T\]\[N\] Entropy in nats.
    pub entropy: Vec<Vec<Option<f64>>>,
    /// \[T\]\[N\] Confidence.
    pub confidence: Vec<Vec<Option<f64>>>,
    /// \[N\] Length of the path.
    pub length: Vec<f64>,
    /// \[N\] Displacement / length.
    pub straightness: Vec<Option<f64>>,
    /// \[N\] Mean angle between successive steps, in degrees.
    pub turning: Vec<Option<f64>>,
}

/// The values of all images.
pub fn of(values: &Values) -> Tables {
    let images = || 0..values.samples;
    let table = |value: &dyn Fn(usize, usize) -> Option<f64>| {
        (0..values.timesteps).map(|t| images().map(|i| value(t, i)).collect()).collect()
    };
    Tables {
        margin: table(&|t, i| values.get(Datum::Margin, t, i)),
        label_margin: table(&|t, i| values.get(Datum::LabelMargin, t, i)),
        relative_margin: table(&|t, i| values.relative_margin(t, i)),
        entropy: table(&|t, i| values.get(Datum::Entropy, t, i)),
        confidence: table(&|t, i| values.get(Datum::Confidence, t, i)),
        length: images().map(|i| path::length(values, i)).collect(),
        straightness: images().map(|i| path::straightness(values, i)).collect(),
        turning: images().map(|i| path::turning(values, i)).collect(),
    }
}
