//! Networks of areas and connections by twins alone, forward and backward through time, written out by hand: what the
//! engine must compute, without its descriptions, its graph, its automatic differentiation or its kernels.
//!
//! ```text
//! b      = sum of the bottom-up terms               same step; with a biological unrolling the step before
//! s      = sum of lateral and top-down terms        of the step before; absent, biases included, without a source
//! r      = activation(norm(b + s))   or   activation(norm(b * (1 + s)))      every area
//! logits = readout(the readout's area);   loss = sum over the steps at which it exists of the batch-mean cross-entropy
//! ```
//!
//! In reading order: [`description`] says what a network is, [`architecture`] and [`blt`] make one from the two texts that
//! golden files hold, [`unroll`] says what exists when, `connection`, `forward` and `backward` compute, [`protocol`]
//! disturbs.

pub mod architecture;
pub mod blt;
pub mod description;
pub mod protocol;
pub mod unroll;

mod backward;
mod connection;
mod forward;

use std::collections::BTreeMap;

use super::Tensor;
use super::adam::{Adam, adam};
use crate::{Error, Result};
use description::Network;
use protocol::Protocol;

/// Values by name.
type Named = BTreeMap<String, Vec<f32>>;

/// A batch: network input and one label per picture.
struct Batch<'a> {
    x: &'a [f32],
    labels: &'a [usize],
}

/// A network with the present value of its parameters.
struct Pass<'a> {
    network: &'a Network,
    parameters: &'a Named,
    /// Pictures in the batch.
    n: usize,
}

impl Pass<'_> {
    fn weight(&self, name: &str) -> &[f32] {
        &self.parameters[&format!("{name}.weight")]
    }

    fn bias(&self, name: &str) -> Option<&[f32]> {
        self.parameters.get(&format!("{name}.bias")).map(Vec::as_slice)
    }
}

/// Gradients by parameter name.
#[derive(Default)]
struct Gradients(Named);

/// Everything that a forward run under a protocol gives, under the names of the golden files: `act/<area>/<t>`,
/// `logits/<t>`, `logprob/<t>` for the steps at which they exist, and `loss`, the sum over these steps.
///
/// `x` is `[n,3,image_size,image_size]`, with one label (`0..classes`) per picture; they stay the first pictures' labels
/// whatever the protocol shows.
///
/// # Errors
/// When x, a label or a parameter does not fit the network.
pub fn run(
    network: &Network,
    protocol: &Protocol,
    parameters: &BTreeMap<String, Tensor>,
    x: &[f32],
    labels: &[usize],
) -> Result<Named> {
    check_inputs(network, parameters, x, labels)?;
    let parameters = values(parameters);
    let pass = Pass { network, parameters: &parameters, n: labels.len() };
    Ok(forward_results(network, pass.forward(&Batch { x, labels }, protocol)))
}

/// Everything that a training run gives: what [`run`] gives without a protocol, `grad/<parameter>` of every parameter that
/// the loss can feel, and after `adam_steps` training steps on this same batch `adam<steps>/<parameter>` of all parameters
/// and `adam<steps>/losses` (before each step, and after the last).
///
/// # Errors
/// When x, a label or a parameter does not fit the network.
pub fn train(
    network: &Network,
    parameters: &BTreeMap<String, Tensor>,
    x: &[f32],
    labels: &[usize],
    adam_steps: u64,
) -> Result<Named> {
    check_inputs(network, parameters, x, labels)?;
    let mut parameters = values(parameters);
    let batch = Batch { x, labels };
    let pass = |parameters: &Named| {
        let pass = Pass { network, parameters, n: labels.len() };
        let forward = pass.forward(&batch, &Protocol::default());
        let gradients = pass.backward(&batch, &forward);
        (forward, gradients)
    };

    let (forward, mut gradients) = pass(&parameters);
    let mut losses = vec![forward.loss()];
    let mut results = forward_results(network, forward);
    results.extend(gradients.iter().map(|(name, gradient)| (format!("grad/{name}"), gradient.clone())));

    let zeros: Named = parameters.iter().map(|(name, p)| (name.clone(), vec![0.0; p.len()])).collect();
    let (mut m, mut v) = (zeros.clone(), zeros);
    for steps_taken in 0..adam_steps {
        for (name, gradient) in &gradients {
            let state = (parameters.get_mut(name), m.get_mut(name), v.get_mut(name));
            let (Some(p), Some(m), Some(v)) = state else { unreachable!("gradients are of parameters") };
            adam(&Adam::default(), steps_taken, p, m, v, gradient);
        }
        let (forward, next_gradients) = pass(&parameters);
        losses.push(forward.loss());
        gradients = next_gradients;
    }
    results.insert(format!("adam{adam_steps}/losses"), losses);
    results.extend(parameters.into_iter().map(|(name, p)| (format!("adam{adam_steps}/{name}"), p)));
    Ok(results)
}

fn values(parameters: &BTreeMap<String, Tensor>) -> Named {
    parameters.iter().map(|(name, p)| (name.clone(), p.values.clone())).collect()
}

fn forward_results(network: &Network, forward: forward::Forward) -> Named {
    let mut results = Named::from([("loss".to_owned(), vec![forward.loss()])]);
    for ((t, area), step) in forward.areas {
        results.insert(format!("act/{}/{t}", network.areas[area].name), step.r);
    }
    for (t, answer) in forward.answers {
        results.insert(format!("logits/{t}"), answer.logits);
        results.insert(format!("logprob/{t}"), answer.logprob);
    }
    results
}

fn check_inputs(network: &Network, parameters: &BTreeMap<String, Tensor>, x: &[f32], labels: &[usize]) -> Result<()> {
    let expected = network.parameters();
    for (name, shape) in &expected {
        match parameters.get(name) {
            Some(p) if p.shape == *shape && p.values.len() == shape.iter().product::<usize>() => {}
            Some(p) => {
                let found = &p.shape;
                return Err(Error::Config(format!("parameter `{name}`: expected shape {shape:?}, found {found:?}")));
            }
            None => return Err(Error::Config(format!("parameter `{name}` of shape {shape:?} is missing"))),
        }
    }
    if let Some(name) = parameters.keys().find(|name| !expected.contains_key(*name)) {
        return Err(Error::Config(format!("parameter `{name}` does not belong to this network")));
    }
    let pixels = 3 * network.image_size * network.image_size;
    if labels.is_empty() || x.len() != labels.len() * pixels {
        let (found, n) = (x.len(), labels.len());
        return Err(Error::Data(format!(
            "expected {n} pictures of {pixels} values, at least one, found {found} values"
        )));
    }
    match labels.iter().find(|&&label| label >= network.classes) {
        Some(label) => Err(Error::Data(format!("label {label}: expected 0 to {}", network.classes - 1))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Areas of one channel and one pixel without norm or activation, whose kernels are 1: every number can be worked out
    /// by hand. The picture is 1 in its first channel and 0 in the others.
    fn chain(changes: Value) -> Network {
        architecture::network(&chain_json(changes)).unwrap()
    }

    fn chain_json(changes: Value) -> Value {
        let area = |name: &str| json!({"name": name, "channels": 1, "norm": "none", "activation": "none"});
        let connection = |from: &str, to: &str, kind: &str| json!({"from": from, "to": to, "kind": kind, "kernel": 1});
        let mut all = json!({
            "image_size": 1, "classes": 2, "timesteps": 4,
            "areas": [area("c"), area("b"), area("a")],
            "connections": [
                connection("b", "c", "bottom_up"), connection("a", "b", "bottom_up"),
                connection("input", "a", "bottom_up"),
                connection("a", "a", "lateral"), connection("c", "b", "top_down"),
            ],
        });
        for (key, value) in changes.as_object().unwrap() {
            all[key] = value.clone();
        }
        all
    }

    /// Bottom-up weights 1, 2, 3 (into a, b, c) and biases 0, lateral 10 with bias 5, top-down 100 with bias 7.
    fn by_hand(network: &Network) -> BTreeMap<String, Tensor> {
        let value = |name: &str| match name {
            "a.bottom_up.weight" => vec![1.0, 0.0, 0.0],
            "b.bottom_up.weight" => vec![2.0],
            "c.bottom_up.weight" => vec![3.0],
            "a.lateral.weight" => vec![10.0],
            "a.lateral.bias" => vec![5.0],
            "b.top_down.weight" => vec![100.0],
            "b.top_down.bias" => vec![7.0],
            "readout.weight" => vec![1.0, -1.0],
            _ => vec![0.0],
        };
        let tensor = |(name, shape): (String, Vec<usize>)| (name.clone(), Tensor { shape, values: value(&name) });
        network.parameters().into_iter().map(tensor).collect()
    }

    /// An area's activation, or `None` at the steps at which it does not exist.
    fn course(network: &Network, protocol: Value, area: &str) -> Vec<Option<f32>> {
        let protocol = Protocol::from_json(&protocol, network).unwrap();
        let results = run(network, &protocol, &by_hand(network), &[1.0, 0.0, 0.0, 2.0, 0.0, 0.0], &[0, 1]).unwrap();
        let steps = protocol.timesteps.unwrap_or(network.timesteps);
        (0..steps).map(|t| results.get(&format!("act/{area}/{t}")).map(|r| r[0])).collect()
    }

    #[test]
    fn engineering_by_hand() {
        let network = chain(json!({}));
        // a = 1, then 1 + 10 a + 5; b = 2 a, then 2 a + 100 c + 7 with c of the step before; c = 3 b of the same step.
        let (a1, b0) = (16.0, 2.0);
        let b1 = 2.0 * a1 + 100.0 * (3.0 * b0) + 7.0;
        assert_eq!(course(&network, json!({"timesteps": 2}), "a"), [Some(1.0), Some(a1)]);
        assert_eq!(course(&network, json!({"timesteps": 2}), "b"), [Some(b0), Some(b1)]);
        assert_eq!(course(&network, json!({"timesteps": 2}), "c"), [Some(3.0 * b0), Some(3.0 * b1)]);
    }

    #[test]
    fn biological_by_hand() {
        let network = chain(json!({"unroll": "biological"}));
        assert_eq!(course(&network, json!({}), "a"), [Some(1.0), Some(16.0), Some(166.0), Some(1666.0)]);
        // b wakes a step after a; the top-down term, and its bias, waits until c has existed.
        assert_eq!(course(&network, json!({}), "b"), [None, Some(2.0), Some(32.0), Some(2.0 * 166.0 + 600.0 + 7.0)]);
        assert_eq!(course(&network, json!({}), "c"), [None, None, Some(6.0), Some(96.0)]);
        let short = architecture::network(&chain_json(json!({"unroll": "biological", "timesteps": 2})));
        let short = short.unwrap_err().to_string();
        assert!(short.contains("timesteps") && short.contains("`c`"), "{short}");
    }

    #[test]
    fn multiplicative_by_hand() {
        let area = |name: &str| json!({"name": name, "channels": 1, "norm": "none", "activation": "none", "interaction": "multiplicative"});
        let network = chain(json!({"areas": [area("c"), area("b"), area("a")]}));
        assert_eq!(course(&network, json!({"timesteps": 2}), "a"), [Some(1.0), Some(1.0 + 10.0 + 5.0)]);
        // b = 2 a (1 + 100 c + 7)
        assert_eq!(course(&network, json!({"timesteps": 2}), "b"), [Some(2.0), Some(32.0 * (1.0 + 600.0 + 7.0))]);
        // A gain acts on the term and not on the sum: 0 leaves b, 0.5 halves the bias too.
        let lesion = |gain: f64| json!({"timesteps": 2, "gains": [{"connection": "*.top_down", "gain": gain}]});
        assert_eq!(course(&network, lesion(0.0), "b"), [Some(2.0), Some(32.0)]);
        assert_eq!(course(&network, lesion(0.5), "b"), [Some(2.0), Some(32.0 * (1.0 + 0.5 * 607.0))]);
    }

    #[test]
    fn protocols_by_hand() {
        let network = chain(json!({}));
        let a =
            |protocol: Value| -> Vec<f32> { course(&network, protocol, "a").into_iter().map(Option::unwrap).collect() };
        assert_eq!(a(json!({})), [1.0, 16.0, 166.0, 1666.0]);
        assert_eq!(a(json!({"gains": [{"connection": "a.lateral", "gain": 1}]})), a(json!({})));
        let from_2 = json!({"gains": [{"connection": "a.lateral", "gain": 0, "from": 2, "until": 3}]});
        assert_eq!(a(from_2), [1.0, 16.0, 1.0, 16.0]);
        let product = json!({"gains": [
            {"connection": "a.lateral", "gain": 0.5, "from": 1}, {"connection": "*.lateral", "gain": 4, "until": 2},
        ]});
        assert_eq!(a(product), [1.0, 31.0, 158.5, 796.0]);
        // The second picture is 2; of the inputs the one that began last counts, in whatever order they stand.
        let shown = json!({"timesteps": 4, "inputs": [{"from": 3, "show": "blank"}, {"from": 1, "show": "next"}]});
        assert_eq!(a(shown), [1.0, 2.0 + 15.0, 2.0 + 175.0, 1775.0]);

        for (wrong, word) in [
            (json!({"gains": [{"connection": "a.top_down", "gain": 0}]}), "a.top_down"),
            (json!({"gains": [{"connection": "*.bottom_up", "gain": 0}]}), "*.bottom_up"),
            (json!({"gains": [{"connection": "a.lateral", "gain": 0, "from": 2, "until": 2}]}), "ends before"),
            (json!({"inputs": [{"from": 1, "show": "next"}, {"from": 1, "show": "blank"}]}), "from step 1"),
            (json!({"inputs": [{"from": 1, "show": "picture"}]}), "picture"),
            (json!({"timesteps": 0}), "timesteps"),
            (json!({"steps": 3}), "steps"),
        ] {
            let message = Protocol::from_json(&wrong, &network).unwrap_err().to_string();
            assert!(message.contains(word), "{wrong}: {message}");
        }
    }

    #[test]
    fn inputs_that_do_not_fit_are_named() {
        let network = chain(json!({}));
        let parameters = by_hand(&network);
        let message = |parameters: &BTreeMap<String, Tensor>, x: &[f32], labels: &[usize]| {
            train(&network, parameters, x, labels, 0).unwrap_err().to_string()
        };
        let x = [0.0; 3];
        assert!(message(&parameters, &x, &[3]).contains("label 3"));
        assert!(message(&parameters, &x[1..], &[0]).contains("found 2"));
        assert!(message(&parameters, &[], &[]).contains("at least one"));
        let mut missing = parameters.clone();
        missing.remove("a.lateral.weight");
        assert!(message(&missing, &x, &[0]).contains("a.lateral.weight"));
        let mut extra = parameters.clone();
        extra.insert("v9.weight".into(), Tensor { shape: vec![1], values: vec![0.0] });
        assert!(message(&extra, &x, &[0]).contains("v9.weight"));
        let mut reshaped = parameters;
        reshaped.get_mut("readout.weight").unwrap().shape = vec![1, 2];
        assert!(message(&reshaped, &x, &[0]).contains("readout.weight"));
    }
}
