//! What the host feeds goes to the device through a ring of buffers, in order, whatever its size; readings come back
//! through a ring too. Both are planned.

mod rectifier;

use pollster::FutureExt;
use rectifier::rectifier;
use recurve::Error;
use recurve::dataset::{Augmentation, Batch, LastBatch, Loader, Normaliser, TrainingBatches, open};
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Options, Recording, Store};
use recurve::graph::compile::Request;
use recurve::graph::plan::{Plan, UNDER_WAY};
use recurve::graph::taps::{Quantity, Tap};
use recurve::kernels::View;
use recurve::network::{NetworkConfig, Preset, Schedule, initialise};
use recurve::ops::Hyper;
use recurve::stream::{Collect, Values, stream};
use std::collections::VecDeque;
use std::task::{Context, Waker};

fn part(view: View, first: usize, words: usize) -> View {
    View { offset: view.offset + 4 * first as u64, bytes: 4 * words as u64, ..view }
}

/// Rule `feeds`.
#[test]
fn feeds_arrive_in_order_and_readings_come_back() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let (program, [x, y]) = rectifier();
    let plain = Plan::new(&program, true);
    // Room for 60 numbers (in three pieces) per buffer; none; and room for all.
    for feeds in [vec![80, 80, 80], vec![], vec![256]] {
        let plan = plain.clone().with_rings(feeds.into_iter(), [(256, 3)].into_iter());
        let before = gpu.allocated();
        let recording = Recording::new(&gpu, &program, &plan, &mut Store::default()).block_on().unwrap();
        assert_eq!(gpu.allocated() - before, plan.peak_bytes());
        recording.write(&gpu, x, &[-1.0f32; 64]);
        let mut readings = Vec::new();
        for round in 0..20 {
            let value = |i: usize| (100 * round + i) as f32;
            if round % 3 == 0 {
                // Overwritten before it runs, by a feed or at once.
                recording.feed(&gpu, x, &[7.0f32; 64]).block_on().unwrap();
                recording.feed(&gpu, part(x, 3, 5), &[8.0f32; 5]).block_on().unwrap();
            }
            if round % 4 == 3 {
                recording.write(&gpu, x, &(0..64).map(value).collect::<Vec<f32>>());
            } else {
                for first in [0, 21, 42] {
                    let values: Vec<f32> = (first..64.min(first + 22)).map(value).collect();
                    recording.feed(&gpu, part(x, first, values.len()), &values).block_on().unwrap();
                }
            }
            recording.run(&gpu);
            // More than the ring holds are under way, and some are never waited for.
            readings.push((round, recording.read_later(&gpu, y)));
            if round % 5 == 4 {
                for (round, reading) in readings.drain(..).skip(1) {
                    let expected: Vec<f32> = (0..64).map(|i| (100 * round + i) as f32).collect();
                    assert_eq!(reading.finish::<f32>(&gpu).block_on().unwrap(), expected, "round {round}");
                }
            }
        }
        // What was fed and not run is there for who reads it.
        recording.feed(&gpu, part(x, 0, 1), &[-5.0f32]).block_on().unwrap();
        assert_eq!(recording.read::<f32>(&gpu, part(x, 0, 1)).block_on().unwrap(), [-5.0]);
        assert_eq!(gpu.allocated() - before, plan.peak_bytes(), "as planned, to the end");
    }
}

/// The loops of training (in parts) and of streams find all that they need in the plan.
/// Rule `planned`.
#[test]
fn a_step_makes_no_buffer() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let config = NetworkConfig {
        image_size: 16,
        stem_channels: 4,
        area_channels: [4, 8, 8, 16],
        timesteps: 2,
        ..Preset::Tiny.network()
    };
    let (network, schedule) = (config.network(), Schedule::plain(2));
    let data = open("glyphs:train=40,val=20,test=20", Some(16)).unwrap();
    let parameters = initialise(&network.parameters, 1);
    let table = Normaliser::new(data.mean(), data.std());

    let request = Request { parts: 2, ..Request::training(&network, &schedule, 4, &gpu.target) };
    let mut engine = Engine::new(&gpu, &request, &mut Store::default()).block_on().unwrap();
    engine.set_parameters(&parameters).unwrap();
    engine.set_moments(&parameters.zeros(), &parameters.zeros()).unwrap();
    engine.set_normaliser(&table);
    let (before, allocated) = (gpu.passing(), gpu.allocated());
    let mut pending = VecDeque::new();
    let how = TrainingBatches { batch: 8, last: LastBatch::Keep, augment: Augmentation::None, seed: 1 };
    for (item, step) in Loader::train(&data, "train", &how, 0).unwrap().zip(1..=6) {
        let hyper = Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        engine.set_step(&hyper, step, 1.0).block_on().unwrap();
        let mut readings = Vec::new();
        for (part, batch) in item.unwrap().1.parts(2).iter().enumerate() {
            engine.feed(batch).block_on().unwrap();
            engine.pass_part(part == 0).block_on().unwrap();
            readings.push(engine.scores_later());
        }
        engine.update();
        pending.push_back(readings);
        while pending.len() >= UNDER_WAY {
            for reading in pending.pop_front().unwrap() {
                assert!(engine.finish_scores(reading, 4).block_on().unwrap().total_loss().is_finite());
            }
        }
    }
    assert_eq!((gpu.passing() - before, gpu.allocated() - allocated), (0, 0), "training");
    drop(pending);
    engine.parameters().block_on().unwrap();
    assert!(gpu.passing() > before, "what is not planned is counted");

    let taps = [Tap::all(Quantity::Logits), Tap::all(Quantity::Activation(1))];
    let request = Request { taps: &taps, ..Request::forward(&network, &schedule, 4, &gpu.target) };
    let mut engine = Engine::new(&gpu, &request, &mut Store::default()).block_on().unwrap();
    engine.set_parameters(&parameters).unwrap();
    engine.set_normaliser(&table);
    let (before, allocated, mut images) = (gpu.passing(), gpu.allocated(), [0, 0]);
    let [logits, activations] = &mut images;
    let mut of_logits = Collect::new(&gpu, 0, Quantity::Logits, |values: Values| {
        *logits += values.images;
        Ok(())
    });
    let mut of_area = Collect::new(&gpu, 0, Quantity::Activation(1), |values: Values| {
        *activations += values.images;
        Ok(())
    });
    let loader = Loader::in_order(&data, "val", 4, false).unwrap();
    stream(&[engine], loader, &mut [&mut of_logits, &mut of_area], |_| {}).block_on().unwrap();
    assert_eq!((gpu.passing() - before, gpu.allocated() - allocated), (0, 0), "a stream");
    assert!(images.iter().all(|&n| n >= 20), "{images:?}");
}

/// Threads that wait for one device at once, each for work of its own, and futures that nobody waits for to the end.
#[test]
fn whoever_waits_is_woken() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let (program, [x, y]) = rectifier();
    let plan = Plan::new(&program, true).with_rings([256].into_iter(), [(256, 2)].into_iter());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (gpu, program, plan) = (&gpu, &program, &plan);
            scope.spawn(move || {
                let recording = Recording::new(gpu, program, plan, &mut Store::default()).block_on().unwrap();
                for round in 0..50 {
                    let value = (100 * thread + round) as f32;
                    recording.feed(gpu, x, &[value; 64]).block_on().unwrap();
                    recording.run(gpu);
                    let mark = gpu.mark();
                    let mut given_up = Box::pin(recording.read::<f32>(gpu, y));
                    let _ = given_up.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                    drop(given_up);
                    assert_eq!(recording.read::<f32>(gpu, y).block_on().unwrap(), [value; 64]);
                    gpu.wait_for(&mark).block_on().unwrap();
                    gpu.wait_for(&mark).block_on().unwrap(); // as often as one likes
                }
                gpu.wait().block_on().unwrap();
            });
        }
    });
}

#[test]
fn feeding_a_lost_device_is_an_error() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let (program, [x, _]) = rectifier();
    let plan = Plan::new(&program, true).with_rings([256].into_iter(), [].into_iter());
    let recording = Recording::new(&gpu, &program, &plan, &mut Store::default()).block_on().unwrap();
    gpu.device.destroy();
    for _ in 0..5 {
        let outcome = recording.feed(&gpu, x, &[1.0f32; 64]).block_on();
        assert!(matches!(outcome, Err(Error::DeviceLost { .. })), "{outcome:?}");
        recording.run(&gpu);
    }
}

#[test]
fn a_batch_has_the_bytes_that_are_counted() {
    let data = open("glyphs:train=20,val=10,test=10", Some(17)).unwrap();
    for (batch, next) in [(3, false), (8, true)] {
        let (_, found) = Loader::in_order(&data, "val", batch, next).unwrap().next().unwrap().unwrap();
        let bytes = found.pictures.len() + found.next.as_ref().map_or(0, Vec::len) + 4 * found.labels.len();
        assert_eq!(bytes as u64, Batch::bytes(17, batch, next));
        assert!(Loader::host_bytes(17, batch, next, 1) >= 3 * bytes as u64);
    }
}
