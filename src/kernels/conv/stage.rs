//! Sums over timesteps that are computed in several launches, each of which goes on where the last one stopped, so that what
//! a timestep needs can be given up before the next one comes. All sums are added up in the order of one launch over all
//! timesteps, so they have its bits; but for [`super::Lanes::Pixels`], whose lanes exchange their sums at the end of each launch.

use crate::kernels::View;
use std::collections::BTreeMap;

/// What launches leave for those that go on, by what it is.
pub type State = BTreeMap<&'static str, View>;

/// Which of the timesteps of a sum come now.
#[derive(Debug)]
pub struct Stage<'a> {
    /// Timesteps that earlier launches have summed.
    pub before: usize,
    /// Timesteps that are summed once these are.
    pub until: usize,
    /// Timesteps of the whole sum.
    pub of: usize,
    /// What earlier launches have left, and what these leave.
    pub state: &'a mut State,
}

impl<'a> Stage<'a> {
    /// All timesteps at once.
    pub fn whole(steps: usize, state: &'a mut State) -> Stage<'a> {
        Stage { before: 0, until: steps, of: steps, state }
    }

    /// Whether all timesteps come at once.
    pub fn is_whole(&self) -> bool {
        self.before == 0 && self.is_last()
    }

    /// Whether earlier launches have left something.
    pub fn goes_on(&self) -> bool {
        self.before > 0
    }

    /// Whether the sum is complete after this.
    pub fn is_last(&self) -> bool {
        self.until == self.of
    }

    /// The place of that name: what earlier launches left there, or a new one.
    pub fn place(&mut self, name: &'static str, new: impl FnOnce() -> View) -> View {
        *self.state.entry(name).or_insert_with(new)
    }
}
