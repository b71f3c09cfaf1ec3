//! From operation to launch: kernel texts and their variants, tiles, grid arithmetic, parameter structs.

pub mod choose;
pub mod conv;
mod kernel;
mod launch;
mod template;
pub mod winograd;

pub use kernel::{Access, Binding, Kernel, Param, capabilities};
pub use launch::{ALIGNMENT, BufferId, BufferSpec, Launch, Program, Role, Site, Target, View, align};
pub use template::Settings;

macro_rules! texts {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../shaders/", $folder, $name, ".wgsl")))),*]
    };
}

/// Every kernel file, by name.
pub const TEXTS: &[(&str, &str)] = texts!("":
    "accumulate",
    "adam",
    "add",
    "avg_pool",
    "avg_pool_d_input",
    "bench_fma",
    "bench_load",
    "channel_sum",
    "conv2d",
    "conv2d_d_weight",
    "conv2d_d_weight_channels",
    "conv_transpose2d",
    "max_pool",
    "max_pool_d_input",
    "modulate",
    "modulate_d_drives",
    "norm_apply",
    "norm_d_affine",
    "norm_d_input",
    "norm_d_sums",
    "norm_merge",
    "norm_stats",
    "normalise",
    "pack_weight",
    "product",
    "relu",
    "relu_d_input",
    "scale",
    "softmax_ce",
    "softmax_ce_d_logits",
    "sum_partials",
    "trajectory_classify",
    "trajectory_cosine",
    "trajectory_count",
    "trajectory_measure",
    "trajectory_pairs",
    "trajectory_pick",
    "trajectory_tally",
    "winograd_d_output",
    "winograd_d_weight",
    "winograd_input",
    "winograd_output",
    "winograd_weight",
);
/// Helpers that more than one kernel includes.
const SHARED: &[(&str, &str)] = texts!("shared/": "each", "exponentials", "positive", "rows", "tile_bindings", "tile_start", "tile_store", "trajectory", "vectors", "winograd_panels");

fn find(texts: &'static [(&str, &str)], name: &str) -> &'static str {
    texts.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no kernel text `{name}`")).1
}

fn text(name: &str) -> &'static str {
    find(TEXTS, name)
}

fn shared_text(name: &str) -> &'static str {
    find(SHARED, name)
}

/// FNV-1a, 64 bits.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// A hash of all that decides what a kernel variant is and does: texts, launches, list of variants.
pub fn fingerprint() -> u64 {
    let program = [
        include_str!("conv.rs"),
        include_str!("choose.rs"),
        include_str!("template.rs"),
        include_str!("winograd.rs"),
        include_str!("../ops/convolution.rs"),
    ];
    let texts = TEXTS.iter().chain(SHARED).flat_map(|(name, text)| [*name, *text]);
    fnv1a(texts.chain(program).collect::<Vec<_>>().join("\n").as_bytes())
}
