//! What of a network can be read besides its scores, and where it lies after a run.

use crate::kernels::View;
use crate::network::Network;

/// A quantity that a network has at every timestep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quantity {
    /// What is shown: normalised pictures [3, rows, columns, images].
    Input,
    /// Activation of an area (index into [`crate::network::Network::areas`]).
    Activation(usize),
    /// What an area's activation is made of: its drives, mixed and normalised.
    Drive(usize),
    /// What the readout sees: its area's activation, of a map the pixel average; [channels, 1, 1, images].
    Representation,
    /// Input of the softmax, [classes, 1, 1, images].
    Logits,
    /// Clamped log-probabilities, [classes, 1, 1, images].
    LogProbs,
}

/// Who reads a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The host, to which it is copied back.
    Host,
    /// Kernels, at each timestep where it lies; timesteps at which it is the same lie in one place.
    Kernels,
    /// Kernels that take all timesteps at once: they lie at equal distances in one buffer, `[step][row][image]`.
    Series,
}

/// A request to read a quantity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tap {
    /// What.
    pub of: Quantity,
    /// At which timesteps; `None`: at all of them.
    pub timesteps: Option<Vec<usize>>,
    /// By whom.
    pub reader: Reader,
}

impl Tap {
    /// A quantity at all timesteps, for the host.
    pub fn all(of: Quantity) -> Tap {
        Tap { of, timesteps: None, reader: Reader::Host }
    }

    /// A quantity at all timesteps, for kernels that take one timestep at a time.
    pub fn in_place(of: Quantity) -> Tap {
        Tap { of, timesteps: None, reader: Reader::Kernels }
    }

    /// A quantity at all timesteps, for kernels that take all timesteps at once.
    pub fn series(of: Quantity) -> Tap {
        Tap { of, timesteps: None, reader: Reader::Series }
    }

    /// Everything that a network computes, at all timesteps, for the host.
    pub fn everything(network: &Network) -> Vec<Tap> {
        let areas = (0..network.areas.len()).map(Quantity::Activation);
        [Quantity::Input, Quantity::Logits, Quantity::LogProbs].into_iter().chain(areas).map(Tap::all).collect()
    }

    /// Whether it wants this timestep.
    pub fn wants(&self, t: usize) -> bool {
        self.timesteps.as_ref().is_none_or(|list| list.contains(&t))
    }
}

/// Where a tapped quantity lies.
#[derive(Clone, Debug, PartialEq)]
pub struct Tapped {
    /// What.
    pub of: Quantity,
    /// Extents at one timestep, images innermost.
    pub shape: Vec<usize>,
    /// By timestep; `None` where it was not asked for or does not exist.
    pub views: Vec<Option<View>>,
    /// Of a series: the view of all steps, the first step, words from one step to the next, how many steps.
    pub series: Option<Series>,
}

/// Timesteps at equal distances in one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// All of them.
    pub view: View,
    /// The first timestep: none before it exists.
    pub first: usize,
    /// How many.
    pub steps: usize,
    /// Words from one to the next.
    pub distance: usize,
}
