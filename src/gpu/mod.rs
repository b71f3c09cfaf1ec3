//! The only module that imports wgpu: adapters, device, pipelines, buffers, and the replay of a planned program.

mod device;
mod recording;
mod rings;
mod timer;
mod wait;
mod warm;

pub use device::{FEATURES, Gpu, Options, Smaller, adapters, driver, in_turn, target};
pub use recording::{Recording, Store};
pub use rings::Reading;
pub use timer::{Timer, Timing, time_nothing};
pub use wait::Mark;
pub use warm::compile_ahead;
