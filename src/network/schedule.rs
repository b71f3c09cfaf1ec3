//! What happens at which step of a run: a protocol, resolved for one network.

use super::{Network, Protocol, Shown};

/// A run of a network, step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Steps.
    pub timesteps: usize,
    /// Connections (index into [`Network::connections`]) that a gain acts on, with their gain at each step.
    pub gains: Vec<(usize, Vec<f32>)>,
    /// What is shown, step by step.
    pub shown: Vec<Shown>,
}

impl Schedule {
    /// Nothing disturbed: the picture at every step.
    pub fn plain(timesteps: usize) -> Schedule {
        Schedule { timesteps, gains: Vec::new(), shown: vec![Shown::Picture; timesteps] }
    }

    /// A network under a protocol, which must have been validated against it.
    pub fn new(network: &Network, protocol: Option<&Protocol>) -> Schedule {
        let Some(protocol) = protocol else { return Schedule::plain(network.timesteps) };
        let timesteps = protocol.timesteps(network.timesteps);
        let gain = |c: usize| (c, (0..timesteps).map(|t| protocol.gain(&network.connections[c], t)).collect());
        let gains = protocol.disturbed(network).into_iter().map(gain).collect();
        Schedule { timesteps, gains, shown: (0..timesteps).map(|t| protocol.shown(t)).collect() }
    }

    /// As many steps of the same program with nothing disturbed: the picture at every step, and gains of 1.
    pub fn undisturbed(&self) -> Schedule {
        let gains = self.gains.iter().map(|(connection, gains)| (*connection, vec![1.0; gains.len()])).collect();
        Schedule { gains, ..Schedule::plain(self.timesteps) }
    }

    /// Whether the following picture is ever shown.
    pub fn shows_next(&self) -> bool {
        self.shown.contains(&Shown::Next)
    }
}
