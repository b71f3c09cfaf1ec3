//! What a network is to the twins: areas, connections, a readout, all of them checked, and the parameters they own.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::reference::ImageShape;
use crate::reference::mix::Interaction;
use crate::reference::norm::NormKind;

/// Which connections take a timestep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unroll {
    /// Lateral and top-down ones; bottom-up ones carry the same step.
    #[default]
    Engineering,
    /// All but those from the picture.
    Biological,
}

/// A network. [`super::architecture`] and [`super::blt`] make one, and only if it makes sense: sizes match, every area is
/// reached from the picture, no bottom-up connection runs backwards.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Rows and columns of a picture, which has 3 channels.
    pub image_size: usize,
    /// Classes.
    pub classes: usize,
    /// Steps on one picture.
    pub timesteps: usize,
    /// Which connections take a timestep.
    pub unroll: Unroll,
    /// The areas, each after those that its bottom-up connections come from.
    pub areas: Vec<Area>,
    /// The connections, in any order.
    pub connections: Vec<Connection>,
    /// Which area the readout sees; of a map it sees the average over pixels.
    pub readout: usize,
    /// Whether the readout has a bias.
    pub readout_bias: bool,
    /// Parameters, with their shapes, that belong to no connection: the published V1's recurrent weights.
    pub idle: BTreeMap<String, Vec<usize>>,
}

/// An area.
#[derive(Clone, Debug, PartialEq)]
pub struct Area {
    /// Its name.
    pub name: String,
    /// Channels.
    pub channels: usize,
    /// Rows and columns of its maps; 1 of a vector.
    pub size: usize,
    /// Whether it is a vector `[n,c]` and no map `[n,c,h,w]`.
    pub vector: bool,
    /// The norm before the activation, if there is one.
    pub norm: Option<NormKind>,
    /// What the names of the norm's parameters begin with.
    pub norm_name: String,
    /// Whether a ReLU follows; else nothing does.
    pub relu: bool,
    /// How recurrent terms join the bottom-up drive.
    pub interaction: Interaction,
}

/// What a connection carries, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// From below, or from the picture.
    BottomUp,
    /// From an area to itself.
    Lateral,
    /// From above.
    TopDown,
}

/// A connection: a term of the area where it ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// `<to>.<name>`, as protocols name it.
    pub label: String,
    /// What the names of its parameters begin with.
    pub parameters: String,
    /// Bottom-up, lateral or top-down.
    pub kind: Kind,
    /// The area where it starts; `None` for the picture.
    pub from: Option<usize>,
    /// The area where it ends.
    pub to: usize,
    /// What it computes.
    pub map: Map,
    /// Whether a bias is added.
    pub bias: bool,
}

/// What a connection computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// 2x2 max-pooling where `pooled`, then a convolution.
    Convolution {
        /// Whether pooling comes first.
        pooled: bool,
        /// Kernel size, odd.
        kernel: usize,
        /// 1, 2 or 4.
        stride: usize,
    },
    /// A transposed convolution.
    Transposed {
        /// Kernel size, odd.
        kernel: usize,
        /// 2 or 4.
        stride: usize,
    },
    /// A linear layer between vectors.
    Linear,
    /// The average over pixels, without parameters.
    Average,
}

impl Area {
    /// Shape of its activation for `n` pictures; a vector is a map of one pixel.
    pub fn shape(&self, n: usize) -> ImageShape {
        ImageShape::new(n, self.channels, self.size, self.size)
    }

    /// The same as a list of extents, as golden files write it: `[n,c]` for a vector, else `[n,c,h,w]`.
    pub fn extents(&self, n: usize) -> Vec<usize> {
        if self.vector { vec![n, self.channels] } else { vec![n, self.channels, self.size, self.size] }
    }
}

impl Network {
    /// Shape of what a connection starts from.
    pub fn source_shape(&self, connection: &Connection, n: usize) -> ImageShape {
        match connection.from {
            Some(area) => self.areas[area].shape(n),
            None => ImageShape::new(n, 3, self.image_size, self.image_size),
        }
    }

    /// The connections that end at an area, with their numbers.
    pub fn into_area(&self, area: usize) -> impl Iterator<Item = (usize, &Connection)> {
        self.connections.iter().enumerate().filter(move |(_, connection)| connection.to == area)
    }

    /// Names and shapes of all parameters.
    pub fn parameters(&self) -> BTreeMap<String, Vec<usize>> {
        let mut shapes = self.idle.clone();
        let mut add = |name: &str, weight: Vec<usize>, bias: Option<Vec<usize>>| {
            shapes.insert(format!("{name}.weight"), weight);
            shapes.extend(bias.map(|bias| (format!("{name}.bias"), bias)));
        };
        for connection in &self.connections {
            let (from, to) = (self.source_shape(connection, 1).c, self.areas[connection.to].channels);
            let weight = match connection.map {
                Map::Convolution { kernel, .. } => vec![to, from, kernel, kernel],
                Map::Transposed { kernel, .. } => vec![from, to, kernel, kernel],
                Map::Linear => vec![to, from],
                Map::Average => continue,
            };
            add(&connection.parameters, weight, connection.bias.then(|| vec![to]));
        }
        for area in &self.areas {
            let affine = match area.norm {
                Some(NormKind::Layer) => area.extents(1)[1..].to_vec(),
                Some(NormKind::Group { .. }) => vec![area.channels],
                None => continue,
            };
            add(&area.norm_name, affine.clone(), Some(affine));
        }
        let weight = vec![self.classes, self.areas[self.readout].channels];
        add("readout", weight, self.readout_bias.then(|| vec![self.classes]));
        shapes
    }
}
