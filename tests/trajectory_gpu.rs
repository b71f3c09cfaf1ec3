//! The statistics kernels on the adapter found, against their twin on the host, on made-up data.

use pollster::FutureExt;
use recurve::gpu::{Gpu, Options, Store};
use recurve::reference::random::normal;
use recurve::trajectory::Statistics;
use recurve::trajectory::accumulator::Accumulator;
use recurve::trajectory::exact::{self, Silent};
use recurve::trajectory::feed::Feed;
use recurve::trajectory::goldens::{TOLERANCE_F32, compare};
use recurve::trajectory::gpu::GpuStream;
use recurve::trajectory::measured::{Layout, Measured};
use recurve::trajectory::npz::Extraction;
use recurve::trajectory::readout::Readout;
use recurve::trajectory::streaming::{Activity, ActivityBatch, Stream, image_innermost};

const TIMESTEPS: usize = 6;
const CLASSES: usize = 7;
const FEATURES: usize = 33;
const SAMPLES: usize = 150;
const WIDTH: usize = 64;

/// Representations that drift, and the logits that `weight` reads from them, for one batch; padding is NaN.
fn activity(seed: u64, images: usize, weight: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let mut representations = vec![f32::NAN; TIMESTEPS * FEATURES * WIDTH];
    let mut logits = vec![f32::NAN; TIMESTEPS * CLASSES * WIDTH];
    let (start, drift) = (normal(seed, FEATURES * images), normal(seed + 1, TIMESTEPS * FEATURES * images));
    for n in 0..images {
        let mut r: Vec<f32> = (0..FEATURES).map(|d| start[d * images + n]).collect();
        for t in 0..TIMESTEPS {
            for (d, r) in r.iter_mut().enumerate() {
                *r += 0.8 * drift[(t * FEATURES + d) * images + n] / (t + 1) as f32;
                representations[(t * FEATURES + d) * WIDTH + n] = *r;
            }
            for k in 0..CLASSES {
                let logit = (0..FEATURES).map(|d| r[d] * weight[k * FEATURES + d]).sum();
                logits[(t * CLASSES + k) * WIDTH + n] = logit;
            }
        }
    }
    (logits, representations)
}

/// Statistics of batches that the test feeds.
struct Fed<'g> {
    feed: Feed<'g>,
    measured: Measured<'g>,
    statistics: GpuStream<'g>,
    seen: usize,
}

fn stream(gpu: &Gpu, readout: Readout, samples: usize, timesteps: usize, untrained: bool) -> Fed<'_> {
    let layout = Layout { untrained, ..Layout::dense(&readout, timesteps, 64) };
    let mut store = Store::default();
    let feed = Feed::new(gpu, layout, &mut store).block_on().expect("fits every adapter");
    let measured = Measured::new(gpu, readout, layout, &mut store).block_on().expect("fits every adapter");
    let statistics = GpuStream::new(gpu, &measured, samples, &mut store).block_on().expect("fits every adapter");
    Fed { feed, measured, statistics, seen: 0 }
}

impl Fed<'_> {
    fn add(&mut self, batch: &ActivityBatch) {
        self.feed.push(batch).block_on().expect("the device answers");
        self.measured.run(batch.images).block_on().expect("the device answers");
        self.statistics.run(self.seen, batch.images).block_on().expect("the device answers");
        self.seen += batch.images;
    }
}

#[test]
fn kernels_equal_their_twin_and_repeat_to_the_bit() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let weight = normal(1, CLASSES * FEATURES);
    let readout = || Readout::new(weight.iter().map(|&w| f64::from(w)).collect(), CLASSES, FEATURES).expect("valid");
    let mut twin = Stream::new(readout(), SAMPLES, TIMESTEPS, true);
    let mut streams: Vec<Fed> = (0..2).map(|_| stream(&gpu, readout(), SAMPLES, TIMESTEPS, true)).collect();
    let mut alone = stream(&gpu, readout(), SAMPLES, TIMESTEPS, false);
    for first in (0..SAMPLES).step_by(WIDTH) {
        let images = WIDTH.min(SAMPLES - first);
        let seed = 10 + 10 * first as u64;
        let (trained, untrained) = (activity(seed, images, &weight), activity(seed + 5, images, &weight));
        // Two of three labels are the class at the end, so that every group has members.
        let last = |n: usize| -> u32 {
            let logit = |k: usize| trained.0[((TIMESTEPS - 1) * CLASSES + k) * WIDTH + n];
            (0..CLASSES).max_by(|&a, &b| logit(a).total_cmp(&logit(b))).expect("classes") as u32
        };
        let label = |n: usize| {
            if n >= images {
                0
            } else if n.is_multiple_of(3) {
                n as u32 % 7
            } else {
                last(n)
            }
        };
        let labels: Vec<u32> = (0..WIDTH).map(label).collect();
        let batch = ActivityBatch {
            width: WIDTH,
            images,
            labels: &labels,
            trained: Activity { logits: &trained.0, representations: &trained.1 },
            untrained: Some(Activity { logits: &untrained.0, representations: &untrained.1 }),
        };
        twin.add(&batch);
        streams.iter_mut().for_each(|stream| stream.add(&batch));
        alone.add(&ActivityBatch { untrained: None, ..batch });
    }
    let table = |of: &Fed| of.statistics.accumulator().block_on().expect("the device answers");
    let tables: Vec<_> = streams.iter().map(table).collect();
    assert_eq!(tables[0], tables[1], "equal input, other bits");
    let without = Accumulator { untrained: None, ..tables[0].clone() };
    assert_eq!(table(&alone), without, "without the untrained network the rest is the same");
    let found = alone.statistics.finish().block_on().expect("complete");
    assert!(found.accuracy_init.is_none() && found.change_by_t_stable_init.is_none());
    assert_eq!(tables[0].records, twin.accumulator().records);
    assert_eq!(tables[0].counts, twin.accumulator().counts);
    assert_eq!(tables[0].pairs.counts, twin.accumulator().pairs.counts);

    let expected = twin.finish().expect("complete");
    assert!(expected.counts.stable_correct > 0 && expected.counts.unstable_correct > 0, "{:?}", expected.counts);
    let expected = serde_json::to_value(&expected).expect("numbers");
    let found = streams[0].statistics.finish().block_on().expect("complete");
    let comparison = compare(&found, &expected, TOLERANCE_F32).expect("the same keys");
    assert!(comparison.offence.is_none(), "{comparison:?}");
}

#[test]
fn numbers_that_are_not_finite_are_an_error() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let weight = normal(1, CLASSES * FEATURES);
    let readout = Readout::new(weight.iter().map(|&w| f64::from(w)).collect(), CLASSES, FEATURES).expect("valid");
    let mut stream = stream(&gpu, readout, WIDTH, TIMESTEPS, true);
    let (logits, mut representations) = activity(3, WIDTH, &weight);
    representations[(2 * FEATURES + 4) * WIDTH + 9] = f32::INFINITY;
    let activity = Activity { logits: &logits, representations: &representations };
    let labels = [0; WIDTH];
    let batch =
        ActivityBatch { width: WIDTH, images: WIDTH, labels: &labels, trained: activity, untrained: Some(activity) };
    stream.add(&batch);
    let error = stream.statistics.finish().block_on().expect_err("one representation is infinite").to_string();
    assert!(error.contains("not finite") && error.contains("timestep 2"), "{error}");
}

/// Samples whose class is 0 from the second step on; `of(t, n, d)` are their representations, which are those of both networks.
fn extraction(of: impl Fn(usize, usize, usize) -> f32) -> Extraction {
    let (timesteps, samples, classes, features) = (4, 6, 3, 5);
    let mut outputs = vec![0.0; timesteps * samples * classes];
    let mut representations = Vec::new();
    for t in 0..timesteps {
        for n in 0..samples {
            // Half of the samples are stable from the start, half from step 1 on.
            outputs[(t * samples + n) * classes + usize::from(t == 0 && n % 2 == 1)] = 1.0;
            representations.extend((0..features).map(|d| f64::from(of(t, n, d))));
        }
    }
    let readout_weight = normal(1, classes * features).into_iter().map(f64::from).collect();
    let labels = vec![0; samples];
    Extraction {
        timesteps,
        samples,
        classes,
        features,
        outputs,
        labels,
        representations,
        readout_weight,
        readout_bias: None,
    }
}

/// The statistics by the twin and on the device.
fn streamed(gpu: &Gpu, of: &Extraction) -> [recurve::Result<Statistics>; 2] {
    const WIDTH: usize = 64;
    let readout = || Readout::new(of.readout_weight.clone(), of.classes, of.features).expect("valid");
    let mut twin = Stream::new(readout(), of.samples, of.timesteps, true);
    let mut device = stream(gpu, readout(), of.samples, of.timesteps, true);
    let (logits, representations) = image_innermost(of, 0..of.samples, WIDTH);
    let activity = Activity { logits: &logits, representations: &representations };
    let labels = [0; WIDTH];
    let batch = ActivityBatch {
        width: WIDTH,
        images: of.samples,
        labels: &labels,
        trained: activity,
        untrained: Some(activity),
    };
    twin.add(&batch);
    device.add(&batch);
    [twin.finish(), device.statistics.finish().block_on()]
}

#[test]
fn very_large_and_very_small_representations_have_norms_and_cosines() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let random = normal(5, 4 * 6 * 5);
    for size in [1e28_f32, 1e20, 3e15, 1e15, 1.0, 1e-12, 1e-13, 1e-20, 1e-30, 1e-35] {
        let of = extraction(|t, n, d| size * random[(t * 6 + n) * 5 + d].clamp(-1.0, 1.0));
        let expected = exact::statistics(&of, &of, Silent::LeftOut).expect("stored numbers are finite");
        assert_eq!(expected.silent_representations, 0);
        let json = serde_json::to_value(&expected).expect("numbers");
        for found in streamed(&gpu, &of) {
            let found = found.unwrap_or_else(|e| panic!("{size:e}: {e}"));
            assert_eq!(found.silent_representations, 0, "{size:e}");
            let comparison = compare(&found, &json, TOLERANCE_F32).expect("the same keys");
            assert!(comparison.offence.is_none(), "{size:e}: {comparison:?}");
            // Relative, however small.
            let lengths = |of: &Statistics| {
                let norms = of.norm_now_later.iter().flatten().flatten();
                norms.chain(of.change_by_t_stable.iter().flatten().flatten()).copied().collect::<Vec<f64>>()
            };
            let (found, expected) = (lengths(&found), lengths(&expected));
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.into_iter().zip(expected) {
                assert!((found / expected - 1.0).abs() < 1e-5, "{size:e}: {found:e}, expected {expected:e}");
            }
        }
    }
}

#[test]
fn one_very_large_element_does_not_hide_in_a_norm() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    // Finite all of them, but no sum over samples can be kept of such norms.
    for size in [f32::MAX, 1e38, 1e30, 4e28] {
        let of = extraction(|t, n, d| if (t, n, d) == (2, 3, 4) { size } else { 1.0 });
        for found in streamed(&gpu, &of) {
            let error = found.expect_err("a norm above 4e28").to_string();
            assert!(error.contains("not finite, or longer than 4e28"), "{size:e}: {error}");
        }
    }
}

#[test]
fn representations_of_subnormal_numbers_are_all_zero() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    for size in [1e-39_f32, 1e-45, 0.0] {
        let of = extraction(|t, n, d| if t == 1 && n < 2 { size } else { 1.0 + d as f32 });
        for found in streamed(&gpu, &of) {
            let found = found.expect("zeros are no error");
            assert_eq!(found.silent_representations, 2, "{size:e}");
            let value = found.norm_now_later[1][0].expect("all are stable at 1");
            let expected = 55_f64.sqrt() * 4.0 / 6.0;
            assert!((value - expected).abs() < 1e-5 * expected, "{size:e}: {value}, expected {expected}");
        }
    }
}
