//! The memory plan: which buffers share a slot, how many bytes that takes, and whether the adapter allows it.

use crate::kernels::{Program, Role, Target, align};
use crate::{Error, Result};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::ops::Bound::{Excluded, Unbounded};

/// Steps or batches under way at once: one that the device computes, and one that the host prepares or looks at.
pub const UNDER_WAY: usize = 2;

/// Buffers of one size that are used in turn to get bytes to the device or back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    /// Bytes of each.
    pub bytes: u64,
    /// How many.
    pub count: usize,
}

impl Ring {
    /// What `bytes` bytes take up in a buffer that the host writes: mapped ranges start at multiples of 8.
    pub fn room(bytes: u64) -> u64 {
        bytes.next_multiple_of(8)
    }

    /// Bytes of all.
    pub fn total(&self) -> u64 {
        self.bytes * self.count as u64
    }
}

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
    /// What the host feeds at each step goes through these.
    pub uploads: Ring,
    /// What the host reads comes back through these.
    pub downloads: Vec<Ring>,
}

/// First and last launch that touch each buffer; inputs live from the start, inputs and outputs for ever.
fn lifetimes(program: &Program) -> Vec<(usize, usize)> {
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
    lifetime
}

/// Bytes of the slots, and the slot of each buffer.
type Slots = (Vec<u64>, Vec<Option<usize>>);

/// Slots for the given lifetimes: the smaller of two plans. Neither is smaller for all programs.
pub(super) fn assign(program: &Program, lifetime: &[(usize, usize)], reuse: bool) -> Slots {
    /// Most buffers that are tried in order of size, which takes time with their square in the worst case.
    const MOST_BY_SIZE: usize = 20_000;
    let by_use = in_order_of_use(program, lifetime, reuse);
    if !reuse || program.buffers.len() > MOST_BY_SIZE {
        return by_use;
    }
    let by_size = in_order_of_size(program, lifetime);
    let total = |slots: &Slots| slots.0.iter().sum::<u64>();
    if total(&by_size) < total(&by_use) { by_size } else { by_use }
}

/// Whether a buffer has a slot: persistent ones live in the store, and some are touched by nothing.
fn lives_in_a_slot(program: &Program, lifetime: &[(usize, usize)], i: usize) -> bool {
    program.buffers[i].role != Role::Persistent && lifetime[i].0 != usize::MAX
}

/// The largest buffer first; each moves into the slot that is free for the shortest time around its own, the smallest of equals: so
/// the time that is left in slots is left in long pieces, which others fit into.
fn in_order_of_size(program: &Program, lifetime: &[(usize, usize)]) -> Slots {
    let mut order: Vec<usize> = (0..program.buffers.len()).filter(|&i| lives_in_a_slot(program, lifetime, i)).collect();
    order.sort_by_key(|&i| (Reverse(program.buffers[i].bytes), lifetime[i].0));
    let mut slots: Vec<u64> = Vec::new(); // bytes, never rising
    let mut tenants: Vec<BTreeMap<usize, usize>> = Vec::new(); // first and last launch of each
    let mut slot_of = vec![None; program.buffers.len()];
    for i in order {
        let (first, last) = lifetime[i];
        // Launches for which a slot is free around this time, if it is all the time.
        let free = |of: &BTreeMap<usize, usize>| {
            let before = of.range(..=last).next_back().map_or(Some(0), |(_, &end)| (end < first).then(|| end + 1))?;
            let after =
                of.range((Excluded(last), Unbounded)).next().map_or(program.launches.len(), |(&start, _)| start);
            Some(after - before)
        };
        let found = tenants.iter().enumerate().rev().filter_map(|(slot, of)| Some((free(of)?, slot)));
        let slot = found.min_by_key(|&(free, _)| free).map(|(_, slot)| slot).unwrap_or_else(|| {
            slots.push(program.buffers[i].bytes);
            tenants.push(BTreeMap::new());
            slots.len() - 1
        });
        tenants[slot].insert(first, last);
        slot_of[i] = Some(slot);
    }
    (slots, slot_of)
}

/// The buffer that is used first first: best fit, growing a free slot rather than opening a new one.
fn in_order_of_use(program: &Program, lifetime: &[(usize, usize)], reuse: bool) -> Slots {
    let mut order: Vec<usize> = (0..program.buffers.len()).collect();
    order.sort_by_key(|&i| (lifetime[i].0, Reverse(program.buffers[i].bytes)));
    let mut slots: Vec<u64> = Vec::new(); // bytes
    let mut occupied: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new(); // last launch of the tenant, slot
    let mut free: BTreeSet<(u64, usize)> = BTreeSet::new(); // bytes, slot
    let mut slot_of = vec![None; program.buffers.len()];
    for i in order {
        let (bytes, (first, last)) = (program.buffers[i].bytes, lifetime[i]);
        if !lives_in_a_slot(program, lifetime, i) {
            continue;
        }
        while let Some(&Reverse((_, slot))) = occupied.peek().filter(|tenant| reuse && tenant.0.0 < first) {
            occupied.pop();
            free.insert((slots[slot], slot));
        }
        // The smallest that is large enough, else the largest; the first of equals.
        let large_enough = free.range((bytes, 0)..).next();
        let largest = || free.last().and_then(|&(most, _)| free.range((most, 0)..).next());
        let slot = match large_enough.or_else(largest).copied() {
            Some(chosen) => {
                free.remove(&chosen);
                chosen.1
            }
            None => {
                slots.push(0);
                slots.len() - 1
            }
        };
        slots[slot] = slots[slot].max(bytes);
        occupied.push(Reverse((last, slot)));
        slot_of[i] = Some(slot);
    }
    (slots, slot_of)
}

/// Which of the `lent` buffers serves each slot, the smallest that is large enough, the largest slot first; `None`: none does. All
/// are given in bytes.
pub fn borrowed(slots: &[u64], lent: &[u64]) -> Vec<Option<usize>> {
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by_key(|&slot| (Reverse(slots[slot]), slot));
    let mut free: BTreeSet<(u64, usize)> = lent.iter().enumerate().map(|(i, &bytes)| (bytes, i)).collect();
    let mut taken = vec![None; slots.len()];
    for slot in order {
        let found = free.range((slots[slot], 0)..).next().copied();
        found.iter().for_each(|one| _ = free.remove(one));
        taken[slot] = found.map(|(_, lent)| lent);
    }
    taken
}

impl Plan {
    /// Slots that hold nothing that is wanted once a submission is over, so that what never runs at the same time may use them.
    pub fn lendable(&self, program: &Program) -> Vec<usize> {
        let mut lendable = vec![true; self.slots.len()];
        for (spec, slot) in program.buffers.iter().zip(&self.slot_of) {
            slot.iter().for_each(|&slot| lendable[slot] &= spec.role == Role::Temporary);
        }
        (0..self.slots.len()).filter(|&slot| lendable[slot]).collect()
    }

    /// Bytes that a recording of this plan allocates where it may use slots of so many bytes that others have.
    pub fn bytes_beside(&self, lent: &[u64]) -> u64 {
        let taken = self.slots.iter().zip(borrowed(&self.slots, lent)).filter(|(_, lent)| lent.is_some());
        self.peak_bytes() - taken.map(|(bytes, _)| bytes).sum::<u64>()
    }

    /// Plans a program. Buffers whose lifetimes do not overlap share a slot if `reuse`.
    pub fn new(program: &Program, reuse: bool) -> Plan {
        let lifetime = lifetimes(program);
        let (slots, slot_of) = assign(program, &lifetime, reuse);
        let persistent = program.buffers.iter().filter(|b| b.role == Role::Persistent);
        let persistent_bytes = persistent.map(|b| b.bytes).sum();
        let mut params_bytes = 0;
        let mut params_offset = Vec::new();
        for launch in &program.launches {
            params_offset.push(params_bytes);
            params_bytes += align(launch.params.len() as u64);
        }
        let outputs = program.buffers.iter().filter(|b| b.role == Role::Output).map(|b| b.bytes);
        let reading = outputs.max().map(|bytes| Ring { bytes, count: 1 });
        Plan {
            slots,
            slot_of,
            lifetime,
            persistent_bytes,
            params_bytes,
            params_offset,
            uploads: Ring::default(),
            downloads: reading.into_iter().collect(),
        }
    }

    /// Adds what is needed to feed views of these sizes at each step and to read views of those sizes, each so many times
    /// over, while other steps are under way.
    pub fn with_rings(
        mut self,
        feeds: impl Iterator<Item = u64>,
        readings: impl Iterator<Item = (u64, usize)>,
    ) -> Plan {
        self.uploads = Ring { bytes: feeds.map(Ring::room).sum(), count: UNDER_WAY };
        for (bytes, count) in readings {
            match self.downloads.iter_mut().find(|ring| ring.bytes == bytes) {
                Some(ring) => ring.count += count,
                None => self.downloads.push(Ring { bytes, count }),
            }
        }
        self
    }

    /// Bytes of the buffers through which bytes come and go. The host maps them, so they count as its memory too.
    pub fn staging_bytes(&self) -> u64 {
        self.uploads.total() + self.downloads.iter().map(Ring::total).sum::<u64>()
    }

    /// Everything that a recording of this plan allocates, persistent buffers included.
    pub fn peak_bytes(&self) -> u64 {
        self.slots.iter().sum::<u64>() + self.persistent_bytes + self.params_bytes.max(4) + self.staging_bytes()
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
        if self.uploads.bytes > target.max_buffer {
            let (asked, allowed) = (mib(self.uploads.bytes), floor(target.max_buffer));
            return Err(Error::Gpu(format!(
                "what a step is fed needs a buffer of {asked:.1} MiB; {} allows {allowed:.1} MiB",
                target.name
            )));
        }
        program.launches.iter().try_for_each(|launch| launch.fits(target))
    }
}
