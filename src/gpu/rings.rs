//! Buffers through which the host feeds a device and reads from it. They are made once, as planned, and used in turn, so
//! that a step allocates nothing.

use super::device::Gpu;
use crate::graph::plan::Ring;
use crate::{Error, Result};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Buffers that the host writes. What was written goes to its places at the start of the next submission, which the same
/// buffer then waits for before it is written again.
pub(super) struct Uploads {
    /// Bytes of each.
    bytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Those that can be written once the submission that copies from them is done; the oldest first.
    waiting: VecDeque<(wgpu::Buffer, Option<wgpu::SubmissionIndex>)>,
    /// The one that is being written.
    open: Option<Open>,
}

struct Open {
    buffer: wgpu::Buffer,
    /// Bytes written, up to where the next range may start.
    used: u64,
    copies: Vec<Copy>,
}

/// A range of the open buffer, and where it goes.
struct Copy {
    from: u64,
    to: wgpu::Buffer,
    offset: u64,
    bytes: u64,
}

impl Uploads {
    /// Makes the buffers of a ring.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn new(gpu: &Gpu, ring: Ring) -> Result<Uploads> {
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let mut state = State::default();
        for i in 0..ring.count {
            let buffer = gpu.buffer(&format!("upload {i}"), ring.bytes, usage)?;
            buffer.map_async(wgpu::MapMode::Write, .., |_| {});
            state.waiting.push_back((buffer, None));
        }
        Ok(Uploads { bytes: ring.bytes, state: Mutex::new(state) })
    }

    /// Writes bytes that go to `to` at the start of the next submission of these uploads; in submissions of their own where
    /// the ring has no room for them.
    ///
    /// # Errors
    /// A lost device.
    pub(super) fn push(&self, gpu: &Gpu, to: &wgpu::Buffer, offset: u64, data: &[u8]) -> Result<()> {
        let bytes = data.len() as u64;
        if bytes > self.bytes {
            self.flush(gpu);
            gpu.passing.fetch_add(1, Ordering::Relaxed);
            gpu.queue.write_buffer(to, offset, data);
            return Ok(());
        }
        let mut state = self.state.lock().expect("no panic while held");
        if state.open.as_ref().is_some_and(|open| open.used + bytes > self.bytes) {
            state.submit(gpu, |_| {});
        }
        if state.open.is_none() {
            let (buffer, submission) = state.waiting.pop_front().expect("a ring has a buffer at least");
            let waited = match submission.clone() {
                Some(submission) => gpu.wait_for(submission),
                None => gpu.wait_for(gpu.mark()), // never used: only its mapping is waited for
            };
            if let Err(error) = waited {
                state.waiting.push_front((buffer, submission));
                return Err(error);
            }
            state.open = Some(Open { buffer, used: 0, copies: Vec::new() });
        }
        let open = state.open.as_mut().expect("opened above");
        let range = open.buffer.get_mapped_range_mut(open.used..open.used + bytes);
        let mut range = range.map_err(|e| Error::Gpu(format!("{}: writing for the device: {e}", gpu.info.name)))?;
        range.copy_from_slice(data);
        open.copies.push(Copy { from: open.used, to: to.clone(), offset, bytes });
        open.used += Ring::room(bytes);
        Ok(())
    }

    /// Submits what was written, if anything, and what `encode` adds after it.
    pub(super) fn submit(&self, gpu: &Gpu, encode: impl FnOnce(&mut wgpu::CommandEncoder)) -> wgpu::SubmissionIndex {
        self.state.lock().expect("no panic while held").submit(gpu, encode)
    }

    /// Submits what was written, if anything.
    pub(super) fn flush(&self, gpu: &Gpu) {
        let mut state = self.state.lock().expect("no panic while held");
        if state.open.is_some() {
            state.submit(gpu, |_| {});
        }
    }
}

impl State {
    fn submit(&mut self, gpu: &Gpu, encode: impl FnOnce(&mut wgpu::CommandEncoder)) -> wgpu::SubmissionIndex {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let open = self.open.take();
        if let Some(Open { buffer, copies, .. }) = &open {
            buffer.unmap();
            for Copy { from, to, offset, bytes } in copies {
                encoder.copy_buffer_to_buffer(buffer, *from, to, *offset, *bytes);
            }
        }
        encode(&mut encoder);
        let submission = gpu.queue.submit([encoder.finish()]);
        if let Some(Open { buffer, .. }) = open {
            buffer.map_async(wgpu::MapMode::Write, .., |_| {});
            self.waiting.push_back((buffer, Some(submission.clone())));
        }
        submission
    }
}

/// Buffers that the device copies into for the host, and that are free.
#[derive(Clone, Default)]
pub(super) struct Downloads(Arc<Mutex<Vec<wgpu::Buffer>>>);

const DOWNLOAD: wgpu::BufferUsages = wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::COPY_DST);

impl Downloads {
    /// Makes the buffers of all rings.
    ///
    /// # Errors
    /// Out of memory.
    pub(super) fn new(gpu: &Gpu, rings: &[Ring]) -> Result<Downloads> {
        let mut free = Vec::new();
        for ring in rings {
            for i in 0..ring.count {
                free.push(gpu.buffer(&format!("download {i} of {} bytes", ring.bytes), ring.bytes, DOWNLOAD)?);
            }
        }
        Ok(Downloads(Arc::new(Mutex::new(free))))
    }

    /// The smallest free buffer with room for so many bytes, if there is one.
    fn take(&self, bytes: u64) -> Option<wgpu::Buffer> {
        let mut free = self.0.lock().expect("no panic while held");
        let found = (0..free.len()).filter(|&i| free[i].size() >= bytes).min_by_key(|&i| free[i].size());
        found.map(|i| free.swap_remove(i))
    }
}

/// Bytes on their way to the host. What is submitted after them runs meanwhile.
pub struct Reading {
    staging: wgpu::Buffer,
    /// Where the buffer returns to, if it came from there.
    home: Option<Downloads>,
    bytes: u64,
    submission: wgpu::SubmissionIndex,
}

impl Reading {
    /// Copies bytes of a buffer, after what `uploads` still holds, through a free buffer of `downloads`; where none is free
    /// and large enough, through one that serves this reading alone.
    pub(super) fn start(
        gpu: &Gpu,
        (buffer, offset, bytes): (&wgpu::Buffer, u64, u64),
        uploads: &Uploads,
        downloads: &Downloads,
    ) -> Reading {
        let planned = downloads.take(bytes);
        let home = planned.is_some().then(|| downloads.clone());
        let staging = planned.unwrap_or_else(|| {
            gpu.passing.fetch_add(1, Ordering::Relaxed);
            let (label, size, usage) = (Some("a reading of its own"), bytes, DOWNLOAD);
            gpu.device.create_buffer(&wgpu::BufferDescriptor { label, size, usage, mapped_at_creation: false })
        });
        let submission =
            uploads.submit(gpu, |encoder| encoder.copy_buffer_to_buffer(buffer, offset, &staging, 0, bytes));
        staging.map_async(wgpu::MapMode::Read, 0..bytes, |_| {});
        Reading { staging, home, bytes, submission }
    }

    /// Waits for the bytes, and for nothing that was submitted after them.
    ///
    /// # Errors
    /// A lost device, or an error that it reported.
    pub fn finish<T: bytemuck::AnyBitPattern>(self, gpu: &Gpu) -> Result<Vec<T>> {
        gpu.wait_for(self.submission.clone())?;
        let mapped = self.staging.get_mapped_range(0..self.bytes);
        let mapped = mapped.map_err(|e| Error::Gpu(format!("{}: reading back: {e}", gpu.info.name)))?;
        Ok(mapped.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.staging.unmap();
        if let Some(home) = &self.home {
            home.0.lock().expect("no panic while held").push(self.staging.clone());
        }
    }
}
