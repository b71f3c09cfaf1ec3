//! Work of the processor on several cores.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The results of `work` for each item, in order, on as many threads as there are cores.
pub(super) fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(usize, &T) -> R + Sync) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get()).min(items.len());
    if cores <= 1 {
        return items.iter().enumerate().map(|(i, item)| work(i, item)).collect();
    }
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
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(take)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_stand_in_order() {
        let items: Vec<usize> = (0..100).collect();
        assert_eq!(super::each(&items, |i, item| (i, 2 * item)), (0..100).map(|i| (i, 2 * i)).collect::<Vec<_>>());
        assert!(super::each(&[] as &[u8], |i, _| i).is_empty());
    }
}
