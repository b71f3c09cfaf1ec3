//! What the measures can be told.

use serde::{Deserialize, Serialize};

/// Numbers that the measures depend on; a report holds those it was made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Entropies, in nats, below which a network answers: one reaction time for each.
    pub thresholds: Vec<f64>,
    /// Index of the threshold at which the reaction time of every image is kept.
    pub image_threshold: usize,
    /// Number of bins of confidence for the calibration.
    pub bins: usize,
    /// Images between which dissimilarities are computed, ascending.
    pub rdm_images: Vec<usize>,
    /// Classes whose mean representations are shown, ascending.
    pub shown_classes: Vec<usize>,
    /// Ridge of the decoders: what is added to the diagonal of the training images' scatter matrix.
    pub ridge: f64,
    /// Coverage of intervals, such as 0.95.
    pub level: f64,
    /// Whether the values of every single image are kept.
    pub tables: bool,
}
