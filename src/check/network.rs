//! Runs a golden network on a device: what it is shown, activations, log-probabilities, loss, and of a network that is
//! trained gradients and three steps of Adam.

use super::run::image_first;
use crate::Result;
use crate::dataset::{Batch, Normaliser, Pictures};
use crate::engine::Engine;
use crate::gpu::{Gpu, Store};
use crate::graph::checker;
use crate::graph::compile::Request;
use crate::graph::passes::Passes;
use crate::graph::taps::{Quantity, Tap};
use crate::kernels::choose::Choices;
use crate::network::{Description, Network, Protocol, Schedule, Shown};
use crate::ops::Hyper;
use crate::reference::golden::{NetworkGolden, Results};
use crate::tensors::{Tensor, Tensors};

/// Results of a network under the names of the golden files.
///
/// # Errors
/// What the device says.
pub async fn run_network(gpu: &Gpu, golden: &NetworkGolden, passes: Passes, choices: &Choices) -> Result<Results> {
    let texts = [("config", &golden.config_json), ("architecture", &golden.architecture_json)];
    let texts = texts.into_iter().filter_map(|(key, json)| Some((key.to_string(), json.as_ref()?.to_string())));
    let network = Description::from_golden_metadata(&texts.collect())?.network()?;
    let protocol =
        golden.protocol_json.as_ref().map(|json| Protocol::from_golden_json(&json.to_string())).transpose()?;
    if let Some(protocol) = &protocol {
        protocol.validate(&network)?;
    }
    let schedule = Schedule::new(&network, protocol.as_ref());
    let n = golden.labels.len();
    let taps = Tap::everything(&network);
    let train = protocol.is_none();
    let plain = Request::training(&network, &schedule, n, &gpu.target);
    let request = Request { passes, choices, train, taps: &taps, ..plain };
    let mut engine = Engine::new(gpu, &request, &mut Store::default()).await?;
    checker::check(&engine.compiled.program, &engine.compiled.plan)?;
    engine.recording().poison(gpu, &engine.compiled.program);
    let parameters: Tensors =
        golden.params.iter().map(|(name, p)| (name.clone(), Tensor::new(&p.shape, p.values.clone()))).collect();
    engine.set_parameters(&parameters)?;
    engine.set_normaliser(&Normaliser::new(golden.mean, golden.std));
    engine.feed(&batch(golden, &network)).await?;

    let mut results = Results::new();
    let hyper = Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    if !train {
        engine.recording().run_poisoned(gpu, &engine.compiled.program);
        results.insert("loss".into(), vec![loss(&engine, n).await?]);
        tapped(&engine, &schedule, golden, &mut results).await?;
        return Ok(results);
    }
    engine.set_moments(&parameters.zeros(), &parameters.zeros())?;
    let mut losses = Vec::new();
    for step in 1..=4 {
        engine.set_step(&hyper, step, 1.0).await?;
        if step == 4 {
            for (name, tensor) in engine.parameters().await? {
                results.insert(format!("adam3/{name}"), tensor.values);
            }
        }
        match step {
            1 => engine.recording().run_poisoned(gpu, &engine.compiled.program),
            _ => engine.run(),
        }
        losses.push(loss(&engine, n).await?);
        if step == 1 {
            tapped(&engine, &schedule, golden, &mut results).await?;
            for (name, gradient) in engine.gradients().await? {
                results.insert(format!("grad/{name}"), gradient.values);
            }
        }
    }
    results.insert("loss".into(), vec![losses[0]]);
    results.insert("adam3/losses".into(), losses);
    Ok(results)
}

/// The pictures of a golden file; each is followed by the next of the batch, the last by the first.
fn batch(golden: &NetworkGolden, network: &Network) -> Batch {
    let (n, side) = (golden.labels.len(), network.image_size);
    let labels: Vec<u32> = golden.labels.iter().map(|&l| l as u32).collect();
    let pictures = Pictures { data: golden.images.clone(), labels: labels.clone(), n, side };
    let mut data = golden.images.clone();
    data.rotate_left(3 * side * side);
    Batch::new(pictures, n).with_next(Pictures { data, labels, n, side })
}

async fn loss(engine: &Engine<'_>, n: usize) -> Result<f32> {
    Ok(engine.scores(n).await?.total_loss() as f32)
}

/// What the taps read, under the names of the golden files: `x` is the pictures themselves, at a step that shows them; the
/// first area of the published family has its activation once where it is the same at all steps.
async fn tapped(engine: &Engine<'_>, schedule: &Schedule, golden: &NetworkGolden, results: &mut Results) -> Result<()> {
    let (network, n) = (&engine.network, golden.labels.len());
    let shows_picture = schedule.shown.iter().position(|shown| *shown == Shown::Picture);
    if shows_picture.is_none() {
        // Nothing on the device is the pictures: what they would be is in the table that it was given.
        let (table, pixels) = (Normaliser::new(golden.mean, golden.std), network.image_size * network.image_size);
        let channels = golden.images.chunks(3 * pixels).flat_map(|image| (0..3).map(move |c| (image, c)));
        let of = |(image, c): (&[u8], usize)| -> Vec<f32> {
            image[c..].iter().step_by(3).map(|&byte| table.value(c, byte)).collect()
        };
        results.insert("x".into(), channels.flat_map(of).collect());
    }
    for tapped in &engine.compiled.taps {
        let once = match tapped.of {
            Quantity::Input => Some("x".to_string()),
            Quantity::Activation(area) => Some(format!("act/{}", network.areas[area].name)),
            _ => None,
        };
        let once = once.filter(|name| golden.expected.contains_key(name));
        for (t, view) in tapped.views.iter().enumerate() {
            let Some(view) = *view else { continue };
            let name = match (&once, tapped.of) {
                (Some(name), Quantity::Input) if Some(t) == shows_picture => name.clone(),
                (Some(name), Quantity::Activation(_)) if t == 0 => name.clone(),
                (Some(_), _) | (_, Quantity::Input) => continue,
                (None, Quantity::Activation(area)) => format!("act/{}/{t}", network.areas[area].name),
                (None, Quantity::Logits) => format!("logits/{t}"),
                (None, Quantity::LogProbs) => format!("logprob/{t}"),
                (None, Quantity::Drive(_) | Quantity::Representation) => continue,
            };
            results.insert(name, image_first(&engine.read(view).await?, n));
        }
    }
    Ok(())
}
