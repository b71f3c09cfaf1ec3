//! From operation to launch: kernel texts and their variants, tiles, grid arithmetic, parameter structs.

pub mod choose;
pub mod conv;
pub mod grid;
mod interpolation;
mod kernel;
pub mod loops;
pub mod pace;
mod packing;
mod program;
mod target;
mod template;
mod view;

pub use kernel::{Access, Binding, Kernel, Param, capabilities};
pub use program::{Launch, Program, Site};
pub use target::Target;
pub use template::Settings;
pub use view::{ALIGNMENT, BufferId, BufferSpec, Role, View, align};

use crate::hash::fnv1a;

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
    "clip",
    "clip_factor",
    "conv2d",
    "conv2d_d_weight",
    "conv2d_d_weight_channels",
    "conv_transpose2d",
    "dynamics_add",
    "dynamics_between",
    "dynamics_clear",
    "dynamics_compact",
    "dynamics_distances",
    "dynamics_dots",
    "dynamics_extent",
    "dynamics_extras",
    "dynamics_fold",
    "dynamics_gather",
    "dynamics_half",
    "dynamics_keep",
    "dynamics_margin",
    "dynamics_near",
    "dynamics_norms",
    "dynamics_pack",
    "dynamics_pairs",
    "dynamics_project",
    "dynamics_rows",
    "dynamics_scatter",
    "dynamics_score",
    "dynamics_shift",
    "dynamics_tally",
    "ladder_plain",
    "max_pool",
    "max_pool_d_input",
    "measured_lengths",
    "measured_outputs",
    "measured_short",
    "measured_turns",
    "modulate",
    "modulate_d_drives",
    "norm",
    "norm_d_affine",
    "norm_d_input",
    "normalise",
    "pack_weight",
    "product",
    "relu",
    "relu_d_input",
    "scale",
    "softmax_ce",
    "softmax_ce_d_logits",
    "square_sum",
    "sum_partials",
    "trajectory_classify",
    "trajectory_compact",
    "trajectory_count",
    "trajectory_pair_sums",
    "trajectory_pairs",
    "trajectory_pick",
    "trajectory_tally",
    "winograd_active",
    "winograd_d_output",
    "winograd_d_weight",
    "winograd_input",
    "winograd_met",
    "winograd_output",
    "winograd_weight",
);
/// Helpers that more than one kernel includes.
const SHARED: &[(&str, &str)] = texts!("shared/": "block", "compensated", "doubt", "dynamics_batch", "each", "exceeds", "exponentials", "fold", "halves", "meet", "pair", "parts", "positive", "rows", "short", "stored", "tile_bindings", "tile_start", "tile_store", "trajectory", "vectors", "winograd_panels");

fn find(texts: &'static [(&str, &str)], name: &str) -> &'static str {
    texts.iter().find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no kernel text `{name}`")).1
}

fn text(name: &str) -> &'static str {
    find(TEXTS, name)
}

fn shared_text(name: &str) -> &'static str {
    find(SHARED, name)
}

/// A hash of all that decides what a kernel variant is and does: texts, launches, list of variants.
pub fn fingerprint() -> u64 {
    let program = [
        include_str!("choose/choices.rs"),
        include_str!("choose/table.rs"),
        include_str!("choose/variants.rs"),
        include_str!("conv/d_weight.rs"),
        include_str!("conv/d_weight_transformed.rs"),
        include_str!("conv/forward.rs"),
        include_str!("conv/pack.rs"),
        include_str!("conv/product.rs"),
        include_str!("conv/tile.rs"),
        include_str!("conv/winograd.rs"),
        include_str!("grid.rs"),
        include_str!("interpolation.rs"),
        include_str!("template.rs"),
        include_str!("../ops/context.rs"),
        include_str!("../ops/convolution.rs"),
    ];
    let texts = TEXTS.iter().chain(SHARED).flat_map(|(name, text)| [*name, *text]);
    fnv1a(texts.chain(program).collect::<Vec<_>>().join("\n").as_bytes())
}
