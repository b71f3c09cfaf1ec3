//! Every kernel variant of every kind of adapter is portable: within WebGPU's default limits, and accepted by the writers of
//! SPIR-V, MSL and HLSL.

use recurve::check::shaders::{Language, all_kernels, translate};
use recurve::kernels::{Access, Kernel, TEXTS, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// All variants for adapters without subgroups and with each size, on CPUs and GPUs.
fn everywhere() -> BTreeMap<String, Arc<Kernel>> {
    // Software drivers have subgroups of 4 (SwiftShader, lavapipe on narrow CPUs) or 8 (lavapipe), GPUs of 32 or 64.
    let targets = [
        (0, true, "WARP", false),
        (0, false, "", true),
        (4, true, "SwiftShader driver", false),
        (4, true, "llvmpipe", true),
        (8, true, "llvmpipe", true),
        (8, true, "llvmpipe", false),
        (32, false, "", true),
        (64, false, "", false),
    ];
    let lists = std::thread::scope(|scope| {
        let threads =
            targets.map(|(subgroup, cpu, driver, int64)| scope.spawn(move || on(subgroup, cpu, driver, int64)));
        threads.map(|thread| thread.join().expect("no panic"))
    });
    lists.into_iter().flatten().map(|k| (k.label(), k)).collect()
}

fn on(subgroup: u32, cpu: bool, driver: &str, int64: bool) -> Vec<Arc<Kernel>> {
    let target = Target { subgroup, cpu, int64, driver: driver.into(), ..Target::minimum() };
    let kernels = all_kernels(&target).unwrap_or_else(|e| panic!("subgroup {subgroup}, cpu {cpu}: {e}"));
    let has = kernels.iter().any(|k| k.subgroups);
    assert_eq!(has, subgroup > 0, "subgroup operations on an adapter with subgroups of {subgroup}");
    // Words of 64 bits are naga's own: only where a driver loads lane by lane and has them, and never without.
    let wide: BTreeSet<&str> = kernels.iter().filter(|k| k.int64).map(|k| k.name).collect();
    assert_eq!(!wide.is_empty(), cpu && int64, "64-bit words on {driver} with subgroups of {subgroup}: {wide:?}");
    for name in WIDE.into_iter().filter(|_| cpu && int64) {
        assert!(wide.contains(name), "no variant of {name} loads words of 64 bits");
    }
    for (name, _) in TEXTS {
        assert!(kernels.iter().any(|k| k.name == *name), "no variant of {name} is listed");
    }
    kernels
}

/// Kernels that load vectors of images or weights, and so have variants that load them as words of 64 bits.
const WIDE: [&str; 17] = [
    "accumulate",
    "add",
    "clip",
    "conv2d",
    "conv2d_d_weight_channels",
    "conv_transpose2d",
    "max_pool",
    "max_pool_d_input",
    "modulate",
    "modulate_d_drives",
    "product",
    "relu",
    "relu_d_input",
    "scale",
    "winograd_d_output",
    "winograd_d_weight",
    "winograd_input",
];

/// Rule `portable`.
#[test]
fn every_variant_is_portable() {
    let all = everywhere();
    println!("{} variants", all.len());
    let all: Vec<Arc<Kernel>> = all.into_values().collect();
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for part in all.chunks(all.len().div_ceil(threads)) {
            scope.spawn(|| part.iter().for_each(|kernel| check(kernel)));
        }
    });
}

fn check(kernel: &Kernel) {
    let label = kernel.label();
    let storage = kernel.bindings.iter().filter(|b| b.access != Access::Uniform).count();
    assert!(storage <= 8, "{label}: {storage} storage buffers");
    let invocations: u32 = kernel.workgroup.iter().product();
    assert!(invocations <= 256, "{label}: {invocations} invocations");
    assert!(kernel.workgroup[2] <= 64, "{label}: {:?}", kernel.workgroup);
    assert!(kernel.workgroup_memory <= 16 << 10, "{label}: {} bytes of workgroup memory", kernel.workgroup_memory);
    assert!(kernel.params_size <= 64 << 10, "{label}");
    let comments: Vec<&str> = kernel.source.lines().filter_map(|line| line.trim().strip_prefix("//")).collect();
    let text: String = comments.iter().skip_while(|line| !line.trim().starts_with("Constants:")).copied().collect();
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for name in kernel.settings.names() {
        assert!(words.contains(&name), "{label}: the text does not say what {name} is");
    }
    let bytes = |to| translate(kernel, to).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(bytes(Language::Spirv)[..4], 0x0723_0203_u32.to_le_bytes(), "{label}: SPIR-V's magic number");
    for (to, entry) in [(Language::Msl, "kernel void"), (Language::Hlsl, "[numthreads(")] {
        let text = String::from_utf8(bytes(to)).expect("text");
        assert!(text.contains(entry), "{label}: no entry point in {to:?}");
    }
    assert_eq!(kernel.subgroups, kernel.source.contains("subgroup_invocation_id"), "{label}");
    assert_eq!(kernel.int64, kernel.source.contains("u64("), "{label}");
}
