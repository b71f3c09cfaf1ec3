//! What is read of a network: taps, streams of batches into sinks, and the pictures as the device sees them.

mod own;

use own::{batch, network, open};
use pollster::FutureExt;
use recurve::Result;
use recurve::dataset::{Batch, Dataset, Loader, Normaliser, Pictures};
use recurve::dynamics::gpu::ValuesStream;
use recurve::dynamics::values::{self, Datum, Wants};
use recurve::engine::Engine;
use recurve::gpu::{Gpu, Store};
use recurve::graph::compile::Request;
use recurve::graph::passes::Passes;
use recurve::graph::taps::{Quantity, Reader, Tap};
use recurve::network::{Architecture, Network, Schedule, initialise};
use recurve::stream::{Collect, Networks, Order, Pending, Portion, Sink, Values, stream, stream_from};
use recurve::tensors::Tensors;
use recurve::trajectory::exact::{self, Silent};
use recurve::trajectory::goldens::{TOLERANCE_F32, compare};
use recurve::trajectory::gpu::GpuStream;
use recurve::trajectory::measured::{Layout, Measured};
use recurve::trajectory::npz::Extraction;
use recurve::trajectory::readout::Readout;
use std::sync::Arc;

/// A network with these taps, forward only, unless it trains.
fn engine<'g>(
    gpu: &'g Gpu,
    network: &Network,
    batch: usize,
    taps: &[Tap],
    train: bool,
    store: &mut Store,
) -> Engine<'g> {
    let schedule = Schedule::plain(network.timesteps);
    let request = Request { taps, train, ..Request::training(network, &schedule, batch, &gpu.target) };
    let mut engine = Engine::new(gpu, &request, store).block_on().expect("fits");
    engine.set_normaliser(&Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]));
    engine.set_parameters(&initialise(&network.parameters, 3)).expect("all parameters");
    engine
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// What a tap reads, step by step.
fn read(engine: &Engine, of: Quantity) -> Vec<Option<Vec<u32>>> {
    let tapped = engine.tapped(of).expect("asked for");
    let one = |view| bits(&engine.read(view).block_on().expect("the device answers"));
    tapped.views.iter().map(|view| view.map(one)).collect()
}

#[test]
fn taps_read_the_steps_asked_for_and_change_nothing() {
    let gpu = open();
    for (unroll, timesteps, first_high) in [("engineering", 3, 0), ("biological", 5, 1)] {
        let network = network(unroll, timesteps);
        let scores = |engine: &Engine| {
            engine.feed(&batch(1, 3)).block_on().unwrap();
            engine.pass();
            let scores = engine.scores(3).block_on().expect("read");
            (scores.loss.iter().map(|l| l.to_bits()).collect::<Vec<_>>(), scores.correct, scores.first)
        };
        let plain = scores(&engine(&gpu, &network, 3, &[], false, &mut Store::default()));
        let all = Tap::everything(&network);
        let everything = engine(&gpu, &network, 3, &all, false, &mut Store::default());
        assert_eq!(scores(&everything), plain, "{unroll}: a tap changed the scores");
        for (area, name) in network.areas.iter().map(|a| a.name.as_str()).enumerate() {
            // The areas of this network wake one after the other; high with its skip as early as low.
            let wakes = if unroll == "engineering" { 0 } else { [0, 1, first_high, 2][area] };
            let activation = read(&everything, Quantity::Activation(area));
            let exists: Vec<bool> = activation.iter().map(Option::is_some).collect();
            assert_eq!(exists, (0..timesteps).map(|t| t >= wakes).collect::<Vec<_>>(), "{unroll}: {name}");
            for train in [false, true] {
                // Before and after the activation, at two steps of the run and one beyond it.
                let steps = Some(vec![1, timesteps - 1, timesteps + 3]);
                let tap = |of| Tap { of, timesteps: steps.clone(), reader: Reader::Host };
                let taps = [tap(Quantity::Drive(area)), tap(Quantity::Activation(area))];
                let alone = engine(&gpu, &network, 3, &taps, train, &mut Store::default());
                alone
                    .set_step(
                        &recurve::ops::Hyper { learning_rate: 0.0, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
                        1,
                        1.0,
                    )
                    .block_on()
                    .unwrap();
                assert_eq!(scores(&alone), plain, "{unroll}: {name}: a tap changed the scores");
                let (drive, found) = (read(&alone, Quantity::Drive(area)), read(&alone, Quantity::Activation(area)));
                for t in 0..timesteps {
                    let wanted = (t == 1 || t == timesteps - 1) && t >= wakes;
                    let expected = if wanted { &activation[t] } else { &None };
                    assert_eq!(&found[t], expected, "{unroll}: {name} at {t}: with and without other taps");
                    let rectified = drive[t].as_ref().map(|bits| -> Vec<f32> {
                        bits.iter().map(|b| f32::from_bits(*b)).map(|v| if v > 0.0 { v } else { 0.0 }).collect()
                    });
                    let found = found[t].as_ref().map(|bits| bits.iter().map(|b| f32::from_bits(*b)).collect());
                    assert_eq!(rectified, found, "{unroll}: {name} at {t}: the activation of the drive");
                    assert!(drive[t].as_ref().is_none_or(|d| d.iter().any(|b| f32::from_bits(*b) < 0.0)), "{name}");
                }
            }
        }
    }
}

/// A series holds every step, also of what is the same at all of them, of what two taps name, and of a state that each step
/// computes from the one before.
#[test]
fn series_hold_every_step() {
    let gpu = open();
    let mut json = own::description("engineering", 4);
    for area in json["areas"].as_array_mut().expect("areas") {
        (area["norm"], area["activation"], area["groups"]) = ("none".into(), "none".into(), 1.into());
    }
    let network = Architecture::from_golden_json(&json.to_string()).expect("valid").network().expect("valid");
    let read_out = network.readout.area;
    let of = [
        Quantity::Input,
        Quantity::Drive(read_out),
        Quantity::Activation(read_out),
        Quantity::Activation(0),
        Quantity::Activation(1),
        Quantity::Representation,
        Quantity::Logits,
    ];
    // What is in a series is computed at every step; without hoisting all is, and sums have one order.
    let engine = |taps: Vec<Tap>| {
        let (schedule, passes) = (Schedule::plain(4), Passes::without(&["hoist"]).expect("a pass"));
        let request = Request { taps: &taps, passes, ..Request::forward(&network, &schedule, 3, &gpu.target) };
        let mut engine = Engine::new(&gpu, &request, &mut Store::default()).block_on().expect("fits");
        engine.set_normaliser(&Normaliser::new([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]));
        engine.set_parameters(&initialise(&network.parameters, 3)).expect("all parameters");
        engine.feed(&batch(1, 3)).block_on().unwrap();
        engine.pass();
        engine
    };
    let (plain, in_series) = (engine(of.map(Tap::all).to_vec()), engine(of.map(Tap::series).to_vec()));
    for of in of {
        let series = in_series.tapped(of).expect("asked for").series.expect("as a series");
        assert_eq!((series.first, series.steps), (0, 4), "{of:?}");
        let all = in_series.read(series.view).block_on().expect("read");
        for (t, expected) in read(&plain, of).into_iter().enumerate() {
            let expected = expected.expect("exists at every step");
            let found = &all[t * series.distance..][..expected.len()];
            assert!(found.iter().any(|v| *v != 0.0), "{of:?} at {t} says something");
            assert_eq!(bits(found), expected, "{of:?} at {t}");
            assert_eq!(read(&in_series, of)[t], Some(expected), "{of:?} at {t}");
        }
    }
}

/// A split of pictures that are made up, the same numbers whenever they are read.
struct MadeUp {
    classes: Vec<String>,
    images: usize,
}

impl MadeUp {
    fn pictures(&self) -> Pictures {
        let all = batch(7, self.images);
        Pictures { data: all.pictures, labels: all.labels, n: self.images, side: 16 }
    }
}

impl Dataset for MadeUp {
    fn name(&self) -> String {
        "made up".into()
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn image_size(&self) -> usize {
        16
    }
    fn splits(&self) -> Vec<String> {
        vec!["test".into()]
    }
    fn labels(&self, _: &str) -> Result<Vec<u32>> {
        Ok(self.pictures().labels)
    }
    fn len(&self, _: &str) -> Result<usize> {
        Ok(self.images)
    }
    fn mean(&self) -> [f64; 3] {
        [120.0, 110.0, 100.0]
    }
    fn std(&self) -> [f64; 3] {
        [60.0, 55.0, 50.0]
    }
    fn read(&self, _: &str, indices: &[usize]) -> Result<Pictures> {
        let all = self.pictures();
        let one = |&i: &usize| all.data[i * 768..][..768].to_vec();
        let labels = indices.iter().map(|&i| all.labels[i]).collect();
        Ok(Pictures { data: indices.iter().flat_map(one).collect(), labels, n: indices.len(), side: 16 })
    }
}

/// Notes which pictures passed, and asks for nothing.
struct Passers(Vec<(usize, usize)>);

impl Sink for Passers {
    fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
        self.0.push((portion.first, portion.images));
        Box::pin(async { Ok(()) })
    }
}

/// What was collected of a network, [T][N][features] in f64, and checks that each picture came once and in order.
fn in_order(collected: &[Values], images: usize, timesteps: usize, first_step: usize) -> Vec<f64> {
    let steps = timesteps - first_step;
    let features = collected[0].shape[0];
    let mut all = vec![f64::NAN; steps * images * features];
    let mut next = vec![0; steps];
    for values in collected {
        let width = *values.shape.last().expect("extents");
        assert_eq!(values.shape.iter().product::<usize>(), values.values.len());
        let t = values.timestep - first_step;
        assert_eq!(values.first, next[t], "pictures come once and in order");
        next[t] += values.images;
        for n in 0..values.images {
            for d in 0..features {
                all[(t * images + values.first + n) * features + d] = f64::from(values.values[d * width + n]);
            }
        }
    }
    assert!(next.iter().all(|n| *n == images), "every picture at every step: {next:?}");
    assert!(all.iter().all(|v| v.is_finite()));
    all
}

#[test]
fn sinks_see_every_picture_once_and_agree() {
    let gpu = open();
    for (unroll, timesteps, first_step) in [("engineering", 4, 0), ("biological", 6, 2)] {
        // Not divisible by the batch; one picture; fewer than a batch; exactly one batch and exactly two.
        for (images, width) in [(19, 8), (1, 8), (5, 8), (8, 8), (16, 8), (3, 1)] {
            let what = format!("{unroll}, {images} pictures, batch {width}");
            let network = network(unroll, timesteps);
            let read_out = Quantity::Representation;
            let taps = [Quantity::Logits, read_out].map(Tap::series);
            let mut store = Store::default();
            let trained = engine(&gpu, &network, width, &taps, false, &mut Store::default());
            trained.share_inputs(&mut store);
            let mut engines = [trained, engine(&gpu, &network, width, &taps, false, &mut store)];
            let parameters = [11, 12].map(|seed| -> Tensors { initialise(&network.parameters, seed) });
            engines.iter_mut().zip(&parameters).for_each(|(e, p)| e.set_parameters(p).expect("all parameters"));
            let weight = parameters[0].values("readout.weight").expect("there").iter().map(|&w| f64::from(w)).collect();
            let readout = Readout::new(weight, network.classes, network.features()).expect("valid");
            let mut store = Store::default();
            let layout = Layout::share(&mut store, &engines);
            let mut measured = Measured::new(&gpu, readout.clone(), layout, &mut store).block_on().expect("fits");
            let mut statistics = GpuStream::new(&gpu, &measured, images, &mut store).block_on().expect("fits");
            let wants = Wants::all();
            let mut dynamics =
                ValuesStream::new(&gpu, &measured, None, images, &wants, &mut store).block_on().expect("fits");
            let data: Arc<dyn Dataset> = Arc::new(MadeUp { classes: vec!["k".into(); 5], images });
            let mut found: [Vec<Values>; 4] = Default::default();
            let mut passers = Passers(Vec::new());
            let mut done = Vec::new();
            {
                let [a, b, c, d] = &mut found;
                let mut logits = Collect::new(&gpu, 0, Quantity::Logits, |v| {
                    a.push(v);
                    Ok(())
                });
                let mut representations = Collect::new(&gpu, 0, read_out, |v| {
                    b.push(v);
                    Ok(())
                });
                let mut logits_init = Collect::new(&gpu, 1, Quantity::Logits, |v| {
                    c.push(v);
                    Ok(())
                });
                let mut representations_init = Collect::new(&gpu, 1, read_out, |v| {
                    d.push(v);
                    Ok(())
                });
                let sinks: &mut [&mut dyn Sink] = &mut [
                    &mut logits,
                    &mut measured,
                    &mut statistics,
                    &mut dynamics,
                    &mut representations,
                    &mut passers,
                    &mut logits_init,
                    &mut representations_init,
                ];
                let loader = Loader::in_order(&data, "test", width, false).expect("opens");
                stream(&engines, loader, sinks, |n| done.push(n)).block_on().expect("the device answers");
            }
            let expected: Vec<(usize, usize)> =
                (0..images).step_by(width).map(|first| (first, width.min(images - first))).collect();
            assert_eq!(passers.0, expected, "{what}");
            assert_eq!(done, expected.iter().map(|(first, n)| first + n).collect::<Vec<_>>(), "{what}");

            let [outputs, representations, outputs_init, representations_init] =
                found.map(|values| in_order(&values, images, timesteps, first_step));
            assert_ne!(outputs, outputs_init, "{what}: two networks");
            let labels: Vec<usize> = data.labels("test").expect("there").iter().map(|&l| l as usize).collect();
            let extraction = |outputs, representations, of: &Tensors| Extraction {
                timesteps: timesteps - first_step,
                samples: images,
                classes: network.classes,
                features: network.features(),
                outputs,
                labels: labels.clone(),
                representations,
                readout_weight: of.values("readout.weight").expect("there").iter().map(|&w| f64::from(w)).collect(),
                readout_bias: None,
            };
            let trained = extraction(outputs, representations, &parameters[0]);
            let untrained = extraction(outputs_init, representations_init, &parameters[1]);
            let expected = exact::statistics(&trained, &untrained, Silent::LeftOut).expect("complete");
            let expected = serde_json::to_value(&expected).expect("numbers");
            let agreement =
                compare(&statistics.finish().block_on().expect("complete"), &expected, TOLERANCE_F32).expect("keys");
            assert!(agreement.offence.is_none(), "{what}: {agreement:?}");

            let (dynamics, dynamics_init) = dynamics.finish().block_on().expect("complete");
            assert_same_values(&dynamics, &values::Values::exact(&trained, &wants).expect("directions"), &what);
            let expected = values::Values::exact(&untrained, &Wants::classes()).expect("directions");
            assert_eq!(dynamics_init, Some(expected), "{what}");
        }
    }
}

/// Values by kernels and exact ones, to rounding; angles to a thousandth of a degree.
fn assert_same_values(found: &values::Values, expected: &values::Values, what: &str) {
    assert_eq!((&found.labels, &found.class), (&expected.labels, &expected.class), "{what}");
    for of in Datum::ALL {
        for t in 0..of.rows(expected.timesteps) {
            for (&a, &b) in found.row(of, t).iter().zip(expected.row(of, t)) {
                let allowed = if of == Datum::Turning { 1e-3 } else { 1e-5 * b.abs().max(1.0) };
                assert!(
                    a.is_nan() && b.is_nan() || (a - b).abs() < allowed,
                    "{what}: {of:?} at {t}: {a}, expected {b}"
                );
            }
        }
    }
    for t in 0..expected.timesteps {
        assert_eq!(found.later(t).images, expected.later(t).images, "{what}");
        for (&a, &b) in found.later(t).cosines.iter().zip(&expected.later(t).cosines) {
            assert!(a.is_nan() && b.is_nan() || (a - b).abs() < 1e-5, "{what}: later at {t}: {a}, expected {b}");
        }
    }
}

/// An order changes what is told of no image, and sinks hear of its turn between two batches.
#[test]
fn an_order_changes_nothing_but_the_order() {
    struct Turns(Vec<(usize, usize)>);
    impl Sink for Turns {
        fn take<'a>(&'a mut self, portion: &'a Portion) -> Pending<'a> {
            self.0.push((portion.first, portion.images));
            Box::pin(async { Ok(()) })
        }
        fn turn(&mut self) -> Pending<'_> {
            self.0.push((usize::MAX, 0));
            Box::pin(async { Ok(()) })
        }
    }
    let gpu = open();
    let network = network("engineering", 4);
    let taps = [Quantity::Logits, Quantity::Representation].map(Tap::series);
    let mut one = engine(&gpu, &network, 8, &taps, false, &mut Store::default());
    let parameters: Tensors = initialise(&network.parameters, 11);
    one.set_parameters(&parameters).expect("all parameters");
    let engines = [one];
    let weight = parameters.values("readout.weight").expect("there").iter().map(|&w| f64::from(w)).collect();
    let readout = Readout::new(weight, network.classes, network.features()).expect("valid");
    let data: Arc<dyn Dataset> = Arc::new(MadeUp { classes: vec!["k".into(); 5], images: 29 });
    let labels = data.labels("test").expect("there");
    let statistics = |order: &Order, turns: &mut Turns| {
        let mut store = Store::default();
        let layout = Layout::share(&mut store, &engines);
        assert!(!layout.untrained);
        let mut measured = Measured::new(&gpu, readout.clone(), layout, &mut store).block_on().expect("fits");
        let mut sink = GpuStream::new(&gpu, &measured, 29, &mut store).block_on().expect("fits");
        let loader = Loader::listed(&data, "test", order.ids(), order.training(), 8, false).expect("opens");
        let mut source = Networks { engines: &engines[..], loader };
        let sinks: &mut [&mut dyn Sink] = &mut [&mut measured, &mut sink, turns];
        stream_from(&mut source, Some(order.training()), sinks, |_| ()).block_on().expect("the device answers");
        sink.finish_in(order).block_on().expect("complete")
    };
    let (halves, whole) = (Order::halves(&labels), Order::of(&[true; 29]));
    let (mut turns, mut once) = (Turns(Vec::new()), Turns(Vec::new()));
    let (found, expected) = (statistics(&halves, &mut turns), statistics(&whole, &mut once));
    assert!((15..=17).contains(&halves.training()), "{}", halves.training());
    let at = turns.0.iter().position(|portion| portion.0 == usize::MAX).expect("told");
    assert_eq!(turns.0[..at].iter().map(|portion| portion.1).sum::<usize>(), halves.training());
    assert_eq!(turns.0[at + 1].0, halves.training(), "the first of the test images follow");
    assert_eq!(turns.0.iter().filter(|portion| portion.0 == usize::MAX).count(), 1);
    assert_eq!(once.0.last(), Some(&(usize::MAX, 0)), "where there are no test images the turn is the end");
    assert_eq!((&found.group, &found.t_stable), (&expected.group, &expected.t_stable));
    let agreement = compare(&found, &serde_json::to_value(&expected).expect("numbers"), 1e-6).expect("keys");
    assert!(agreement.offence.is_none(), "{agreement:?}");
}

/// Every byte of every channel, through the table that the host makes, and padded to whole words where the count is odd.
#[test]
fn pictures_are_normalised_with_the_host_s_bits() {
    let gpu = open();
    for (mean, std) in [([120.0, 110.0, 100.0], [60.0, 55.0, 50.0]), ([0.1, 254.9, 127.5], [0.3, 1000.0, 73.123456789])]
    {
        let normaliser = Normaliser::new(mean, std);
        for images in [1, 3, 5] {
            let network = network("engineering", 1);
            let taps = [Tap::all(Quantity::Input)];
            let engine = engine(&gpu, &network, images, &taps, false, &mut Store::default());
            engine.set_normaliser(&normaliser);
            // 256 pixels: pixel p of picture n has the byte p + 17 n in red, and others in green and blue.
            let byte = |n: usize, p: usize, c: usize| (p * [1, 3, 5][c] + 17 * n + c) as u8;
            let data = (0..images)
                .flat_map(|n| (0..256).flat_map(move |p| (0..3).map(move |c| (n, p, c))))
                .map(|(n, p, c)| byte(n, p, c))
                .collect();
            engine
                .feed(&Batch::new(Pictures { data, labels: vec![0; images], n: images, side: 16 }, images))
                .block_on()
                .unwrap();
            engine.pass();
            let view = engine.compiled.taps[0].views[0].expect("step 0");
            let x: Vec<f32> = engine.read(view).block_on().expect("read");
            let mut seen = [[false; 256]; 3];
            for c in 0..3 {
                for p in 0..256 {
                    for n in 0..images {
                        let byte = byte(n, p, c);
                        seen[c][byte as usize] = true;
                        let expected = (f32::from(byte) / 255.0 - (mean[c] / 255.0) as f32) / (std[c] / 255.0) as f32;
                        let found = x[(c * 256 + p) * images + n];
                        assert_eq!(found.to_bits(), normaliser.value(c, byte).to_bits(), "byte {byte}, channel {c}");
                        assert_eq!(found.to_bits(), expected.to_bits(), "byte {byte}, channel {c}");
                    }
                }
            }
            assert!(seen.iter().flatten().all(|seen| *seen), "all 256 bytes in all 3 channels");
        }
    }
}
