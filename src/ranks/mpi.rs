//! Ranks that are processes, connected by MPI.
//!
//! MPI is started, used and ended on the thread of [`super::Ranks`] alone, so that it need not know of threads. What is
//! exchanged is started without blocking and then asked for: Open MPI makes no progress on its own, and a call that blocks
//! would keep a core busy that a device of software may need, and could not be interrupted when this rank must end the job.
//! An error of MPI itself ends all ranks, which is its own rule (`MPI_ERRORS_ARE_FATAL`).

use super::Exchange;
use crate::{Error, Result};
use mpi::environment::Universe;
use mpi::request::{Request, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Root};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Times that a request is asked for without a pause in between.
const EAGER: u32 = 200;

/// The pause after that.
const PAUSE: Duration = Duration::from_micros(50);

/// Starts MPI on this thread.
pub(super) fn start(ending: Arc<AtomicBool>) -> Result<Mpi> {
    let universe = mpi::initialize().ok_or_else(|| Error::Config("MPI was started already in this process".into()))?;
    let world = universe.world();
    let local = world.split_shared(world.rank()).rank() as usize;
    Ok(Mpi { world, local, ending, _universe: universe })
}

/// A connection; MPI ends with it, which waits for all ranks.
pub(super) struct Mpi {
    world: SimpleCommunicator,
    local: usize,
    ending: Arc<AtomicBool>,
    _universe: Universe,
}

impl Mpi {
    /// Asks for a request until it is complete. Where this rank is to end meanwhile, so do all.
    fn complete<'a, D: ?Sized, S: mpi::request::Scope<'a>>(&self, mut request: Request<'a, D, S>) {
        let mut asked = 0;
        while let Err(again) = request.test() {
            request = again;
            asked += 1;
            if self.ending.load(Ordering::SeqCst) {
                self.world.abort(1);
            }
            if asked > EAGER {
                std::thread::sleep(PAUSE);
            } else {
                std::thread::yield_now();
            }
        }
    }
}

impl Exchange for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn size(&self) -> usize {
        self.world.size() as usize
    }

    fn local(&self) -> usize {
        self.local
    }

    fn all_to_all(&mut self, mine: &[f32], theirs: &mut [f32]) -> Result<()> {
        scope(|scope| self.complete(self.world.immediate_all_to_all_into(scope, mine, theirs)));
        Ok(())
    }

    fn all_gather(&mut self, mine: &[u8], all: &mut [u8]) -> Result<()> {
        scope(|scope| self.complete(self.world.immediate_all_gather_into(scope, mine, all)));
        Ok(())
    }

    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<()> {
        let root = self.world.process_at_rank(0);
        scope(|scope| self.complete(root.immediate_broadcast_into(scope, bytes)));
        Ok(())
    }

    fn end(&mut self, status: u8) {
        self.world.abort(i32::from(status));
    }
}
