//! What a recurrent network does between the first and the last timestep, beyond the published analysis of
//! [`crate::trajectory`], whose groups, `t_stable` and window are used here.
//!
//! Every measure is one file: its definition with formula and source, what it accumulates on the device, its result as it
//! stands in `report.json`, and its tests. They meet in [`Dynamics`].
//!
//! - [`subject`], [`parameters`]: what is measured, and what the measures are told.
//! - [`values`]: the few numbers of every image and timestep that measures are made from; [`sets`]: the sets of images that means
//!   are over; [`bootstrap`]: how much a statistic varies.
//! - [`margin`], [`entropy`], [`calibration`], [`reaction`], [`visits`], [`path`], [`consistency`], [`contrasts`], [`accuracy`],
//!   [`tables`]: measures that are made from values.
//! - [`rdm`], [`rdm_time`], [`cka`], [`decoder`], [`pca`]: measures of how representations of many images lie to each other, which
//!   meet in [`structure`]; [`moments`]: what they are made of.
//! - [`between`], [`disturbance`]: a network under a protocol against the same one left alone.
//! - [`gpu`]: values on a device, by the kernels `shaders/dynamics_*.wgsl`.
//! - [`space`]: moments, decoders and dissimilarities on a device, in one pass over batches.
//! - [`areas`]: the same of the areas below the readout.
//! - [`goldens`]: comparison with stored results.

pub mod accuracy;
pub mod areas;
pub mod between;
pub mod bootstrap;
pub mod calibration;
pub mod cka;
pub mod consistency;
pub mod contrasts;
pub mod decoder;
pub mod disturbance;
pub mod entropy;
pub mod goldens;
pub mod gpu;
pub mod margin;
pub mod moments;
pub mod parameters;
pub mod path;
pub mod pca;
pub mod rdm;
pub mod rdm_time;
pub mod reaction;
pub mod sets;
pub mod space;
pub mod structure;
pub mod subject;
pub mod tables;
pub mod values;
pub mod visits;

pub use disturbance::Disturbance;
pub use parameters::Parameters;
pub use structure::Structure;
pub use subject::Subject;
pub use values::{Values, Wants};

use crate::Result;
use serde::Serialize;
use sets::{ByOutcome, BySet, Sets};

/// All measures of a network, as they stand in `report.json`. What each is, and its unit, is said where its type is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dynamics {
    /// T.
    pub timesteps: usize,
    /// N.
    pub samples: usize,
    /// K.
    pub classes: usize,
    /// D.
    pub features: usize,
    /// Distance to the nearest face of the current zone.
    pub margin: margin::Margin,
    /// Distance to the nearest face of the label's zone.
    pub label_margin: BySet,
    /// Margin / |r|.
    pub relative_margin: BySet,
    /// Entropy of the outputs, in nats.
    pub entropy: ByOutcome,
    /// Largest probability.
    pub confidence: ByOutcome,
    /// How well confidence predicts accuracy.
    pub calibration: calibration::Calibration,
    /// Reaction times.
    pub reaction: reaction::Reaction,
    /// Object solution times.
    pub solution: reaction::Solution,
    /// Zones visited.
    pub visits: visits::Visits,
    /// Shape of trajectories.
    pub path: path::Paths,
    /// Agreement between timesteps.
    pub consistency: consistency::Consistency,
    /// Stable now against stable later.
    pub contrasts: contrasts::Contrasts,
    /// Accuracy.
    pub accuracy: accuracy::Accuracy,
    /// How representations of many images lie to each other; left out where the device has no room for their moments.
    #[serde(flatten)]
    pub structure: Option<Structure>,
    /// The areas below the readout, in the order of the drive; none where they were not measured.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<areas::Area>,
    /// Values of single images, if they are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tables: Option<tables::Tables>,
}

impl Dynamics {
    /// Names of the measures that are made from values, in the order of the fields; [`Structure::KEYS`] has the others.
    pub const KEYS: &[&str] = &[
        "timesteps",
        "samples",
        "classes",
        "features",
        "margin",
        "label_margin",
        "relative_margin",
        "entropy",
        "confidence",
        "calibration",
        "reaction",
        "solution",
        "visits",
        "path",
        "consistency",
        "contrasts",
        "accuracy",
        "tables",
    ];

    /// All measures in f64, from stored arrays and as they are defined.
    ///
    /// # Errors
    /// A readout vector that is all zero; decoders that cannot be fitted.
    pub fn exact(of: &Subject) -> Result<Dynamics> {
        let trained = Values::exact(of.trained, &Wants::all())?;
        let untrained = of.untrained.map(|network| Values::exact(network, &Wants::classes())).transpose()?;
        let structure = Structure::exact(of)?;
        Ok(Dynamics::new(
            &trained,
            untrained.as_ref(),
            Some(structure),
            of.trained.features,
            of.parameters,
            of.replicates,
        ))
    }

    /// All measures, from the values of a network and, if it is known, of the untrained one.
    pub fn new(
        trained: &Values,
        untrained: Option<&Values>,
        structure: Option<Structure>,
        features: usize,
        told: &Parameters,
        replicates: &[Vec<u8>],
    ) -> Dynamics {
        let sets = Sets::new(trained);
        Dynamics {
            timesteps: trained.timesteps,
            samples: trained.samples,
            classes: trained.classes,
            features,
            margin: margin::margin(trained, &sets),
            label_margin: margin::label_margin(trained, &sets),
            relative_margin: margin::relative_margin(trained, &sets),
            entropy: entropy::entropy(trained),
            confidence: entropy::confidence(trained),
            calibration: calibration::of(trained, told.bins),
            reaction: reaction::reaction(trained, &told.thresholds, told.image_threshold),
            solution: reaction::solution(trained),
            visits: visits::of(trained),
            path: path::of(trained, &sets),
            consistency: consistency::of(trained, untrained),
            contrasts: contrasts::of(trained, &sets, replicates, told.level),
            accuracy: accuracy::of(trained, replicates, told.level),
            structure,
            areas: Vec::new(),
            tables: told.tables.then(|| tables::of(trained)),
        }
    }

    /// The same with the areas below the readout.
    pub fn with_areas(self, areas: Vec<areas::Area>) -> Dynamics {
        Dynamics { areas, ..self }
    }
}
