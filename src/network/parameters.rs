//! What a network learns: names and shapes as in the published state dict, and the published initialisation.

use super::config::{AREAS, IMAGE_CHANNELS, NetworkConfig, Norm};
use crate::hash::fnv1a;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One parameter tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// Name in the state dict, for example `v2.lateral.weight`.
    pub name: String,
    /// Shape: convolution `[out, in, k, k]`, transposed convolution `[above, here, k, k]`, linear `[out, in]`,
    /// norm `[C, H, W]` or `[C]`, bias `[C]`.
    pub shape: Vec<usize>,
    /// Values before training.
    pub init: Init,
    /// False for v1's recurrent maps where v1 gets no recurrent drive: they are saved, and never change.
    pub used: bool,
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

/// Every parameter of a network, in the order of the published state dict.
///
/// Initialisation as published: Xavier-uniform (Glorot & Bengio 2010), limit sqrt(6 / (fan_in + fan_out)), for the
/// weights of convolutions and linear maps; torch's default, limit 1 / sqrt(fan_in) with `fan_in = shape[1] * k * k`, for
/// transposed convolutions (whose `shape[1]` is the *output* channel count) and for all biases; norms 1 and 0.
pub fn parameters(config: &NetworkConfig) -> Vec<ParameterSpec> {
    let mut list = List(Vec::new());
    let k = config.kernel_size;
    let bias = config.map_bias();
    let channels = config.area_channels;

    list.map("retina", &[config.stem_channels, IMAGE_CHANNELS, k, k], Kind::Xavier, true, true);
    for (a, area) in AREAS.iter().enumerate() {
        let here = channels[a];
        list.map(&format!("{area}.bottom_up"), &[here, config.channels_below(a), k, k], Kind::Xavier, bias, true);
        let used = config.uses_recurrence(a);
        if config.owns_lateral(a) {
            list.map(&format!("{area}.lateral"), &[here, here, k, k], Kind::Xavier, bias, used);
        }
        if config.owns_top_down(a) {
            list.map(&format!("{area}.top_down"), &[channels[a + 1], here, k, k], Kind::Transposed, bias, used);
        }
        let side = config.area_side(a);
        list.norm(&format!("{area}_ln"), config.norm, &[here, side, side]);
    }
    let top = config.gap_channels();
    if config.gap_lateral() {
        list.map("gap.lateral", &[top, top], Kind::Xavier, bias, true);
    }
    list.norm("gap_ln", config.norm, &[top]);
    list.map("readout", &[config.classes, top], Kind::Xavier, config.readout_bias, true);
    list.0
}

enum Kind {
    /// Convolution or linear map.
    Xavier,
    /// Transposed convolution.
    Transposed,
}

struct List(Vec<ParameterSpec>);

impl List {
    fn push(&mut self, name: String, shape: &[usize], init: Init, used: bool) {
        self.0.push(ParameterSpec { name, shape: shape.to_vec(), init, used });
    }

    /// A linear map's weight and, where it has one, its bias.
    fn map(&mut self, name: &str, shape: &[usize], kind: Kind, bias: bool, used: bool) {
        let kernel = shape[2..].iter().product::<usize>() as f64;
        let (fan_in, fan_out) = (shape[1] as f64 * kernel, shape[0] as f64 * kernel);
        let torch_default = 1.0 / fan_in.sqrt();
        let (limit, outputs) = match kind {
            Kind::Xavier => ((6.0 / (fan_in + fan_out)).sqrt(), shape[0]),
            Kind::Transposed => (torch_default, shape[1]),
        };
        self.push(format!("{name}.weight"), shape, Init::Uniform { limit }, used);
        if bias {
            self.push(format!("{name}.bias"), &[outputs], Init::Uniform { limit: torch_default }, used);
        }
    }

    /// Scale and shift of a norm over maps of `shape`.
    fn norm(&mut self, name: &str, norm: Norm, shape: &[usize]) {
        let shape = match norm {
            Norm::Layer => shape,
            Norm::Group => &shape[..1],
            Norm::None => return,
        };
        self.push(format!("{name}.weight"), shape, Init::Constant(1.0), true);
        self.push(format!("{name}.bias"), shape, Init::Constant(0.0), true);
    }
}

/// Draws every parameter, in the order of `specs`.
///
/// Each has its own ChaCha8 stream, keyed by `seed` and its name: the values do not depend on the platform, nor on
/// which other parameters there are.
pub fn initialise(specs: &[ParameterSpec], seed: u64) -> Vec<Vec<f32>> {
    specs
        .iter()
        .map(|spec| match spec.init {
            Init::Constant(value) => vec![value; spec.len()],
            Init::Uniform { limit } => {
                let mut words = stream(seed, &spec.name);
                // 24 random bits fill an f32 on [0, 1) exactly.
                let unit = |word: u32| f64::from(word >> 8) / f64::from(1 << 24);
                (0..spec.len()).map(|_| ((2.0 * unit(words.next_u32()) - 1.0) * limit) as f32).collect()
            }
        })
        .collect()
}

/// The random words of one parameter: the key holds the seed, the name's hash (FNV-1a, 64 bits) and a constant.
fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let hash = fnv1a(name.as_bytes());
    let mut key = *b"________________recurve init key";
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&hash.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}
