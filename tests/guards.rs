//! No kernel writes behind the end of a buffer. Bindings and checked indices would hide it, so buffers and bindings are made
//! longer here than the launches know, and what lies behind their ends is looked at after the run.

use pollster::FutureExt;
use recurve::check::rows::cases;
use recurve::gpu::{Gpu, Options, Recording, Store};
use recurve::graph::lower::lower;
use recurve::graph::plan::Plan;
use recurve::graph::precision::packed;
use recurve::kernels::{BufferSpec, Kernel, Program, Role, Settings, Site, View, align};
use std::collections::HashMap;

/// Bytes behind each buffer.
const GUARD: u64 = 256;
/// What they hold: no number that a kernel computes.
const SENTINEL: u32 = 0xDEAD_BEEF;

/// Makes each buffer longer than what its launches know of it, and the bindings that end there with it; returns what was added.
fn guarded(program: &mut Program) -> Vec<View> {
    let mut ends = vec![0; program.buffers.len()];
    for (_, view) in program.launches.iter().flat_map(|launch| &launch.operands) {
        ends[view.buffer.0] = (view.offset + view.bytes).max(ends[view.buffer.0]);
    }
    for spec in &mut program.buffers {
        spec.bytes = align(spec.bytes) + GUARD;
    }
    let sizes: Vec<u64> = program.buffers.iter().map(|spec| spec.bytes).collect();
    let mut guards: HashMap<usize, View> = HashMap::new();
    for (_, view) in program.launches.iter_mut().flat_map(|launch| &mut launch.operands) {
        let (end, size) = (ends[view.buffer.0], sizes[view.buffer.0]);
        if view.offset + view.bytes == end {
            view.bytes = size - view.offset;
            guards.insert(view.buffer.0, View { buffer: view.buffer, offset: end, bytes: size - end, half: false });
        }
    }
    guards.into_values().collect()
}

/// Runs a program whose inputs hold these words; whether all guards are as they were.
fn keeps_to_its_buffers(gpu: &Gpu, mut program: Program, inputs: &[(View, Vec<u32>)]) -> bool {
    let guards = guarded(&mut program);
    assert!(!guards.is_empty(), "no binding reaches the end of its buffer");
    let plan = Plan::new(&program, false);
    let recording = Recording::new(gpu, &program, &plan, &mut Store::default()).block_on().unwrap();
    recording.poison(gpu, &program);
    for (view, words) in inputs {
        recording.write(gpu, *view, words);
    }
    for guard in &guards {
        recording.write(gpu, *guard, &vec![SENTINEL; guard.bytes as usize / 4]);
    }
    recording.run(gpu);
    guards
        .iter()
        .all(|guard| recording.read::<u32>(gpu, *guard).block_on().unwrap().iter().all(|word| *word == SENTINEL))
}

/// Rule `ends`.
#[test]
fn no_kernel_writes_behind_the_end_of_a_buffer() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let mut seen = 0;
    for case in cases(&gpu.target) {
        let lowered = lower(&case.graph, &gpu.target, &case.choices, Program::default(), &HashMap::new()).unwrap();
        let words = |view: View, values: &[f32]| match view.half {
            true => packed(values),
            false => values.iter().map(|value| value.to_bits()).collect(),
        };
        let inputs = case.inputs.iter().map(|(value, values)| (lowered.view(*value), values));
        let inputs: Vec<(View, Vec<u32>)> = inputs.map(|(view, values)| (view, words(view, values))).collect();
        assert!(keeps_to_its_buffers(&gpu, lowered.program, &inputs), "{} [{}]", case.name, case.kind);
        seen += 1;
    }
    assert!(seen > 500, "only {seen} cases");
}

#[test]
fn a_launch_that_is_too_long_is_found() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let kernel = Kernel::new("relu", &Settings::new().set("L", 64).set("UNROLL", 1)).unwrap();
    let program = |count: usize| {
        let mut program = Program::default();
        let [x, y] = [Role::Input, Role::Output].map(|role| {
            let (name, area) = (format!("{role:?}"), String::new());
            let id = program.buffer(BufferSpec { name, bytes: 256, role, area, timestep: None });
            View { bytes: 60 * 4, ..program.whole(id) }
        });
        let operands = [("x", x), ("y", y)];
        program.launch(&kernel, &operands, &[("count", count.into())], [1, 1, 1], Site::of("relu", ""));
        (program, [(x, vec![1.0_f32.to_bits(); 60])])
    };
    for (count, keeps) in [(60, true), (61, false), (64, false)] {
        let (program, inputs) = program(count);
        assert_eq!(keeps_to_its_buffers(&gpu, program, &inputs), keeps, "{count} of 60 values");
    }
}
