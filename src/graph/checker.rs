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
            let view = View { buffer, offset, bytes, half: false };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::compile::{Compiled, Request, compile};
    use crate::graph::plan::assign;
    use crate::graph::taps::Tap;
    use crate::kernels::{Kernel, Settings, Site, Target};
    use crate::network::{Interaction, NetworkConfig, Preset, RecurrentFrom, Schedule};
    use crate::reference::random::SplitMix64;

    /// A program of launches of `relu` between buffers of 256 bytes.
    fn chain(roles: &[Role], launches: &[(usize, usize)]) -> Program {
        let mut program = Program::default();
        for (i, &role) in roles.iter().enumerate() {
            let (name, area) = (format!("b{i}"), String::new());
            program.buffer(BufferSpec { name, bytes: 256, role, area, timestep: None });
        }
        let kernel = Kernel::new("relu", &Settings::new().set("L", 64).set("UNROLL", 1)).unwrap();
        for &(x, y) in launches {
            let operands = [("x", program.whole(BufferId(x))), ("y", program.whole(BufferId(y)))];
            program.launch(
                &kernel,
                &operands,
                &[("count", 64usize.into())],
                [1, 1, 1],
                Site { label: &format!("{x} to {y}"), ..Site::of("relu", "") },
            );
        }
        program
    }

    /// The plan of a program with the buffers in the given slots.
    fn placed(program: &Program, slot_of: &[Option<usize>]) -> Plan {
        let slots = vec![256; slot_of.iter().flatten().max().map_or(0, |most| most + 1)];
        Plan { slots, slot_of: slot_of.to_vec(), ..Plan::new(program, false) }
    }

    #[track_caller]
    fn refused(result: Result<()>, words: &[&str]) {
        let error = result.expect_err("a fault").to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{words:?} are not all in: {error}");
    }

    use Role::{Input, Output, Persistent, Temporary};

    #[test]
    fn what_is_read_must_have_been_written() {
        let program = chain(&[Input, Temporary, Temporary, Output], &[(0, 1), (2, 3)]);
        refused(check(&program, &Plan::new(&program, false)), &["2 to 3", "`b2`", "nothing that was written"]);
        // A slot that another buffer has left behind is no content.
        refused(
            check(&program, &placed(&program, &[Some(0), Some(1), Some(1), Some(2)])),
            &["`b1`, written by 0 to 1"],
        );
    }

    #[test]
    fn what_is_read_later_must_not_be_overwritten() {
        let program = chain(&[Input, Temporary, Temporary, Output], &[(0, 1), (0, 2), (1, 3)]);
        check(&program, &placed(&program, &[Some(0), Some(1), Some(2), Some(3)])).unwrap();
        refused(
            check(&program, &placed(&program, &[Some(0), Some(1), Some(1), Some(3)])),
            &["1 to 3", "`b1`", "`b2`, written by 0 to 2"],
        );
    }

    #[test]
    fn outputs_and_inputs_are_kept() {
        let program = chain(&[Input, Output, Temporary], &[(0, 1), (0, 2)]);
        refused(check(&program, &placed(&program, &[Some(0), Some(1), Some(1)])), &["the host reads `b1`", "`b2`"]);
        // The input is read for the last time by the launch before: a second run reads it again.
        let program = chain(&[Input, Temporary, Temporary, Output], &[(0, 1), (1, 2), (2, 3)]);
        refused(
            check(&program, &placed(&program, &[Some(0), Some(1), Some(0), Some(2)])),
            &["the input `b0`", "1 to 2"],
        );
        let program = chain(&[Input, Input, Output], &[(0, 1), (1, 2)]);
        refused(check(&program, &Plan::new(&program, true)), &["writes the input `b1`"]);
        let program = chain(&[Input, Output, Output], &[(0, 1)]);
        refused(check(&program, &Plan::new(&program, true)), &["no launch writes the output `b2`"]);
    }

    #[test]
    fn places_are_checked() {
        let program = chain(&[Persistent, Output], &[(0, 1)]);
        check(&program, &Plan::new(&program, true)).unwrap();
        refused(check(&program, &placed(&program, &[Some(0), Some(1)])), &["`b0` is kept"]);
        refused(check(&program, &placed(&program, &[None, None])), &["`b1` has no place"]);
        let mut small = Plan::new(&program, true);
        small.slots[0] = 252;
        refused(check(&program, &small), &["`b1` of 256 bytes", "slot 0"]);
        for (offset, bytes) in [(0, 260), (256, 4), (4, 4), (0, 0), (0, 7)] {
            let mut program = program.clone();
            program.launches[0].operands[0].1 = View { buffer: BufferId(0), offset, bytes, half: false };
            refused(check(&program, &Plan::new(&program, true)), &["0 to 1: `x`"]);
        }
        let mut params = Plan::new(&program, true);
        params.params_bytes = 0;
        refused(check(&program, &params), &["parameters at 0..4"]);
    }

    /// Rule `sound-plan`.
    #[test]
    fn operands_of_a_launch_are_apart() {
        let program = chain(&[Input, Temporary, Output], &[(0, 1), (1, 2)]);
        refused(
            check(&program, &placed(&program, &[Some(0), Some(1), Some(1)])),
            &["1 to 2", "only one of them writes"],
        );
        let mut program = chain(&[Input, Output, Output], &[(0, 1), (0, 2)]);
        let kernel = Kernel::new("modulate_d_drives", &Settings::new().set("L", 64).set("UNROLL", 1)).unwrap();
        let view = |i| program.whole(BufferId(i));
        let operands = [("b", view(0)), ("s", view(0)), ("dy", view(0)), ("db", view(1)), ("ds", view(2))];
        program.launch(
            &kernel,
            &operands,
            &[("count", 64usize.into())],
            [1, 1, 1],
            Site { label: "both", ..Site::of("relu", "") },
        );
        refused(check(&program, &placed(&program, &[Some(0), Some(1), Some(1)])), &["both written", "slot 1"]);
    }

    /// Launches that are submitted apart: what one submission leaves the next may read, but not what it makes itself.
    #[test]
    fn submissions_in_any_order() {
        let program = chain(&[Input, Temporary, Output, Temporary], &[(0, 1), (1, 2), (0, 3)]);
        let plan = placed(&program, &[Some(0), Some(1), Some(2), Some(1)]);
        replay(&program, &plan, &[0..1, 1..2, 0..1, 1..2, 1..2]).unwrap();
        refused(replay(&program, &plan, &[1..2, 0..1]), &["1 to 2", "nothing that was written"]);
        refused(replay(&program, &plan, &[0..1, 2..3, 1..2]), &["1 to 2", "`b3`, written by 0 to 3"]);
        let program = chain(&[Input, Temporary, Output], &[(1, 2), (0, 1)]);
        refused(replay(&program, &Plan::new(&program, false), &[1..2, 0..2]), &["1 to 2", "nothing that was written"]);
        refused(replay(&program, &Plan::new(&program, false), std::slice::from_ref(&(1..3))), &["no launches 1..3"]);
    }

    /// A second opinion, without ranges: who holds each 256 bytes of each slot. Sound, or not.
    fn by_hand(program: &Program, slots: &[u64], slot_of: &[Option<usize>]) -> bool {
        let mut held: Vec<Vec<Option<usize>>> =
            slots.iter().map(|&bytes| vec![None; bytes.div_ceil(256) as usize]).collect();
        let cells = |view: View| (view.offset / 256) as usize..(view.offset + view.bytes).div_ceil(256) as usize;
        for (i, spec) in program.buffers.iter().enumerate().filter(|(_, spec)| spec.role == Input) {
            let Some(slot) = slot_of[i] else { continue };
            for cell in &mut held[slot][..(spec.bytes / 256) as usize] {
                if cell.replace(i).is_some() {
                    return false;
                }
            }
        }
        let mut outputs: Vec<(usize, usize)> = Vec::new(); // buffer, cell
        for launch in &program.launches {
            let mut read = Vec::new();
            let mut written = Vec::new();
            for (name, view) in &launch.operands {
                let Some(slot) = slot_of[view.buffer.0] else { continue };
                let writes = launch.kernel.bindings.iter().any(|b| b.name == *name && b.access == Access::ReadWrite);
                if writes { &mut written } else { &mut read }.push((slot, *view));
            }
            for (i, (slot, view)) in written.iter().enumerate() {
                let shared =
                    |other: &View| cells(*other).start < cells(*view).end && cells(*view).start < cells(*other).end;
                if read.iter().any(|(other, _)| other == slot)
                    || written[..i].iter().any(|(o, v)| o == slot && shared(v))
                {
                    return false;
                }
            }
            if read.iter().any(|(slot, view)| held[*slot][cells(*view)].iter().any(|&h| h != Some(view.buffer.0))) {
                return false;
            }
            for (slot, view) in written {
                for cell in cells(view) {
                    if held[slot][cell].is_some_and(|old| program.buffers[old].role == Input) {
                        return false;
                    }
                    held[slot][cell] = Some(view.buffer.0);
                    if program.buffers[view.buffer.0].role == Output {
                        outputs.push((view.buffer.0, cell));
                    }
                }
            }
        }
        outputs.iter().all(|&(buffer, cell)| held[slot_of[buffer].expect("written")][cell] == Some(buffer))
    }

    fn compiled(recurrent_from: RecurrentFrom, interaction: Interaction) -> Compiled {
        let config = NetworkConfig {
            image_size: 16,
            stem_channels: 4,
            area_channels: [4, 4, 8, 8],
            topdown: true,
            timesteps: 3,
            recurrent_from,
            interaction,
            ..Preset::Tiny.network()
        };
        let (network, schedule, target) = (config.network(), Schedule::plain(config.timesteps), Target::minimum());
        let taps = Tap::everything(&network);
        compile(&Request { taps: &taps, ..Request::training(&network, &schedule, 2, &target) }).unwrap()
    }

    /// Plans of networks, spoilt: the checker and the second opinion agree on each, and both verdicts occur.
    /// Rule `sound-plan`.
    #[test]
    fn spoilt_plans_are_found() {
        let mut random = SplitMix64::new(7);
        for recurrent_from in [RecurrentFrom::V1, RecurrentFrom::V2] {
            for interaction in [Interaction::Additive, Interaction::Multiplicative] {
                let compiled = compiled(recurrent_from, interaction);
                let (program, plan) = (&compiled.program, &compiled.plan);
                let judge = |slots: Vec<u64>, slot_of: Vec<Option<usize>>| {
                    let sound = by_hand(program, &slots, &slot_of);
                    let verdict = check(program, &Plan { slots, slot_of, ..plan.clone() });
                    assert_eq!(verdict.is_ok(), sound, "{verdict:?}");
                    sound
                };
                assert!(judge(plan.slots.clone(), plan.slot_of.clone()), "the plan itself");
                let tenants: Vec<usize> = (0..program.buffers.len()).filter(|&i| plan.slot_of[i].is_some()).collect();
                let mut any = |n: usize| (random.bits() % n as u64) as usize;
                let mut verdicts = [[0, 0]; 3];
                for _ in 0..150 {
                    // Two buffers change places; one buffer moves in with another.
                    let (a, b) = (tenants[any(tenants.len())], tenants[any(tenants.len())]);
                    let room = vec![*plan.slots.iter().max().unwrap(); plan.slots.len()];
                    let mut swapped = plan.slot_of.clone();
                    swapped.swap(a, b);
                    verdicts[0][usize::from(judge(room.clone(), swapped))] += 1;
                    let mut moved = plan.slot_of.clone();
                    moved[a] = moved[b];
                    verdicts[1][usize::from(judge(room, moved))] += 1;
                    // One buffer is taken for free earlier than it is.
                    let mut lifetime = plan.lifetime.clone();
                    let (first, last) = lifetime[a];
                    let end = last.min(program.launches.len() - 1);
                    lifetime[a].1 = first + any(end - first + 1);
                    let (slots, slot_of) = assign(program, &lifetime, true);
                    verdicts[2][usize::from(judge(slots, slot_of))] += 1;
                }
                let both = verdicts[..2].iter().all(|[faults, sound]| *faults > 15 && *sound > 5);
                assert!(both && verdicts[2][0] > 15, "faults and sound plans: {verdicts:?}");
            }
        }
    }
}
