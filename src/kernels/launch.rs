//! What is to be run, before any device is touched: buffers by size and role, and launches in order.

use super::conv::Packing;
use super::kernel::{Access, Kernel, Param};
use std::collections::HashMap;
use std::sync::Arc;

/// Bindings start at multiples of this many bytes (WebGPU's default `minStorageBufferOffsetAlignment`).
pub const ALIGNMENT: u64 = 256;

/// Rounds up to [`ALIGNMENT`].
pub fn align(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Index into [`Program::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// How long the content of a buffer matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Written by the host before each run.
    Input,
    /// Shared by name between programs and kept from run to run: parameters, gradients, optimiser state.
    Persistent,
    /// Read by the host after a run: must not share its slot with a later value.
    Output,
    /// Lives from the first launch that writes it to the last that reads it; slots are reused.
    Temporary,
}

/// A buffer of a program.
#[derive(Clone, Debug)]
pub struct BufferSpec {
    /// Unique for persistent buffers; a label otherwise.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Lifetime class.
    pub role: Role,
    /// Area of the network that it belongs to, for the memory table.
    pub area: String,
    /// Timestep that it belongs to, if to one.
    pub timestep: Option<usize>,
}

/// A range of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The buffer.
    pub buffer: BufferId,
    /// Bytes from its start, a multiple of [`ALIGNMENT`].
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
}

/// One dispatch.
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
    /// For people: operation, value and timestep, as in `conv2d v2.b t=1`.
    pub label: String,
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

/// A sequence of launches over virtual buffers.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// All buffers.
    pub buffers: Vec<BufferSpec>,
    /// All launches, in order.
    pub launches: Vec<Launch>,
    /// Where a launch has put each packed weight.
    pub packed: HashMap<Packing, View>,
}

impl Program {
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

    /// Adds a launch. Panics when an operand is missing or unknown, or a buffer would be bound both read-only and
    /// read-write: mistakes in the program, not in its input. Gives it for what few launches have.
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
            grid: grid.map(|g| u32::try_from(g).expect("grids are below 2^32")),
            op: site.op,
            timestep: site.timestep,
            area: site.area.to_string(),
            label: site.label.to_string(),
            packs_weight: false,
        });
        self.launches.last_mut().expect("it was just added")
    }
}

/// Facts about an adapter that decide which variants can run and which is chosen. Plain data, so that everything up
/// to the memory plan works (and is tested) without a device.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Target {
    /// Adapter name.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Whether it is a CPU (lavapipe, SwiftShader, WARP).
    pub cpu: bool,
    /// The subgroup size if subgroup operations are available and the size cannot vary; else 0.
    pub subgroup: u32,
    /// Largest range of a buffer that one binding may cover, bytes.
    pub max_binding: u64,
    /// Largest buffer, bytes.
    pub max_buffer: u64,
    /// Largest grid in one dimension.
    pub max_grid: u32,
}

impl Target {
    /// WebGPU's guaranteed minimum: what every adapter offers.
    pub fn minimum() -> Target {
        Target {
            name: "WebGPU defaults".into(),
            driver: String::new(),
            cpu: false,
            subgroup: 0,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            max_grid: 65_535,
        }
    }
}
