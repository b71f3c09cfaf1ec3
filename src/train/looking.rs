//! Looking at pictures while the network trains: those that opening a large data set did not look at, so that one that is
//! damaged ends the run soon, and never after the first epoch.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::dataset::Dataset;
use crate::{Error, Result, parallel};

/// Pictures that are looked at together.
const BLOCK: usize = 64;

/// Threads that look at pictures, while this is held.
pub(super) struct Looking {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    data: Arc<dyn Dataset>,
    split: String,
    blocks: Vec<Range<usize>>,
    /// The next block.
    next: AtomicUsize,
    given_up: AtomicBool,
    found: Mutex<Option<Error>>,
}

impl Looking {
    /// Begins to look at the pictures of a split, on half of the cores; `None` where there is nothing to look at.
    ///
    /// # Errors
    /// A split that is not there.
    pub(super) fn begin(data: &Arc<dyn Dataset>, split: &str) -> Result<Option<Looking>> {
        if !data.unverified().iter().any(|of| of == split) {
            return Ok(None);
        }
        let count = data.len(split)?;
        let blocks = (0..count).step_by(BLOCK).map(|first| first..count.min(first + BLOCK)).collect();
        let shared = Arc::new(Shared {
            data: data.clone(),
            split: split.into(),
            blocks,
            next: AtomicUsize::new(0),
            given_up: AtomicBool::new(false),
            found: Mutex::new(None),
        });
        let start = |_| {
            let shared = shared.clone();
            parallel::start("looking", move || shared.look()).ok()
        };
        let threads = (0..parallel::cores().div_ceil(2)).map_while(start).collect();
        Ok(Some(Looking { shared, threads }))
    }

    /// What was found damaged so far.
    ///
    /// # Errors
    /// That.
    pub(super) fn so_far(&self) -> Result<()> {
        locked(&self.shared.found).take().map_or(Ok(()), Err)
    }

    /// Whether all pictures were looked at.
    pub(super) fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
            && self.shared.next.load(Ordering::Relaxed) >= self.shared.blocks.len()
    }

    /// Looks at what is left, on this thread too.
    ///
    /// # Errors
    /// What is damaged.
    pub(super) fn finish(mut self) -> Result<()> {
        self.shared.look();
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| Error::Data("a thread that looks at pictures stopped".into()))?;
        }
        self.so_far()
    }
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.shared.given_up.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok(); // nobody waits for what it found
        }
    }
}

impl Shared {
    fn look(&self) {
        while !self.given_up.load(Ordering::Relaxed) {
            let Some(block) = self.blocks.get(self.next.fetch_add(1, Ordering::Relaxed)) else { return };
            if let Err(error) = self.data.examine(&self.split, block.clone()) {
                locked(&self.found).get_or_insert(error);
                self.given_up.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn locked<T>(of: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
