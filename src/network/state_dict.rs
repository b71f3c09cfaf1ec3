//! Collects what a network learns while its areas and connections are made: names, shapes and the published
//! initialisation, in the order of the state dict.
//!
//! Initialisation as published: Xavier-uniform (Glorot & Bengio 2010), limit sqrt(6 / (fan_in + fan_out)), for the weights
//! of convolutions and linear layers; torch's default, limit 1 / sqrt(fan_in) with `fan_in = shape[1] * k * k`, for
//! transposed convolutions (whose `shape[1]` is the *output* channel count) and for all biases; norms 1 and 0.

use super::parameters::{Init, ParameterSpec};
use super::resolved::AreaNorm;
use super::terms::Normalisation;

/// The parameters so far.
#[derive(Default)]
pub(super) struct StateDict(pub Vec<ParameterSpec>);

/// Names of a linear map's weight and, where it has one, its bias.
pub(super) type Names = (String, Option<String>);

impl StateDict {
    fn push(&mut self, name: String, shape: &[usize], init: Init) -> String {
        self.0.push(ParameterSpec { name: name.clone(), shape: shape.to_vec(), init });
        name
    }

    /// `name.weight` of a convolution [to, from, k, k] or linear layer [to, from], and `name.bias` [to].
    pub fn convolution(&mut self, name: &str, shape: &[usize], bias: bool) -> Names {
        let kernel = shape[2..].iter().product::<usize>() as f64;
        let (fan_in, fan_out) = (shape[1] as f64 * kernel, shape[0] as f64 * kernel);
        let weight = Init::Uniform { limit: (6.0 / (fan_in + fan_out)).sqrt() };
        self.map(name, shape, weight, bias.then_some(shape[0]), fan_in)
    }

    /// `name.weight` of a transposed convolution [from, to, k, k], and `name.bias` [to].
    pub fn transposed(&mut self, name: &str, shape: &[usize; 4], bias: bool) -> Names {
        let fan_in = shape[1] as f64 * (shape[2] * shape[3]) as f64;
        self.map(name, shape, Init::Uniform { limit: 1.0 / fan_in.sqrt() }, bias.then_some(shape[1]), fan_in)
    }

    fn map(&mut self, name: &str, shape: &[usize], weight: Init, outputs: Option<usize>, fan_in: f64) -> Names {
        let weight = self.push(format!("{name}.weight"), shape, weight);
        let init = Init::Uniform { limit: 1.0 / fan_in.sqrt() };
        (weight, outputs.map(|outputs| self.push(format!("{name}.bias"), &[outputs], init)))
    }

    /// `name.weight` and `name.bias` of a norm over maps of `shape`, if there is one.
    pub fn norm(&mut self, name: &str, kind: Normalisation, groups: usize, shape: &[usize]) -> Option<AreaNorm> {
        let (per_channel, groups, shape) = match kind {
            Normalisation::Layer => (false, 1, shape),
            Normalisation::Group => (true, groups, &shape[..1]),
            Normalisation::None => return None,
        };
        let weight = self.push(format!("{name}.weight"), shape, Init::Constant(1.0));
        let bias = self.push(format!("{name}.bias"), shape, Init::Constant(0.0));
        Some(AreaNorm { groups, per_channel, weight, bias })
    }
}
