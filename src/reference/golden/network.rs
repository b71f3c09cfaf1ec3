//! Golden files of whole networks: metadata `config` or `architecture`, a batch, parameters, and all that follows from
//! them. With metadata `protocol` that is a forward run under it, else a training run of a few steps.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;
use serde_json::Value;

use super::comparison::{Comparison, Results, compare, max_abs};
use super::file::File;
use crate::reference::Tensor;
use crate::reference::network::description::Network;
use crate::reference::network::protocol::Protocol;
use crate::reference::network::unroll::{unroll, unused_parameters};
use crate::reference::network::{architecture, blt, run, train};
use crate::reference::normalise::normalise;
use crate::{Error, Result};

/// Adam steps behind the tensors `adam3/*`.
pub const ADAM_STEPS: u64 = 3;

/// A network's golden file.
#[derive(Clone, Debug)]
pub struct NetworkGolden {
    /// Metadata `config` as in the file: a network of the published family. Either this or `architecture_json` is given.
    pub config_json: Option<Value>,
    /// Metadata `architecture` as in the file: areas and connections.
    pub architecture_json: Option<Value>,
    /// Metadata `protocol` as in the file: what was shown and disturbed when, in a forward run.
    pub protocol_json: Option<Value>,
    /// The network that they describe, as the twins see it.
    pub network: Network,
    /// The protocol, parsed; `None` in a training run.
    pub protocol: Option<Protocol>,
    /// Pictures, u8 `[n,size,size,3]`.
    pub images: Vec<u8>,
    /// Channel mean of the training set, 0..255.
    pub mean: [f64; 3],
    /// Channel standard deviation of the training set, 0..255.
    pub std: [f64; 3],
    /// The network's input `[n,3,size,size]`: the pictures, normalised.
    pub x: Tensor,
    /// One class per picture.
    pub labels: Vec<usize>,
    /// Initial parameters by state-dict name.
    pub params: BTreeMap<String, Tensor>,
    /// Parameters that exist but that the loss cannot feel within the network's own steps: no gradient, unchanged by Adam.
    pub unused_params: Vec<String>,
    /// Expected results, under the file's names: `x`, `act/<area>/<t>`, `logits/<t>`, `logprob/<t>`, `loss`, and of a
    /// training run `grad/<parameter>`, `adam3/<parameter>`, `adam3/losses`. The retina of the published family has no
    /// step in a training run, where it is the same at all of them: `act/retina`.
    pub expected: BTreeMap<String, Tensor>,
    /// For each parameter and element, whether the comparison after Adam's steps is well conditioned; empty under a
    /// protocol.
    pub adam3_safe: BTreeMap<String, Vec<bool>>,
}

impl NetworkGolden {
    /// A golden of whichever of the three texts are given, still without a batch, parameters and results.
    ///
    /// # Errors
    /// When a text is wrong, or there is not exactly one network.
    pub(super) fn empty(
        config_json: Option<Value>,
        architecture_json: Option<Value>,
        protocol_json: Option<Value>,
    ) -> Result<Self> {
        let network = match (&config_json, &architecture_json) {
            (Some(json), None) => blt::network(json)?,
            (None, Some(json)) => architecture::network(json)?,
            _ => return Err(Error::Config("expected either `config` or `architecture`".into())),
        };
        let protocol = protocol_json.as_ref().map(|json| Protocol::from_json(json, &network)).transpose()?;
        Ok(Self {
            config_json,
            architecture_json,
            protocol_json,
            unused_params: unused_parameters(&network).into_iter().collect(),
            network,
            protocol,
            images: Vec::new(),
            mean: [0.0; 3],
            std: [1.0; 3],
            x: Tensor { shape: Vec::new(), values: Vec::new() },
            labels: Vec::new(),
            params: BTreeMap::new(),
            expected: BTreeMap::new(),
            adam3_safe: BTreeMap::new(),
        })
    }

    /// Steps of the run: the protocol's, where it gives them, else the network's.
    pub fn timesteps(&self) -> usize {
        self.protocol.as_ref().and_then(|protocol| protocol.timesteps).unwrap_or(self.network.timesteps)
    }

    /// Whether the retina's activation is expected for every step, as every other area's; else once.
    fn retina_has_steps(&self) -> bool {
        self.config_json.is_none() || self.protocol.is_some()
    }

    /// Names and shapes of the results that a batch of `n` pictures must have.
    pub(super) fn result_shapes(&self, n: usize) -> Vec<(String, Vec<usize>)> {
        let network = &self.network;
        let size = network.image_size;
        let mut shapes = vec![("x".to_owned(), vec![n, 3, size, size]), ("loss".to_owned(), vec![1])];
        for visit in unroll(network, self.timesteps()) {
            let (area, t) = (&network.areas[visit.area], visit.t);
            if self.retina_has_steps() || area.name != "retina" {
                shapes.push((format!("act/{}/{t}", area.name), area.extents(n)));
            } else if t == 0 {
                shapes.push(("act/retina".to_owned(), area.extents(n)));
            }
            if visit.area == network.readout {
                shapes.push((format!("logits/{t}"), vec![n, network.classes]));
                shapes.push((format!("logprob/{t}"), vec![n, network.classes]));
            }
        }
        if self.protocol.is_none() {
            shapes.push((format!("adam{ADAM_STEPS}/losses"), vec![ADAM_STEPS as usize + 1]));
            for (name, shape) in network.parameters() {
                if !self.unused_params.contains(&name) {
                    shapes.push((format!("grad/{name}"), shape.clone()));
                }
                shapes.push((format!("adam{ADAM_STEPS}/{name}"), shape));
            }
        }
        shapes
    }

    /// The largest error allowed for each element of an expected result: the tolerances that come with the golden
    /// files.
    ///
    /// - `x`: 1e-6 (1 + |ref|)
    /// - `act`, `logits`, `logprob`, `loss`, `adam3/losses`: 3e-5 (1 + |ref|)
    /// - `grad`: 5e-5 of the tensor's largest absolute value
    /// - `adam3`: 5e-6 where well conditioned, else 6e-3 (there the gradient is so small that the sign of its first
    ///   update is arbitrary); 0 for parameters that take no part and where the gradient is exactly 0: they must not
    ///   move, unless the file says that a later step moved them (its gradient need not be 0)
    ///
    /// # Panics
    /// When no such result is expected.
    pub fn allowed_errors(&self, tensor: &str) -> Vec<f64> {
        let reference = &self.expected[tensor].values;
        let relative = |tolerance: f64| reference.iter().map(|&r| tolerance * (1.0 + r.abs() as f64)).collect();
        match tensor.split_once('/') {
            None if tensor == "x" => relative(1e-6),
            Some(("grad", _)) => vec![5e-5 * max_abs(reference); reference.len()],
            Some(("adam3", name)) if name != "losses" => {
                let (start, safe) = (&self.params[name].values, &self.adam3_safe[name]);
                let gradient = self.expected.get(&format!("grad/{name}")).map(|g| &g.values);
                let allowed = |i: usize| {
                    let no_gradient = gradient.is_none_or(|g| g[i] == 0.0);
                    match (no_gradient && reference[i] == start[i], safe[i]) {
                        (true, _) => 0.0,
                        (false, true) => 5e-6,
                        (false, false) => 6e-3,
                    }
                };
                (0..reference.len()).map(allowed).collect()
            }
            _ => relative(3e-5),
        }
    }

    /// Every expected result, computed by the network of twins.
    ///
    /// # Errors
    /// None for a golden that was read by [`read_network`].
    pub fn run_twin(&self) -> Result<Results> {
        let (network, params, x, labels) = (&self.network, &self.params, &self.x.values, &self.labels);
        let mut results = match &self.protocol {
            Some(protocol) => run(network, protocol, params, x, labels)?,
            None => train(network, params, x, labels, ADAM_STEPS)?,
        };
        if !self.retina_has_steps() {
            // The same at all steps; step 0 comes last and stays.
            for t in (0..self.timesteps()).rev() {
                let retina = results.remove(&format!("act/retina/{t}"));
                results.extend(retina.map(|r| ("act/retina".to_owned(), r)));
            }
        }
        results.insert("x".into(), normalise(&self.images, network.image_size, self.mean, self.std));
        Ok(results)
    }

    /// Compares results with the expected ones, one comparison a tensor; a missing or unexpected result fails.
    pub fn compare(&self, found: &Results) -> Vec<Comparison> {
        compare(&self.expected, found, |tensor| self.allowed_errors(tensor))
    }
}

/// Reads a network's golden file.
///
/// # Errors
/// When the file cannot be read, or a tensor is missing, not understood, or does not fit the network that the file
/// describes.
pub fn read_network(path: &Path) -> Result<NetworkGolden> {
    from_file(File::read(path)?)
}

pub(super) fn from_file(mut file: File) -> Result<NetworkGolden> {
    let text = |key: &str| file.metadata.contains_key(key).then(|| file.json(key)).transpose();
    let texts = (text("config")?, text("architecture")?, text("protocol")?);
    let mut golden = NetworkGolden::empty(texts.0, texts.1, texts.2).map_err(|e| file.error(e))?;
    let size = golden.network.image_size;

    let (shape, images) = file.take("images", Dtype::U8, |[byte]: [u8; 1]| byte)?;
    let n = shape.first().copied().unwrap_or(0);
    file.check_shape("images", &shape, &[n, size, size, 3])?;
    if n == 0 {
        return Err(file.error("tensor `images`: the batch is empty"));
    }
    golden.images = images;
    let mut channels = |name: &str| -> Result<[f64; 3]> {
        let (shape, values) = file.take(name, Dtype::F64, f64::from_le_bytes)?;
        <[f64; 3]>::try_from(values).map_err(|_| file.error(format!("tensor `{name}`: expected [3], found {shape:?}")))
    };
    golden.mean = channels("train_img_mean_channels")?;
    golden.std = channels("train_img_std_channels")?;
    golden.labels = file.labels("labels", n, golden.network.classes)?;
    for (name, shape) in golden.network.parameters() {
        golden.params.insert(name.clone(), file.f32_of(&format!("param/{name}"), &shape)?);
    }
    for (name, shape) in golden.result_shapes(n) {
        golden.expected.insert(name.clone(), file.f32_of(&name, &shape)?);
    }
    golden.x = golden.expected["x"].clone();
    if golden.protocol.is_none() {
        read_training(&mut file, &mut golden)?;
    }
    file.finish()?;
    Ok(golden)
}

/// What only the file of a training run says: which entries are safe to compare, and which parameters take no part.
fn read_training(file: &mut File, golden: &mut NetworkGolden) -> Result<()> {
    for (name, shape) in golden.network.parameters() {
        let (found, safe) = file.take(&format!("adam3_safe/{name}"), Dtype::U8, |[byte]: [u8; 1]| byte == 1)?;
        file.check_shape(&format!("adam3_safe/{name}"), &found, &shape)?;
        golden.adam3_safe.insert(name, safe);
    }
    let mut listed = Vec::<String>::deserialize(file.json("unused_params")?)
        .map_err(|e| file.error(format!("metadata key `unused_params` is not a list of names: {e}")))?;
    listed.sort();
    if listed != golden.unused_params {
        let unused = &golden.unused_params;
        return Err(file.error(format!("`unused_params`: the network leaves {unused:?} without use, found {listed:?}")));
    }
    Ok(())
}
