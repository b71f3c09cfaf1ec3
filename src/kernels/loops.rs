//! How often the loops of a launch turn. Some lavapipe versions stop a loop beyond 30,000 turns, without a word: longer ones
//! are nested.

use super::kernel::Kernel;

/// Turns that a loop may have.
pub const MOST_TURNS: usize = 30_000;

/// `BLOCK` of `shaders/shared/block.wgsl`: turns after which a nested loop is taken up again by an outer one. The loops of the
/// convolution kernels are nested only where they are longer than this (flag `LONG`), as their text is slow to compile.
pub(super) const BLOCK: usize = 16_384;

/// The turns of the longest loop of a kernel with the bytes of a parameter struct, by these and the constants of the variant. Loops that are written out
/// by the template do not count. Panics on a kernel that is not listed here.
pub fn longest(kernel: &Kernel, params: &[u8]) -> usize {
    let p = |name: &str| {
        let value = kernel.whole_param(params, name);
        value.unwrap_or_else(|| panic!("{}: no whole parameter `{name}`", kernel.label())) as usize
    };
    let constant = |name: &str| {
        let value = kernel.settings.constant(name);
        value.unwrap_or_else(|| panic!("{}: no constant `{name}`", kernel.label())) as usize
    };
    let nested = |turns: usize| turns.div_ceil(BLOCK).max(turns.min(BLOCK));
    let long = |turns: usize| if kernel.settings.is_set("LONG") { nested(turns) } else { turns };
    // Staging of weights in workgroup memory.
    let staged = |per_channel: usize| match kernel.settings.constant("CT") {
        Some(channels) => (channels as usize * per_channel).div_ceil(constant("L")),
        None => 1,
    };
    let turns = match kernel.name {
        "accumulate" | "adam" | "add" | "bench_load" | "modulate" | "modulate_d_drives" | "relu" | "relu_d_input"
        | "scale" => vec![constant("UNROLL")],
        "winograd_d_output" | "winograd_input" => vec![constant("UNROLL")],
        "winograd_output" => vec![constant("UNROLL"), p("cin"), constant("K").pow(2)],
        "avg_pool" | "avg_pool_d_input" => vec![nested(p("pixels"))],
        "bench_fma" => vec![p("turns")],
        "channel_sum" => {
            let stretch = 1024 * constant("L");
            vec![p("steps"), p("length").div_ceil(stretch), 1024, constant("L")]
        }
        "conv2d" => vec![long(p("cin")), constant("K"), constant("R"), staged(constant("K").pow(2) * constant("R"))],
        "conv_transpose2d" => vec![long(p("cin")), constant("K"), constant("R")],
        "conv2d_d_weight" => {
            vec![p("steps"), long(p("blocks").div_ceil(p("splits"))), p("out_h"), constant("COUNT"), constant("L")]
        }
        "conv2d_d_weight_channels" => {
            vec![p("steps"), long(p("per_split")), p("in_h").div_ceil(constant("XROWS")), constant("C")]
        }
        "max_pool" | "max_pool_d_input" => vec![p("in_h").div_ceil(2)],
        "norm_apply" | "norm_d_input" | "norm_d_sums" | "norm_stats" => vec![p("chunk").div_ceil(p("slots"))],
        "norm_d_affine" => vec![p("steps"), nested(p("n"))],
        "norm_merge" => vec![nested(p("chunks")), p("slots")],
        "pack_weight" => vec![(constant("K").pow(2) * constant("R")).div_ceil(constant("L"))],
        "product" => vec![long(p("cin").div_ceil(constant("CU"))), constant("R"), staged(constant("R"))],
        "softmax_ce" | "softmax_ce_d_logits" => vec![nested(p("classes"))],
        "sum_partials" => vec![constant("UNROLL"), nested(p("parts"))],
        "trajectory_classify" => vec![p("timesteps")],
        "trajectory_cosine" => vec![p("features").div_ceil(32)],
        "trajectory_count" | "trajectory_pairs" | "trajectory_tally" => vec![p("width")],
        "trajectory_measure" => vec![nested(p("classes")), p("features").div_ceil(32)],
        "normalise" | "trajectory_pick" | "winograd_weight" => vec![1],
        "winograd_active" => vec![p("steps"), 32, nested(p("n"))],
        "winograd_d_weight" => vec![p("parts"), p("steps"), p("h"), p("w"), nested(p("n"))],
        other => panic!("the loops of kernel `{other}` are not listed"),
    };
    turns.into_iter().max().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Kernel, Settings};

    #[test]
    fn the_text_has_the_same_block() {
        let kernel = Kernel::new("avg_pool", &Settings::new().set("L", 8)).unwrap();
        assert!(kernel.source.contains(&format!("const BLOCK = {BLOCK}u;")));
        assert!(BLOCK <= MOST_TURNS);
    }
}
