//! Several processes that train one network together, each on a device of its own: what they exchange.
//!
//! Every rank has a shard of each batch and the same parameters. [`Ranks`] is a rank's end of what connects them: sums of
//! gradients, small messages that all must see, and a way to end the whole job. A run that is alone has a [`Ranks`] of size 1,
//! which exchanges nothing.
//!
//! All that is exchanged passes one thread, in the order in which it is asked for, which must be the same on every rank. The
//! thread alone talks to the [`Exchange`] behind it (MPI, or threads of one process), so that the run's own thread can give it
//! one bucket of gradients while the device computes the next.
//!
//! **Sums have equal bits**, on every rank and in every repetition: each rank gets one slice of all ranks' values, adds them in
//! the order of the ranks, in f32, and hands the result to all. Nothing depends on who comes first. Each rank sends and receives
//! `2 (N - 1) / N` times the values' bytes, the least that is possible.

mod exchange;
#[cfg(feature = "mpi")]
mod mpi;
mod pending;
mod threads;

pub use exchange::Exchange;
pub use pending::Pending;
pub use threads::threads;

use crate::{Error, Result, parallel};
use pending::{Answer, pending};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Variables with which launchers tell a process how many it is one of, each with the one that tells its number.
const LAUNCHERS: [(&str, &str); 3] = [
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"), // Open MPI's mpirun
    ("PMI_SIZE", "PMI_RANK"),                         // MPICH's, and srun --mpi=pmi2
    ("SLURM_STEP_NUM_TASKS", "PMIX_RANK"),            // srun --mpi=pmix
];

/// A rank's end of what connects the ranks of a job; clones are the same end.
#[derive(Clone, Default)]
pub struct Ranks(Option<Arc<Connected>>);

struct Connected {
    rank: usize,
    size: usize,
    local: usize,
    jobs: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The job is to end at once: what the thread waits for may never come.
    ending: Arc<AtomicBool>,
    /// All ranks have met the same error at the same point, so that each can end in good order.
    together: AtomicBool,
    traffic: Arc<Mutex<Traffic>>,
}

/// What sums of gradients have cost a rank so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Traffic {
    /// Sums.
    pub sums: u64,
    /// Bytes that this rank has sent for them.
    pub sent: u64,
    /// Time from when the thread took each up to when it was complete.
    pub busy: Duration,
}

enum Job {
    Sum(Vec<f32>, Answer<Vec<f32>>),
    Gather(Vec<u8>, Answer<Vec<u8>>),
    Broadcast(Vec<u8>, Answer<Vec<u8>>),
    End(u8),
}

impl Ranks {
    /// One that is alone.
    pub fn alone() -> Ranks {
        Ranks(None)
    }

    /// The ranks that this process was launched with, by `mpirun` or `srun`; alone where it was not. Once a process.
    ///
    /// # Errors
    /// A launch with several ranks of a program that was built without MPI; an MPI that does not start.
    pub fn launched() -> Result<Ranks> {
        match launch() {
            None => Ok(Ranks::alone()),
            #[cfg(feature = "mpi")]
            Some(_) => Ranks::connect(mpi::start),
            #[cfg(not(feature = "mpi"))]
            Some((_, size)) => Err(Error::Config(format!(
                "this process is one of {size} that were launched together, but this program was built without MPI: build it \
                 with `cargo build --release --features mpi`, or start it alone"
            ))),
        }
    }

    /// Starts the thread that talks to the other ranks through what `start` makes there.
    ///
    /// # Errors
    /// What `start` says; no further thread.
    pub fn connect<E: Exchange>(start: impl FnOnce(Arc<AtomicBool>) -> Result<E> + Send + 'static) -> Result<Ranks> {
        let (jobs, given) = channel();
        let (tell, told) = channel();
        let (ending, traffic) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Traffic::default())));
        let (seen, counted) = (ending.clone(), traffic.clone());
        let work = move || match start(seen) {
            Ok(mut exchange) => {
                _ = tell.send(Ok((exchange.rank(), exchange.size(), exchange.local())));
                serve(&mut exchange, &given, &counted);
            }
            Err(error) => _ = tell.send(Err(error)),
        };
        let thread = parallel::start("ranks", work)
            .map_err(|e| Error::Config(format!("several ranks need a thread that talks to the others: {e}")))?;
        let (rank, size, local) =
            told.recv().unwrap_or_else(|_| Err(Error::Config("the connection to the other ranks broke".into())))?;
        let (jobs, thread, together) = (Mutex::new(Some(jobs)), Mutex::new(Some(thread)), AtomicBool::new(false));
        Ok(Ranks(Some(Arc::new(Connected { rank, size, local, jobs, thread, ending, together, traffic }))))
    }

    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        self.0.as_ref().map_or(0, |of| of.rank)
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.0.as_ref().map_or(1, |of| of.size)
    }

    /// This rank's number among those on its machine, which chooses its adapter.
    pub fn local(&self) -> usize {
        self.0.as_ref().map_or(0, |of| of.local)
    }

    /// Whether this rank is the one that writes and speaks.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there are others.
    pub fn several(&self) -> bool {
        self.size() > 1
    }

    /// The sum of all ranks' values, in the order of the ranks; every rank gives as many.
    pub fn sum(&self, values: Vec<f32>) -> Pending<Vec<f32>> {
        self.ask(|answer| Job::Sum(values, answer))
    }

    /// All ranks' bytes, one after the other; every rank gives as many.
    pub fn gather(&self, bytes: Vec<u8>) -> Pending<Vec<u8>> {
        self.ask(|answer| Job::Gather(bytes, answer))
    }

    /// The bytes of the rank that leads; what the others give is nothing.
    pub fn broadcast(&self, bytes: Vec<u8>) -> Pending<Vec<u8>> {
        self.ask(|answer| Job::Broadcast(bytes, answer))
    }

    fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Pending<T> {
        let (answer, pending) = pending();
        let connected = self.0.as_ref().expect("a rank that is alone asks nobody");
        // A thread that has ended answers by dropping the job.
        if let Some(jobs) = &*connected.jobs.lock().expect("no panic while held") {
            _ = jobs.send(job(answer));
        }
        pending
    }

    /// What sums have cost so far.
    pub fn traffic(&self) -> Traffic {
        self.0.as_ref().map_or(Traffic::default(), |of| *of.traffic.lock().expect("no panic while held"))
    }

    /// Says that every rank meets the error that this one is about to end with, at the same point: nobody has to be ended.
    pub fn fail_together(&self) {
        self.0.iter().for_each(|of| of.together.store(true, Ordering::SeqCst));
    }

    /// Whether the error that ends this rank is met by all.
    pub fn fails_together(&self) -> bool {
        self.0.as_ref().is_none_or(|of| of.together.load(Ordering::SeqCst))
    }

    /// Ends all ranks, as this one cannot go on: with MPI this process too, with this exit status.
    pub fn end(&self, status: u8) {
        let Some(of) = &self.0 else { return };
        of.ending.store(true, Ordering::SeqCst);
        if let Some(jobs) = of.jobs.lock().expect("no panic while held").take() {
            _ = jobs.send(Job::End(status));
        }
        of.join();
    }
}

impl Connected {
    fn join(&self) {
        if let Some(thread) = self.thread.lock().expect("no panic while held").take() {
            _ = thread.join();
        }
    }
}

impl Drop for Connected {
    /// Leaves in good order, which waits for the others; in a panic it ends them.
    fn drop(&mut self) {
        let jobs = self.jobs.get_mut().ok().and_then(Option::take);
        if std::thread::panicking() {
            self.ending.store(true, Ordering::SeqCst);
            jobs.into_iter().for_each(|jobs| _ = jobs.send(Job::End(101)));
        } else {
            drop(jobs);
        }
        self.join();
    }
}

/// Number of this process and how many were launched together, where these are several.
fn launch() -> Option<(usize, usize)> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let of = |(size, rank): (&str, &str)| Some((number(rank)?, number(size)?));
    LAUNCHERS.into_iter().find_map(of).filter(|(_, size)| *size > 1)
}

/// How many processes were launched together with this one, itself included.
pub fn launched_together() -> usize {
    launch().map_or(1, |(_, size)| size)
}

/// The thread's work: one job after the other, until nobody has any more or one of them goes wrong.
fn serve(exchange: &mut impl Exchange, jobs: &Receiver<Job>, traffic: &Mutex<Traffic>) {
    for job in jobs {
        match job {
            Job::Sum(values, answer) => {
                let (begun, bytes) = (Instant::now(), 4 * values.len() as u64);
                let total = sum(exchange, values);
                let (others, size) = (exchange.size() as u64 - 1, exchange.size() as u64);
                let mut traffic = traffic.lock().expect("no panic while held");
                traffic.sums += 1;
                traffic.sent += 2 * (bytes.div_ceil(4 * size) * 4) * others;
                traffic.busy += begun.elapsed();
                answer.give(total);
            }
            Job::Gather(bytes, answer) => {
                let mut all = vec![0; bytes.len() * exchange.size()];
                answer.give(exchange.all_gather(&bytes, &mut all).map(|()| all));
            }
            Job::Broadcast(bytes, answer) => answer.give(broadcast(exchange, bytes)),
            Job::End(status) => return exchange.end(status),
        }
    }
}

/// Slices to their owners, sums in the order of the ranks, results to all.
fn sum(exchange: &mut impl Exchange, mut values: Vec<f32>) -> Result<Vec<f32>> {
    let (size, count) = (exchange.size(), values.len());
    let slice = count.div_ceil(size);
    values.resize(slice * size, 0.0);
    let mut theirs = vec![0.0_f32; slice * size];
    exchange.all_to_all(&values, &mut theirs)?;
    let (mut total, rest) = (theirs[..slice].to_vec(), &theirs[slice..]);
    for of_rank in rest.chunks_exact(slice.max(1)) {
        total.iter_mut().zip(of_rank).for_each(|(total, value)| *total += value);
    }
    exchange.all_gather(bytemuck::cast_slice(&total), bytemuck::cast_slice_mut(&mut values))?;
    values.truncate(count);
    Ok(values)
}

/// Bytes of one message, at most: counts of MPI have 31 bits.
const MESSAGE: usize = 256 << 20;

fn broadcast(exchange: &mut impl Exchange, mut bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut length = (bytes.len() as u64).to_le_bytes();
    exchange.broadcast(&mut length)?;
    let length = u64::from_le_bytes(length) as usize;
    if exchange.rank() != 0 {
        bytes = vec![0; length];
    }
    bytes.chunks_mut(MESSAGE).try_for_each(|part| exchange.broadcast(part))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What each of so many ranks makes of `work`, in their order.
    fn on_ranks<T: Send + 'static>(size: usize, work: impl Fn(Ranks) -> T + Send + Sync + 'static) -> Vec<T> {
        let work = Arc::new(work);
        let start = |ranks: Ranks| {
            let work = work.clone();
            std::thread::spawn(move || work(ranks))
        };
        let all: Vec<JoinHandle<T>> = threads(size).unwrap().into_iter().map(start).collect();
        all.into_iter().map(|rank| rank.join().unwrap()).collect()
    }

    #[test]
    fn sums_are_those_in_the_order_of_the_ranks_on_every_rank() {
        // In f32, 1 + 1e8 - 1e8 is 0 and 1e8 - 1e8 + 1 is 1: the order shows.
        let value = |rank: usize, i: usize| [1.0e8_f32, -1.0e8, 1.0, 0.5][rank] + (i % 7) as f32;
        for (size, count) in [(2, 5), (3, 9), (4, 1), (4, 1003), (3, 0)] {
            let wanted: Vec<u32> =
                (0..count).map(|i| (1..size).fold(value(0, i), |sum, rank| sum + value(rank, i)).to_bits()).collect();
            let found = on_ranks(size, move |ranks| {
                let mine = (0..count).map(|i| value(ranks.rank(), i)).collect();
                let sum = pollster::block_on(ranks.sum(mine)).unwrap();
                sum.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            });
            assert_eq!(found, vec![wanted; size], "{size} ranks, {count} values");
        }
    }

    #[test]
    fn bytes_sent_are_the_least_that_is_possible() {
        let traffic = on_ranks(4, |ranks| {
            pollster::block_on(ranks.sum(vec![1.0; 1000])).unwrap();
            ranks.traffic()
        });
        for Traffic { sums, sent, .. } in traffic {
            assert_eq!((sums, sent), (1, 2 * 3 * 250 * 4)); // 2 (N - 1) / N of 4000 bytes
        }
    }

    #[test]
    fn messages_reach_all_in_order() {
        let found = on_ranks(3, |ranks| {
            let gathered = ranks.gather(vec![ranks.rank() as u8, 7]);
            let said = ranks.broadcast(if ranks.leads() { b"config".to_vec() } else { Vec::new() });
            (pollster::block_on(gathered).unwrap(), pollster::block_on(said).unwrap())
        });
        assert_eq!(found, vec![(vec![0, 7, 1, 7, 2, 7], b"config".to_vec()); 3]);
    }

    #[test]
    fn a_rank_that_ends_ends_all() {
        let found = on_ranks(3, |ranks| {
            if ranks.rank() == 1 {
                ranks.end(1);
                return String::new();
            }
            pollster::block_on(ranks.sum(vec![1.0])).unwrap_err().to_string()
        });
        assert!(found[0].contains("rank 1") && found[2].contains("rank 1"), "{found:?}");
    }
}
