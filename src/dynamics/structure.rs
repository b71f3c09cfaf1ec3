//! The measures of how representations of many images lie to each other: dissimilarities, CKA, components, decoders.

use super::Subject;
use super::cka::{self, Cka};
use super::decoder::{self, Decoder};
use super::moments::Moments;
use super::pca::{self, Pca};
use super::rdm::{self, Rdm, class_means};
use super::rdm_time::{self, RdmTime};
use crate::Result;
use serde::Serialize;

/// Results by their keys in `report.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Structure {
    /// See [`rdm`].
    pub rdm: Rdm,
    /// See [`rdm`].
    pub class_rdm: Rdm,
    /// See [`rdm_time`].
    pub rdm_time: RdmTime,
    /// See [`rdm_time`]; where the untrained network is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rdm_init: Option<RdmTime>,
    /// See [`cka`].
    pub cka: Cka,
    /// See [`decoder`].
    pub decoder: Decoder,
    /// See [`pca`].
    pub pca: Pca,
}

impl Structure {
    /// The keys.
    pub const KEYS: [&str; 7] = ["rdm", "class_rdm", "rdm_time", "rdm_init", "cka", "decoder", "pca"];

    /// All of them in f64 from stored activity.
    ///
    /// # Errors
    /// Decoders that cannot be fitted.
    pub fn exact(subject: &Subject) -> Result<Structure> {
        let moments = Moments::exact(subject);
        let images = rdm::exact(subject);
        let means = class_means(subject.trained, &subject.parameters.shown_classes);
        let untrained = subject.untrained.map(|untrained| rdm::images(untrained, &subject.parameters.rdm_images));
        Ok(Structure {
            class_rdm: rdm::of(&means),
            rdm_time: rdm_time::within(&images),
            rdm_init: untrained.map(|untrained| rdm_time::of(&images, &untrained)),
            rdm: images,
            cka: cka::of(&moments),
            decoder: decoder::exact(subject)?,
            pca: pca::of(&moments, &means),
        })
    }
}
