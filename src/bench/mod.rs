//! Measurements: a training step, one convolution with its gradients, a matrix product. Every figure is a median over
//! repeated runs after a warm-up, submitted and waited for; results are checked before they are timed.

use crate::dataset::Batch;
use crate::engine::{Adam, Engine};
use crate::gpu::{Gpu, Recording, Store, driver};
use crate::graph::compile::Request;
use crate::graph::passes::Passes;
use crate::graph::plan::Plan;
use crate::kernels::choose::{Choice, tile, weight_tile};
use crate::kernels::conv::{ConvShape, Site, Start, WeightOrder, conv2d, conv2d_d_weight};
use crate::kernels::{BufferSpec, Program, Role, View, align};
use crate::network::{NetworkConfig, initialise, parameters};
use crate::reference::random::normal;
pub use crate::reference::sample::Product;
use crate::reference::sample::{Sampled, sample_error};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a kernel reaches.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// Multiplications and additions, padding included, per second of the median run.
    pub gflops: f64,
    /// Median time of a run, from submission to completion, milliseconds. Packing of weights is included.
    pub ms: f64,
    /// Least and largest time, milliseconds.
    pub spread: [f64; 2],
    /// The kernel variant.
    pub variant: String,
    /// Largest difference to plain loops over a sample of results, relative to the largest result.
    pub error: f64,
}

/// A training step.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Images per second of the median step.
    pub images_per_s: f64,
    /// Median time of a step, milliseconds.
    pub ms: f64,
    /// Least and largest time, milliseconds.
    pub spread: [f64; 2],
    /// Launches per step.
    pub dispatches: usize,
    /// Bytes that the plan asks for.
    pub peak_bytes: u64,
    /// Bytes that were allocated.
    pub allocated_bytes: u64,
    /// Host time per step to encode and submit, milliseconds (median).
    pub cpu_ms: f64,
    /// From the request to the first finished step: compiling, allocating, running, milliseconds.
    pub first_step_ms: f64,
    /// Time of each kernel alone, by name: launches, milliseconds (each launch submitted alone: the sum exceeds `ms`).
    pub kernels: BTreeMap<String, (usize, f64)>,
    /// Adapter.
    pub adapter: String,
    /// Driver.
    pub driver: String,
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Runs `each` for about `seconds`, at least five times, and gives the seconds of every run.
fn repeat(seconds: f64, mut each: impl FnMut() -> Result<()>) -> Result<Vec<f64>> {
    each()?;
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < 5 || start.elapsed() < Duration::from_secs_f64(seconds) {
        let begin = Instant::now();
        each()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    Ok(times)
}

/// Measures a training step of a network on random pictures.
///
/// # Errors
/// What does not fit the adapter, or what the device says.
pub fn step(gpu: &Gpu, config: &NetworkConfig, batch: usize, passes: Passes, seconds: f64) -> Result<Step> {
    let (before, begin) = (gpu.allocated(), Instant::now());
    let request = Request {
        config,
        batch,
        target: &gpu.target,
        passes,
        choice: Choice::default(),
        train: true,
        inspect: false,
        trajectory: false,
    };
    let mut engine = Engine::new(gpu, &request, &mut Store::default())?;
    let specs = parameters(config);
    let zeros: Vec<Vec<f32>> = specs.iter().map(|s| vec![0.0; s.len()]).collect();
    engine.set_parameters(&initialise(&specs, 1));
    engine.set_moments(&zeros, &zeros);
    let x = normal(1, 3 * config.image_size * config.image_size * batch);
    let labels = (0..batch).map(|i| (i % config.classes) as u32).collect();
    engine.feed(&Batch { x, labels, n: batch });
    let adam = Adam { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let mut done = 0;
    let mut host = Vec::new();
    let mut one = || -> Result<()> {
        done += 1;
        let begin = Instant::now();
        engine.set_step(&adam, done);
        engine.run();
        host.push(begin.elapsed().as_secs_f64());
        gpu.wait()
    };
    one()?;
    let first_step_ms = begin.elapsed().as_secs_f64() * 1e3;
    let mut times = repeat(seconds, &mut one)?;
    let loss = engine.scores(batch)?.loss;
    if loss.iter().any(|l| !l.is_finite()) {
        return Err(Error::Training(format!("the loss of the measured steps is not finite: {loss:?}")));
    }
    let middle = median(&mut times);
    let mut kernels: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    let launches = &engine.compiled.lowered.program.launches;
    for (launch, seconds) in launches.iter().zip(engine.recording().time_launches(gpu, 3)?) {
        let row = kernels.entry(launch.kernel.name.to_string()).or_default();
        row.0 += 1;
        row.1 += seconds * 1e3;
    }
    Ok(Step {
        images_per_s: batch as f64 / middle,
        ms: middle * 1e3,
        spread: [times[0] * 1e3, times[times.len() - 1] * 1e3],
        dispatches: launches.len(),
        peak_bytes: engine.compiled.peak_bytes(),
        allocated_bytes: gpu.allocated() - before,
        cpu_ms: median(&mut host) * 1e3,
        first_step_ms,
        kernels,
        adapter: gpu.info.name.clone(),
        driver: driver(&gpu.info),
    })
}

/// Measures one product of a convolution with the variant that the table chooses. Results are checked against plain
/// loops first.
///
/// # Errors
/// What the device says; a result that is wrong.
pub fn conv(gpu: &Gpu, shape: &ConvShape, product: Product, seconds: f64) -> Result<Rate> {
    let ConvShape { n, cin, cout, in_h: h, in_w: w, k, .. } = *shape;
    let (x, y) = (normal(1, cin * h * w * n), normal(2, cout * h * w * n));
    let weight = normal(3, cout * cin * k * k);
    let mut program = Program::default();
    let mut buffer = |name: &str, count: usize, role: Role| -> View {
        let (name, bytes, area) = (name.to_string(), align(4 * count as u64), String::new());
        let id = program.buffer(BufferSpec { name, bytes, role, area, timestep: None });
        View { buffer: id, offset: 0, bytes: 4 * count as u64 }
    };
    let role = |p: Product| if p == product { Role::Output } else { Role::Input };
    let x_view = buffer("x", x.len(), role(Product::DInput));
    let w_view = buffer("w", weight.len(), role(Product::DWeight));
    let y_view = buffer("y", y.len(), role(Product::Forward));
    let site = Site { label: "bench", area: "" };
    let target = &gpu.target;
    let backward = ConvShape { cin: cout, cout: cin, ..*shape };
    match product {
        Product::Forward => {
            let order = WeightOrder { out_step: cin * k * k, in_step: k * k, flip: false };
            let operands = (x_view, w_view, order, Start::default(), y_view);
            conv2d(&mut program, target, &tile(target, shape), shape, operands, site)?;
        }
        Product::DInput => {
            let order = WeightOrder { out_step: k * k, in_step: cin * k * k, flip: true };
            let operands = (y_view, w_view, order, Start::default(), x_view);
            conv2d(&mut program, target, &tile(target, &backward), &backward, operands, site)?;
        }
        Product::DWeight => {
            let operands = (x_view, 0, y_view, 0, 1);
            conv2d_d_weight(&mut program, target, &weight_tile(target, shape, 1), shape, operands, w_view, site)?;
        }
    }
    let plan = Plan::new(&program, true);
    plan.fits(&program, target)?;
    let recording = Recording::new(gpu, &program, &plan, &mut Store::default())?;
    for (view, data, wrote) in
        [(x_view, &x, Product::DInput), (w_view, &weight, Product::DWeight), (y_view, &y, Product::Forward)]
    {
        if product != wrote {
            recording.write(gpu, view, data);
        }
    }
    recording.run(gpu);
    let out = match product {
        Product::Forward => y_view,
        Product::DInput => x_view,
        Product::DWeight => w_view,
    };
    let result: Vec<f32> = recording.read(gpu, out)?;
    let error = sample_error(&sampled(shape), product, (&x, &weight, &y), None, &result);
    let label = &program.launches.iter().max_by_key(|l| l.kernel.source.len()).expect("one launch at least").kernel;
    let variant = label.label();
    if error.is_nan() || error > 1e-4 {
        return Err(Error::Gpu(format!("{variant}: wrong result, relative error {error:.1e}; nothing was timed")));
    }
    let mut times = repeat(seconds, || {
        recording.run(gpu);
        gpu.wait()
    })?;
    let middle = median(&mut times);
    let spread = [times[0] * 1e3, times[times.len() - 1] * 1e3];
    Ok(Rate { gflops: shape.flops() / middle / 1e9, ms: middle * 1e3, spread, variant, error })
}

fn sampled(s: &ConvShape) -> Sampled {
    let ConvShape { n, cin, cout, in_h, in_w, out_h, out_w, k, stride } = *s;
    Sampled { n, cin, cout, in_h, in_w, out_h, out_w, k, stride }
}

/// The convolution that computes the matrix product of [m, k] and [k, n]: columns become rows x 128 where that divides.
pub fn gemm_shape(m: usize, n: usize, k: usize) -> ConvShape {
    let columns = (1..=128).rev().find(|c| n.is_multiple_of(*c)).unwrap_or(1);
    ConvShape::same(1, k, m, n / columns, columns, 1)
}
