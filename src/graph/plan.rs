//! The memory plan: which buffers share a slot, how many bytes that takes, and whether the adapter allows it.

use crate::kernels::{Access, Program, Role, Target, align};
use crate::{Error, Result};

/// Where every buffer of a program lives.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Bytes of each slot.
    pub slots: Vec<u64>,
    /// The slot of each buffer of the program; `None` for persistent ones, which live in the store.
    pub slot_of: Vec<Option<usize>>,
    /// First and last launch that touch each buffer.
    pub lifetime: Vec<(usize, usize)>,
    /// Bytes of persistent buffers.
    pub persistent_bytes: u64,
    /// Bytes of the launches' parameter structs.
    pub params_bytes: u64,
    /// Where the parameter struct of each launch starts.
    pub params_offset: Vec<u64>,
    /// Bytes of the staging buffer through which outputs are read back.
    pub staging_bytes: u64,
}

impl Plan {
    /// Plans a program. Buffers whose lifetimes do not overlap share a slot if `reuse`: best fit in the order of
    /// first use, growing a free slot rather than opening a new one.
    pub fn new(program: &Program, reuse: bool) -> Plan {
        let mut lifetime = vec![(usize::MAX, 0); program.buffers.len()];
        for (i, launch) in program.launches.iter().enumerate() {
            for (_, view) in &launch.operands {
                let (first, last) = &mut lifetime[view.buffer.0];
                *first = (*first).min(i);
                *last = (*last).max(i);
            }
        }
        for (spec, life) in program.buffers.iter().zip(&mut lifetime) {
            match spec.role {
                Role::Input => life.0 = 0,
                Role::Output => life.1 = usize::MAX,
                _ => {}
            }
            if spec.role == Role::Input {
                life.1 = usize::MAX; // may be replayed without being written again
            }
        }
        let mut order: Vec<usize> = (0..program.buffers.len()).collect();
        order.sort_by_key(|&i| (lifetime[i].0, std::cmp::Reverse(program.buffers[i].bytes)));
        let mut slots: Vec<(u64, usize)> = Vec::new(); // bytes, last launch of the present tenant
        let mut slot_of = vec![None; program.buffers.len()];
        let mut persistent_bytes = 0;
        for i in order {
            let (bytes, (first, last)) = (program.buffers[i].bytes, lifetime[i]);
            if program.buffers[i].role == Role::Persistent {
                persistent_bytes += bytes;
                continue;
            }
            if first == usize::MAX {
                continue; // nothing touches it
            }
            let free = slots.iter().enumerate().filter(|(_, slot)| reuse && slot.1 < first);
            let chosen =
                free.min_by_key(|(_, slot)| if slot.0 >= bytes { (0, slot.0 - bytes) } else { (1, bytes - slot.0) });
            let slot = match chosen.map(|(s, _)| s) {
                Some(s) => s,
                None => {
                    slots.push((0, 0));
                    slots.len() - 1
                }
            };
            slots[slot] = (slots[slot].0.max(bytes), last);
            slot_of[i] = Some(slot);
        }
        let mut params_bytes = 0;
        let mut params_offset = Vec::new();
        for launch in &program.launches {
            params_offset.push(params_bytes);
            params_bytes += align(launch.params.len() as u64);
        }
        let outputs = program.buffers.iter().filter(|b| b.role == Role::Output).map(|b| b.bytes);
        Plan {
            slots: slots.iter().map(|s| s.0).collect(),
            slot_of,
            lifetime,
            persistent_bytes,
            params_bytes,
            params_offset,
            staging_bytes: outputs.max().unwrap_or(0),
        }
    }

    /// Everything that a recording of this plan allocates, persistent buffers included.
    pub fn peak_bytes(&self) -> u64 {
        self.slots.iter().sum::<u64>() + self.persistent_bytes + self.params_bytes.max(4) + self.staging_bytes
    }

    /// Checks sizes, bindings and grids against an adapter.
    ///
    /// # Errors
    /// The first figure that does not fit, beside the figure allowed.
    pub fn fits(&self, program: &Program, target: &Target) -> Result<()> {
        let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
        let floor = |bytes: u64| (10.0 * mib(bytes)).floor() / 10.0; // 2^31 - 1 is not shown as 2048.0
        for spec in &program.buffers {
            if spec.bytes > target.max_buffer {
                let (asked, allowed) = (mib(spec.bytes), floor(target.max_buffer));
                return Err(Error::Gpu(format!(
                    "`{}` needs a buffer of {asked:.1} MiB; {} allows {allowed:.1} MiB",
                    spec.name, target.name
                )));
            }
        }
        program.launches.iter().try_for_each(|launch| launch.fits(target))
    }

    /// Panics if two buffers that live at the same time share a slot, or a launch reads a temporary that nobody has
    /// written: the planner's own invariants, checked in the tests.
    pub fn verify(&self, program: &Program) {
        let mut written = vec![false; program.buffers.len()];
        for launch in &program.launches {
            for (name, view) in &launch.operands {
                let access = launch.kernel.bindings.iter().find(|b| b.name == *name).expect("checked").access;
                let spec = &program.buffers[view.buffer.0];
                let known = spec.role == Role::Input || spec.role == Role::Persistent || written[view.buffer.0];
                assert!(access == Access::ReadWrite || known, "{} reads `{}` unwritten", launch.label, spec.name);
            }
            for (_, view) in &launch.operands {
                written[view.buffer.0] = true;
            }
        }
        for a in 0..program.buffers.len() {
            for b in 0..a {
                let apart = self.lifetime[a].1 < self.lifetime[b].0 || self.lifetime[b].1 < self.lifetime[a].0;
                let shared = self.slot_of[a].is_some() && self.slot_of[a] == self.slot_of[b];
                assert!(!shared || apart, "`{}` and `{}` collide", program.buffers[a].name, program.buffers[b].name);
            }
        }
    }
}
