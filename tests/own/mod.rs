//! A network of one's own that has every kind of connection, and random batches for it.

use pollster::FutureExt;
use recurve::dataset::{Batch, Pictures};
use recurve::gpu::{Gpu, Options};
use recurve::network::{Architecture, Network};
use recurve::reference::random::SplitMix64;
use serde_json::{Value, json};

/// Four areas: a skip, feedback of stride 1 and 2, lateral maps (one wide enough for Winograd's method), a vector.
pub fn description(unroll: &str, timesteps: usize) -> Value {
    json!({
        "image_size": 16, "classes": 5, "timesteps": timesteps, "unroll": unroll, "readout_bias": true,
        "areas": [
            { "name": "retina", "channels": 4, "norm": "none" },
            { "name": "low", "channels": 32 },
            { "name": "high", "channels": 12, "norm": "group", "groups": 3, "interaction": "multiplicative" },
            { "name": "gap", "channels": 12, "pool": "average", "norm": "none" },
        ],
        "connections": [
            { "from": "input", "to": "retina", "kind": "bottom_up", "kernel": 5 },
            { "from": "retina", "to": "low", "kind": "bottom_up", "stride": 2 },
            { "from": "low", "to": "high", "kind": "bottom_up", "pool": 2 },
            { "from": "retina", "to": "high", "kind": "bottom_up", "name": "skip", "stride": 4, "bias": true },
            { "from": "high", "to": "gap", "kind": "bottom_up" },
            { "from": "low", "to": "low", "kind": "lateral" },
            { "from": "gap", "to": "gap", "kind": "lateral" },
            { "from": "high", "to": "low", "kind": "top_down", "stride": 2, "bias": true },
            { "from": "high", "to": "low", "kind": "top_down", "stride": 2, "kernel": 1, "name": "more" },
        ],
    })
}

/// That network.
pub fn network(unroll: &str, timesteps: usize) -> Network {
    Architecture::from_golden_json(&description(unroll, timesteps).to_string())
        .expect("valid")
        .network()
        .expect("valid")
}

/// So many random pictures and labels for it.
pub fn batch(seed: u64, images: usize) -> Batch {
    let mut random = SplitMix64::new(seed);
    let data = (0..images * 16 * 16 * 3).map(|_| random.bits() as u8).collect();
    let labels = (0..images).map(|_| (random.bits() % 5) as u32).collect();
    Batch::new(Pictures { data, labels, n: images, side: 16 }, images)
}

/// An adapter, with wgpu's checks.
pub fn open() -> Gpu {
    Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter")
}
