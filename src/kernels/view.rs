//! Buffers by size and role, and ranges of them.

/// Bindings start at multiples of this many bytes (WebGPU's default `minStorageBufferOffsetAlignment`).
pub const ALIGNMENT: u64 = 256;

/// Rounds up to [`ALIGNMENT`].
pub fn align(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT)
}

/// Index into [`super::Program::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BufferId(pub usize);

/// How long the content of a buffer matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Written by the host before each run.
    Input,
    /// Shared by name between programs and kept from run to run: parameters, their gradients and moments, what the host feeds.
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
    /// Who writes it, and how long its content is kept.
    pub role: Role,
    /// Area of the network that it belongs to, for the memory table.
    pub area: String,
    /// Timestep that it belongs to, if to one.
    pub timestep: Option<usize>,
}

/// A range of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// The buffer that holds it.
    pub buffer: BufferId,
    /// Bytes from its start, a multiple of [`ALIGNMENT`].
    pub offset: u64,
    /// How many bytes it covers.
    pub bytes: u64,
    /// Whether it holds numbers of f16, two to a word (`shaders/shared/half.wgsl`); else of f32 or whole ones.
    pub half: bool,
}

impl View {
    /// Bytes of a number.
    pub fn width(self) -> u64 {
        if self.half { 2 } else { 4 }
    }

    /// The range from the number `first` on, `count` numbers long, or to the end. Panics beyond the end.
    pub fn part(self, first: usize, count: Option<usize>) -> View {
        let skipped = self.width() * first as u64;
        let bytes = count.map_or_else(|| self.bytes.saturating_sub(skipped), |count| self.width() * count as u64);
        assert!(bytes > 0 && skipped + bytes <= self.bytes, "{count:?} numbers from number {first} of {self:?}");
        View { offset: self.offset + skipped, bytes, ..self }
    }
}
