//! The published BLT family: the network that follows from the keys that golden files hold as JSON under `config`.
//!
//! ```text
//! picture -> retina -> v1 -> v2 -> v4 -> it -> gap      bottom-up; v2, v4 and it after pooling, gap the average
//! v2 -> v2, v4 -> v4, it -> it, gap -> gap              lateral
//! v4 -> v2, it -> v4                                    top-down, transposed with stride 2
//! ```
//!
//! As published, v1 owns lateral and top-down weights but does not use them (`recurrent_from` "v2").
//! Source: Thorat, Doerig & Kietzmann 2023, arXiv 2308.12435, and its public PyTorch code, whose parameter names these are.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::description::{Area, Connection, Kind, Map, Network, Unroll};
use crate::reference::mix::Interaction;
use crate::reference::norm::NormKind;
use crate::{Error, Result};

/// The areas between retina and gap, from the bottom up.
pub const AREAS: [&str; 4] = ["v1", "v2", "v4", "it"];

/// Which maps are recurrent.
#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LtPosition {
    /// Those of the areas and the gap.
    All,
    /// The gap's lateral map alone; top-down maps do not exist.
    Last,
}

/// The norm before each ReLU but the retina's.
#[derive(Clone, Copy, PartialEq, Deserialize)]
enum NormName {
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
#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RecurrentFrom {
    V1,
    /// As published.
    #[default]
    V2,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    image_size: usize,
    in_channels: usize,
    stem_channels: usize,
    area_channels: [usize; 4],
    kernel_size: usize,
    lateral: bool,
    topdown: bool,
    interaction: Interaction,
    lt_position: LtPosition,
    norm: NormName,
    groups: usize,
    classifier_bias: bool,
    timesteps: usize,
    n_classes: usize,
    #[serde(default)]
    recurrent_from: RecurrentFrom,
}

/// Reads and checks a configuration, and makes the network that it stands for.
///
/// # Errors
/// Names the key that is unknown, missing or out of range.
pub fn network(json: &serde_json::Value) -> Result<Network> {
    let config = Config::deserialize(json).map_err(|e| Error::Config(format!("network configuration: {e}")))?;
    config.check().map_err(|wrong| Error::Config(format!("network configuration: {wrong}")))?;
    Ok(config.network())
}

impl Config {
    fn check(&self) -> Result<(), String> {
        let sizes = [self.stem_channels, self.timesteps, self.n_classes];
        let groups_fit = self.groups > 0 && self.area_channels.iter().all(|channels| channels % self.groups == 0);
        if self.image_size == 0 || !self.image_size.is_multiple_of(8) {
            Err(format!("`image_size`: expected a multiple of 8, found {}", self.image_size))
        } else if self.in_channels != 3 {
            Err(format!("`in_channels`: expected 3 (colour pictures), found {}", self.in_channels))
        } else if self.kernel_size.is_multiple_of(2) {
            Err(format!("`kernel_size`: expected an odd number, found {}", self.kernel_size))
        } else if sizes.contains(&0) || self.area_channels.contains(&0) {
            Err("channels, `timesteps` and `n_classes` must be at least 1".to_owned())
        } else if self.norm == NormName::Group && !groups_fit {
            Err(format!("`groups`: {} does not divide the area channels {:?}", self.groups, self.area_channels))
        } else {
            Ok(())
        }
    }

    /// Areas: 0 the retina, 1 to 4 those of [`AREAS`], 5 the gap.
    fn network(&self) -> Network {
        let mut areas = vec![self.area("retina", self.stem_channels, self.image_size)];
        let mut connections = vec![self.convolution("retina", Kind::BottomUp, None, 0, false)];
        connections[0].parameters = "retina".into();
        connections[0].label = "retina.bottom_up".into();
        connections[0].bias = true;
        areas[0].norm = None;
        let mut idle = BTreeMap::new();
        for (i, name) in AREAS.into_iter().enumerate() {
            areas.push(self.area(name, self.area_channels[i], self.image_size >> i));
            let to = i + 1;
            let mut recurrent = Vec::new();
            if self.lateral && self.areas_are_recurrent() {
                recurrent.push(self.convolution(&format!("{name}.lateral"), Kind::Lateral, Some(to), to, false));
            }
            if self.topdown && self.areas_are_recurrent() && name != "it" {
                let above = self.convolution(&format!("{name}.top_down"), Kind::TopDown, Some(to + 1), to, false);
                recurrent.push(Connection { map: Map::Transposed { kernel: self.kernel_size, stride: 2 }, ..above });
            }
            connections.push(self.convolution(&format!("{name}.bottom_up"), Kind::BottomUp, Some(i), to, i > 0));
            if i == 0 && self.recurrent_from == RecurrentFrom::V2 {
                idle = self.shapes_of(&recurrent);
            } else {
                connections.extend(recurrent);
            }
        }
        areas.push(Area { vector: true, ..self.area("gap", self.area_channels[3], 1) });
        let average = self.convolution("gap.bottom_up", Kind::BottomUp, Some(4), 5, false);
        connections.push(Connection { map: Map::Average, bias: false, ..average });
        if self.lateral && self.timesteps > 1 {
            let lateral = self.convolution("gap.lateral", Kind::Lateral, Some(5), 5, false);
            connections.push(Connection { map: Map::Linear, ..lateral });
        }
        Network {
            image_size: self.image_size,
            classes: self.n_classes,
            timesteps: self.timesteps,
            unroll: Unroll::Engineering,
            areas,
            connections,
            readout: 5,
            readout_bias: self.classifier_bias,
            idle,
        }
    }

    /// Whether the areas have recurrent maps. A network of one step has none, not even in its state dict.
    fn areas_are_recurrent(&self) -> bool {
        self.lt_position == LtPosition::All && self.timesteps > 1
    }

    fn area(&self, name: &str, channels: usize, size: usize) -> Area {
        let norm = match self.norm {
            NormName::Layer => Some(NormKind::Layer),
            NormName::Group => Some(NormKind::Group { groups: self.groups }),
            NormName::None => None,
        };
        let (norm_name, interaction) = (format!("{name}_ln"), self.interaction);
        Area { name: name.into(), channels, size, vector: false, norm, norm_name, relu: true, interaction }
    }

    fn convolution(&self, label: &str, kind: Kind, from: Option<usize>, to: usize, pooled: bool) -> Connection {
        let map = Map::Convolution { pooled, kernel: self.kernel_size, stride: 1 };
        let bias = self.norm == NormName::None;
        Connection { label: label.into(), parameters: label.into(), kind, from, to, map, bias }
    }

    /// The parameters of v1's lateral map and of the top-down map into it.
    fn shapes_of(&self, of_v1: &[Connection]) -> BTreeMap<String, Vec<usize>> {
        let (k, [v1, v2, ..]) = (self.kernel_size, self.area_channels);
        let mut shapes = BTreeMap::new();
        for connection in of_v1 {
            let from = if connection.kind == Kind::Lateral { v1 } else { v2 };
            shapes.insert(format!("{}.weight", connection.parameters), vec![from, v1, k, k]);
            shapes.extend(connection.bias.then(|| (format!("{}.bias", connection.parameters), vec![v1])));
        }
        shapes
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
            let network = network(&json).unwrap();
            network.parameters().keys().filter(|name| name.contains(part)).count()
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
    fn connections_have_the_names_that_protocols_use() {
        let labels = |recurrent_from: &str| {
            let mut json = json();
            json["recurrent_from"] = recurrent_from.into();
            let mut labels: Vec<String> = network(&json).unwrap().connections.into_iter().map(|c| c.label).collect();
            labels.sort();
            labels.join(" ")
        };
        let published = "gap.bottom_up gap.lateral it.bottom_up it.lateral retina.bottom_up v1.bottom_up v2.bottom_up \
                         v2.lateral v2.top_down v4.bottom_up v4.lateral v4.top_down";
        assert_eq!(labels("v2"), published);
        assert_eq!(labels("v1"), published.replace("v1.bottom_up", "v1.bottom_up v1.lateral v1.top_down"));
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
            let message = network(&json).unwrap_err().to_string();
            let named = message.contains(key) || value.as_str().is_some_and(|value| message.contains(value));
            assert!(named, "{key}: {message}");
        }
    }
}
