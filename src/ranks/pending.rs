//! An answer that another thread will give, as a future.

use crate::{Error, Result};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// An answer of the other ranks, on its way.
pub struct Pending<T>(Arc<Mutex<State<T>>>);

/// The other end: whoever drops it without an answer answers that the connection is gone.
pub(super) struct Answer<T>(Arc<Mutex<State<T>>>);

struct State<T> {
    answer: Option<Result<T>>,
    waker: Option<Waker>,
}

/// Both ends.
pub(super) fn pending<T>() -> (Answer<T>, Pending<T>) {
    let state = Arc::new(Mutex::new(State { answer: None, waker: None }));
    (Answer(state.clone()), Pending(state))
}

impl<T> Answer<T> {
    pub(super) fn give(self, answer: Result<T>) {
        self.set(answer);
    }

    /// Sets the answer, unless there is one, and wakes who waits.
    fn set(&self, answer: Result<T>) {
        let mut state = self.0.lock().expect("no panic while held");
        state.answer.get_or_insert(answer);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        // After an answer was given and taken this sets another, which nobody reads.
        self.set(Err(Error::Training("the connection to the other ranks is gone".into())));
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<T>> {
        let mut state = self.0.lock().expect("no panic while held");
        match state.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
