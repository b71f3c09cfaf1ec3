//! Work of the processor on several cores, and on the thread there is where no other can be started (`ulimit -u`, a
//! container's limit): that costs time, not the result.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

/// The cores that this process may use, at least 1.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// A thread of its own for `work`.
///
/// # Errors
/// What the system says where it starts no further thread.
pub fn start<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    Builder::new().name(name.into()).spawn(work)
}

/// The results of `work` for each item, in order, on as many threads as there are cores, this one among them.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    on_threads(cores(), items, work)
}

/// As [`each`], on at most `threads` threads.
fn on_threads<T: Sync, R: Send>(threads: usize, items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(i) else { return done };
            done.push((i, work(i, item)));
        }
    };
    let mut all: Vec<(usize, R)> = std::thread::scope(|scope| {
        let others = (1..threads.min(items.len())).map_while(|_| Builder::new().spawn_scoped(scope, take).ok());
        let others: Vec<_> = others.collect();
        let mut all = take();
        // A panic is that of the work, with its own words.
        all.extend(others.into_iter().flat_map(|o| o.join().unwrap_or_else(|why| std::panic::resume_unwind(why))));
        all
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::on_threads;

    #[test]
    fn results_stand_in_order_on_any_number_of_threads() {
        let items: Vec<usize> = (0..100).collect();
        let wanted: Vec<usize> = (0..100).map(|i| 3 * i).collect();
        for threads in [0, 1, 2, 7, 200] {
            assert_eq!(on_threads(threads, &items, |i, item| i + 2 * item), wanted);
            assert!(on_threads(threads, &[] as &[u8], |i, _| i).is_empty());
        }
    }
}
