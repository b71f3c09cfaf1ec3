//! What is planned stays within what adapters allow: grids, loops, workgroup memory, storage buffers, 32-bit indices.

use recurve::check::rows::{ROWS, Shaped};
use recurve::graph::compile::{Request, compile};
use recurve::graph::fit::{best_parts, fits, largest_batch};
use recurve::graph::lower::lower;
use recurve::graph::{Graph, Origin};
use recurve::kernels::choose::{Choices, ConvOp, Key, Variant};
use recurve::kernels::conv::ConvShape;
use recurve::kernels::loops::{MOST_TURNS, longest};
use recurve::kernels::pace::{LONGEST, Pace};
use recurve::kernels::{Launch, Program, Target};
use recurve::network::{NetworkConfig, Preset, Schedule};
use recurve::ops::*;
use std::collections::HashMap;

/// GPUs without subgroups and with fixed ones, large and small bindings; lavapipe; SwiftShader; CPUs without subgroups.
fn targets() -> Vec<Target> {
    let gpu =
        |subgroup: u32, max_binding: u64| Target { subgroup, max_binding, max_buffer: 1 << 40, ..Target::minimum() };
    let cpu = |subgroup: u32, driver: &str| Target {
        cpu: true,
        driver: driver.into(),
        max_buffer: 1 << 40,
        ..gpu(subgroup, 1 << 30)
    };
    vec![
        gpu(0, 2 << 30),
        gpu(32, 2 << 30),
        gpu(0, (4 << 30) - 1),
        gpu(32, (4 << 30) - 1),
        cpu(8, "llvmpipe"),
        cpu(4, "llvmpipe"),
        Target { int64: true, ..cpu(8, "llvmpipe (LLVM 15.0.6)") },
        Target { int64: true, avx512: true, gathers: true, ..cpu(8, "llvmpipe (LLVM 19.1.7)") },
        cpu(4, "SwiftShader driver"),
        cpu(0, "WARP"),
    ]
}

/// Asserts that a launch stays within the adapter's limits; bindings may honestly be too large.
fn within(launch: &Launch, target: &Target, what: &str) {
    let label = format!("{what}: {} ({})", launch.label, launch.kernel.label());
    assert!(launch.grid.iter().all(|&g| (1..=target.max_grid).contains(&g)), "{label}: grid {:?}", launch.grid);
    let turns = longest(&launch.kernel, &launch.params);
    assert!(turns <= MOST_TURNS, "{label}: a loop of {turns} turns");
    // No binding is too large here and no dispatch too long, so that nothing else may be refused either.
    let unbounded = Target { max_binding: u64::MAX, pace: None, ..target.clone() };
    let indexable = launch.operands.iter().all(|(_, view)| view.bytes <= 4 << 31);
    let fits = launch.fits(&unbounded);
    assert!(fits.is_ok() || !indexable, "{label}: {}", fits.unwrap_err());
}

fn plan(config: &NetworkConfig, batch: usize, target: &Target, what: &str) {
    let (network, schedule) = (config.network(), Schedule::plain(config.timesteps));
    let request = Request::training(&network, &schedule, batch, target);
    let compiled = compile(&request).unwrap_or_else(|e| panic!("{what}: {e}"));
    compiled.program.launches.iter().for_each(|launch| within(launch, target, what));
}

/// Rule `limits`.
#[test]
fn every_preset_stays_within_the_limits_at_every_batch() {
    for target in targets() {
        for preset in Preset::ALL {
            for batch in [1, 2, 28, 64, 256, 1024] {
                let what = format!("{} batch {batch}, subgroup {}", preset.name(), target.subgroup);
                plan(&preset.network(), batch, &target, &what);
            }
        }
    }
}

/// Rule `loops`.
#[test]
fn large_maps_stay_within_the_limits() {
    let config = NetworkConfig { image_size: 256, stem_channels: 64, ..Preset::Blt128.network() };
    for target in targets() {
        for batch in [1, 28, 1000] {
            plan(&config, batch, &target, &format!("256 px, batch {batch}, subgroup {}", target.subgroup));
        }
    }
}

/// The launches of one operation on inputs of the given shapes.
fn operation(target: &Target, op: Op, inputs: &[Vec<usize>]) -> Program {
    let mut graph = Graph::default();
    let inputs: Vec<_> = inputs.iter().map(|shape| graph.value("x", shape, Origin::Input, "op", None)).collect();
    graph.outputs = graph.node(op, &inputs, "y", "op", 0);
    lower(&graph, target, Choices::TABLE, Program::default(), &HashMap::new()).expect("lowers").program
}

/// Rule `limits`.
#[test]
fn large_operations_stay_within_the_limits() {
    for target in targets() {
        for row in ROWS {
            let large = row.large();
            assert!(!large.is_empty(), "{} has no large shape", row.names()[0]);
            for Shaped { op, inputs } in large {
                let what = format!("{op:?} {inputs:?}, subgroup {}", target.subgroup);
                operation(&target, op, &inputs).launches.iter().for_each(|launch| within(launch, &target, &what));
            }
        }
    }
}

/// Rule `time`.
#[test]
fn what_takes_too_long_a_time_is_sliced_or_refused() {
    let network = Preset::Blt128.network().network();
    let schedule = Schedule::plain(network.timesteps);
    let of = |pace| Target { max_binding: (4 << 30) - 1, max_buffer: 1 << 40, pace, ..Target::minimum() };
    for pace in [Pace::INTEGRATED, Pace::DISCRETE] {
        let [bounded, free] = [Some(pace), None].map(of);
        let longest = |target: &Target, batch: usize| {
            let program = compile(&Request::training(&network, &schedule, batch, target)).unwrap().program;
            assert!(program.launches.iter().all(|launch| launch.operations > 0.0), "somebody says of every launch");
            program.launches.iter().map(|launch| pace.seconds(launch)).fold(0.0, f64::max)
        };
        let request = Request::training(&network, &schedule, 1, &bounded);
        let largest = largest_batch(&request).unwrap();
        assert!(largest > 10, "{largest}");
        // All that fits in one timestep is sliced, and would not be without the bound.
        assert!(longest(&bounded, largest) <= LONGEST && longest(&free, largest) > LONGEST, "{pace:?}, {largest}");
        assert!(longest(&bounded, largest + 1) > LONGEST, "{pace:?}, {largest}");
        let request = Request { batch: largest + 1, ..request };
        let error = fits(&compile(&request).unwrap(), &request).unwrap_err().to_string();
        for word in ["predicted", "1.0 s", &format!("largest batch that fits is {largest}")] {
            assert!(error.contains(word), "`{word}` is missing: {error}");
        }
        assert_eq!(best_parts(&request, 2 * largest, 1).unwrap(), 2);
        let free = Request { target: &free, ..request };
        fits(&compile(&free).unwrap(), &free).expect("nothing else is in the way");
    }
}

#[test]
fn every_odd_kernel_has_a_variant_that_fits() {
    for target in targets() {
        for k in (1..=31).step_by(2) {
            for (c, n) in [(3, 1), (64, 4)] {
                let (map, large, weight) = (vec![c, 8, 8, n], vec![32, 16, 16, n], vec![32, c, k, k]);
                let (y, transposed) = (vec![32, 8, 8, n], vec![c, 32, k, k]);
                let base = false;
                let cases: [(Op, Vec<Vec<usize>>); 6] = [
                    (Conv2d { k, stride: 1, bias: false, base }.into(), vec![map.clone(), weight.clone()]),
                    (Conv2dDInput { k, stride: 1, base }.into(), vec![y.clone(), weight]),
                    (Conv2dDWeight { k, stride: 1, linear: false }.into(), vec![map.clone(), y]),
                    (ConvTranspose2d { k, stride: 2, bias: false, base }.into(), vec![map.clone(), transposed.clone()]),
                    (ConvTranspose2dDInput { k, stride: 2, base }.into(), vec![large.clone(), transposed]),
                    (ConvTranspose2dDWeight { k, stride: 2 }.into(), vec![map, large]),
                ];
                for (op, inputs) in cases {
                    let what = format!("{op:?} {inputs:?}, cpu {}, subgroup {}", target.cpu, target.subgroup);
                    operation(&target, op, &inputs).launches.iter().for_each(|launch| within(launch, &target, &what));
                }
            }
        }
    }
}

/// Wide loads cost a processor that gathers more than plain ones, in convolutions and products (docs/performance.md).
#[test]
fn convolutions_load_plain_numbers_where_the_processor_gathers() {
    let of = |gathers| {
        let target = Target { cpu: true, subgroup: 8, int64: true, avx512: true, gathers, ..Target::minimum() };
        let shape = |k| ConvShape::same(16, 64, 128, 32, 32, k);
        let key = |op, k| Key { op, shape: shape(k), steps: 1, half: false };
        let keys = [(ConvOp::Conv2d, 1), (ConvOp::Conv2d, 3), (ConvOp::Conv2d, 5), (ConvOp::Conv2dDWeight, 3)];
        assert!(Choices::TABLE.wide(&target), "what passes over a map once");
        keys.map(|(op, k)| match Choices::TABLE.variant(&target, &key(op, k)) {
            Variant::Conv(tile) => tile.wide,
            Variant::Weight(tile) => tile.wide,
        })
    };
    assert_eq!((of(false), of(true)), ([true; 4], [false; 4]));
}

#[test]
fn what_the_table_chooses_is_listed() {
    for target in targets() {
        for k in (1..=31).step_by(2) {
            for (op, shape) in [
                (ConvOp::Conv2d, ConvShape::same(3, 5, 7, 9, 9, k)),
                (ConvOp::Conv2d, ConvShape::strided(3, 5, 7, [9, 9], k, 4)),
                (ConvOp::ConvTranspose2d, ConvShape::transposed(3, 5, 7, [9, 9], k, 2)),
            ] {
                let chosen = Choices::TABLE.variant(&target, &Key { op, shape, steps: 1, half: false });
                assert!(chosen.serves(op), "{op:?} k {k}: {chosen}");
            }
        }
    }
}
