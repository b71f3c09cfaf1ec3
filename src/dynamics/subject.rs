//! What is measured: stored activity in f64, for the exact form of every measure.

use super::Parameters;
use crate::trajectory::npz::Extraction;

/// A network, the same network before training if known, and what the measures are told besides.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The network that is analysed.
    pub trained: &'a Extraction,
    /// The same before training, on the same images; measures that compare with it are left out without.
    pub untrained: Option<&'a Extraction>,
    /// \[N\] Whether decoders are fitted on the image; they are tested on the others.
    pub train: &'a [bool],
    /// \[R\]\[N\] How often each image is drawn in each bootstrap replicate.
    pub replicates: &'a [Vec<u8>],
    /// What the measures are told.
    pub parameters: &'a Parameters,
}
