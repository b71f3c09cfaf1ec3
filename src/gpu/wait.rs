//! How the host learns that the device has finished something: futures, which callbacks of wgpu complete.
//!
//! In a browser the event loop runs those callbacks. A native wgpu runs them while it is polled, so a [`Gpu`] has a
//! thread that does nothing else: the poller, the only place of the program that blocks until the device is done.

use super::device::Gpu;
use crate::{Error, Result, parallel};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

/// Something that the device will finish. Whoever waits for it waits for nothing that was submitted after it.
#[derive(Clone)]
pub struct Mark {
    signal: Signal,
    /// What must be done first; none: everything that is submitted by the time that somebody waits.
    submission: Option<wgpu::SubmissionIndex>,
}

/// What a callback leaves for the futures that wait for it.
#[derive(Clone, Default)]
struct Signal(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    outcome: Option<Result<(), String>>,
    wakers: Vec<Waker>,
}

impl Signal {
    /// Completes it, unless that has happened, and wakes who waits.
    fn set(&self, outcome: Result<(), String>) {
        let mut state = self.0.lock().expect("no panic while held");
        state.outcome.get_or_insert(outcome);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn outcome(&self) -> Option<Result<(), String>> {
        self.0.lock().expect("no panic while held").outcome.clone()
    }

    fn poll(&self, context: &Context) -> Poll<Result<(), String>> {
        let mut state = self.0.lock().expect("no panic while held");
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Mark {
    /// Maps a buffer once `submission`, which uses it, is done; at once where none does.
    pub(super) fn mapped(
        buffer: &wgpu::Buffer,
        mode: wgpu::MapMode,
        bytes: u64,
        submission: Option<wgpu::SubmissionIndex>,
    ) -> Mark {
        let signal = Signal::default();
        let seen = signal.clone();
        buffer.map_async(mode, 0..bytes, move |outcome| seen.set(outcome.map_err(|error| error.to_string())));
        Mark { signal, submission }
    }

    /// Everything that the queue was given so far, of which `submission` is the last.
    pub(super) fn submitted(queue: &wgpu::Queue, submission: Option<wgpu::SubmissionIndex>) -> Mark {
        let signal = Signal::default();
        let seen = signal.clone();
        queue.on_submitted_work_done(move || seen.set(Ok(())));
        Mark { signal, submission }
    }

    /// Whether it is known to be over.
    pub(super) fn is_over(&self) -> bool {
        self.signal.outcome().is_some()
    }

    /// Waits until the device is done with it. What is done already needs no other thread.
    ///
    /// # Errors
    /// A lost device, or an error reported meanwhile.
    pub(super) async fn over(&self, gpu: &Gpu) -> Result<()> {
        if !self.is_over() {
            let _ = gpu.device.poll(wgpu::PollType::Poll); // runs the callbacks of what is done; nothing in a browser
        }
        if !self.is_over() {
            gpu.check()?; // a lost device finishes nothing any more
            #[cfg(not(target_arch = "wasm32"))]
            gpu.poller.watch(&gpu.device, self.clone());
        }
        let outcome = poll_fn(|context| self.signal.poll(context)).await;
        if outcome.is_err() {
            rest(gpu).await;
        }
        gpu.check()?;
        outcome.map_err(|error| Error::Gpu(format!("{}: waiting for the device: {error}", gpu.info.name)))
    }
}

/// Waits until nothing is under way on the device, or it finishes nothing any more: a device that was lost says so only then.
pub(super) async fn rest(gpu: &Gpu) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let mark = Mark { signal: Signal::default(), submission: None };
        gpu.poller.watch(&gpu.device, mark.clone());
        let _ = poll_fn(|context| mark.signal.poll(context)).await;
    }
    let _ = gpu.device.poll(wgpu::PollType::Poll);
}

/// The thread that polls a device for those who wait. It starts when somebody does, and ends with its device. Where the
/// system starts no further thread, those who wait poll for themselves.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Default)]
pub(super) struct Poller(std::sync::OnceLock<Option<Running>>);

#[cfg(not(target_arch = "wasm32"))]
struct Running {
    marks: std::sync::mpsc::Sender<Mark>,
    thread: std::thread::JoinHandle<()>,
}

#[cfg(not(target_arch = "wasm32"))]
impl Poller {
    /// Lets the thread poll until the mark is over.
    fn watch(&self, device: &wgpu::Device, mark: Mark) {
        let running = self.0.get_or_init(|| {
            let (marks, given) = std::sync::mpsc::channel::<Mark>();
            let device = device.clone();
            let poll = move || given.iter().for_each(|mark| finish(&device, &mark));
            let thread = parallel::start("poller", poll).ok()?;
            Some(Running { marks, thread })
        });
        match running {
            Some(running) => running.marks.send(mark).expect("the poller lives as long as its device"),
            None => finish(device, &mark),
        }
    }
}

/// Waits on the poller's thread. wgpu runs the callbacks before its wait returns, so the signal has usually been set by
/// then; it is set in any case, as the callbacks of a lost device may never run.
#[cfg(not(target_arch = "wasm32"))]
fn finish(device: &wgpu::Device, mark: &Mark) {
    let waited = device.poll(wgpu::PollType::Wait { submission_index: mark.submission.clone(), timeout: None });
    if waited.is_err() {
        // On a device that was lost nothing is submitted any more, so that there is nothing to wait for; what wgpu has
        // to say of it comes with a plain poll.
        let _ = device.poll(wgpu::PollType::Poll);
    }
    mark.signal.set(waited.map(|_| ()).map_err(|error| error.to_string()));
}

#[cfg(not(target_arch = "wasm32"))]
impl Drop for Poller {
    fn drop(&mut self) {
        if let Some(Running { marks, thread }) = self.0.take().flatten() {
            drop(marks); // its loop ends
            let _ = thread.join();
        }
    }
}
