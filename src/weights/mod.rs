//! Ways in and out for weights: state dicts of PyTorch and safetensors files become run folders, and run folders become such
//! files.
//!
//! ```text
//! pickle      walks through a pickle without executing it and names what it would call
//! published   what the name of a published file says
//! infer       tensors' shapes, name and flags to the network that they belong to
//! read        a file to named tensors of f32, out of their wrappings
//! import      all of this, to a run folder
//! write       the tensors of a checkpoint to a file
//! ```
//!
//! No code of a file is ever run: a pickle that names anything but what rebuilds tensors and plain containers is refused.

mod import;
mod infer;
mod pickle;
mod published;
mod read;
mod write;

pub use import::{ImportOptions, Imported, import};
pub use infer::{Flags, infer};
pub use published::PublishedName;
pub use read::{StateDict, read};
pub use write::{Form, encode, write};
