//! The only module that imports wgpu: adapters, device, pipelines, buffers, and the replay of a planned program.

mod device;
mod recording;
mod timer;
mod warm;

pub use device::{Gpu, Options, adapters, driver, target};
pub use recording::{Reading, Recording, Store, read};
pub use timer::{Timer, Timing, time_nothing};
