//! Gradients in buckets: what is sent to other devices together, each as soon as the last of it is computed.

use crate::kernels::{View, align};
use std::ops::Range;

/// Buckets that a step's gradients are divided into, as far as they do not get too large or too small: the first ones are under
/// way while later ones are computed.
const BUCKETS: u64 = 4;

/// Bytes of a bucket, at least, but for the last: every message costs time, however short it is.
const LEAST: u64 = 16 << 10;

/// Bytes of a bucket, at most, but for a parameter that is larger.
const MOST: u64 = 4 << 20;

/// Gradients that are sent together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The number of launches after which all of them are complete.
    pub after: usize,
    /// Where they lie, in order.
    pub views: Vec<View>,
}

impl Bucket {
    /// How many numbers it holds.
    pub fn len(&self) -> usize {
        self.views.iter().map(|view| view.bytes as usize / 4).sum()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }
}

/// Divides gradients, given in the order in which they are finished with the launch after which each is, into buckets. Where
/// the gradients of several parts of a batch are added up, by the launches `accumulate`, all are finished after these.
pub fn buckets(finished: &[(usize, View)], accumulate: &Range<usize>) -> Vec<Bucket> {
    let total: u64 = finished.iter().map(|(_, view)| view.bytes).sum();
    let enough = (total / BUCKETS).clamp(LEAST, MOST);
    let mut all: Vec<Bucket> = Vec::new();
    let mut held = enough;
    for &(launch, view) in finished {
        let after = if accumulate.is_empty() { launch + 1 } else { accumulate.end };
        if held >= enough {
            all.push(Bucket { after, views: Vec::new() });
            held = 0;
        }
        let bucket = all.last_mut().expect("pushed just now");
        bucket.after = after;
        bucket.views.push(view);
        held += view.bytes;
    }
    all.iter_mut().for_each(|bucket| bucket.views = joined(std::mem::take(&mut bucket.views)));
    all
}

/// Neighbours become one view, with what lies between them, which is nobody's.
fn joined(mut views: Vec<View>) -> Vec<View> {
    views.sort_by_key(|view| (view.buffer.0, view.offset));
    let mut all: Vec<View> = Vec::new();
    for view in views {
        match all.last_mut() {
            Some(last) if last.buffer == view.buffer && align(last.offset + last.bytes) == view.offset => {
                last.bytes = view.offset + view.bytes - last.offset;
            }
            _ => all.push(view),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::BufferId;

    #[test]
    fn buckets_hold_every_gradient_once_in_the_order_of_completion() {
        let bytes = |i: usize| 4 * [70_000, 3, 20_000, 20_000, 1, 40_000, 5][i] as u64;
        let mut offset = 0;
        let views: Vec<View> = (0..7)
            .map(|i| {
                let view = View { buffer: BufferId(2), offset, bytes: bytes(i), half: false };
                offset += align(view.bytes);
                view
            })
            .collect();
        let finished: Vec<(usize, View)> = (0..7).map(|i| (10 + 3 * i, views[6 - i])).collect();
        let found = buckets(&finished, &(40..40));
        assert!(found.len() > 2 && found.is_sorted_by_key(|bucket| bucket.after), "{found:?}");
        assert_eq!(found.last().unwrap().after, 10 + 3 * 6 + 1);
        for (launch, view) in &finished {
            let holds = |of: &View| of.offset <= view.offset && view.offset + view.bytes <= of.offset + of.bytes;
            let holders: Vec<&Bucket> = found.iter().filter(|bucket| bucket.views.iter().any(holds)).collect();
            assert_eq!(holders.len(), 1);
            assert!(holders[0].after > *launch && !holders[0].is_empty());
        }
        let in_parts = buckets(&finished, &(40..43));
        assert!(in_parts.iter().all(|bucket| bucket.after == 43));
        let numbers: usize = (0..7).map(|i| bytes(i) as usize / 4).sum();
        let held: usize = found.iter().map(Bucket::len).sum();
        assert!((numbers..numbers + 7 * 64).contains(&held), "{held} of {numbers}, with what lies between");
    }
}
