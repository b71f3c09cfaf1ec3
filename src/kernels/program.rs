//! What is to be run, before any device is touched: buffers, and launches in order.

use super::grid::{fold, word};
use super::kernel::{Access, Kernel, Param};
use super::loops;
use super::pace;
use super::packing::{Packing, Transform};
use super::target::Target;
use super::template::Settings;
use super::view::{BufferId, BufferSpec, Role, View, align};
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// A dispatch of a kernel: what it binds, and what asked for it.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel variant.
    pub kernel: Arc<Kernel>,
    /// Views by the kernel's variable names; every storage variable of the kernel is bound exactly once.
    pub operands: Vec<(&'static str, View)>,
    /// Bytes of the parameter struct.
    pub params: Vec<u8>,
    /// Workgroups in x, y, z.
    pub grid: [u32; 3],
    /// The operation that asked for it: `conv2d`.
    pub op: &'static str,
    /// Timestep of the operation, if it has one.
    pub timestep: Option<usize>,
    /// Area of the network.
    pub area: String,
    /// For people: operation, value and timestep, as in `conv2d v2.bottom_up t=1`.
    pub label: String,
    /// Additions and multiplications of the operation that asked for it, or of the timesteps of it that this launch serves; 0
    /// where nobody says.
    pub operations: f64,
    /// Whether it packs a weight, which all later launches of the run that want it so share.
    pub packs_weight: bool,
}

/// Where a launch belongs.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// The operation that asks for it.
    pub op: &'static str,
    /// Timestep of the operation, if it has one.
    pub timestep: Option<usize>,
    /// Area of the network.
    pub area: &'a str,
    /// For messages and profiles: see [`Launch::label`].
    pub label: &'a str,
}

impl<'a> Site<'a> {
    /// An operation that is labelled by its name, outside of the timesteps.
    pub fn of(op: &'static str, area: &'a str) -> Site<'a> {
        Site { op, timestep: None, area, label: op }
    }
}

/// Most storage buffers of a kernel: WebGPU's default limit, as are the next two.
const MOST_BUFFERS: usize = 8;
/// Most invocations of a workgroup.
const MOST_INVOCATIONS: u32 = 256;
/// Most bytes of workgroup memory.
const MOST_WORKGROUP_MEMORY: u32 = 16 << 10;
/// Most bytes of a binding whatever the adapter allows: kernels count words with 32 bits, and their last lanes count on for a
/// while behind the end.
const MOST_INDEXED: u64 = 4 << 31;

impl Launch {
    /// Checks grid, bindings, loops, predicted time and kernel against an adapter.
    ///
    /// # Errors
    /// The first figure that does not fit, beside the figure allowed.
    pub fn fits(&self, target: &Target) -> Result<()> {
        let (label, name, kernel) = (&self.label, &target.name, &self.kernel);
        let mib = |bytes: u64| bytes as f64 / (1u64 << 20) as f64;
        let most = target.max_binding.min(MOST_INDEXED);
        if let Some((operand, view)) = self.operands.iter().find(|(_, view)| view.bytes > most) {
            let (asked, allowed) = (mib(view.bytes), (10.0 * mib(most)).floor() / 10.0); // 2^31 - 1 is not 2048.0 MiB
            return Err(Error::Gpu(format!(
                "{label}: `{operand}` binds {asked:.1} MiB; {name} allows {allowed:.1} MiB"
            )));
        }
        if let Some(&asked) = self.grid.iter().find(|&&g| g > target.max_grid) {
            let allowed = target.max_grid;
            return Err(Error::Gpu(format!("{label}: {asked} workgroups in one dimension; {allowed} are allowed")));
        }
        let turns = loops::longest(kernel, &self.params);
        if turns > loops::MOST_TURNS {
            let allowed = loops::MOST_TURNS;
            return Err(Error::Gpu(format!("{label}: a loop of {turns} turns; drivers may stop one beyond {allowed}")));
        }
        if let Some(seconds) = target.pace.map(|pace| pace.seconds(self)).filter(|&seconds| seconds > pace::LONGEST) {
            let allowed = pace::LONGEST;
            return Err(Error::Gpu(format!(
                "{label}: {seconds:.1} s are predicted for a slow adapter of the kind of {name}; drivers may end what takes \
                 longer than {allowed:.1} s"
            )));
        }
        let buffers = kernel.bindings.iter().filter(|b| b.access != Access::Uniform).count();
        let invocations: u32 = kernel.workgroup.iter().product();
        for (what, asked, allowed) in [
            ("storage buffers", buffers as u32, MOST_BUFFERS as u32),
            ("invocations in a workgroup", invocations, MOST_INVOCATIONS),
            ("bytes of workgroup memory", kernel.workgroup_memory, MOST_WORKGROUP_MEMORY),
        ] {
            if asked > allowed {
                let kernel = kernel.label();
                return Err(Error::Gpu(format!("{label}: kernel {kernel} has {asked} {what}; {allowed} are allowed")));
            }
        }
        Ok(())
    }
}

/// A sequence of launches over virtual buffers.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Buffers, in the order in which they were asked for.
    pub buffers: Vec<BufferSpec>,
    /// All launches, in order.
    pub launches: Vec<Launch>,
    /// Where a launch has put each packed weight.
    pub(super) packed: HashMap<Packing, Packed>,
    /// Where a launch has put each transformed map.
    transformed: HashMap<Transform, View>,
    /// How many operations have been lowered, and how many may pass before a packed weight that none uses is given up; where
    /// somebody counts.
    clock: Option<(usize, usize)>,
}

/// A packed weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    pub(super) view: View,
    /// When it was last used, by the program's clock.
    pub(super) used: usize,
}

impl Program {
    /// Says which operation is lowered now, and that packed weights are given up that no operation has used for more than
    /// `patience`: later ones pack them again.
    pub fn now(&mut self, operation: usize, patience: usize) {
        self.clock = Some((operation, patience));
    }

    /// Where a weight lies packed, if it does still.
    pub(super) fn packed(&mut self, packing: &Packing) -> Option<View> {
        let (now, patience) = self.clock.unwrap_or_default();
        let bounded = self.clock.is_some();
        let packed = self.packed.get_mut(packing).filter(|packed| !bounded || now - packed.used <= patience)?;
        packed.used = now;
        Some(packed.view)
    }

    /// Notes where a weight lies packed.
    pub(super) fn has_packed(&mut self, packing: Packing, view: View) {
        let used = self.clock.map_or(0, |(now, _)| now);
        self.packed.insert(packing, Packed { view, used });
    }

    /// Where a map lies transformed, if it does: several convolutions may read it. Where somebody counts, memory is bounded, and
    /// each has a place of its own, which it gives up at once.
    pub(super) fn transformed(&self, transform: &Transform) -> Option<View> {
        self.transformed.get(transform).copied().filter(|_| self.clock.is_none())
    }

    /// Notes where a map lies transformed.
    pub(super) fn has_transformed(&mut self, transform: Transform, view: View) {
        self.transformed.insert(transform, view);
    }

    /// Adds a buffer.
    pub fn buffer(&mut self, spec: BufferSpec) -> BufferId {
        self.buffers.push(spec);
        BufferId(self.buffers.len() - 1)
    }

    /// The whole of a buffer.
    pub fn whole(&self, buffer: BufferId) -> View {
        View { buffer, offset: 0, bytes: self.buffers[buffer.0].bytes }
    }

    /// A temporary of `count` 4-byte words that only the launches of one operation see.
    pub fn scratch(&mut self, name: &str, area: &str, count: usize) -> View {
        let (name, area) = (format!("scratch.{name}"), area.to_string());
        let spec = BufferSpec { name, bytes: align(4 * count as u64), role: Role::Temporary, area, timestep: None };
        let id = self.buffer(spec);
        self.whole(id)
    }

    /// Adds a launch of the kernel `name`, its grid folded where the adapter asks for that. Panics as [`Program::launch`] does.
    ///
    /// # Errors
    /// When naga refuses the variant.
    pub fn add(
        &mut self,
        target: &Target,
        (name, settings): (&'static str, Settings),
        operands: &[(&'static str, View)],
        params: &[(&str, Param)],
        grid: [usize; 3],
        site: Site,
    ) -> Result<&mut Launch> {
        let (grid, settings) = fold(grid, settings, target);
        let kernel = Kernel::new(name, &settings)?;
        Ok(self.launch(&kernel, operands, params, grid, site))
    }

    /// Adds a launch. Panics when an operand is missing or unknown, or a buffer would be bound both read-only and
    /// read-write: mistakes in the program, not in its input. Returns the launch, so that what few launches have can be set.
    pub fn launch(
        &mut self,
        kernel: &Arc<Kernel>,
        operands: &[(&'static str, View)],
        params: &[(&str, Param)],
        grid: [usize; 3],
        site: Site,
    ) -> &mut Launch {
        let storage = kernel.bindings.iter().filter(|b| b.access != Access::Uniform);
        let mut bound = 0;
        for binding in storage {
            let found = operands.iter().filter(|(name, _)| *name == binding.name).count();
            assert!(found == 1, "{}: `{}` is bound {found} times", kernel.label(), binding.name);
            bound += 1;
        }
        assert!(bound == operands.len(), "{}: unknown operand among {operands:?}", kernel.label());
        let access = |name: &str| kernel.bindings.iter().find(|b| b.name == name).map(|b| b.access);
        for (i, (a, view_a)) in operands.iter().enumerate() {
            for (b, view_b) in &operands[..i] {
                let same = view_a.buffer == view_b.buffer;
                assert!(!same || access(a) == access(b), "{}: {a} and {b} share a buffer", kernel.label());
            }
        }
        self.launches.push(Launch {
            kernel: kernel.clone(),
            operands: operands.to_vec(),
            params: kernel.pack_params(params),
            grid: grid.map(word),
            op: site.op,
            timestep: site.timestep,
            area: site.area.to_string(),
            label: site.label.to_string(),
            operations: 0.0,
            packs_weight: false,
        });
        self.launches.last_mut().expect("it was just added")
    }
}
