//! Buffers through which the host feeds a device and reads from it. They are made once, as planned, and used in turn, so
//! that a step allocates nothing.

use super::device::Gpu;
use super::wait::Mark;
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
    /// Those that can be written once they are mapped: when the submission that copies from them is done. The oldest first.
    waiting: VecDeque<(wgpu::Buffer, Mark)>,
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
    pub(super) async fn new(gpu: &Gpu, ring: Ring) -> Result<Uploads> {
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let mut state = State::default();
        for i in 0..ring.count {
            let buffer = gpu.buffer(&format!("upload {i}"), ring.bytes, usage).await?;
            let mapped = Mark::mapped(&buffer, wgpu::MapMode::Write, ring.bytes, None);
            state.waiting.push_back((buffer, mapped));
        }
        Ok(Uploads { bytes: ring.bytes, state: Mutex::new(state) })
    }

    /// Writes bytes that go to `to` at the start of the next submission of these uploads; in submissions of their own where
    /// the ring has no room for them.
    ///
    /// # Errors
    /// A lost device.
    pub(super) async fn push(&self, gpu: &Gpu, to: &wgpu::Buffer, offset: u64, data: &[u8]) -> Result<()> {
        let bytes = data.len() as u64;
        if bytes > self.bytes {
            self.flush(gpu);
            gpu.passing.fetch_add(1, Ordering::Relaxed);
            gpu.queue.write_buffer(to, offset, data);
            return Ok(());
        }
        loop {
            // Nobody holds the lock while it waits.
            let oldest = {
                let mut state = self.state.lock().expect("no panic while held");
                if state.open.as_ref().is_some_and(|open| open.used + bytes > self.bytes) {
                    state.submit(gpu, |_| {});
                }
                if let Some(open) = &mut state.open {
                    return open.write(gpu, (to, offset), data);
                }
                state.waiting.front().expect("a ring has a buffer at least").1.clone()
            };
            oldest.over(gpu).await?;
            let mut state = self.state.lock().expect("no panic while held");
            if state.open.is_none() && state.waiting.front().is_some_and(|(_, mapped)| mapped.is_over()) {
                let (buffer, _) = state.waiting.pop_front().expect("seen just now");
                state.open = Some(Open { buffer, used: 0, copies: Vec::new() });
            }
        }
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

impl Open {
    /// Writes bytes that go to a place of a buffer when this one is submitted. There is room for them.
    fn write(&mut self, gpu: &Gpu, (to, offset): (&wgpu::Buffer, u64), data: &[u8]) -> Result<()> {
        let bytes = data.len() as u64;
        let range = self.buffer.get_mapped_range_mut(self.used..self.used + bytes);
        let mut range = range.map_err(|e| Error::Gpu(format!("{}: writing for the device: {e}", gpu.info.name)))?;
        range.copy_from_slice(data);
        self.copies.push(Copy { from: self.used, to: to.clone(), offset, bytes });
        self.used += Ring::room(bytes);
        Ok(())
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
            let mapped = Mark::mapped(&buffer, wgpu::MapMode::Write, buffer.size(), Some(submission.clone()));
            self.waiting.push_back((buffer, mapped));
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
    pub(super) async fn new(gpu: &Gpu, rings: &[Ring]) -> Result<Downloads> {
        let mut free = Vec::new();
        for ring in rings {
            for i in 0..ring.count {
                free.push(gpu.buffer(&format!("download {i} of {} bytes", ring.bytes), ring.bytes, DOWNLOAD).await?);
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
    mapped: Mark,
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
        let mapped = Mark::mapped(&staging, wgpu::MapMode::Read, bytes, Some(submission));
        Reading { staging, home, bytes, mapped }
    }

    /// Waits for the bytes, and for nothing that was submitted after them.
    ///
    /// # Errors
    /// A lost device, or an error that it reported.
    pub async fn finish<T: bytemuck::AnyBitPattern>(self, gpu: &Gpu) -> Result<Vec<T>> {
        self.mapped.over(gpu).await?;
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
