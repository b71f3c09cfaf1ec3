//! The judge of memory plans. It knows nothing of how a plan is made, neither lifetimes nor the order of slots: it takes
//! the launches as they are and the place of each buffer, and replays who writes and who reads which bytes.
//!
//! A launch counts as writing the whole of each operand that its kernel may write, and as reading the whole of each that
//! its kernel loads from, before it writes. What lies behind a view up to the next multiple of [`ALIGNMENT`], where no
//! other view can start, belongs to the view.

use super::plan::Plan;
use crate::kernels::{ALIGNMENT, Access, Binding, BufferId, BufferSpec, Launch, Program, Role, View, align};
use crate::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// What a range of bytes holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Where the range ends.
    end: u64,
    /// Whose content it is.
    buffer: BufferId,
    /// The launch that wrote it; `None` for the host, or an earlier program.
    by: Option<usize>,
}

/// The memory of a recording: one block of bytes for each slot and for each persistent buffer.
struct Memory<'a> {
    program: &'a Program,
    /// The block of each buffer; `None` for those that have no place.
    block: Vec<Option<usize>>,
    /// What each block holds, by where it starts; gaps hold nothing that may be read.
    held: Vec<BTreeMap<u64, Held>>,
    /// Views of outputs that have been written.
    outputs: BTreeSet<(BufferId, u64, u64)>,
}

/// Checks that `program` computes what it says when its buffers lie as `plan` has them and its launches are submitted in
/// the given ranges, one after the other; a range may come several times. The host writes the inputs once, before all,
/// and reads the outputs after all.
///
/// - Every byte that is read was last written by the buffer that it is read for: not by another, and not by nobody.
///   What a submission itself writes it does not find from an earlier one.
/// - No launch writes over an input, which later runs read again; outputs are intact at the end.
/// - Views lie within their buffers, buffers within their slots, no slot is where a persistent buffer is, and bindings
///   start at multiples of [`ALIGNMENT`].
/// - No two operands of a launch share bytes of which one writes, unless they are the same view used alike; no slot is
///   bound both read-only and read-write in one launch.
///
/// # Errors
/// The first fault: the launch, its operand, the buffer, and who holds the bytes instead.
pub fn replay(program: &Program, plan: &Plan, submissions: &[Range<usize>]) -> Result<()> {
    let mut memory = Memory::new(program, plan).map_err(fault)?;
    for launch in &program.launches {
        memory.operands(launch).map_err(|what| fault(format!("{}: {what}", launch.label)))?;
    }
    for (i, &offset) in plan.params_offset.iter().enumerate() {
        let end = offset + program.launches[i].params.len() as u64;
        let next = plan.params_offset.get(i + 1).copied().unwrap_or(plan.params_bytes);
        if !offset.is_multiple_of(ALIGNMENT) || end > next {
            return Err(fault(format!("{}: parameters at {offset}..{end}", program.launches[i].label)));
        }
    }
    for range in submissions {
        memory.submit(range.clone()).map_err(fault)?;
    }
    memory.intact().map_err(fault)
}

/// [`replay`] of a program that is submitted as a whole, twice.
///
/// # Errors
/// As there.
pub fn check(program: &Program, plan: &Plan) -> Result<()> {
    let all = 0..program.launches.len();
    replay(program, plan, &[all.clone(), all])
}

fn fault(what: String) -> Error {
    Error::Gpu(format!("a fault in the memory plan: {what}"))
}

/// The operands of a launch with what its kernel does to them.
fn operands(launch: &Launch) -> impl Iterator<Item = (&'static str, View, &Binding)> {
    launch.operands.iter().map(|&(name, view)| {
        let binding = launch.kernel.bindings.iter().find(|binding| binding.name == name);
        (name, view, binding.expect("Program::launch checks the operands"))
    })
}

impl<'a> Memory<'a> {
    /// As it is when the host has written the inputs; persistent buffers hold what earlier programs left.
    fn new(program: &'a Program, plan: &Plan) -> Result<Memory<'a>, String> {
        let mut blocks = plan.slots.len();
        let mut block = Vec::new();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for (spec, slot) in program.buffers.iter().zip(&plan.slot_of) {
            let name = &spec.name;
            match slot {
                Some(_) if spec.role == Role::Persistent => {
                    return Err(format!("`{name}` is kept, but lies in a slot"));
                }
                Some(slot) if plan.slots.get(*slot).is_none_or(|&room| room < spec.bytes) => {
                    return Err(format!("`{name}` of {} bytes does not fit into slot {slot}", spec.bytes));
                }
                None if spec.role == Role::Persistent && !names.insert(name) => {
                    return Err(format!("two persistent buffers are called `{name}`"));
                }
                _ => {}
            }
            let own = slot.is_none() && spec.role == Role::Persistent;
            block.push(if own { Some(blocks) } else { *slot });
            blocks += usize::from(own);
        }
        let mut memory = Memory { program, block, held: vec![BTreeMap::new(); blocks], outputs: BTreeSet::new() };
        for (i, spec) in program.buffers.iter().enumerate() {
            let from_outside = matches!(spec.role, Role::Input | Role::Persistent);
            if from_outside && memory.block[i].is_some() {
                let whole = program.whole(BufferId(i));
                memory.write(whole, None).map_err(|what| format!("`{}`: {what}", spec.name))?;
            }
        }
        Ok(memory)
    }

    fn spec(&self, buffer: BufferId) -> &'a BufferSpec {
        &self.program.buffers[buffer.0]
    }

    fn block(&self, view: View) -> Result<usize, String> {
        self.block[view.buffer.0].ok_or_else(|| format!("`{}` has no place", self.spec(view.buffer).name))
    }

    /// What does not depend on the order of launches.
    fn operands(&self, launch: &Launch) -> Result<(), String> {
        let mut before: Vec<(&str, View, usize, Access)> = Vec::new();
        for (name, view, binding) in operands(launch) {
            let spec = self.spec(view.buffer);
            let end = view.offset.checked_add(view.bytes);
            if view.bytes == 0 || end.is_none_or(|end| end > spec.bytes) {
                let View { offset, bytes, .. } = view;
                return Err(format!("`{name}` is {bytes} bytes from {offset} of `{}`'s {}", spec.name, spec.bytes));
            }
            if !view.offset.is_multiple_of(ALIGNMENT) || !view.bytes.is_multiple_of(4) {
                return Err(format!("`{name}` starts at {} and has {} bytes", view.offset, view.bytes));
            }
            let block = self.block(view)?;
            for &(other, seen, _, access) in before.iter().filter(|b| b.2 == block) {
                let overlap = view.offset < seen.offset + seen.bytes && seen.offset < view.offset + view.bytes;
                if binding.access != access {
                    return Err(format!("`{name}` and `{other}` lie in slot {block}, and only one of them writes"));
                }
                if overlap && access == Access::ReadWrite && view != seen {
                    return Err(format!("`{name}` and `{other}` are both written and share bytes of slot {block}"));
                }
            }
            before.push((name, view, block, binding.access));
        }
        Ok(())
    }

    /// Replays the launches of a range.
    fn submit(&mut self, range: Range<usize>) -> Result<(), String> {
        let launches =
            self.program.launches.get(range.clone()).ok_or_else(|| format!("there are no launches {range:?}"))?;
        let mut made_here = vec![false; self.program.buffers.len()];
        for (_, view, binding) in launches.iter().flat_map(operands) {
            let from_outside = matches!(self.spec(view.buffer).role, Role::Input | Role::Persistent);
            made_here[view.buffer.0] |= binding.access == Access::ReadWrite && !from_outside;
        }
        self.held.iter_mut().for_each(|block| block.retain(|_, held| !made_here[held.buffer.0]));
        for (i, launch) in range.zip(launches) {
            let about = |what: String| format!("{}: {what}", launch.label);
            for (name, view, _) in operands(launch).filter(|(.., b)| b.access == Access::Read || b.loads) {
                self.read(view).map_err(|what| about(format!("`{name}` reads {what}")))?;
            }
            for (name, view, _) in operands(launch).filter(|(.., b)| b.access == Access::ReadWrite) {
                let spec = self.spec(view.buffer);
                if spec.role == Role::Input {
                    return Err(about(format!("`{name}` writes the input `{}`", spec.name)));
                }
                self.write(view, Some(i)).map_err(|what| about(format!("`{name}` for `{}`: {what}", spec.name)))?;
                if spec.role == Role::Output {
                    self.outputs.insert((view.buffer, view.offset, view.bytes));
                }
            }
        }
        Ok(())
    }

    /// `view` now holds what the launch `by` wrote.
    fn write(&mut self, view: View, by: Option<usize>) -> Result<(), String> {
        let block = self.block(view)?;
        let (start, end) = (view.offset, align(view.offset + view.bytes).min(self.spec(view.buffer).bytes));
        let held = &mut self.held[block];
        let mut hit: Vec<(u64, Held)> = held.range(start..end).map(|(at, held)| (*at, *held)).collect();
        hit.extend(held.range(..start).next_back().map(|(at, held)| (*at, *held)).filter(|(_, held)| held.end > start));
        for (at, old) in hit {
            let spec = &self.program.buffers[old.buffer.0];
            if spec.role == Role::Input && old.buffer != view.buffer {
                return Err(format!("bytes {at}..{} of slot {block} hold the input `{}`", old.end, spec.name));
            }
            held.remove(&at);
            if at < start {
                held.insert(at, Held { end: start, ..old });
            }
            if old.end > end {
                held.insert(end, old);
            }
        }
        held.insert(start, Held { end, buffer: view.buffer, by });
        Ok(())
    }

    /// Fails if `view` holds anything but its buffer's content.
    fn read(&self, view: View) -> Result<(), String> {
        let block = self.block(view)?;
        let (mut at, end) = (view.offset, view.offset + view.bytes);
        while at < end {
            let held = self.held[block].range(..=at).next_back().map(|(_, held)| held).filter(|held| held.end > at);
            match held {
                Some(held) if held.buffer == view.buffer => at = held.end,
                other => {
                    let instead = other.map_or("nothing that was written".to_string(), |held| {
                        let by = held.by.map_or("the host", |by| &self.program.launches[by].label);
                        format!("`{}`, written by {by}", self.spec(held.buffer).name)
                    });
                    let spec = self.spec(view.buffer);
                    return Err(format!("`{}` from byte {at}, where there is {instead}", spec.name));
                }
            }
        }
        Ok(())
    }

    /// Fails if an output has been lost since it was written.
    fn intact(&self) -> Result<(), String> {
        for &(buffer, offset, bytes) in &self.outputs {
            let view = View { buffer, offset, bytes };
            self.read(view).map_err(|what| format!("after the last launch the host reads {what}"))?;
        }
        let mut written = vec![false; self.program.buffers.len()];
        for (_, view, binding) in self.program.launches.iter().flat_map(operands) {
            written[view.buffer.0] |= binding.access == Access::ReadWrite;
        }
        match self.program.buffers.iter().zip(written).find(|(spec, written)| spec.role == Role::Output && !written) {
            Some((spec, _)) => Err(format!("no launch writes the output `{}`", spec.name)),
            None => Ok(()),
        }
    }
}
