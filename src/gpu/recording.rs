//! A program on a device: buffers allocated as planned, pipelines and bind groups made once, replayed at will.

use super::device::Gpu;
use super::rings::{Downloads, Reading, Uploads};
use super::warm;
use crate::graph::plan::{Plan, borrowed};
use crate::kernels::{Access, BufferSpec, Program, Role, View};
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Buffers that recordings share.
#[derive(Default)]
pub struct Store {
    /// Those that outlive a program, by name: parameters, their gradients and moments, what the host feeds.
    named: HashMap<String, wgpu::Buffer>,
    /// Temporaries of a recording that never runs at the same time as those that are made next.
    lent: Vec<wgpu::Buffer>,
}

const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_DST).union(wgpu::BufferUsages::COPY_SRC);

/// A word that is NaN, and both halves of which are.
const NAN: u32 = u32::MAX;

/// One launch, ready to be encoded.
pub(super) struct Step {
    pipeline: Arc<wgpu::ComputePipeline>,
    bind_group: wgpu::BindGroup,
    grid: [u32; 3],
}

impl Step {
    pub(super) fn encode(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bind_group, &[]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], self.grid[2]);
    }
}

/// A program, ready to run.
pub struct Recording {
    /// The buffer that serves each buffer of the program.
    buffers: Vec<wgpu::Buffer>,
    pub(super) steps: Vec<Step>,
    uploads: Uploads,
    downloads: Downloads,
}

impl Recording {
    /// Allocates what `plan` says, compiles pipelines and makes bind groups.
    ///
    /// # Errors
    /// Out of memory; a kernel that the driver refuses.
    pub async fn new(gpu: &Gpu, program: &Program, plan: &Plan, store: &mut Store) -> Result<Recording> {
        // A slot is named after its largest tenant.
        let mut tenants: Vec<Option<&BufferSpec>> = vec![None; plan.slots.len()];
        for (spec, slot) in program.buffers.iter().zip(&plan.slot_of) {
            let Some(slot) = *slot else { continue };
            if tenants[slot].is_none_or(|largest| spec.bytes > largest.bytes) {
                tenants[slot] = Some(spec);
            }
        }
        let lent: Vec<u64> = store.lent.iter().map(wgpu::Buffer::size).collect();
        let borrowed = borrowed(&plan.slots, &lent);
        let mut slots = Vec::new();
        for (i, (&bytes, tenant)) in plan.slots.iter().zip(tenants).enumerate() {
            if let Some(lent) = borrowed[i] {
                slots.push(store.lent[lent].clone());
                continue;
            }
            let largest = tenant.map_or("nothing", |spec| &spec.name);
            slots.push(gpu.buffer(&format!("slot {i}: {largest}"), bytes, STORAGE).await?);
        }
        let mut buffers = Vec::new();
        for (spec, slot) in program.buffers.iter().zip(&plan.slot_of) {
            buffers.push(match slot {
                Some(slot) => slots[*slot].clone(),
                None => match store.named.get(&spec.name) {
                    Some(buffer) if buffer.size() < spec.bytes => {
                        let (name, found, asked) = (&spec.name, buffer.size(), spec.bytes);
                        return Err(Error::Gpu(format!(
                            "buffer `{name}` is shared with {found} bytes, {asked} are needed"
                        )));
                    }
                    Some(buffer) => buffer.clone(),
                    None => {
                        let buffer = gpu.buffer(&spec.name, spec.bytes, STORAGE).await?;
                        store.named.insert(spec.name.clone(), buffer.clone());
                        buffer
                    }
                },
            });
        }
        warm::compile_ahead(gpu, program.launches.iter().map(|launch| launch.kernel.clone())).await?;
        let uniform = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let params = gpu.buffer("parameters of launches", plan.params_bytes.max(4), uniform).await?;
        let mut table = vec![0u8; plan.params_bytes as usize];
        let mut steps = Vec::new();
        for (launch, &offset) in program.launches.iter().zip(&plan.params_offset) {
            table[offset as usize..offset as usize + launch.params.len()].copy_from_slice(&launch.params);
            let pipeline = gpu.pipeline(&launch.kernel).await?;
            let entries: Vec<_> = launch
                .kernel
                .bindings
                .iter()
                .map(|binding| {
                    let (buffer, offset, size) = if binding.access == Access::Uniform {
                        (&params, offset, u64::from(launch.kernel.params_size))
                    } else {
                        let operand = launch.operands.iter().find(|(name, _)| *name == binding.name);
                        let view = operand.expect("Program::launch checks the operands").1;
                        (&buffers[view.buffer.0], view.offset, view.bytes)
                    };
                    let size = wgpu::BufferSize::new(size);
                    let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
                    wgpu::BindGroupEntry { binding: binding.index, resource }
                })
                .collect();
            let make = || {
                gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: Some(&launch.label),
                    layout: &pipeline.get_bind_group_layout(0),
                    entries: &entries,
                })
            };
            let bind_group = gpu
                .caught(make)
                .await
                .map_err(|error| Error::Gpu(format!("{}: {}: {error}", launch.label, launch.kernel.label())))?;
            steps.push(Step { pipeline, bind_group, grid: launch.grid });
        }
        gpu.queue.write_buffer(&params, 0, &table);
        let uploads = Uploads::new(gpu, plan.uploads).await?;
        let downloads = Downloads::new(gpu, &plan.downloads).await?;
        gpu.check()?;
        Ok(Recording { buffers, steps, uploads, downloads })
    }

    /// Lets recordings that are made with `store` afterwards use this one's temporaries. None of them may run between the launches of
    /// one submission of this one, which none can, and each may lend its own in turn.
    pub fn lend(&self, program: &Program, plan: &Plan, store: &mut Store) {
        let first =
            |slot: usize| plan.slot_of.iter().position(|other| *other == Some(slot)).expect("a slot has a tenant");
        debug_assert_eq!(program.buffers.len(), self.buffers.len());
        store.lent = plan.lendable(program).into_iter().map(|slot| self.buffers[first(slot)].clone()).collect();
    }

    /// Writes host data into a view, for everything that is submitted from now on, by whatever recording. The staging memory
    /// is wgpu's and made for this call: for what is written once. See [`Recording::feed`].
    pub fn write<T: bytemuck::NoUninit>(&self, gpu: &Gpu, view: View, data: &[T]) {
        self.uploads.flush(gpu);
        gpu.passing.fetch_add(1, Ordering::Relaxed);
        gpu.queue.write_buffer(&self.buffers[view.buffer.0], view.offset, Self::bytes(view, data));
    }

    /// Writes host data into a view through the plan's ring of upload buffers, for what is written at each step. It gets
    /// there with the next submission of this recording (not of another that shares the buffer), before its launches. Waits
    /// while all buffers of the ring are under way.
    ///
    /// # Errors
    /// A lost device.
    pub async fn feed<T: bytemuck::NoUninit>(&self, gpu: &Gpu, view: View, data: &[T]) -> Result<()> {
        self.uploads.push(gpu, &self.buffers[view.buffer.0], view.offset, Self::bytes(view, data)).await
    }

    fn bytes<T: bytemuck::NoUninit>(view: View, data: &[T]) -> &[u8] {
        let bytes: &[u8] = bytemuck::cast_slice(data);
        assert!(bytes.len() as u64 <= view.bytes, "write of {} bytes into a view of {}", bytes.len(), view.bytes);
        bytes
    }

    /// Submits all launches once, in order.
    pub fn run(&self, gpu: &Gpu) {
        self.run_range(gpu, 0..self.steps.len());
    }

    /// Submits some of the launches once, in order.
    pub fn run_range(&self, gpu: &Gpu, range: std::ops::Range<usize>) {
        self.uploads.submit(gpu, |encoder| {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.steps[range].iter().for_each(|step| step.encode(&mut pass));
        });
    }

    /// Submits the launches from number `first` on, `times` over, in one pass.
    pub fn run_from(&self, gpu: &Gpu, first: usize, times: usize) {
        self.uploads.submit(gpu, |encoder| {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            (0..times).for_each(|_| self.steps[first..].iter().for_each(|step| step.encode(&mut pass)));
        });
    }

    /// Submits what was fed and not yet run, so that what is submitted elsewhere finds it.
    pub(super) fn flush(&self, gpu: &Gpu) {
        self.uploads.flush(gpu);
    }

    /// As [`Recording::run`], but fills each temporary with NaN right after the last launch that touches it: a launch that
    /// would still find there what it needs, by luck or in a slot shared too early, finds NaN. For checks: each launch is a
    /// pass of its own.
    pub fn run_poisoned(&self, gpu: &Gpu, program: &Program) {
        let mut last: Vec<Option<usize>> = vec![None; program.buffers.len()];
        for (i, launch) in program.launches.iter().enumerate() {
            launch.operands.iter().for_each(|(_, view)| last[view.buffer.0] = Some(i));
        }
        let mut dying: Vec<Vec<usize>> = vec![Vec::new(); program.launches.len()];
        let mut most = 4;
        for (buffer, spec) in program.buffers.iter().enumerate().filter(|(_, spec)| spec.role == Role::Temporary) {
            last[buffer].into_iter().for_each(|i| dying[i].push(buffer));
            most = most.max(spec.bytes);
        }
        let (label, usage) = (Some("NaN"), wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST);
        let descriptor = wgpu::BufferDescriptor { label, size: most, usage, mapped_at_creation: false };
        let nan = gpu.device.create_buffer(&descriptor);
        gpu.queue.write_buffer(&nan, 0, bytemuck::cast_slice(&vec![NAN; (most / 4) as usize]));
        self.uploads.submit(gpu, |encoder| {
            for (step, dying) in self.steps.iter().zip(dying) {
                step.encode(&mut encoder.begin_compute_pass(&Default::default()));
                for buffer in dying {
                    encoder.copy_buffer_to_buffer(&nan, 0, &self.buffers[buffer], 0, program.buffers[buffer].bytes);
                }
            }
        });
    }

    /// Copies a view back and waits for it.
    ///
    /// # Errors
    /// A lost device, or an error that it reported.
    pub async fn read<T: bytemuck::AnyBitPattern>(&self, gpu: &Gpu, view: View) -> Result<Vec<T>> {
        self.read_later(gpu, view).finish(gpu).await
    }

    /// Starts to copy a view back, as it is after what was submitted so far.
    pub fn read_later(&self, gpu: &Gpu, view: View) -> Reading {
        let from = (&self.buffers[view.buffer.0], view.offset, view.bytes);
        Reading::start(gpu, from, &self.uploads, &self.downloads)
    }

    /// Fills every temporary slot with NaN, so that a launch that reads what nobody wrote cannot go unnoticed.
    pub fn poison(&self, gpu: &Gpu, program: &Program) {
        for (buffer, spec) in self.buffers.iter().zip(&program.buffers) {
            if spec.role == Role::Temporary {
                let words = vec![NAN; (buffer.size() / 4) as usize];
                gpu.queue.write_buffer(buffer, 0, bytemuck::cast_slice(&words));
            }
        }
    }
}

impl Store {
    /// Lets programs made with this store use the buffer of another recording's view under a name of their own.
    pub fn share(&mut self, name: &str, recording: &Recording, view: View) {
        self.named.insert(name.to_string(), recording.buffers[view.buffer.0].clone());
    }

    /// The buffer of this name, if a program has made it.
    pub fn get(&self, name: &str) -> Option<&wgpu::Buffer> {
        self.named.get(name)
    }
}
