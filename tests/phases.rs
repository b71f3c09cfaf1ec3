//! A step in phases: parts of a batch whose gradients add up, pass and update submitted apart, a loss scale, and the order in
//! which gradients are finished.

mod own;

use own::{batch, network, open};
use pollster::FutureExt;
use recurve::dataset::Normaliser;
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Store};
use recurve::graph::checker::replay;
use recurve::graph::compile::{Request, compile};
use recurve::graph::passes::Passes;
use recurve::kernels::pace::Pace;
use recurve::kernels::{Access, Target, View};
use recurve::network::{Network, Schedule, initialise};
use recurve::ops::Hyper;
use recurve::reference::clip::{clip_factor, gradient_norm};
use recurve::tensors::Tensors;
use std::collections::BTreeSet;

const HYPER: Hyper = Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

fn engine<'g>(gpu: &'g Gpu, network: &Network, batch: usize, parts: usize) -> Engine<'g> {
    clipped(gpu, network, batch, parts, None)
}

/// The same with gradients clipped to a norm, or as they are.
fn clipped<'g>(gpu: &'g Gpu, network: &Network, batch: usize, parts: usize, limit: Option<f64>) -> Engine<'g> {
    let schedule = Schedule::plain(network.timesteps);
    let clip = limit.is_some();
    let request = Request { parts, clip, ..Request::training(network, &schedule, batch, &gpu.target) };
    let mut engine = Engine::new(gpu, &request, &mut Store::default()).block_on().expect("fits");
    let start: Tensors = initialise(&network.parameters, 3);
    engine.set_normaliser(&Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]));
    limit.iter().for_each(|&limit| engine.set_clip_norm(limit));
    engine.set_parameters(&start).expect("all parameters");
    engine.set_moments(&start.zeros(), &start.zeros()).expect("all parameters");
    engine
}

/// One training step in as many parts as the engine has; its loss.
fn step(engine: &Engine, number: u64, images: usize, loss_scale: f64) -> f64 {
    engine.set_step(&HYPER, number, loss_scale).block_on().unwrap();
    let whole = batch(number, images);
    let mut scores = None;
    for (part, batch) in whole.parts(engine.parts).iter().enumerate() {
        engine.feed(batch).block_on().unwrap();
        engine.pass_part(part == 0).block_on().unwrap();
        let found = engine.scores(batch.n).block_on().expect("the device answers");
        match &mut scores {
            None => scores = Some(found),
            Some(scores) => scores.add(&found),
        }
    }
    engine.update();
    scores.expect("a part").total_loss()
}

fn bits(tensors: &Tensors) -> Vec<(&String, Vec<u32>)> {
    tensors.iter().map(|(name, t)| (name, t.values.iter().map(|v| v.to_bits()).collect())).collect()
}

/// The largest difference, over the largest value, of each tensor; the largest of them. Not finite where a value is.
fn difference(a: &Tensors, b: &Tensors) -> f64 {
    assert!(a.len() == b.len() && a.not_finite().is_none() && b.not_finite().is_none());
    let one = |(name, a): (&String, &recurve::tensors::Tensor)| {
        let b = b.values(name).expect("the same names");
        let largest = b.iter().fold(1e-6_f32, |m, v| m.max(v.abs()));
        let error = a.values.iter().zip(b).fold(0.0_f32, |m, (a, b)| m.max((a - b).abs()));
        f64::from(error / largest)
    };
    a.iter().map(one).fold(0.0, f64::max)
}

/// So parts of a batch, and ranks, part from the whole by the order in which gradients are added up, and by nothing else.
#[test]
fn losses_have_the_same_bits_however_many_images_are_computed_together() {
    let gpu = open();
    let network = network("engineering", 3);
    const IMAGES: usize = 48;
    let losses = [1, 2, 3, 6, 12].map(|parts| step(&engine(&gpu, &network, IMAGES / parts, parts), 1, IMAGES, 1.0));
    assert!(losses.iter().all(|loss| loss.is_finite() && loss.to_bits() == losses[0].to_bits()), "{losses:?}");
}

/// Rule `phases`.
#[test]
fn gradients_of_parts_add_up_to_those_of_the_whole() {
    let gpu = open();
    let network = network("engineering", 3);
    const IMAGES: usize = 12;
    let whole = engine(&gpu, &network, IMAGES, 1);
    let mut expected = Vec::new();
    for number in 1..=3 {
        let loss = step(&whole, number, IMAGES, 1.0);
        expected.push((
            loss,
            whole.gradients().block_on().expect("read"),
            whole.parameters().block_on().expect("read"),
        ));
    }
    assert!(expected[0].1.iter().all(|(_, g)| g.values.iter().any(|v| *v != 0.0)), "every gradient says something");
    for parts in [2, 3, 12] {
        let engine = engine(&gpu, &network, IMAGES / parts, parts);
        for (number, (loss, gradients, parameters)) in (1..).zip(&expected) {
            let found = step(&engine, number, IMAGES, 1.0);
            assert!((found - loss).abs() < 1e-5 * loss, "{parts} parts, step {number}: loss {found}, whole {loss}");
            // After the first update a gradient is that of parameters that differ by rounding.
            let error = difference(&engine.gradients().block_on().expect("read"), gradients);
            assert!(
                error < if number == 1 { 2e-5 } else { 1e-2 },
                "{parts} parts, step {number}: gradients {error:.1e}"
            );
            // Where a gradient is all rounding, Adam's first steps are of any sign: nearly all parameters agree.
            let found = engine.parameters().block_on().expect("read");
            let mut apart: Vec<f32> = Vec::new();
            for (name, tensor) in found.iter() {
                let whole = parameters.values(name).expect("the same names");
                apart.extend(tensor.values.iter().zip(whole).map(|(a, b)| (a - b).abs()));
            }
            apart.sort_by(f32::total_cmp);
            let (most, last) = (apart[apart.len() * 99 / 100], apart[apart.len() - 1]);
            assert!(
                most < 1e-5 && last <= 2.1e-3 * number as f32,
                "{parts} parts, step {number}: {most:.1e}, {last:.1e}"
            );
        }
    }
}

/// Gradients of `images` pictures in a program for more, which others fill up; in as many parts as the engine has.
fn padded(engine: &Engine, images: usize, filling: u64) -> (f64, Tensors) {
    let size = engine.batch * engine.parts;
    let (bytes, mut whole, other) = (3 * 16 * 16, batch(1, images), batch(filling, size));
    whole.pictures.extend_from_slice(&other.pictures[images * bytes..]);
    whole.labels.extend_from_slice(&other.labels[images..]);
    assert_eq!((whole.n, whole.whole, whole.labels.len()), (images, images, size));
    engine.set_hyper(&HYPER, 1, 1.0).block_on().unwrap();
    let mut scores = None;
    for (part, batch) in whole.parts(engine.parts).iter().filter(|part| part.n > 0).enumerate() {
        engine.feed(batch).block_on().unwrap();
        engine.weigh(batch.n, batch.whole, 1.0).block_on().unwrap();
        engine.pass_part(part == 0).block_on().unwrap();
        let found = engine.scores(batch.n).block_on().expect("the device answers");
        match &mut scores {
            None => scores = Some(found),
            Some(scores) => scores.add(&found),
        }
    }
    let scores = scores.expect("a part");
    assert_eq!(scores.images, images);
    (scores.total_loss(), engine.gradients().block_on().expect("read"))
}

/// The last batch of an epoch: loss and gradients are those of its own pictures, whatever fills the program up.
#[test]
fn a_batch_that_is_not_full_is_the_mean_over_its_own_pictures() {
    let gpu = open();
    let network = network("engineering", 3);
    for images in [1, 5] {
        let whole = engine(&gpu, &network, images, 1);
        let loss = step(&whole, 1, images, 1.0);
        let gradients = whole.gradients().block_on().expect("read");
        for (size, parts) in [(8, 1), (2, 4)] {
            let engine = engine(&gpu, &network, size, parts);
            let (found, padded_with) = padded(&engine, images, 7);
            assert!((found - loss).abs() < 1e-5 * loss, "{images} in {parts} x {size}: loss {found}, alone {loss}");
            let error = difference(&padded_with, &gradients);
            assert!(error < 2e-5, "{images} in {parts} x {size}: gradients {error:.1e}");
            let (again, other) = padded(&engine, images, 99);
            assert!(again == found && other == padded_with, "{images} in {parts} x {size}: what fills up counts");
        }
    }
}

fn norm(engine: &Engine) -> f64 {
    engine.finish_gradient_norm(engine.gradient_norm_later().expect("it clips")).block_on().expect("the device answers")
}

/// Rule `same-bytes`.
#[test]
fn gradients_are_clipped_by_the_norm_of_all() {
    let gpu = open();
    let network = network("engineering", 3);
    const IMAGES: usize = 4;
    for parts in [1, 2] {
        let plain = engine(&gpu, &network, IMAGES / parts, parts);
        assert!(plain.gradient_norm_later().is_none());
        step(&plain, 1, IMAGES, 1.0);
        let gradients = plain.gradients().block_on().expect("read");
        let lists: Vec<&[f32]> = gradients.iter().map(|(_, g)| &g.values[..]).collect();
        let expected = gradient_norm(&lists);
        let close = |found: f64, expected: f64| (found / expected - 1.0).abs() < 1e-5;
        assert!(expected > 0.0 && lists.len() > 10);

        // Beyond every gradient, nothing changes.
        let loose = clipped(&gpu, &network, IMAGES / parts, parts, Some(1e3 * expected));
        for number in 1..=3 {
            step(&loose, number, IMAGES, 1.0);
            assert!(number > 1 || close(norm(&loose), expected), "{} and {expected}", norm(&loose));
        }
        (2..=3).for_each(|number| _ = step(&plain, number, IMAGES, 1.0));
        let [a, b] = [&plain, &loose].map(|engine| engine.parameters().block_on().expect("read"));
        assert_eq!(bits(&a), bits(&b), "{parts} parts");

        // Beyond the limit they are shortened, all alike, whatever the loss scale, and Adam's moments are those of what is left.
        let limit = expected / 3.0;
        let mut first = None;
        for scale in [1.0, 1.0, 1024.0] {
            let tight = clipped(&gpu, &network, IMAGES / parts, parts, Some(limit));
            step(&tight, 1, IMAGES, scale);
            assert!(close(norm(&tight), expected), "loss scale {scale}: {} and {expected}", norm(&tight));
            let factor = scale * clip_factor(expected, limit);
            let found = tight.gradients().block_on().expect("read");
            let (m, v) = tight.moments().block_on().expect("read");
            for (name, whole) in gradients.iter() {
                let [found, m, v] = [&found, &m, &v].map(|of| of.values(name).expect("the same names"));
                let largest = whole.values.iter().fold(0.0, |m: f64, g| m.max(f64::from(g.abs())));
                for (i, &g) in whole.values.iter().enumerate() {
                    let clipped = factor * f64::from(g);
                    assert!((f64::from(found[i]) - clipped).abs() <= 1e-5 * factor * largest, "{name}[{i}]");
                    let g = f64::from(found[i]) / scale;
                    assert!((f64::from(m[i]) - 0.1 * g).abs() <= 1e-6 * g.abs() + 1e-37, "{name}[{i}]: mean");
                    assert!((f64::from(v[i]) - 0.001 * g * g).abs() <= 1e-6 * g * g + 1e-37, "{name}[{i}]: square");
                }
            }
            let found = (norm(&tight).to_bits(), tight.parameters().block_on().expect("read"));
            if let (1.0, Some((norm, parameters))) = (scale, &first) {
                assert_eq!((*norm, bits(parameters)), (found.0, bits(&found.1)), "{parts} parts: the second time");
            }
            first.get_or_insert(found);
        }
    }
}

#[test]
fn without_clipping_no_launch_is_added() {
    let target = Target { cpu: true, subgroup: 8, ..Target::minimum() };
    let network = network("engineering", 3);
    let schedule = Schedule::plain(3);
    for parts in [1, 2] {
        let request = Request { parts, ..Request::training(&network, &schedule, 2, &target) };
        let labels = |request: &Request| -> Vec<String> {
            compile(request).expect("compiles").program.launches.iter().map(|launch| launch.label.clone()).collect()
        };
        let (plain, clips) = (labels(&request), labels(&Request { clip: true, ..request.clone() }));
        let kept: Vec<&String> =
            clips.iter().filter(|label| !label.contains("gradient_norm") && !label.contains("clip ")).collect();
        assert_eq!(kept, plain.iter().collect::<Vec<_>>());
        assert!(clips.len() > plain.len() + 10, "one sum of squares for each parameter, the factor, a product");
        let compiled = compile(&Request { clip: true, ..request }).expect("compiles");
        let phases = &compiled.phases;
        let mut ranges = vec![0..phases.accumulate.end; parts];
        ranges.push(phases.update.clone());
        replay(&compiled.program, &compiled.plan, &ranges).expect("a sound plan");
    }
}

/// Rule `time`.
#[test]
fn sums_over_time_that_are_sliced_are_those_in_one_piece() {
    let mut gpu = open();
    gpu.target.pace = None;
    let (network, schedule) = (network("engineering", 5), Schedule::plain(5));
    let launches = |gpu: &Gpu| {
        let compiled = compile(&Request::training(&network, &schedule, 4, &gpu.target)).expect("compiles");
        compiled.program.launches.into_iter().map(|launch| (launch.label, launch.operations)).collect::<Vec<_>>()
    };
    let whole = engine(&gpu, &network, 4, 1);
    let losses = step(&whole, 1, 4, 1.0);
    let gradients = whole.gradients().block_on().expect("read");
    let in_one = launches(&gpu);
    drop(whole);
    // A device so slow that any one timestep is just bearable.
    let of_one_step = in_one.iter().filter(|(label, _)| !label.contains("d_weight")).map(|(_, operations)| *operations);
    gpu.target.pace = Some(Pace { operations: 1.2 * of_one_step.fold(0.0, f64::max), bytes: f64::INFINITY });
    let sliced = launches(&gpu);
    assert!(sliced.len() > in_one.len(), "{} launches, {} in one piece", sliced.len(), in_one.len());
    let of_sums = |launches: &[(String, f64)]| -> f64 {
        let sums =
            launches.iter().filter(|(label, _)| label.starts_with("conv2d_d_weight") && !label.ends_with("fold"));
        sums.map(|(_, operations)| operations).fold(0.0, |all, one| f64::max(all, *one))
    };
    assert!(of_sums(&sliced) < 0.7 * of_sums(&in_one), "{} and {}", of_sums(&sliced), of_sums(&in_one));
    let sliced = engine(&gpu, &network, 4, 1);
    assert_eq!(step(&sliced, 1, 4, 1.0).to_bits(), losses.to_bits());
    let error = difference(&sliced.gradients().block_on().expect("read"), &gradients);
    assert!(error < 2e-5, "gradients {error:.1e}");
}

#[test]
fn a_step_forgets_the_parts_of_the_step_before() {
    let gpu = open();
    let network = network("engineering", 2);
    let engines = [engine(&gpu, &network, 2, 3), engine(&gpu, &network, 2, 3)];
    // A step is begun and given up after two parts of other pictures.
    engines[0].set_step(&HYPER, 1, 1.0).block_on().unwrap();
    for (part, batch) in batch(99, 6).parts(3)[..2].iter().enumerate() {
        engines[0].feed(batch).block_on().unwrap();
        engines[0].pass_part(part == 0).block_on().unwrap();
    }
    let losses = engines.each_ref().map(|engine| step(engine, 1, 6, 1.0));
    assert_eq!(losses[0].to_bits(), losses[1].to_bits());
    let [a, b] = engines.each_ref().map(|engine| engine.gradients().block_on().expect("read"));
    assert_eq!(bits(&a), bits(&b));
}

/// Rule `phases`.
#[test]
fn phases_submitted_apart_give_the_bits_of_one_submission() {
    let gpu = open();
    for (unroll, timesteps) in [("engineering", 3), ("biological", 5)] {
        let network = network(unroll, timesteps);
        let [together, apart] = [(); 2].map(|()| engine(&gpu, &network, 4, 1));
        for number in 1..=3 {
            together.set_step(&HYPER, number, 1.0).block_on().unwrap();
            together.feed(&batch(number, 4)).block_on().unwrap();
            together.run();
            let loss = together.scores(4).block_on().expect("read").total_loss();
            apart.set_step(&HYPER, number, 1.0).block_on().unwrap();
            apart.feed(&batch(number, 4)).block_on().unwrap();
            apart.pass();
            assert_eq!(apart.scores(4).block_on().expect("read").total_loss().to_bits(), loss.to_bits());
            let before = apart.parameters().block_on().expect("read");
            apart.update();
            assert_ne!(
                before,
                apart.parameters().block_on().expect("read"),
                "{unroll}: the update is a phase of its own"
            );
        }
        let [together, apart] = [together, apart].map(|engine| {
            let (m, v) = engine.moments().block_on().expect("read");
            let [parameters, gradients] = [engine.parameters().block_on(), engine.gradients().block_on()];
            [parameters.expect("read"), gradients.expect("read"), m, v]
        });
        for (together, apart) in together.iter().zip(&apart) {
            assert_eq!(bits(together), bits(apart), "{unroll}");
        }
    }
}

/// A power of two moves exponents and nothing else, as long as nothing leaves the range.
#[test]
fn a_loss_scale_that_is_a_power_of_two_changes_no_bit() {
    let gpu = open();
    let network = network("engineering", 3);
    let [plain, scaled] = [(); 2].map(|()| engine(&gpu, &network, 4, 1));
    // The host may change it between steps.
    for (number, scale) in [(1, 1024.0), (2, 1024.0), (3, 1.0 / 64.0), (4, 1.0)] {
        let losses = [step(&plain, number, 4, 1.0), step(&scaled, number, 4, scale)];
        assert_eq!(losses[0].to_bits(), losses[1].to_bits(), "the loss that is reported is not scaled");
        let mut found = scaled.gradients().block_on().expect("read");
        for (_, tensor) in found.iter_mut() {
            tensor.values.iter_mut().for_each(|g| *g /= scale as f32);
        }
        let expected = plain.gradients().block_on().expect("read");
        assert!(expected.iter().any(|(_, g)| g.values.iter().any(|v| *v != 0.0)));
        assert_eq!(bits(&found), bits(&expected), "gradients at scale {scale}");
        assert_eq!(
            bits(&scaled.parameters().block_on().expect("read")),
            bits(&plain.parameters().block_on().expect("read")),
            "scale {scale}"
        );
    }
}

#[test]
fn gradients_are_listed_in_the_order_in_which_they_are_finished() {
    let gpu = open();
    for (unroll, timesteps) in [("engineering", 1), ("engineering", 3), ("biological", 5)] {
        for passes in [Passes::default(), Passes::without(&["fold"]).expect("a pass")] {
            let network = network(unroll, timesteps);
            let schedule = Schedule::plain(timesteps);
            let plain = Request::training(&network, &schedule, 4, &gpu.target);
            let compiled = compile(&Request { passes, ..plain }).expect("compiles");
            let order = compiled.gradients_finished();
            let names: BTreeSet<&str> = order.iter().map(|(_, name)| *name).collect();
            let learned: BTreeSet<&str> = compiled.places.learned.iter().map(String::as_str).collect();
            assert_eq!((names.len(), &names), (order.len(), &learned), "{unroll}: each learned parameter once");
            assert!(order.is_sorted(), "{unroll}: {order:?}");
            let overlaps = |a: View, b: View| {
                a.buffer == b.buffer && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes
            };
            for &(launch, name) in &order {
                assert!(compiled.phases.pass.contains(&launch), "{unroll}: {name}");
                let range = compiled.places.learned.iter().position(|other| other == name).expect("learned");
                let place = compiled.places.arenas.view(&compiled.places.gradients, range);
                let writes = |i: usize| {
                    let launch = &compiled.program.launches[i];
                    let written = |(operand, view): &(&str, View)| {
                        let access = launch.kernel.bindings.iter().find(|b| b.name == *operand).expect("bound").access;
                        access == Access::ReadWrite && overlaps(*view, place)
                    };
                    launch.operands.iter().any(written)
                };
                let last = compiled.phases.pass.clone().rev().find(|&i| writes(i));
                assert_eq!(last, Some(launch), "{unroll}: the last write to the gradient of {name}");
            }
        }
    }
}
