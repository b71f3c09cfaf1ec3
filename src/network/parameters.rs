//! A parameter's name, shape and initial distribution, and the drawing of initial values. Which ones a network has is decided in
//! `resolve.rs`, for the published family in `config.rs`; their names and distributions are those of `state_dict.rs`.

use crate::hash::fnv1a;
use crate::tensors::{Tensor, Tensors};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Name in the state dict, for example `v2.lateral.weight`; no two of a network are the same.
    pub name: String,
    /// Shape: convolution `[out, in, k, k]`, transposed convolution `[above, here, k, k]`, linear `[out, in]`,
    /// norm `[C, H, W]` or `[C]`, bias `[C]`.
    pub shape: Vec<usize>,
    /// Values before training.
    pub init: Init,
}

impl ParameterSpec {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values; never so in a valid network.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Values of a parameter before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform on [-limit, limit).
    Uniform {
        /// The bound.
        limit: f64,
    },
    /// All the same.
    Constant(f32),
}

/// Draws every parameter.
///
/// Each has its own ChaCha8 stream, keyed by `seed` and its name: the values do not depend on the platform, nor on
/// which other parameters there are.
pub fn initialise(specs: &[ParameterSpec], seed: u64) -> Tensors {
    let drawn = |spec: &ParameterSpec| match spec.init {
        Init::Constant(value) => vec![value; spec.len()],
        Init::Uniform { limit } => {
            let mut words = stream(seed, &spec.name);
            // 24 random bits fill an f32 on [0, 1) exactly.
            let unit = |word: u32| f64::from(word >> 8) / f64::from(1 << 24);
            (0..spec.len()).map(|_| ((2.0 * unit(words.next_u32()) - 1.0) * limit) as f32).collect()
        }
    };
    specs.iter().map(|spec| (spec.name.clone(), Tensor::new(&spec.shape, drawn(spec)))).collect()
}

/// The random words of one parameter: the key holds the seed, the name's hash (FNV-1a, 64 bits) and a constant.
fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let hash = fnv1a(name.as_bytes());
    let mut key = *b"________________recurve init key";
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
