//! `bench analysis`: what the statistics of a trained and an untrained network cost, on made-up activations that lie on the
//! device as networks would leave them. A small run is compared with the exact forms before anything is timed.

use super::ceilings::Roof;
use crate::dynamics::decoder::Generalisation;
use crate::dynamics::gpu::ValuesStream;
use crate::dynamics::sets::Sets;
use crate::dynamics::space::{self, Space, SpaceStream, Wanted};
use crate::dynamics::values::Datum;
use crate::dynamics::{Parameters, Structure, Subject, Wants, cka, entropy, margin};
use crate::gpu::{Gpu, Store, driver};
use crate::host::{Processor, processor_seconds};
use crate::reference::random::{normal, uniform};
use crate::trajectory::feed::Feed;
use crate::trajectory::gpu::GpuStream;
use crate::trajectory::measured::{Layout, Measured};
use crate::trajectory::npz::Extraction;
use crate::trajectory::readout::Readout;
use crate::trajectory::streaming::{Activity, ActivityBatch};
use crate::{Error, Result};
use serde::Serialize;
use std::time::Instant;

/// What is analysed.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// N.
    pub images: usize,
    /// T.
    pub timesteps: usize,
    /// D.
    pub features: usize,
    /// K.
    pub classes: usize,
}

/// A part of the work.
#[derive(Clone, Debug, Serialize)]
pub struct Part {
    /// What it is.
    pub name: &'static str,
    /// Milliseconds.
    pub ms: f64,
    /// Operations that its definition takes per second, in 10^9.
    pub gflops: f64,
    /// Bytes that it must read and write per second, in 10^9.
    pub gbytes_per_s: f64,
    /// Per cent of what the adapter's ceilings allow at this intensity in this working set; absent without ceilings.
    pub percent: Option<f64>,
    /// `gflops` over [`Figures::ceiling_gflops`]; absent without ceilings.
    pub share: Option<f64>,
}

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// From the first batch to the last result.
    pub seconds: f64,
    /// Bytes that came back to the host.
    pub copied_back_bytes: u64,
    /// Parts, which were waited for one by one.
    pub rows: Vec<Part>,
    /// What multiply-adds in registers reached between the batches and stages, in 10^9 operations per second: all of them
    /// over the time that they took. That time is not in `seconds`. Absent without ceilings.
    pub ceiling_gflops: Option<f64>,
    /// Processor time meanwhile, seconds: of all threads of this process. Absent where the system is not asked.
    pub processor_seconds: Option<f64>,
    /// The processor.
    pub cpu: Processor,
    /// The adapter's name.
    pub adapter: String,
    /// Its driver.
    pub driver: String,
}

/// Images per batch: a multiple of 64 up to 1024 with which little of the last batch of each half stays empty.
fn width(halves: [usize; 2]) -> usize {
    let computed = |width: usize| halves.map(|half| half.div_ceil(width) * width).iter().sum::<usize>();
    (8..=16).map(|n| 64 * n).min_by_key(|&width| (computed(width), 1024 - width)).expect("there are candidates")
}

/// Runs the whole analysis and times it.
///
/// # Errors
/// Results that are wrong; sizes that do not fit the adapter; a lost device.
pub async fn analysis(gpu: &Gpu, size: Size, roof: Option<&Roof>) -> Result<Figures> {
    // The first run finds what does not fit, and compiles what the driver puts off until then.
    run(gpu, Size { images: size.images.min(64), ..size }, None).await?;
    verify(gpu, size).await?;
    run(gpu, size, roof).await
}

/// The reference, as it runs between the batches and stages of an analysis.
struct Beside<'a> {
    roof: Option<&'a Roof>,
    /// Samples so far, and their wall and processor time, seconds.
    samples: usize,
    wall: f64,
    processor: f64,
}

impl Beside<'_> {
    async fn sample(&mut self, gpu: &Gpu) -> Result<()> {
        if let Some(roof) = self.roof {
            let timing = roof.reference.time(gpu, None).await?;
            self.samples += 1;
            self.wall += timing.wall;
            self.processor += timing.processor.unwrap_or(0.0);
        }
        Ok(())
    }

    /// The mean rate of all samples.
    fn gflops(&self) -> Option<f64> {
        let each = self.wall / self.samples as f64;
        self.roof.map(|roof| roof.reference.rate(each, each))
    }
}

async fn run(gpu: &Gpu, size: Size, roof: Option<&Roof>) -> Result<Figures> {
    let Size { images, timesteps, features, classes } = size;
    let training = images.div_ceil(2);
    let halves = [training, images - training];
    let width = width(halves);
    let weight = normal(1, classes * features).into_iter().map(f64::from).collect();
    let readout = Readout::new(weight, classes, features)?;
    let layout = Layout::dense(&readout, timesteps, width);
    let mut store = Store::default();
    let feed = Feed::new(gpu, layout, &mut store).await?;
    let mut measured = Measured::new(gpu, readout, layout, &mut store).await?.with_clock();
    let mut published = GpuStream::new(gpu, &measured, images, &mut store).await?;
    let space = Space {
        name: "made up".into(),
        timesteps,
        features,
        width,
        step: layout.features_step,
        trained: "trajectory.representations trained".into(),
        untrained: Some("trajectory.representations untrained".into()),
        labels: "trajectory.labels".into(),
    };
    let wanted = Wanted { images, training, classes, rdm_images: Vec::new(), shown_classes: Vec::new(), ridge: 1.0 };
    let wants = Wants { data: vec![Datum::Margin, Datum::Entropy], later: false, untrained: false };
    let mut values = ValuesStream::new(gpu, &measured, None, images, &wants, &mut store).await?;
    let mut stream = SpaceStream::new(gpu, space, wanted, &mut store).await?.with_clock();
    let numbers = |seed: u64, count: usize| uniform(seed, count, 0.0, 1.0);
    let (r, r0) = (numbers(2, timesteps * features * width), numbers(3, timesteps * features * width));
    let logits = numbers(4, timesteps * classes * width);
    let labels: Vec<u32> = (0..width).map(|i| (i * 7919 % classes) as u32).collect();
    let activity = |representations| Activity { logits: &logits, representations };
    let (trained, untrained) = (activity(&r), Some(activity(&r0)));
    feed.push(&ActivityBatch { width, images: width, labels: &labels, trained, untrained }).await?;
    gpu.wait().await?;

    let mut beside = Beside { roof, samples: 0, wall: 0.0, processor: 0.0 };
    let (begun, processor) = (Instant::now(), processor_seconds());
    beside.sample(gpu).await?;
    let (mut first, mut published_seconds, mut values_seconds) = (0, 0.0, 0.0);
    for (half, count) in halves.into_iter().enumerate() {
        let end = first + count;
        while first < end {
            let now = width.min(end - first);
            measured.run(now).await?;
            let begun = Instant::now();
            published.run(first, now).await?;
            gpu.wait().await?;
            published_seconds += begun.elapsed().as_secs_f64();
            let begun = Instant::now();
            values.run(first, now).await?;
            gpu.wait().await?;
            values_seconds += begun.elapsed().as_secs_f64();
            stream.run(first, now).await?;
            first += now;
            beside.sample(gpu).await?;
        }
        if half == 0 {
            stream.half().await?;
            beside.sample(gpu).await?;
        }
    }
    let ended = Instant::now();
    published.accumulator().await?;
    published_seconds += ended.elapsed().as_secs_f64();
    let (copied_of_values, ended) = (values.copied_back_bytes(), Instant::now());
    let (found, _) = values.finish().await?;
    let sets = Sets::new(&found);
    margin::margin(&found, &sets);
    entropy::entropy(&found);
    values_seconds += ended.elapsed().as_secs_f64();
    stream.decoder().await?;
    beside.sample(gpu).await?;
    cka::of(&stream.moments().await?);
    beside.sample(gpu).await?;
    let seconds = begun.elapsed().as_secs_f64() - beside.wall;
    let processor_seconds = processor_seconds().zip(processor).map(|(now, then)| now - then - beside.processor);
    let ceiling_gflops = beside.gflops();

    let [n, t, d, k] = [images, timesteps, features, classes].map(|count| count as f64);
    let pass = 4.0 * n * t * d; // one read of one network's representations
    let (of, of_batches) = (stream.seconds(), measured.seconds());
    let clock = |name: &str| of.get(name).copied().unwrap_or(0.0);
    let once = |name: &str| of_batches.get(name).copied().unwrap_or(0.0);
    let outputs = 4.0 * n * t * k; // one read of one network's outputs
    let part = |name, seconds: f64, flops: f64, bytes: f64| Part {
        name,
        ms: 1e3 * seconds,
        gflops: flops / seconds / 1e9,
        gbytes_per_s: bytes / seconds / 1e9,
        percent: roof.map(|roof| 100.0 * roof.ceilings.seconds(flops, bytes) / seconds),
        share: ceiling_gflops.map(|ceiling| flops / seconds / 1e9 / ceiling),
    };
    let tests = halves[1] as f64;
    let rows = vec![
        part("classes and entropy", once("outputs"), 8.0 * n * t * k, 2.0 * outputs),
        part("norms and steps", once("lengths"), 2.0 * n * t * d * 8.0, 2.0 * pass),
        part("turns", once("turns"), 10.0 * n * t * d, pass),
        part("products with the readout", once("products"), 2.0 * n * t * d * k, pass + outputs),
        part("published statistics", published_seconds, 2.0 * n * t * k, outputs),
        part("margins", values_seconds, 6.0 * n * t * k, outputs),
        part("shift and pack", clock("pack"), 4.0 * n * t * d, 8.0 * pass),
        part("moments within the network", clock("within"), n * d * d * t * (t + 1.0) + 2.0 * n * t * d * k, pass),
        part("moments with the untrained network", clock("across"), 2.0 * n * d * d * (t * t + t), 2.0 * pass),
        part("decoders", clock("decoders"), 4.0 * tests * t * t * k * d, 4.0 * tests * t * d),
        part("reduction to CKA", clock("reduce"), 4.0 * d * d * 1.65 * t * t, 8.0 * d * d * (1.5 * t * (t + 1.0))),
    ];
    let copied_back_bytes = stream.copied_back_bytes() + published.copied_back_bytes() + copied_of_values;
    let (adapter, driver, cpu) = (gpu.info.name.clone(), driver(&gpu.info), Processor::this());
    Ok(Figures { seconds, copied_back_bytes, rows, ceiling_gflops, processor_seconds, cpu, adapter, driver })
}

/// Refuses a device on which a small analysis differs from the exact one. The exact one takes time with the cube of D, so that
/// it has 512 at most.
async fn verify(gpu: &Gpu, size: Size) -> Result<()> {
    let size = Size { features: size.features.min(512), ..size };
    let (timesteps, samples, Size { features, classes, .. }) = (size.timesteps.min(2), 48, size);
    let made_up = |seed: u64| {
        let numbers = uniform(seed, timesteps * samples * features, 0.0, 1.0).into_iter().map(f64::from).collect();
        Extraction {
            timesteps,
            samples,
            classes,
            features,
            outputs: vec![0.0; timesteps * samples * classes],
            labels: (0..samples).map(|i| i * 5 % classes).collect(),
            representations: numbers,
            readout_weight: vec![1.0; classes * features],
            readout_bias: None,
        }
    };
    let parameters = Parameters {
        thresholds: vec![1.0],
        image_threshold: 0,
        bins: 15,
        rdm_images: vec![1, 5, 30],
        shown_classes: vec![0],
        ridge: 1.0,
        level: 0.95,
        tables: false,
    };
    let (trained, untrained) = (made_up(1), made_up(2));
    let train: Vec<bool> = (0..samples).map(|i| i % 2 == 0).collect();
    let subject = Subject {
        trained: &trained,
        untrained: Some(&untrained),
        train: &train,
        replicates: &[],
        parameters: &parameters,
    };
    let expected = Structure::exact(&subject)?;
    let found = space::stored(gpu, &subject, 32).await?;
    let near = |a: &[Vec<Option<f64>>], b: &[Vec<Option<f64>>]| {
        let one = |(a, b): (&Option<f64>, &Option<f64>)| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-4,
            (a, b) => a == b,
        };
        a.iter().flatten().zip(b.iter().flatten()).all(one)
    };
    let scores = |a: &Generalisation, b: &Generalisation| near(&a.score, &b.score);
    let (cka, init) = (&found.cka, |table: &Option<Vec<Vec<Option<f64>>>>| table.clone().unwrap_or_default());
    for (what, right) in [
        ("CKA", near(&cka.biased, &expected.cka.biased)),
        (
            "debiased CKA with the untrained network",
            near(&init(&cka.debiased_init), &init(&expected.cka.debiased_init)),
        ),
        ("scores of ridge decoders", scores(&found.decoder.ridge, &expected.decoder.ridge)),
        ("scores of class means", scores(&found.decoder.class_mean, &expected.decoder.class_mean)),
    ] {
        if !right {
            return Err(Error::Gpu(format!("{what}: the device's result is wrong; nothing was timed")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::width;

    #[test]
    fn batches_leave_little_empty() {
        assert_eq!(width([12_500, 12_500]), 896);
        for halves in [[1, 0], [32, 32], [500, 499], [100_000, 100_000]] {
            let width = width(halves);
            assert!((512..=1024).contains(&width) && width.is_multiple_of(64));
        }
    }
}
