//! Goldens of random numbers, computed by the twins: what holds the engine against the twins on networks of which there is
//! no file.

use serde_json::Value;

use super::NetworkGolden;
use crate::Result;
use crate::reference::Tensor;
use crate::reference::normalise::normalise;
use crate::reference::random::{SplitMix64, normal, uniform};

/// A batch of `n` random pictures, random parameters (weights scaled by their fan-in, scales of norms about 1) and every
/// result that a golden file would have, of the network in `config` or `architecture` under `protocol`, where given. The
/// same seed gives the same numbers. Nothing is said of how well Adam's steps are conditioned: entries whose gradient is
/// exactly 0 are compared exactly, the others loosely.
///
/// # Errors
/// When one of the three texts is wrong, or there is not exactly one network.
pub fn made_up(
    config: Option<Value>,
    architecture: Option<Value>,
    protocol: Option<Value>,
    n: usize,
    seed: u64,
) -> Result<NetworkGolden> {
    let mut golden = NetworkGolden::empty(config, architecture, protocol)?;
    (golden.mean, golden.std) = ([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]);
    let (size, classes) = (golden.network.image_size, golden.network.classes);
    let mut random = SplitMix64::new(seed);
    golden.images = (0..n * size * size * 3).map(|_| random.bits() as u8).collect();
    golden.labels = (0..n).map(|_| random.bits() as usize % classes).collect();
    golden.x =
        Tensor { shape: vec![n, 3, size, size], values: normalise(&golden.images, size, golden.mean, golden.std) };

    let norms: Vec<String> = golden.network.areas.iter().map(|area| format!("{}.weight", area.norm_name)).collect();
    for (name, shape) in golden.network.parameters() {
        let (count, fan_in) = (shape.iter().product::<usize>(), shape[1..].iter().product::<usize>());
        let seed = random.bits();
        let scaled = |scale: f32| normal(seed, count).into_iter().map(|value| value * scale).collect();
        let values = if norms.contains(&name) {
            uniform(seed, count, 0.5, 1.5)
        } else if name.ends_with(".weight") {
            scaled(1.0 / (fan_in as f32).sqrt())
        } else {
            scaled(0.2)
        };
        if golden.protocol.is_none() {
            golden.adam3_safe.insert(name.clone(), vec![false; count]);
        }
        golden.params.insert(name, Tensor { shape, values });
    }

    let mut results = golden.run_twin()?;
    for (name, shape) in golden.result_shapes(n) {
        let values = results.remove(&name).unwrap_or_default();
        assert_eq!(values.len(), shape.iter().product::<usize>(), "the twins compute `{name}` of shape {shape:?}");
        golden.expected.insert(name, Tensor { shape, values });
    }
    assert!(results.is_empty(), "the twins compute what no golden holds: {:?}", results.keys());
    Ok(golden)
}
