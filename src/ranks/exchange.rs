//! What must be there for ranks to exchange anything.

use crate::Result;

/// A connection of one rank to all others. Every function is called by all ranks, in one order, and with as much data.
pub trait Exchange {
    /// This rank's number, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// This rank's number among those on its machine.
    fn local(&self) -> usize;

    /// Slice r of `mine` goes to rank r; slice r of `theirs` is what rank r has for this one. The slices are of one length.
    ///
    /// # Errors
    /// A rank that has ended.
    fn all_to_all(&mut self, mine: &[f32], theirs: &mut [f32]) -> Result<()>;

    /// Slice r of `all` is what rank r gives.
    ///
    /// # Errors
    /// A rank that has ended.
    fn all_gather(&mut self, mine: &[u8], all: &mut [u8]) -> Result<()>;

    /// Everybody gets the bytes of rank 0.
    ///
    /// # Errors
    /// A rank that has ended.
    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<()>;

    /// Ends all ranks; where these are processes, this one does not return.
    fn end(&mut self, status: u8);
}
