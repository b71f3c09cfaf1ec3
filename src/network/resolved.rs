//! A network as everything below this folder sees it: areas and connections, checked, in the order of the drive, with the
//! names and shapes of what is learned. Made from a description: [`super::Architecture`] by `resolve.rs`, or the BLT family's
//! [`super::NetworkConfig`] by `config.rs`; nothing here or below knows an area by its name.

use super::parameters::ParameterSpec;
use super::terms::{Interaction, MAX_ELEMENTS, Unroll};
use crate::error::{Error, Result};

/// A network, checked and put in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Side of the square pictures, in pixels.
    pub image_size: usize,
    /// Classes K of the readout.
    pub classes: usize,
    /// Timesteps T that it is trained with.
    pub timesteps: usize,
    /// Which connections take a step.
    pub unroll: Unroll,
    /// In an order in which no bottom-up connection runs backwards.
    pub areas: Vec<Area>,
    /// In the order of the description: terms that meet in one area are added in this order.
    pub connections: Vec<Connection>,
    /// Where the classes are read.
    pub readout: Readout,
    /// Everything that is learned, in the order of the state dict.
    pub parameters: Vec<ParameterSpec>,
}

/// One area: a map of `channels` x `side` x `side`, or a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Its name: letters, digits and underscores.
    pub name: String,
    /// Channels of the map, or length of the vector.
    pub channels: usize,
    /// Rows and columns of the map; 1 for a vector.
    pub side: usize,
    /// Whether it is a vector: its one bottom-up connection averages its source over pixels.
    pub vector: bool,
    /// Normalisation before the activation.
    pub norm: Option<AreaNorm>,
    /// Whether the activation is a ReLU; else there is none.
    pub relu: bool,
    /// How lateral and top-down drive joins bottom-up drive.
    pub interaction: Interaction,
}

/// The norm of an area.
#[derive(Clone, Debug, PartialEq)]
pub struct AreaNorm {
    /// Groups of channels that are normalised together.
    pub groups: usize,
    /// Whether scale and shift have one value per channel; else one per element.
    pub per_channel: bool,
    /// Name of the scale.
    pub weight: String,
    /// Name of the shift.
    pub bias: String,
}

/// Where a connection starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum From {
    /// The picture.
    Input,
    /// Index into [`Network::areas`].
    Area(usize),
}

/// What a connection is to the timesteps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Carries its source's activation of the same step (of the step before with a biological unrolling).
    BottomUp,
    /// From an area to itself, one step later.
    Lateral,
    /// From a higher area, one step later.
    TopDown,
}

impl Kind {
    /// The word of descriptions and protocols.
    pub fn name(self) -> &'static str {
        match self {
            Kind::BottomUp => "bottom_up",
            Kind::Lateral => "lateral",
            Kind::TopDown => "top_down",
        }
    }
}

/// One connection.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// `<to>.<name>`, unique: protocols name it so.
    pub label: String,
    /// Bottom-up, lateral or top-down.
    pub kind: Kind,
    /// Where it starts.
    pub from: From,
    /// Index of the area where it ends.
    pub to: usize,
    /// What it computes.
    pub map: Map,
}

/// What a connection computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Map {
    /// A convolution with padding (k - 1) / 2, after 2x2 max-pooling where `pool` is 2. A vector's lateral map is one with
    /// `kernel` 1, whose weight has the shape [to, from].
    Convolution {
        /// 1: none; 2: 2x2 max-pooling of the source.
        pool: usize,
        /// Side of the kernel, odd.
        kernel: usize,
        /// 1, 2 or 4.
        stride: usize,
        /// Name of the weight [to, from, k, k].
        weight: String,
        /// Name of the bias \[to\].
        bias: Option<String>,
    },
    /// A transposed convolution with padding (k - 1) / 2 and output padding stride - 1.
    Transposed {
        /// Side of the kernel, odd.
        kernel: usize,
        /// 2 or 4.
        stride: usize,
        /// Name of the weight [from, to, k, k].
        weight: String,
        /// Name of the bias \[to\].
        bias: Option<String>,
    },
    /// The mean over the pixels of the source.
    Average,
}

/// The linear layer that tells classes apart.
#[derive(Clone, Debug, PartialEq)]
pub struct Readout {
    /// The area that it reads; of a map its pixel average.
    pub area: usize,
    /// Name of the weight [classes, channels].
    pub weight: String,
    /// Name of the bias \[classes\].
    pub bias: Option<String>,
}

impl Network {
    /// Length of one picture's representation at the readout.
    pub fn features(&self) -> usize {
        self.areas[self.readout.area].channels
    }

    /// Connections that end at an area, in order.
    pub fn into_area(&self, area: usize) -> impl Iterator<Item = &Connection> {
        self.connections.iter().filter(move |c| c.to == area)
    }

    /// The index of an area.
    pub fn area(&self, name: &str) -> Option<usize> {
        self.areas.iter().position(|a| a.name == name)
    }

    /// Whether a connection, a norm or the readout names this parameter. Others are in the state dict and never change
    /// (v1's recurrent maps of the published networks). What is named may still not reach the loss within T.
    pub fn uses(&self, parameter: &str) -> bool {
        let maps = self.connections.iter().flat_map(|c| match &c.map {
            Map::Convolution { weight, bias, .. } | Map::Transposed { weight, bias, .. } => {
                [Some(weight), bias.as_ref()]
            }
            Map::Average => [None, None],
        });
        let norms = self.areas.iter().filter_map(|a| a.norm.as_ref()).flat_map(|n| [Some(&n.weight), Some(&n.bias)]);
        let readout = [Some(&self.readout.weight), self.readout.bias.as_ref()];
        maps.chain(norms).chain(readout).flatten().any(|name| name == parameter)
    }

    /// How many values the connections, norms and readout have, without parameters that none of them uses.
    pub fn learned(&self) -> u64 {
        self.parameters.iter().filter(|p| self.uses(&p.name)).map(|p| p.len() as u64).sum()
    }

    /// The first step at which each area exists: 0 with an engineering unrolling; with a biological one a step after the
    /// first of its bottom-up sources, and 0 where that is the picture.
    pub fn first_steps(&self) -> Vec<usize> {
        let mut first = Vec::with_capacity(self.areas.len());
        for area in 0..self.areas.len() {
            let sources =
                self.into_area(area).filter(|c| c.kind == Kind::BottomUp).map(|c| match (self.unroll, c.from) {
                    (Unroll::Biological, From::Area(from)) => first[from] + 1,
                    _ => 0,
                });
            first.push(sources.min().expect("every area has a bottom-up connection"));
        }
        first
    }

    /// Refuses what 32-bit indices could not reach. Each number of the description is within its bounds already, so that
    /// the products fit into 64 bits.
    pub(super) fn check_sizes(&self) -> Result<()> {
        let maps = self.areas.iter().map(|a| (format!("{}'s map", a.name), vec![a.channels, a.side, a.side]));
        let parameters = self.parameters.iter().map(|p| (p.name.clone(), p.shape.clone()));
        for (name, shape) in maps.chain(parameters) {
            let count: u64 = shape.iter().map(|&n| n as u64).product();
            if count > MAX_ELEMENTS {
                return Err(Error::Config(format!(
                    "network is too large: {name} would hold {count} elements, at most {MAX_ELEMENTS} are allowed; \
                     reduce image_size, the kernel (kernel_size), the channels or classes"
                )));
            }
        }
        Ok(())
    }
}
