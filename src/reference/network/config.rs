//! What a network is: the keys of the golden files' `config`, and the parameters that follow from them.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::AREAS;
use crate::reference::mix::Interaction;
use crate::{Error, Result};

/// Which maps are recurrent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LtPosition {
    /// The areas and the gap.
    All,
    /// The gap's lateral map alone; top-down maps do not exist.
    Last,
}

/// The norm before each ReLU but the retina's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum NormName {
    /// Layer norm over `[c,h,w]`, an affine pair per element.
    #[serde(rename = "LN")]
    Layer,
    /// Group norm, an affine pair per channel, the gap's too.
    #[serde(rename = "GN")]
    Group,
    /// None: every convolution and the gap's lateral map have a bias instead.
    None,
}

/// The lowest area that makes use of its recurrent weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecurrentFrom {
    /// v1 does.
    V1,
    /// As published: v1 does not.
    #[default]
    V2,
}

/// A network, with the keys of the golden files' `config`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Rows and columns of a picture; a multiple of 8.
    pub image_size: usize,
    /// Channels of a picture.
    pub in_channels: usize,
    /// Channels of the retina.
    pub stem_channels: usize,
    /// Channels of v1, v2, v4, it.
    pub area_channels: [usize; 4],
    /// Size of every kernel, odd.
    pub kernel_size: usize,
    /// Lateral connections.
    pub lateral: bool,
    /// Top-down connections.
    pub topdown: bool,
    /// How bottom-up, lateral and top-down terms are mixed.
    pub interaction: Interaction,
    /// Which maps are recurrent.
    pub lt_position: LtPosition,
    /// The norm.
    pub norm: NormName,
    /// Groups of the group norm.
    pub groups: usize,
    /// Whether the readout has a bias.
    pub classifier_bias: bool,
    /// Steps on one picture.
    pub timesteps: usize,
    /// Classes.
    pub n_classes: usize,
    /// The lowest area that makes use of its recurrent weights.
    #[serde(default)]
    pub recurrent_from: RecurrentFrom,
}

impl Config {
    /// Parses and checks a configuration.
    ///
    /// # Errors
    /// Names the key that is unknown, missing or out of range.
    pub fn from_json(json: &serde_json::Value) -> Result<Self> {
        let config = Self::deserialize(json).map_err(|e| Error::Config(format!("network configuration: {e}")))?;
        let c = &config;
        let sizes = [c.in_channels, c.stem_channels, c.timesteps, c.n_classes];
        let groups_fit = c.groups > 0 && c.area_channels.iter().all(|channels| channels % c.groups == 0);
        let wrong = if c.image_size == 0 || c.image_size % 8 != 0 {
            format!("`image_size`: expected a multiple of 8, found {}", c.image_size)
        } else if c.kernel_size % 2 == 0 {
            format!("`kernel_size`: expected an odd number, found {}", c.kernel_size)
        } else if sizes.contains(&0) || c.area_channels.contains(&0) {
            "channels, `timesteps` and `n_classes` must be at least 1".to_owned()
        } else if c.norm == NormName::Group && !groups_fit {
            format!("`groups`: {} does not divide the area channels {:?}", c.groups, c.area_channels)
        } else {
            return Ok(config);
        };
        Err(Error::Config(format!("network configuration: {wrong}")))
    }

    /// Rows and columns of an area's maps.
    pub fn size(&self, area: usize) -> usize {
        self.image_size >> area
    }

    /// Whether lateral maps exist in the areas (the gap's exists with any `lt_position`).
    pub fn has_lateral(&self) -> bool {
        self.lateral && self.lt_position == LtPosition::All && self.timesteps > 1
    }

    /// Whether the gap has a lateral map.
    pub fn has_gap_lateral(&self) -> bool {
        self.lateral && self.timesteps > 1
    }

    /// Whether a top-down map into this area exists.
    pub fn has_top_down(&self, area: usize) -> bool {
        self.topdown && self.lt_position == LtPosition::All && self.timesteps > 1 && area + 1 < AREAS.len()
    }

    /// Whether the area makes use of its recurrent maps.
    pub fn is_recurrent(&self, area: usize) -> bool {
        area > 0 || self.recurrent_from == RecurrentFrom::V1
    }

    /// Names, as in the published state dict, and shapes of all parameters.
    pub fn parameters(&self) -> BTreeMap<String, Vec<usize>> {
        let k = self.kernel_size;
        let mut shapes = BTreeMap::new();
        let mut add = |name: String, weight: &[usize], bias: Option<&[usize]>| {
            shapes.insert(format!("{name}.weight"), weight.to_vec());
            shapes.extend(bias.map(|bias| (format!("{name}.bias"), bias.to_vec())));
        };
        add("retina".into(), &[self.stem_channels, self.in_channels, k, k], Some(&[self.stem_channels]));
        for (area, name) in AREAS.into_iter().enumerate() {
            let (c, size) = (self.area_channels[area], self.size(area));
            let c_below = if area == 0 { self.stem_channels } else { self.area_channels[area - 1] };
            let bias: &[usize] = &[c];
            let bias = (self.norm == NormName::None).then_some(bias);
            add(format!("{name}.bottom_up"), &[c, c_below, k, k], bias);
            if self.has_lateral() {
                add(format!("{name}.lateral"), &[c, c, k, k], bias);
            }
            if self.has_top_down(area) {
                add(format!("{name}.top_down"), &[self.area_channels[area + 1], c, k, k], bias);
            }
            match self.norm {
                NormName::Layer => add(format!("{name}_ln"), &[c, size, size], Some(&[c, size, size])),
                NormName::Group => add(format!("{name}_ln"), &[c], Some(&[c])),
                NormName::None => {}
            }
        }
        let c = self.area_channels[3];
        let (bias, readout_bias): (&[usize], &[usize]) = (&[c], &[self.n_classes]);
        if self.has_gap_lateral() {
            add("gap.lateral".into(), &[c, c], (self.norm == NormName::None).then_some(bias));
        }
        if self.norm != NormName::None {
            add("gap_ln".into(), &[c], Some(&[c]));
        }
        add("readout".into(), &[self.n_classes, c], self.classifier_bias.then_some(readout_bias));
        shapes
    }

    /// Whether a parameter takes part: as published, v1's recurrent weights exist and do not.
    pub fn is_used(&self, parameter: &str) -> bool {
        self.is_recurrent(0) || !(parameter.starts_with("v1.lateral.") || parameter.starts_with("v1.top_down."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> serde_json::Value {
        serde_json::json!({
            "image_size": 16, "in_channels": 3, "stem_channels": 4, "area_channels": [4, 8, 16, 32], "kernel_size": 3,
            "lateral": true, "topdown": true, "interaction": "additive", "lt_position": "all", "norm": "LN",
            "groups": 1, "classifier_bias": false, "timesteps": 3, "n_classes": 5
        })
    }

    #[test]
    fn recurrent_parameters_follow_from_the_configuration() {
        let count = |key: &str, value: serde_json::Value, part: &str| {
            let mut json = json();
            json[key] = value;
            let config = Config::from_json(&json).unwrap();
            config.parameters().keys().filter(|name| name.contains(part)).count()
        };
        assert_eq!(count("timesteps", 3.into(), "lateral"), 5);
        assert_eq!(count("timesteps", 3.into(), "top_down"), 3);
        assert_eq!(count("timesteps", 1.into(), "lateral"), 0);
        assert_eq!(count("timesteps", 1.into(), "top_down"), 0);
        assert_eq!(count("lt_position", "last".into(), "lateral"), 1);
        assert_eq!(count("lt_position", "last".into(), "top_down"), 0);
        assert_eq!(count("norm", "None".into(), "lateral.bias"), 5);
        assert_eq!(count("norm", "None".into(), "_ln"), 0);
        assert_eq!(count("norm", "LN".into(), "bias"), 1 + 5);
    }

    #[test]
    fn wrong_configurations_name_the_key() {
        for (key, value) in [
            ("image_size", serde_json::json!(30)),
            ("kernel_size", 4.into()),
            ("interaction", "multiply".into()),
            ("timesteps", 0.into()),
            ("laterall", true.into()),
        ] {
            let mut json = json();
            json[key] = value.clone();
            let message = Config::from_json(&json).unwrap_err().to_string();
            let named = message.contains(key) || value.as_str().is_some_and(|value| message.contains(value));
            assert!(named, "{key}: {message}");
        }
    }
}
