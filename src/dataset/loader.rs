//! Batches prepared on other threads while the caller works.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::augment::{Augmentation, Scratch, augment};
use super::random::Random;
use super::{Batch, Dataset};
use crate::{Error, Result, parallel};
use serde::{Deserialize, Serialize};

/// What becomes of the pictures that are left at the end of an epoch, fewer than a batch: `last_batch` of `[training]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LastBatch {
    /// They are a batch of their own, smaller than the others, as published.
    Keep,
    /// They are left out of this epoch: the rule of runs whose files do not say.
    #[default]
    Drop,
}

impl LastBatch {
    /// Whether what is left is left out.
    pub fn is_drop(&self) -> bool {
        *self == LastBatch::Drop
    }

    /// Steps of an epoch of `len` pictures; 0 where none is whole and what is left is left out.
    fn steps(self, len: usize, batch: usize) -> usize {
        match self {
            LastBatch::Keep => len.div_ceil(batch),
            LastBatch::Drop => len / batch,
        }
    }
}

/// How training pictures become batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrainingBatches {
    /// Pictures of a batch.
    pub batch: usize,
    /// The last batch of an epoch.
    pub last: LastBatch,
    /// What is done to pictures.
    pub augment: Augmentation,
    /// Seed of their order and augmentation.
    pub seed: u64,
}

/// An iterator over `(step, batch)`. Worker threads stay about one batch each ahead of the caller; what goes wrong on
/// them is handed to the caller, once, as the last item. Where the system starts no thread, the caller prepares its batches.
pub struct Loader {
    source: Source,
    /// One queue per worker; batch k comes from queue k modulo their number, which keeps the order.
    queues: Vec<Receiver<Result<Batch>>>,
    workers: Vec<JoinHandle<()>>,
    /// Whether something went wrong.
    failed: bool,
    step: u64,
    taken: u64,
    /// Batches in all; none: without end.
    total: Option<u64>,
}

impl Loader {
    /// Shuffled training batches without end, from `start_step` on (0 = the first step of the first epoch).
    ///
    /// Which pictures form the batch of a step, and how they are augmented, is a pure function of what `how` says and of the
    /// step, so that a run resumed at any step goes on exactly. A batch that is not full is padded as [`Loader::eval`] pads its
    /// last.
    pub fn train(dataset: &Arc<dyn Dataset>, split: &str, how: &TrainingBatches, start_step: u64) -> Result<Loader> {
        let TrainingBatches { batch, last, augment, seed } = *how;
        Loader::steps_per_epoch(&**dataset, split, batch, last)?;
        let len = dataset.len(split)?;
        let endless = dataset.endless(split);
        let which = Which::Shuffled { seed, endless, last, epoch: 0, shuffled: vec![] };
        let order = Order { len, batch, next: false, which };
        let augment = (augment == Augmentation::Trivial).then_some(seed);
        Ok(Loader::start(Source { augment, ..Source::new(dataset, split, order) }, start_step, None))
    }

    /// All pictures of a split once, in order. The last batch is padded to `batch` by repeating the last picture;
    /// [`Batch::n`] says how many are real. The step counts the batches from 0.
    pub fn eval(dataset: &Arc<dyn Dataset>, split: &str, batch: usize) -> Result<Loader> {
        Loader::in_order(dataset, split, batch, false)
    }

    /// As [`Loader::eval`]; where `next` says so, each batch also holds the pictures that follow its own.
    pub fn in_order(dataset: &Arc<dyn Dataset>, split: &str, batch: usize, next: bool) -> Result<Loader> {
        let len = dataset.len(split)?;
        Loader::listed(dataset, split, &(0..len as u32).collect::<Vec<_>>(), len, batch, next)
    }

    /// The pictures at these indices of a split once, in this order: first the batches of the first `turn` of them, then
    /// those of the rest, so that no batch holds pictures of both parts. The last batch of each part is padded as
    /// [`Loader::eval`] pads its last. Where `next` says so, each batch also holds the pictures that follow its own in the
    /// split.
    pub fn listed(
        dataset: &Arc<dyn Dataset>,
        split: &str,
        ids: &[u32],
        turn: usize,
        batch: usize,
        next: bool,
    ) -> Result<Loader> {
        let len = dataset.len(split)?;
        if batch == 0 {
            return Err(Error::Config("batch: expected at least 1, found 0".into()));
        }
        if let Some(&beyond) = ids.iter().find(|&&id| id as usize >= len) {
            return Err(super::no_such_picture(&dataset.name(), split, beyond as usize, len));
        }
        let (first, second) = ids.split_at(turn);
        let batches: Arc<[Vec<u32>]> = first.chunks(batch).chain(second.chunks(batch)).map(<[u32]>::to_vec).collect();
        let total = batches.len() as u64;
        let order = Order { len, batch, next, which: Which::Listed(batches) };
        Ok(Loader::start(Source::new(dataset, split, order), 0, Some(total)))
    }

    /// Training steps in one epoch of a split. An error where there is none.
    pub fn steps_per_epoch(dataset: &dyn Dataset, split: &str, batch: usize, last: LastBatch) -> Result<u64> {
        let len = dataset.len(split)?;
        if batch == 0 {
            return Err(Error::Config("batch: expected at least 1, found 0".into()));
        }
        match last.steps(len, batch) {
            0 => Err(Error::Config(format!(
                "batch {batch} is larger than the {len} pictures of split {split} of {}, and with last_batch = \"drop\" what \
                 fills no batch is left out; use --batch {len} or less",
                dataset.name()
            ))),
            steps => Ok(steps as u64),
        }
    }

    /// Bytes of host memory that a loader of such batches and its caller hold at most: each worker has a batch in its queue
    /// and prepares another, the caller has one and that before it, and a copy of it where it is computed in several parts.
    pub fn host_bytes(side: usize, batch: usize, next: bool, parts: usize) -> u64 {
        let batches = 2 * Loader::threads() + 2 + usize::from(parts > 1);
        batches as u64 * Batch::bytes(side, batch, next)
    }

    /// Threads that prepare batches.
    pub fn threads() -> usize {
        parallel::cores().min(4)
    }

    fn start(source: Source, step: u64, total: Option<u64>) -> Loader {
        Loader::on_threads(Loader::threads(), source, step, total)
    }

    /// With so many workers, or as many as the system starts.
    fn on_threads(most: usize, source: Source, step: u64, total: Option<u64>) -> Loader {
        let (mut queues, mut workers, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for worker in 0..most as u64 {
            let (sender, receiver) = sync_channel(1);
            let (tell, count) = sync_channel::<usize>(1); // how many workers there are, once that is known
            let source = source.clone();
            let work = move || {
                let Ok(count) = count.recv() else { return };
                source.work((step + worker..total.unwrap_or(u64::MAX)).step_by(count), &sender);
            };
            let Ok(thread) = parallel::start("loader", work) else { break };
            workers.push(thread);
            queues.push(receiver);
            told.push(tell);
        }
        for tell in told {
            tell.send(workers.len()).ok(); // a worker waits for it
        }
        Loader { source, queues, workers, failed: false, step, taken: 0, total }
    }
}

/// Where batches come from.
#[derive(Clone)]
struct Source {
    dataset: Arc<dyn Dataset>,
    split: String,
    order: Order,
    /// The seed of augmentation, where pictures are augmented.
    augment: Option<u64>,
    scratch: Scratch,
}

impl Source {
    /// Of pictures that stay as they are.
    fn new(dataset: &Arc<dyn Dataset>, split: &str, order: Order) -> Source {
        Source { dataset: dataset.clone(), split: split.into(), order, augment: None, scratch: Scratch::default() }
    }

    /// Prepares the batches of `steps` until an error occurs or nobody wants more.
    fn work(mut self, steps: impl Iterator<Item = u64>, queue: &SyncSender<Result<Batch>>) {
        for step in steps {
            let batch = self.batch(step);
            let failed = batch.is_err();
            if queue.send(batch).is_err() || failed {
                return;
            }
        }
    }

    /// The batch of a step.
    fn batch(&mut self, step: u64) -> Result<Batch> {
        let Source { dataset, split, order, augment: seed, scratch } = self;
        let (epoch, indices) = order.indices(step);
        let mut pictures = dataset.read(split, &indices)?;
        if let Some(seed) = *seed {
            augment(&mut pictures.data, pictures.side, seed, epoch, &indices, scratch);
        }
        let batch = Batch::new(pictures, order.batch);
        if !order.next {
            return Ok(batch);
        }
        let following: Vec<usize> = indices.iter().map(|i| (i + 1) % order.len).collect();
        Ok(batch.with_next(dataset.read(split, &following)?))
    }
}

impl Iterator for Loader {
    type Item = Result<(u64, Batch)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.total == Some(self.taken) {
            return None;
        }
        let step = self.step + self.taken;
        let batch = match self.queues.len() as u64 {
            0 => self.source.batch(step),
            count => {
                let batch = self.queues[(self.taken % count) as usize].recv();
                batch.unwrap_or_else(|_| Err(Error::Data("a data loading thread stopped".into())))
            }
        };
        self.taken += 1;
        if batch.is_err() {
            self.failed = true;
            self.queues.clear();
        }
        Some(batch.map(|batch| (step, batch)))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.queues.clear(); // a worker that wants to send sees that nobody listens, and ends
        for worker in self.workers.drain(..) {
            worker.join().ok(); // a panic was already reported by `next`
        }
    }
}

/// Which pictures form which batch.
#[derive(Clone)]
struct Order {
    len: usize,
    batch: usize,
    /// Whether batches hold the pictures that follow their own too.
    next: bool,
    which: Which,
}

#[derive(Clone)]
enum Which {
    /// By batch.
    Listed(Arc<[Vec<u32>]>),
    /// Anew in each epoch.
    Shuffled {
        seed: u64,
        endless: bool,
        last: LastBatch,
        /// The epoch that `shuffled` holds, if it is not empty.
        epoch: u64,
        shuffled: Vec<usize>,
    },
}

impl Order {
    /// The epoch of a step (0 where there are none), and the pictures of its batch.
    fn indices(&mut self, step: u64) -> (u64, Vec<usize>) {
        let (seed, endless, last, held, shuffled) = match &mut self.which {
            Which::Listed(batches) => return (0, batches[step as usize].iter().map(|&id| id as usize).collect()),
            Which::Shuffled { seed, endless, last, epoch, shuffled } => (*seed, *endless, *last, epoch, shuffled),
        };
        let steps_per_epoch = last.steps(self.len, self.batch) as u64;
        let (epoch, within) = (step / steps_per_epoch, (step % steps_per_epoch) as usize);
        if shuffled.is_empty() || *held != epoch {
            *shuffled = permutation(self.len, seed, epoch);
            *held = epoch;
        }
        let offset = if endless { epoch as usize * self.len } else { 0 };
        let batch = shuffled[within * self.batch..].iter().take(self.batch);
        (epoch, batch.map(|i| offset + i).collect())
    }
}

/// The order of the `len` training pictures in an epoch: a Fisher-Yates shuffle from ChaCha8, the same on every
/// platform.
pub fn permutation(len: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut random = Random::new(b"shuffle ", [seed, epoch, 0]);
    let mut order: Vec<usize> = (0..len).collect();
    for i in (1..len).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_the_same_with_any_number_of_workers_and_without_any() {
        let dataset = crate::dataset::open("glyphs:train=10,endless=false", Some(16)).unwrap();
        for last in [LastBatch::Keep, LastBatch::Drop] {
            let which = || Which::Shuffled { seed: 3, endless: false, last, epoch: 0, shuffled: vec![] };
            let batches = |workers: usize| -> Vec<(u64, Batch)> {
                let order = Order { len: 10, batch: 3, next: true, which: which() };
                let source = Source { augment: Some(3), ..Source::new(&dataset, "train", order) };
                Loader::on_threads(workers, source, 2, None).take(7).map(|item| item.unwrap()).collect()
            };
            let wanted = batches(0);
            assert_eq!(wanted.iter().map(|(step, _)| *step).collect::<Vec<_>>(), (2..9).collect::<Vec<_>>());
            [1, 2, 5].into_iter().for_each(|workers| assert_eq!(batches(workers), wanted, "{workers} workers"));
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig {
            cases: std::env::var("PROPTEST_CASES").map_or(32, |n| n.parse().expect("PROPTEST_CASES is a number")),
            failure_persistence: None,
            ..Default::default()
        })]

        /// Of any data set, from any step on, with any number of workers: batch k of an epoch holds the pictures k B to k B + B
        /// of that epoch's order, the last those that are left, augmented by seed, epoch and number; and the steps follow each
        /// other.
        #[test]
        fn batches_follow_from_seed_and_step_alone(
            len in 1_usize..40, batch in 1_usize..50, workers in 0_usize..9, seed in proptest::prelude::any::<u64>(),
            start in 0_u64..50, count in 1_usize..12, keep: bool, augmented: bool,
        ) {
            let last = if keep { LastBatch::Keep } else { LastBatch::Drop };
            let batch = if keep { batch } else { batch.min(len) };
            let dataset = crate::dataset::open(&format!("glyphs:train={len},endless=false"), Some(16)).unwrap();
            let which = Which::Shuffled { seed, endless: false, last, epoch: 0, shuffled: vec![] };
            let order = Order { len, batch, next: false, which };
            let source = Source { augment: augmented.then_some(seed), ..Source::new(&dataset, "train", order) };
            let per_epoch = if keep { len.div_ceil(batch) } else { len / batch } as u64;
            let mut next = start;
            for item in Loader::on_threads(workers, source, start, None).take(count) {
                let (step, found) = item.unwrap();
                let (epoch, k) = (step / per_epoch, (step % per_epoch) as usize);
                let indices = &permutation(len, seed, epoch)[k * batch..len.min((k + 1) * batch)];
                let mut pictures = dataset.read("train", indices).unwrap();
                if augmented {
                    for (picture, i) in pictures.data.chunks_mut(16 * 16 * 3).zip(indices) {
                        let drawn = crate::dataset::augment::Drawn::of(seed, epoch, *i as u64);
                        drawn.operation().apply(picture, 16, &mut Scratch::default());
                    }
                }
                assert_eq!(found.n, indices.len());
                assert_eq!((step, found), (next, Batch::new(pictures, batch)));
                next += 1;
            }
            assert_eq!(next, start + count as u64);
        }
    }

    #[test]
    fn without_workers_nothing_follows_an_error() {
        let dataset = crate::dataset::open("glyphs:train=10,endless=false", Some(16)).unwrap();
        let order = Order { len: 10, batch: 3, next: false, which: Which::Listed([vec![0], vec![99], vec![1]].into()) };
        let source = Source::new(&dataset, "train", order);
        let results: Vec<bool> = Loader::on_threads(0, source, 0, Some(3)).map(|item| item.is_ok()).collect();
        assert_eq!(results, [true, false]);
    }
}
