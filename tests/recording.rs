//! A recording that poisons what has served its purpose shows faults of a plan that a plain run computes right, by luck.

use pollster::FutureExt;
use recurve::gpu::{Gpu, Options, Recording, Store};
use recurve::graph::checker;
use recurve::graph::plan::Plan;
use recurve::kernels::{BufferSpec, Kernel, Program, Role, Settings, Site};

/// Rule `poison`.
#[test]
fn a_slot_shared_too_early_shows_as_nan() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let mut program = Program::default();
    let [x, a, b, of_b, of_a] =
        [Role::Input, Role::Temporary, Role::Temporary, Role::Output, Role::Output].map(|role| {
            let (name, area) = (format!("{role:?} {}", program.buffers.len()), String::new());
            let id = program.buffer(BufferSpec { name, bytes: 256, role, area, timestep: None });
            program.whole(id)
        });
    let kernel = Kernel::new("relu", &Settings::new().set("L", 64).set("UNROLL", 1)).unwrap();
    for (from, to) in [(x, a), (x, b), (b, of_b), (a, of_a)] {
        program.launch(
            &kernel,
            &[("x", from), ("y", to)],
            &[("count", 64usize.into())],
            [1, 1, 1],
            Site::of("relu", ""),
        );
    }
    let sound = Plan::new(&program, true);
    checker::check(&program, &sound).unwrap();
    // a and b hold the same numbers: in one slot, b stands for a.
    let mut shared = sound.clone();
    shared.slot_of[b.buffer.0] = shared.slot_of[a.buffer.0];
    assert!(checker::check(&program, &shared).is_err());
    let values: Vec<f32> = (0..64).map(|i| i as f32 - 20.0).collect();
    let rectified: Vec<f32> = values.iter().map(|v| if *v > 0.0 { *v } else { 0.0 }).collect();
    let run = |plan: &Plan, poisoned: bool| -> Vec<f32> {
        let recording = Recording::new(&gpu, &program, plan, &mut Store::default()).block_on().unwrap();
        recording.poison(&gpu, &program);
        recording.write(&gpu, x, &values);
        if poisoned {
            recording.run_poisoned(&gpu, &program)
        } else {
            recording.run(&gpu)
        }
        assert_eq!(
            recording.read::<f32>(&gpu, of_b).block_on().unwrap(),
            rectified,
            "the other output is right in any case"
        );
        recording.read(&gpu, of_a).block_on().unwrap()
    };
    assert_eq!(run(&sound, false), rectified);
    assert_eq!(run(&sound, true), rectified);
    assert_eq!(run(&shared, false), rectified, "the fault is there, and a plain run does not see it");
    assert!(run(&shared, true).iter().all(|v| v.is_nan()), "the poisoned run does");
}
