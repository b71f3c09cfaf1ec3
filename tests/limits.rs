//! What is planned stays within what adapters allow: grids, loops, workgroup memory, storage buffers, 32-bit indices.

use recurve::graph::compile::{Request, compile};
use recurve::graph::lower::lower;
use recurve::graph::passes::Passes;
use recurve::graph::{Graph, Origin};
use recurve::kernels::choose::{Choices, ConvOp, Key};
use recurve::kernels::conv::ConvShape;
use recurve::kernels::loops::{MOST_TURNS, longest};
use recurve::kernels::{Launch, Program, Target};
use recurve::network::{NetworkConfig, Preset};
use recurve::ops::{Norm, Op};
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
    // No binding is too large here, so that nothing else may be refused either.
    let unbounded = Target { max_binding: u64::MAX, ..target.clone() };
    let indexable = launch.operands.iter().all(|(_, view)| view.bytes <= 4 << 31);
    let fits = launch.fits(&unbounded);
    assert!(fits.is_ok() || !indexable, "{label}: {}", fits.unwrap_err());
}

fn plan(config: &NetworkConfig, batch: usize, target: &Target, what: &str) {
    let (passes, choices) = (Passes::default(), Choices::TABLE);
    let request = Request { config, batch, target, passes, choices, train: true, inspect: false, trajectory: false };
    let compiled = compile(&request).unwrap_or_else(|e| panic!("{what}: {e}"));
    compiled.lowered.program.launches.iter().for_each(|launch| within(launch, target, what));
}

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

#[test]
fn long_lists_stay_within_the_limits() {
    let classes = 1_000_000;
    let (logits, labels) = (vec![classes, 1, 1, 2], vec![2]);
    let norm = Norm { groups: 1, per_channel: false, relu: true };
    let (large, stats) = (vec![64, 1024, 1024, 1], vec![2, 1, 1]);
    let affine = vec![64, 1024, 1024];
    let many = vec![1, 1, 1, 2_000_001];
    let cases: Vec<(Op, Vec<Vec<usize>>)> = vec![
        (Op::SoftmaxCe, vec![logits.clone(), labels.clone()]),
        (Op::SoftmaxCeDLogits, vec![logits.clone(), labels]),
        (Op::Conv2d { k: 1, bias: true, base: false }, vec![vec![16, 1, 1, 2], vec![classes, 16], vec![classes]]),
        (Op::Conv2dDInput { k: 1, base: false }, vec![logits.clone(), vec![classes, 16]]),
        (Op::Conv2dDWeight { k: 1, linear: true }, vec![vec![16, 1, 1, 2], logits]),
        (Op::Conv2d { k: 3, bias: false, base: false }, vec![vec![40_001, 4, 4, 1], vec![5, 40_001, 3, 3]]),
        (Op::ConvTranspose2d { k: 3, bias: false, base: false }, vec![vec![40_001, 4, 4, 1], vec![40_001, 5, 3, 3]]),
        (Op::Conv2dDWeight { k: 3, linear: false }, vec![vec![1024, 3, 40_001, 1], vec![1024, 3, 40_001, 1]]),
        (Op::Conv2d { k: 1, bias: false, base: false }, vec![vec![3, 512, 512, 128], vec![32, 3, 1, 1]]),
        (Op::AvgPool, vec![vec![3, 4096, 4096, 1]]),
        (Op::AvgPoolDInput { h: 4096, w: 4096 }, vec![vec![3, 1, 1, 1]]),
        (Op::ChannelSum, vec![vec![3, 4096, 4096, 4]]),
        (Op::MaxPool, vec![vec![3, 4, 4, 3_000_001]]),
        (Op::MaxPoolDInput { base: false }, vec![vec![3, 4, 4, 3_000_001], vec![3, 2, 2, 3_000_001]]),
        (Op::Norm(norm), vec![large.clone(), affine.clone(), affine.clone()]),
        (Op::NormDInput(norm), vec![large.clone(), stats.clone(), affine, large.clone(), large.clone()]),
        (Op::NormDAffine(norm), vec![large.clone(), stats, large.clone(), large]),
        (Op::NormDAffine(norm), vec![many.clone(), vec![2, 1, 2_000_001], many.clone(), many.clone()]),
        (Op::Norm(norm), vec![many, vec![1], vec![1]]),
    ];
    for target in targets() {
        for (op, inputs) in &cases {
            let what = format!("{op:?} {inputs:?}, subgroup {}", target.subgroup);
            operation(&target, *op, inputs).launches.iter().for_each(|launch| within(launch, &target, &what));
        }
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
                for (op, inputs) in [
                    (Op::Conv2d { k, bias: false, base }, vec![map.clone(), weight.clone()]),
                    (Op::Conv2dDInput { k, base }, vec![y.clone(), weight]),
                    (Op::Conv2dDWeight { k, linear: false }, vec![map.clone(), y]),
                    (Op::ConvTranspose2d { k, bias: false, base }, vec![map.clone(), transposed.clone()]),
                    (Op::ConvTranspose2dDInput { k, base }, vec![large.clone(), transposed]),
                    (Op::ConvTranspose2dDWeight { k }, vec![map, large]),
                ] {
                    let what = format!("{op:?} {inputs:?}, cpu {}, subgroup {}", target.cpu, target.subgroup);
                    operation(&target, op, &inputs).launches.iter().for_each(|launch| within(launch, &target, &what));
                }
            }
        }
    }
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
                let chosen = Choices::TABLE.variant(&target, &Key { op, shape, steps: 1 });
                assert!(chosen.serves(op), "{op:?} k {k}: {chosen}");
            }
        }
    }
}
