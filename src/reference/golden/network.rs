//! Golden files of whole networks: metadata `config`, a batch, parameters, and all that follows from them.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use serde::Deserialize;

use super::{Comparison, File, Results, compare, max_abs};
use crate::Result;
use crate::reference::Tensor;
use crate::reference::network::{self, AREAS, Config};
use crate::reference::normalise::normalise;

/// Adam steps behind the tensors `adam3/*`.
pub const ADAM_STEPS: u64 = 3;

/// A network's golden file.
#[derive(Clone, Debug)]
pub struct NetworkGolden {
    /// The network as the file describes it.
    pub config_json: serde_json::Value,
    /// The same, parsed.
    pub config: Config,
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
    /// Parameters that exist but take no part: no gradient, unchanged by Adam.
    pub unused_params: Vec<String>,
    /// Expected results, under the file's names: `x`, `act/retina`, `act/<v1,v2,v4,it,gap>/<t>`, `logits/<t>`,
    /// `logprob/<t>`, `loss`, `grad/<parameter>`, `adam3/<parameter>`, `adam3/losses`.
    pub expected: BTreeMap<String, Tensor>,
    /// For each parameter and element, whether the comparison after Adam's steps is well conditioned.
    pub adam3_safe: BTreeMap<String, Vec<bool>>,
}

/// Reads a network's golden file.
///
/// # Errors
/// When the file cannot be read, or a tensor is missing, not understood, or does not fit the file's `config`.
pub fn read_network(path: &Path) -> Result<NetworkGolden> {
    from_file(File::read(path)?)
}

pub(super) fn from_file(mut file: File) -> Result<NetworkGolden> {
    let config_json = file.json("config")?;
    let config = Config::from_json(&config_json).map_err(|e| file.error(e))?;
    if config.in_channels != 3 {
        return Err(file.error(format!("`in_channels`: expected 3 (colour pictures), found {}", config.in_channels)));
    }
    let size = config.image_size;

    let (shape, images) = file.take("images", Dtype::U8, |[byte]: [u8; 1]| byte)?;
    let n = shape.first().copied().unwrap_or(0);
    file.check_shape("images", &shape, &[n, size, size, 3])?;
    if n == 0 {
        return Err(file.error("tensor `images`: the batch is empty"));
    }
    let mut channels = |name: &str| -> Result<[f64; 3]> {
        let (shape, values) = file.take(name, Dtype::F64, f64::from_le_bytes)?;
        <[f64; 3]>::try_from(values).map_err(|_| file.error(format!("tensor `{name}`: expected [3], found {shape:?}")))
    };
    let (mean, std) = (channels("train_img_mean_channels")?, channels("train_img_std_channels")?);
    let x = file.f32_of("x", &[n, 3, size, size])?;
    let labels = file.labels("labels", n, config.n_classes)?;

    let (mut params, mut adam3_safe) = (BTreeMap::new(), BTreeMap::new());
    for (name, shape) in config.parameters() {
        params.insert(name.clone(), file.f32_of(&format!("param/{name}"), &shape)?);
        let (found, safe) = file.take(&format!("adam3_safe/{name}"), Dtype::U8, |[byte]: [u8; 1]| byte == 1)?;
        file.check_shape(&format!("adam3_safe/{name}"), &found, &shape)?;
        adam3_safe.insert(name, safe);
    }
    let unused_params: Vec<String> = params.keys().filter(|name| !config.is_used(name)).cloned().collect();
    let mut listed = Vec::<String>::deserialize(file.json("unused_params")?)
        .map_err(|e| file.error(format!("metadata key `unused_params` is not a list of names: {e}")))?;
    listed.sort();
    if listed != unused_params {
        return Err(file.error(format!(
            "`unused_params`: the configuration leaves {unused_params:?} without use, found {listed:?}"
        )));
    }

    let mut expected = BTreeMap::from([("x".to_owned(), x.clone())]);
    for (name, shape) in result_shapes(&config, n) {
        expected.insert(name.clone(), file.f32_of(&name, &shape)?);
    }
    file.finish()?;
    Ok(NetworkGolden { config_json, config, images, mean, std, x, labels, params, unused_params, expected, adam3_safe })
}

/// Names and shapes of the results that a batch of `n` pictures must have.
fn result_shapes(config: &Config, n: usize) -> Vec<(String, Vec<usize>)> {
    let size = config.image_size;
    let mut shapes = vec![
        ("act/retina".to_owned(), vec![n, config.stem_channels, size, size]),
        ("loss".to_owned(), vec![1]),
        (format!("adam{ADAM_STEPS}/losses"), vec![ADAM_STEPS as usize + 1]),
    ];
    for t in 0..config.timesteps {
        for (area, name) in AREAS.into_iter().enumerate() {
            let (c, size) = (config.area_channels[area], config.size(area));
            shapes.push((format!("act/{name}/{t}"), vec![n, c, size, size]));
        }
        shapes.push((format!("act/gap/{t}"), vec![n, config.area_channels[3]]));
        shapes.push((format!("logits/{t}"), vec![n, config.n_classes]));
        shapes.push((format!("logprob/{t}"), vec![n, config.n_classes]));
    }
    for (name, shape) in config.parameters() {
        if config.is_used(&name) {
            shapes.push((format!("grad/{name}"), shape.clone()));
        }
        shapes.push((format!("adam{ADAM_STEPS}/{name}"), shape));
    }
    shapes
}

impl NetworkGolden {
    /// The largest error allowed for each element of an expected result: the tolerances that come with the golden
    /// files.
    ///
    /// - `x`: 1e-6 (1 + |ref|)
    /// - `act`, `logits`, `logprob`, `loss`, `adam3/losses`: 3e-5 (1 + |ref|)
    /// - `grad`: 5e-5 of the tensor's largest absolute value
    /// - `adam3`: 5e-6 where well conditioned, else 6e-3 (there the gradient is so small that the sign of its first
    ///   update is arbitrary); 0 where the gradient is exactly 0 and for parameters that take no part: they must not
    ///   move
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
        let parameters = &self.params;
        let mut results = network::run(&self.config, parameters, &self.x.values, &self.labels, ADAM_STEPS)?;
        results.insert("x".into(), normalise(&self.images, self.config.image_size, self.mean, self.std));
        Ok(results)
    }

    /// Compares results with the expected ones, one comparison a tensor; a missing or unexpected result fails.
    pub fn compare(&self, found: &Results) -> Vec<Comparison> {
        compare(&self.expected, found, |tensor| self.allowed_errors(tensor))
    }
}
