//! Ranks that are threads of one process, connected through its memory: for several devices of one program, and for tests,
//! which need no MPI.

use super::{Exchange, Ranks};
use crate::{Error, Result};
use std::sync::{Arc, Condvar, Mutex};

/// The ends of so many ranks, in their order, each for a thread of its own.
///
/// # Errors
/// No further thread.
pub fn threads(size: usize) -> Result<Vec<Ranks>> {
    let table = Arc::new(Table {
        state: Mutex::new(State { given: vec![None; size], ..State::default() }),
        changed: Condvar::new(),
    });
    let rank = |rank: usize| {
        let table = table.clone();
        Ranks::connect(move |_| Ok(Rank { rank, size, table }))
    };
    (0..size).map(rank).collect()
}

/// Where ranks lay what they give, all of them before anybody takes, and all take before anybody gives again.
struct Table {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    given: Vec<Option<Arc<Vec<u8>>>>,
    /// Whether all have given, and how many have taken since.
    complete: bool,
    taken: usize,
    /// A rank that has ended.
    ended: Option<usize>,
}

struct Rank {
    rank: usize,
    size: usize,
    table: Arc<Table>,
}

impl Rank {
    /// What all ranks give, in their order.
    fn all(&self, mine: &[u8]) -> Result<Vec<Arc<Vec<u8>>>> {
        let wait = |until: &dyn Fn(&State) -> bool| {
            let state = self.table.state.lock().expect("no panic while held");
            let state = self.table.changed.wait_while(state, |state| !until(state) && state.ended.is_none());
            let state = state.expect("no panic while held");
            match state.ended {
                Some(rank) => Err(Error::Training(format!("rank {rank} of {} has ended", self.size))),
                None => Ok(state),
            }
        };
        let mut state = wait(&|state| !state.complete)?;
        state.given[self.rank] = Some(Arc::new(mine.to_vec()));
        state.complete = state.given.iter().all(Option::is_some);
        self.table.changed.notify_all();
        drop(state);
        let mut state = wait(&|state| state.complete)?;
        let all = state.given.iter().map(|given| given.clone().expect("complete")).collect();
        state.taken += 1;
        if state.taken == self.size {
            *state = State { given: vec![None; self.size], ..State::default() };
            self.table.changed.notify_all();
        }
        Ok(all)
    }
}

impl Exchange for Rank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local(&self) -> usize {
        self.rank
    }

    fn all_to_all(&mut self, mine: &[f32], theirs: &mut [f32]) -> Result<()> {
        let slice = mine.len() / self.size;
        for (rank, given) in self.all(bytemuck::cast_slice(mine))?.iter().enumerate() {
            let of_rank = &given[4 * slice * self.rank..][..4 * slice];
            bytemuck::cast_slice_mut(&mut theirs[slice * rank..][..slice]).copy_from_slice(of_rank);
        }
        Ok(())
    }

    fn all_gather(&mut self, mine: &[u8], all: &mut [u8]) -> Result<()> {
        let given = self.all(mine)?;
        all.chunks_exact_mut(mine.len().max(1)).zip(given).for_each(|(to, given)| to.copy_from_slice(&given));
        Ok(())
    }

    fn broadcast(&mut self, bytes: &mut [u8]) -> Result<()> {
        let given = self.all(bytes)?;
        bytes.copy_from_slice(&given[0]);
        Ok(())
    }

    fn end(&mut self, _: u8) {
        self.table.state.lock().expect("no panic while held").ended.get_or_insert(self.rank);
        self.table.changed.notify_all();
    }
}
