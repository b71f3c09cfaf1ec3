//! Margins: how far representations are from the boundaries of readout zones (Bishop 2006, section 4.1).
//!
//! The margin of r in the zone of class c is its signed distance to the nearest face of that zone,
//! min over k != c of ((w_c - w_k).r + b_c - b_k) / |w_c - w_k|. The runner-up class is not the nearest face, as distances are
//! divided by |w_c - w_k|. Outside of a zone the most violated face only bounds the distance.

use super::sets::{BySet, Sets};
use super::values::{Datum, Values};
use serde::Serialize;

/// Margins in the zone of the class at each timestep, in the units of r.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Margin {
    /// Means.
    #[serde(flatten)]
    pub mean: BySet,
    /// \[T\] Images with a margin below 0: outputs and readout disagree on their class.
    pub negative: Vec<u64>,
}

/// The margin in the zone of the class at each timestep.
pub fn margin(values: &Values, sets: &Sets) -> Margin {
    let negative = |t| values.row(Datum::Margin, t).iter().filter(|&&margin| margin < 0.0).count() as u64;
    Margin {
        mean: BySet::of(values, sets, |t, i| values.get(Datum::Margin, t, i)),
        negative: (0..values.timesteps).map(negative).collect(),
    }
}

/// The margin in the zone of the label; negative outside of it.
pub fn label_margin(values: &Values, sets: &Sets) -> BySet {
    BySet::of(values, sets, |t, i| values.get(Datum::LabelMargin, t, i))
}

/// The margin divided by |r|, which can be compared between networks; without bias zones are cones, and it is the sine of the
/// angle to the boundary.
pub fn relative_margin(values: &Values, sets: &Sets) -> BySet {
    BySet::of(values, sets, |t, i| values.relative_margin(t, i))
}
