//! One BLT network as data: sizes, connections, normalisation, number of timesteps.
//!
//! Areas in the order of the drive: retina (stem) -> v1 -> v2 -> v4 -> it -> gap -> readout. v2, v4 and it each
//! halve the side of the map below them by 2x2 max-pooling. Thorat, Doerig & Kietzmann 2023, arXiv 2308.12435.

use super::resolved::{Area, Connection, From, Kind, Map, Network, Readout};
use super::state_dict::{Names, StateDict};
use super::terms::{
    IMAGE_CHANNELS, Interaction, MAX_CHANNELS, MAX_CLASSES, MAX_IMAGE_SIZE, MAX_KERNEL, MAX_TIMESTEPS, Normalisation,
    Unroll, impossible, within,
};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The convolutional areas that have connections of their own, from low to high. Index `a` in this module counts them.
pub const AREAS: [&str; 4] = ["v1", "v2", "v4", "it"];

/// Where the recurrent connections are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LtPosition {
    /// In the areas and at the gap.
    All,
    /// At the gap only: no area has a lateral or top-down map, so `topdown` has no effect.
    Last,
}

/// The lowest area that receives its lateral and top-down drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecurrentFrom {
    /// As published: v1 owns recurrent maps (they stand in the state dict) but never uses them.
    V2,
    /// v1 uses them, so it changes over time too.
    V1,
}

/// One BLT network. Section `[network]` of a configuration file.
///
/// [`NetworkConfig::validate`] must hold before anything is built from it; reading a file or golden checks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Side of the square pictures, in pixels; a multiple of 8.
    pub image_size: usize,
    /// Channels of the retina.
    pub stem_channels: usize,
    /// Channels of v1, v2, v4, it.
    #[serde(deserialize_with = "exactly_four")]
    pub area_channels: [usize; 4],
    /// Side of every convolution's kernel; odd.
    pub kernel_size: usize,
    /// Lateral connections: each area (and the gap) to itself, one timestep later.
    pub lateral: bool,
    /// Top-down connections: each area to the one below it, one timestep later.
    pub topdown: bool,
    /// How recurrent drive joins bottom-up drive.
    pub interaction: Interaction,
    /// Where the recurrent connections are.
    pub lt_position: LtPosition,
    /// The lowest area that receives recurrent drive.
    pub recurrent_from: RecurrentFrom,
    /// Normalisation of areas and gap (the retina has none).
    pub norm: Normalisation,
    /// Groups of channels; read only with `norm = "group"`.
    pub groups: usize,
    /// Whether the readout has a bias (published: no).
    pub readout_bias: bool,
    /// Timesteps T that the network is unrolled over. A one-step network owns no recurrent parameter.
    pub timesteps: usize,
    /// Classes K of the readout.
    pub classes: usize,
}

impl NetworkConfig {
    /// Checks every value; the error names the key, what was found and what is allowed.
    pub fn validate(&self) -> Result<()> {
        let within = |key: &str, found, low, high| within(&format!("[network] {key}"), found, low, high);
        within("image_size", self.image_size, 8, MAX_IMAGE_SIZE)?;
        if !self.image_size.is_multiple_of(8) {
            return wrong("image_size", self.image_size, "a multiple of 8 (three 2x2 poolings halve the maps)");
        }
        within("stem_channels", self.stem_channels, 1, MAX_CHANNELS)?;
        for (a, &channels) in self.area_channels.iter().enumerate() {
            within(&format!("area_channels[{a}] ({})", AREAS[a]), channels, 1, MAX_CHANNELS)?;
        }
        within("kernel_size", self.kernel_size, 1, MAX_KERNEL)?;
        if self.kernel_size.is_multiple_of(2) {
            return wrong("kernel_size", self.kernel_size, "an odd number (maps keep their size)");
        }
        within("timesteps", self.timesteps, 1, MAX_TIMESTEPS)?;
        within("classes", self.classes, 1, MAX_CLASSES)?;
        within("groups", self.groups, 1, MAX_CHANNELS)?;
        if self.norm == Normalisation::Group {
            for (a, &channels) in self.area_channels.iter().enumerate() {
                if !channels.is_multiple_of(self.groups) {
                    let allowed = format!("a divisor of every area's channels ({} has {channels})", AREAS[a]);
                    return wrong("groups", self.groups, &allowed);
                }
            }
        }
        self.network().check_sizes()
    }

    /// The areas and connections of this network, with the published names of parameters. A one-step network has no
    /// recurrent connection; v1's recurrent maps are parameters that no connection uses, unless `recurrent_from` says so.
    ///
    /// The description must be valid.
    pub fn network(&self) -> Network {
        let mut dict = StateDict::default();
        let (mut areas, mut connections) = (Vec::new(), Vec::new());
        let (k, bias) = (self.kernel_size, self.map_bias());
        let mut connect = |kind, name: &str, from, to: usize, area: &str, map| {
            connections.push(Connection { label: format!("{area}.{name}"), kind, from, to, map });
        };
        let area = |name: &str, channels, side, norm| Area {
            name: name.into(),
            channels,
            side,
            vector: name == "gap",
            norm,
            relu: true,
            interaction: self.interaction,
        };

        let shape = [self.stem_channels, IMAGE_CHANNELS, k, k];
        let map = convolution(1, k, dict.convolution("retina", &shape, true));
        connect(Kind::BottomUp, "bottom_up", From::Input, 0, "retina", map);
        areas.push(area("retina", self.stem_channels, self.image_size, None));
        for (a, name) in AREAS.into_iter().enumerate() {
            let (here, to, side) = (self.area_channels[a], a + 1, self.area_side(a));
            let shape = [here, self.channels_below(a), k, k];
            let names = dict.convolution(&format!("{name}.bottom_up"), &shape, bias);
            let pool = if a == 0 { 1 } else { 2 };
            connect(Kind::BottomUp, "bottom_up", From::Area(a), to, name, convolution(pool, k, names));
            if self.owns_lateral(a) {
                let names = dict.convolution(&format!("{name}.lateral"), &[here, here, k, k], bias);
                if self.uses_recurrence(a) {
                    connect(Kind::Lateral, "lateral", From::Area(to), to, name, convolution(1, k, names));
                }
            }
            if self.owns_top_down(a) {
                let shape = [self.area_channels[a + 1], here, k, k];
                let (weight, bias) = dict.transposed(&format!("{name}.top_down"), &shape, bias);
                if self.uses_recurrence(a) {
                    let map = Map::Transposed { kernel: k, stride: 2, weight, bias };
                    connect(Kind::TopDown, "top_down", From::Area(to + 1), to, name, map);
                }
            }
            let norm = dict.norm(&format!("{name}_ln"), self.norm, self.groups, &[here, side, side]);
            areas.push(area(name, here, side, norm));
        }
        let (top, gap) = (self.gap_channels(), areas.len());
        connect(Kind::BottomUp, "bottom_up", From::Area(gap - 1), gap, "gap", Map::Average);
        if self.gap_lateral() {
            let map = convolution(1, 1, dict.convolution("gap.lateral", &[top, top], bias));
            connect(Kind::Lateral, "lateral", From::Area(gap), gap, "gap", map);
        }
        let norm = dict.norm("gap_ln", self.norm, self.groups, &[top]);
        areas.push(area("gap", top, 1, norm));
        let (weight, bias) = dict.convolution("readout", &[self.classes, top], self.readout_bias);
        Network {
            image_size: self.image_size,
            classes: self.classes,
            timesteps: self.timesteps,
            unroll: Unroll::Engineering,
            areas,
            connections,
            readout: Readout { area: gap, weight, bias },
            parameters: dict.0,
        }
    }

    /// Side of the map of area `a` (0..4), in pixels.
    pub fn area_side(&self, a: usize) -> usize {
        self.image_size >> a
    }

    /// Channels that feed area `a`'s bottom-up map.
    pub fn channels_below(&self, a: usize) -> usize {
        if a == 0 { self.stem_channels } else { self.area_channels[a - 1] }
    }

    /// Whether area `a` has a lateral map among its parameters (v1's may be unused: [`Self::uses_recurrence`]).
    pub fn owns_lateral(&self, a: usize) -> bool {
        a < 4 && self.lateral && self.lt_position == LtPosition::All && self.timesteps > 1
    }

    /// Whether area `a` has a top-down map, from area `a + 1`, among its parameters. The highest area has none.
    pub fn owns_top_down(&self, a: usize) -> bool {
        a < 3 && self.topdown && self.lt_position == LtPosition::All && self.timesteps > 1
    }

    /// Whether area `a` receives the drive of the recurrent maps that it owns.
    pub fn uses_recurrence(&self, a: usize) -> bool {
        a > 0 || self.recurrent_from == RecurrentFrom::V1
    }

    /// Whether the gap has a lateral map.
    pub fn gap_lateral(&self) -> bool {
        self.lateral && self.timesteps > 1
    }

    /// Whether the maps of areas and gap have biases: only where no norm follows that has a shift of its own.
    pub fn map_bias(&self) -> bool {
        self.norm == Normalisation::None
    }

    /// Length of one picture's representation at the gap, which the readout sees.
    pub fn gap_channels(&self) -> usize {
        self.area_channels[3]
    }

    /// Reads the `config` JSON of a golden network file (`norm` "LN", "GN" or "None"; v1 without recurrent drive unless
    /// the file has `recurrent_from` "v1").
    pub fn from_golden_json(json: &str) -> Result<NetworkConfig> {
        let golden: GoldenConfig = serde_json::from_str(json)
            .map_err(|e| Error::Config(format!("the network's config in the golden file's metadata: {e}")))?;
        if golden.in_channels != IMAGE_CHANNELS {
            return wrong("in_channels", golden.in_channels, "3");
        }
        let config = NetworkConfig {
            image_size: golden.image_size,
            stem_channels: golden.stem_channels,
            area_channels: golden.area_channels,
            kernel_size: golden.kernel_size,
            lateral: golden.lateral,
            topdown: golden.topdown,
            interaction: golden.interaction,
            lt_position: golden.lt_position,
            recurrent_from: golden.recurrent_from,
            norm: match golden.norm {
                GoldenNorm::Layer => Normalisation::Layer,
                GoldenNorm::Group => Normalisation::Group,
                GoldenNorm::None => Normalisation::None,
            },
            groups: golden.groups,
            readout_bias: golden.classifier_bias,
            timesteps: golden.timesteps,
            classes: golden.n_classes,
        };
        config.validate()?;
        Ok(config)
    }
}

/// The same network in the words of the golden files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenConfig {
    image_size: usize,
    in_channels: usize,
    stem_channels: usize,
    area_channels: [usize; 4],
    kernel_size: usize,
    lateral: bool,
    topdown: bool,
    interaction: Interaction,
    lt_position: LtPosition,
    #[serde(default = "published")]
    recurrent_from: RecurrentFrom,
    norm: GoldenNorm,
    groups: usize,
    classifier_bias: bool,
    timesteps: usize,
    n_classes: usize,
}

/// Golden files that do not say otherwise give V1 no recurrent drive.
fn published() -> RecurrentFrom {
    RecurrentFrom::V2
}

#[derive(Deserialize)]
enum GoldenNorm {
    #[serde(rename = "LN")]
    Layer,
    #[serde(rename = "GN")]
    Group,
    None,
}

/// Reads four numbers; the TOML reader itself would silently drop a fifth.
fn exactly_four<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<[usize; 4], D::Error> {
    let numbers = Vec::<usize>::deserialize(from)?;
    let found = numbers.len();
    let expected = "4 numbers, the channels of v1, v2, v4 and it";
    numbers.try_into().map_err(|_| serde::de::Error::invalid_length(found, &expected))
}

/// A convolution of stride 1.
fn convolution(pool: usize, kernel: usize, (weight, bias): Names) -> Map {
    Map::Convolution { pool, kernel, stride: 1, weight, bias }
}

fn wrong<T>(key: &str, found: impl std::fmt::Display, allowed: &str) -> Result<T> {
    impossible(&format!("[network] {key}"), found, allowed)
}
