//! The named configurations. This is the only place that holds their numbers.

use super::config::{LtPosition, NetworkConfig, RecurrentFrom};
use super::keep::Keep;
use super::terms::{Interaction, Normalisation, Precision};
use super::training::TrainingConfig;
use crate::dataset::{Augmentation, LastBatch};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// A named network with the training that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// 32 px, small enough for a software driver.
    Tiny,
    /// The published 64-px network.
    Blt64,
    /// The published 128-px network: the same widths, 5x5 kernels.
    Blt128,
    /// The published 64-px network with lateral connections, additive, trained as published.
    #[serde(rename = "published-l-add")]
    PublishedLAdd,
    /// With top-down connections, additive.
    #[serde(rename = "published-t-add")]
    PublishedTAdd,
    /// With lateral connections, multiplicative.
    #[serde(rename = "published-l-mul")]
    PublishedLMul,
    /// With top-down connections, multiplicative.
    #[serde(rename = "published-t-mul")]
    PublishedTMul,
}

impl Preset {
    /// Every preset: the sizes, smallest first, then the published networks with the published recipe.
    pub const ALL: [Preset; 7] = [
        Preset::Tiny,
        Preset::Blt64,
        Preset::Blt128,
        Preset::PublishedLAdd,
        Preset::PublishedTAdd,
        Preset::PublishedLMul,
        Preset::PublishedTMul,
    ];

    /// The name on the command line and in a configuration file.
    pub fn name(self) -> &'static str {
        match self {
            Preset::Tiny => "tiny",
            Preset::Blt64 => "blt64",
            Preset::Blt128 => "blt128",
            Preset::PublishedLAdd => "published-l-add",
            Preset::PublishedTAdd => "published-t-add",
            Preset::PublishedLMul => "published-l-mul",
            Preset::PublishedTMul => "published-t-mul",
        }
    }

    /// The network. All presets: layer norm, readout without bias; but for three of the published ones lateral connections only,
    /// additive.
    pub fn network(self) -> NetworkConfig {
        let tiny = NetworkConfig {
            image_size: 32,
            stem_channels: 16,
            area_channels: [16, 32, 64, 128],
            kernel_size: 3,
            lateral: true,
            topdown: false,
            interaction: Interaction::Additive,
            lt_position: LtPosition::All,
            recurrent_from: RecurrentFrom::V2,
            norm: Normalisation::Layer,
            groups: 1,
            readout_bias: false,
            timesteps: 5,
            classes: 10,
        };
        let blt64 = NetworkConfig {
            image_size: 64,
            stem_channels: 32,
            area_channels: [64, 128, 256, 512],
            timesteps: 10,
            classes: 100,
            ..tiny.clone()
        };
        match self {
            Preset::Tiny => tiny,
            Preset::Blt64 => blt64,
            Preset::Blt128 => NetworkConfig { image_size: 128, kernel_size: 5, ..blt64 },
            Preset::PublishedLAdd => blt64,
            Preset::PublishedTAdd => NetworkConfig { lateral: false, topdown: true, ..blt64 },
            Preset::PublishedLMul => NetworkConfig { interaction: Interaction::Multiplicative, ..blt64 },
            Preset::PublishedTMul => {
                NetworkConfig { lateral: false, topdown: true, interaction: Interaction::Multiplicative, ..blt64 }
            }
        }
    }

    /// The training: Adam at 1e-3 throughout; for networks of the published size the published batch of 1024 and 60 epochs; for
    /// the published networks all of the published recipe: augmented pictures, mixed precision, and checkpoints before the first step, after
    /// epochs 29 and 59 and at the end (beside the newest two, from which a run that is interrupted goes on).
    pub fn training(self) -> TrainingConfig {
        let tiny = TrainingConfig {
            batch: 32,
            accumulate: 1,
            last_batch: LastBatch::Keep,
            augment: Augmentation::None,
            memory: None,
            pack_activations: false,
            precision: Precision::F32,
            epochs: Some(10),
            steps: None,
            learning_rate: 1e-3,
            decay_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            clip_norm: None,
            seed: 1,
            checkpoint_every: 500,
            keep: Keep::default(),
        };
        let large = TrainingConfig { batch: 1024, epochs: Some(60), checkpoint_every: 5000, ..tiny.clone() };
        match self {
            Preset::Tiny => tiny,
            Preset::Blt64 | Preset::Blt128 => large,
            Preset::PublishedLAdd | Preset::PublishedTAdd | Preset::PublishedLMul | Preset::PublishedTMul => {
                let keep = Keep::parse(&["epoch -1", "epoch 29", "epoch 59", "last"]).expect("the rule is fixed");
                let (augment, precision) = (Augmentation::Trivial, Precision::Mixed);
                TrainingConfig { augment, precision, checkpoint_every: 500, keep, ..large }
            }
        }
    }
}

impl std::str::FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Preset> {
        Preset::ALL.into_iter().find(|p| p.name() == name).ok_or_else(|| {
            let names = Preset::ALL.map(Preset::name).join(", ");
            Error::Config(format!("there is no preset '{name}'; the presets are {names}"))
        })
    }
}

impl std::fmt::Display for Preset {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
