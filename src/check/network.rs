//! Runs a golden network on a device: activations, log-probabilities, loss, gradients, and three steps of Adam.

use super::run::{image_first, image_last};
use crate::Result;
use crate::dataset::Batch;
use crate::engine::{Adam, Engine};
use crate::gpu::{Gpu, Store};
use crate::graph::checker;
use crate::graph::compile::Request;
use crate::graph::passes::Passes;
use crate::kernels::choose::Choices;
use crate::network::{NetworkConfig, parameters};
use crate::reference::golden::{NetworkGolden, Results};
use crate::reference::normalise::normalise;

/// Results of a network under the names of the golden files.
///
/// # Errors
/// What the device says.
pub fn run_network(gpu: &Gpu, golden: &NetworkGolden, passes: Passes, choices: &Choices) -> Result<Results> {
    let config = NetworkConfig::from_golden_json(&golden.config_json.to_string())?;
    let n = golden.labels.len();
    let request = Request {
        config: &config,
        batch: n,
        target: &gpu.target,
        passes,
        choices,
        train: true,
        inspect: true,
        trajectory: false,
    };
    let mut engine = Engine::new(gpu, &request, &mut Store::default())?;
    checker::check(&engine.compiled.lowered.program, &engine.compiled.plan)?;
    engine.recording().poison(gpu, &engine.compiled.lowered.program);
    let specs = parameters(&config);
    let values: Vec<Vec<f32>> = specs.iter().map(|s| golden.params[&s.name].values.clone()).collect();
    let zeros: Vec<Vec<f32>> = specs.iter().map(|s| vec![0.0; s.len()]).collect();
    engine.set_parameters(&values);
    engine.set_moments(&zeros, &zeros);
    let x = normalise(&golden.images, config.image_size, golden.mean, golden.std);
    let labels = golden.labels.iter().map(|&l| l as u32).collect();
    engine.feed(&Batch { x: image_last(&x, n), labels, n });

    let mut results = Results::new();
    results.insert("x".into(), x);
    let adam = Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let mut losses = Vec::new();
    for step in 1..=4 {
        engine.set_step(&adam, step);
        if step == 4 {
            for (spec, values) in specs.iter().zip(engine.parameters()?) {
                results.insert(format!("adam3/{}", spec.name), values);
            }
        }
        match step {
            1 => engine.recording().run_poisoned(gpu, &engine.compiled.lowered.program),
            _ => engine.run(),
        }
        let scores = engine.scores(n)?;
        losses.push((scores.loss.iter().sum::<f64>() / n as f64) as f32);
        if step == 1 {
            first_step(&engine, n, &mut results)?;
        }
    }
    results.insert("loss".into(), vec![losses[0]]);
    results.insert("adam3/losses".into(), losses);
    Ok(results)
}

fn first_step(engine: &Engine, n: usize, results: &mut Results) -> Result<()> {
    let network = &engine.compiled.network;
    let mut read = |name: String, value| -> Result<()> {
        let values = engine.read(engine.compiled.lowered.view(value))?;
        results.insert(name, image_first(&values, n));
        Ok(())
    };
    for (area, values) in &network.activations {
        if area == "retina" {
            read("act/retina".into(), values[0])?;
            continue;
        }
        for (t, &value) in values.iter().enumerate() {
            read(format!("act/{area}/{t}"), value)?;
        }
    }
    for t in 0..network.logits.len() {
        read(format!("logits/{t}"), network.logits[t])?;
        read(format!("logprob/{t}"), network.logprobs[t])?;
    }
    for (spec, gradient) in engine.specs.iter().zip(engine.gradients()?) {
        if !gradient.is_empty() {
            results.insert(format!("grad/{}", spec.name), gradient);
        }
    }
    Ok(())
}
