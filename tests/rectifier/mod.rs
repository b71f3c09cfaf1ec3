//! A program of one launch.

use recurve::kernels::{BufferSpec, Kernel, Program, Role, Settings, Site, View};

/// One launch that rectifies 64 numbers.
pub fn rectifier() -> (Program, [View; 2]) {
    let mut program = Program::default();
    let views = [("x", Role::Input), ("y", Role::Output)].map(|(name, role)| {
        let (name, area) = (name.to_string(), String::new());
        let id = program.buffer(BufferSpec { name, bytes: 256, role, area, timestep: None });
        program.whole(id)
    });
    let kernel = Kernel::new("relu", &Settings::new().set("L", 64).set("UNROLL", 1)).unwrap();
    let operands = [("x", views[0]), ("y", views[1])];
    program.launch(&kernel, &operands, &[("count", 64usize.into())], [1, 1, 1], Site::of("relu", ""));
    (program, views)
}
