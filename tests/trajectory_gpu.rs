//! The statistics kernels on the adapter found, against their twin on the host, on made-up data.

use recurve::gpu::{Gpu, Options};
use recurve::reference::random::normal;
use recurve::trajectory::goldens::{TOLERANCE_F32, compare};
use recurve::trajectory::gpu::GpuStream;
use recurve::trajectory::readout::Readout;
use recurve::trajectory::streaming::{Activity, Batch, Stream};

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

#[test]
fn kernels_equal_their_twin_and_repeat_to_the_bit() {
    let gpu = Gpu::open(&Options { adapter: None, checked: true }).expect("this test needs an adapter");
    let weight = normal(1, CLASSES * FEATURES);
    let readout = || Readout::new(weight.iter().map(|&w| f64::from(w)).collect(), CLASSES, FEATURES).expect("valid");
    let mut twin = Stream::new(readout(), SAMPLES, TIMESTEPS);
    let mut streams: Vec<GpuStream> = (0..2)
        .map(|_| GpuStream::new(&gpu, readout(), SAMPLES, TIMESTEPS, WIDTH).expect("fits every adapter"))
        .collect();
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
        let batch = Batch {
            width: WIDTH,
            images,
            labels: &labels,
            trained: Activity { logits: &trained.0, representations: &trained.1 },
            untrained: Activity { logits: &untrained.0, representations: &untrained.1 },
        };
        twin.add(&batch);
        streams.iter_mut().for_each(|stream| stream.add(&batch).expect("the device answers"));
    }
    let tables: Vec<_> = streams.iter().map(|s| s.accumulator().expect("the device answers")).collect();
    assert_eq!(tables[0], tables[1], "equal input, other bits");
    assert_eq!(tables[0].records, twin.accumulator().records);
    assert_eq!(tables[0].counts, twin.accumulator().counts);
    assert_eq!(tables[0].pairs.later, twin.accumulator().pairs.later);

    let expected = twin.finish().expect("complete");
    assert!(expected.counts.stable_correct > 0 && expected.counts.unstable_correct > 0, "{:?}", expected.counts);
    let expected = serde_json::to_value(&expected).expect("numbers");
    let found = streams[0].finish().expect("complete");
    let comparison = compare(&found, &expected, TOLERANCE_F32).expect("the same keys");
    assert!(comparison.offence.is_none(), "{comparison:?}");
}

#[test]
fn numbers_that_are_not_finite_are_an_error() {
    let gpu = Gpu::open(&Options { adapter: None, checked: true }).expect("this test needs an adapter");
    let weight = normal(1, CLASSES * FEATURES);
    let readout = Readout::new(weight.iter().map(|&w| f64::from(w)).collect(), CLASSES, FEATURES).expect("valid");
    let mut stream = GpuStream::new(&gpu, readout, WIDTH, TIMESTEPS, WIDTH).expect("fits every adapter");
    let (logits, mut representations) = activity(3, WIDTH, &weight);
    representations[(2 * FEATURES + 4) * WIDTH + 9] = f32::INFINITY;
    let activity = Activity { logits: &logits, representations: &representations };
    let labels = [0; WIDTH];
    let batch = Batch { width: WIDTH, images: WIDTH, labels: &labels, trained: activity, untrained: activity };
    stream.add(&batch).expect("the device answers");
    let error = stream.finish().expect_err("one representation is infinite").to_string();
    assert!(error.contains("not finite") && error.contains("timestep 2"), "{error}");
}
