//! What happens at which step of a run: a protocol, resolved for one network.

/// What a network is shown at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    /// The picture.
    Picture,
    /// The following picture of the split.
    Next,
    /// The mean colour of the training set: x = 0.
    Blank,
}

/// A run of a network, step by step.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Steps.
    pub timesteps: usize,
    /// Connections (index into [`super::Network::connections`]) that a gain acts on, with their gain at each step.
    pub gains: Vec<(usize, Vec<f32>)>,
    /// What is shown, step by step.
    pub shown: Vec<Shown>,
}

impl Schedule {
    /// Nothing disturbed: the picture at every step.
    pub fn plain(timesteps: usize) -> Schedule {
        Schedule { timesteps, gains: Vec::new(), shown: vec![Shown::Picture; timesteps] }
    }

    /// Whether the following picture is ever shown.
    pub fn shows_next(&self) -> bool {
        self.shown.contains(&Shown::Next)
    }
}
