//! Compilation on several cores.
//!
//! Most drivers compile when a pipeline is made: then pipelines are made on several threads. lavapipe compiles at the first
//! dispatch, on the one thread that serves a device's queue; but Mesa keeps what it has compiled on disk, for all devices. So
//! a second device, on a thread of its own, compiles half of the kernels, and the first finds the results there.

use super::device::Gpu;
use crate::kernels::{Access, Kernel};
use crate::{Result, parallel};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A first dispatch that takes longer has compiled; a shorter one has found its code on disk.
const COMPILED: Duration = Duration::from_millis(10);
/// Bytes of the buffers of an empty dispatch: more than any kernel's parameters.
const BYTES: u64 = 4096;

/// Compilation is work of the processor, here of threads that are joined when it is over: this is the one place behind
/// the binary's edge where a thread may wait by itself for what is asynchronous. Where there are no threads, as in a
/// browser, kernels are compiled one after the other when their pipelines are made.
fn on_this_thread<T>(work: impl Future<Output = T>) -> T {
    pollster::block_on(work)
}

/// Compiles kernels that this device has not met, on as many cores as there are.
///
/// # Errors
/// What the driver's compiler says.
pub async fn compile_ahead(gpu: &Gpu, kernels: impl Iterator<Item = Arc<Kernel>>) -> Result<()> {
    let mut seen = BTreeSet::new();
    let mut new: Vec<Arc<Kernel>> = kernels.filter(|k| !gpu.knows(k) && seen.insert(k.source.clone())).collect();
    if new.len() < 2 || cfg!(target_arch = "wasm32") {
        return Ok(()); // made, and compiled, where they are used
    }
    let made = parallel::each(&new, |_, kernel| on_this_thread(gpu.pipeline(kernel)).map(drop));
    made.into_iter().collect::<Result<()>>()?;
    if gpu.info.name.contains("llvmpipe") {
        new.sort_by_key(|kernel| kernel.source.len());
        first_dispatches(gpu, &new).await?;
    }
    Ok(())
}

/// Dispatches every kernel once, doing nothing. The shortest tells whether they must be compiled; then both devices take
/// from the longest on.
async fn first_dispatches(gpu: &Gpu, kernels: &[Arc<Kernel>]) -> Result<()> {
    let (shortest, rest) = kernels.split_first().expect("two at least");
    let begin = Instant::now();
    dispatch_nothing(gpu, shortest).await?;
    if begin.elapsed() < COMPILED {
        return Ok(());
    }
    let left = AtomicUsize::new(rest.len());
    let take = || {
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        before.ok().map(|n| &rest[n - 1])
    };
    std::thread::scope(|scope| {
        let work = || -> Result<()> {
            let second = on_this_thread(gpu.second())?;
            while let Some(kernel) = take() {
                on_this_thread(dispatch_nothing(&second, kernel))?;
            }
            Ok(())
        };
        let helper = std::thread::Builder::new().spawn_scoped(scope, work);
        while let Some(kernel) = take() {
            on_this_thread(dispatch_nothing(gpu, kernel))?;
        }
        // What the second device could not do, or no thread, the first does when it comes to it.
        helper.into_iter().for_each(|helper| drop(helper.join().expect("no panic in there")));
        Ok(())
    })
}

/// One group of a kernel whose parameters are all zero: there are no elements, and nothing is read or written.
async fn dispatch_nothing(gpu: &Gpu, kernel: &Kernel) -> Result<()> {
    let pipeline = gpu.pipeline(kernel).await?;
    let buffer = |usage| {
        let descriptor =
            wgpu::BufferDescriptor { label: Some("nothing"), size: BYTES, usage, mapped_at_creation: false };
        gpu.device.create_buffer(&descriptor)
    };
    let storage = wgpu::BufferUsages::STORAGE;
    let (read, write, uniform) = (buffer(storage), buffer(storage), buffer(wgpu::BufferUsages::UNIFORM));
    let entries: Vec<_> = kernel
        .bindings
        .iter()
        .map(|binding| {
            let buffer = match binding.access {
                Access::Read => &read,
                Access::ReadWrite => &write,
                Access::Uniform => &uniform,
            };
            wgpu::BindGroupEntry { binding: binding.index, resource: buffer.as_entire_binding() }
        })
        .collect();
    let bind_group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: Some("nothing"),
        layout: &pipeline.get_bind_group_layout(0),
        entries: &entries,
    });
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(1, 1, 1);
    }
    gpu.queue.submit([encoder.finish()]);
    gpu.wait().await
}
