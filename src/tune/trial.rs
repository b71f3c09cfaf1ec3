//! One shape on the device: variants compiled, compared with plain loops, and timed against each other.

use crate::check::rows::sampled_key;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::choose::{ConvOp, Key, Variant};
use crate::kernels::conv::{ConvShape, Pairs, Series, Stage, Start, State, WeightOrder, conv_transpose2d, conv2d};
use crate::kernels::{BufferSpec, Kernel, Program, Role, Site, View, align};
use crate::reference::random::normal;
use crate::reference::sample::{Product, positions, sampled};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Instant;

/// Largest error relative to the largest result.
pub const TOLERANCE: f64 = 1e-4;
/// Most products that are summed up for a sample, if eight results allow it.
const MOST_PRODUCTS: f64 = 4e6;
/// A measured run lasts at least so long, seconds: as many launches as that takes.
const LEAST_RUN: f64 = 2e-3;
/// The bench of one shape: its operands on the device, and what comes out by plain loops.
pub struct Workbench<'g> {
    gpu: &'g Gpu,
    key: Key,
    order: WeightOrder,
    /// x, and the weight or dy.
    operands: [Vec<f32>; 2],
    /// Where in the result, and the value there by plain loops.
    sample: Vec<(usize, f64)>,
    store: Store,
}

/// A variant's launches, before the driver has seen them.
pub struct Prepared {
    program: Program,
    /// x, the weight or dy, and the result.
    views: [View; 3],
}

impl Prepared {
    /// The kernel that does the work.
    pub fn kernel(&self) -> &Arc<Kernel> {
        let launches = self.program.launches.iter().map(|l| &l.kernel);
        launches.max_by_key(|k| k.source.len()).expect("one launch at least")
    }
}

/// A variant that has run and gave the right result.
pub struct Runner {
    recording: Recording,
    /// The first launch that counts: packing of weights is shared by all timesteps.
    first: usize,
    result: Vec<f32>,
    /// Seconds of one run.
    pub seconds: f64,
    /// Largest difference to plain loops, relative to the largest result.
    pub error: f64,
}

/// What a first run led to.
pub enum Verdict {
    /// It can be timed.
    Right(Box<Runner>),
    /// It computes something else: the error, relative to the largest result.
    Wrong(f64),
}

/// Values of the operands and the result.
struct Counts {
    x: usize,
    /// Of the weight, or dy.
    second: usize,
    result: usize,
}

fn counts(key: &Key) -> Counts {
    let ConvShape { n, cin, cout, in_h, in_w, out_h, out_w, k, .. } = key.shape;
    let (x, weight) = (key.steps * cin * in_h * in_w * n, cout * cin * k * k);
    match key.op {
        ConvOp::Conv2d => Counts { x, second: weight, result: cout * out_h * out_w * n },
        ConvOp::ConvTranspose2d => Counts { x, second: weight, result: cout * out_h * out_w * n },
        ConvOp::Conv2dDWeight => Counts { x, second: key.steps * cout * out_h * out_w * n, result: weight },
    }
}

/// Random numbers with a period that divides no extent: quick to make, and the same every time.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    normal(seed, 65_521.min(count)).into_iter().cycle().take(count).collect()
}

impl<'g> Workbench<'g> {
    /// Draws operands and computes the sample.
    pub fn new(gpu: &'g Gpu, key: &Key) -> Workbench<'g> {
        let Counts { x, second, result } = counts(key);
        let operands = [numbers(1, x), numbers(2, second)];
        let (order, shape, product) = sampled_key(key);
        let (a, b) = (&operands[0][..], &operands[1][..]);
        let operands_of = match product {
            Product::Forward => (a, b, &[][..]),
            Product::DInput => (&[][..], b, a),
            Product::DWeight => (a, &[][..], b),
        };
        // At least eight results, and more while they are quick to compute.
        let terms = 2.0 * result as f64 / key.flops();
        let many = (MOST_PRODUCTS * terms).clamp(8.0, 1000.0) as usize;
        let sample = positions(result).take(many).map(|i| (i, sampled(&shape, product, operands_of, i))).collect();
        Workbench { gpu, key: *key, order, operands, sample, store: Store::default() }
    }

    /// The launches of a variant.
    ///
    /// # Errors
    /// What naga refuses, and what does not fit the adapter.
    pub fn prepare(&self, variant: &Variant) -> Result<Prepared> {
        let mut program = Program::default();
        let counts = [self.operands[0].len(), self.operands[1].len(), counts(&self.key).result];
        let mut views = ["a", "b", "result"].into_iter().zip(counts).map(|(name, count)| {
            let (name, area, bytes) = (name.to_string(), String::new(), 4 * count as u64);
            let spec = BufferSpec { name, bytes: align(bytes), role: Role::Persistent, area, timestep: None };
            View { buffer: program.buffer(spec), offset: 0, bytes }
        });
        let views = [(); 3].map(|()| views.next().expect("three"));
        let ([a, b, out], shape, site) = (views, &self.key.shape, Site::of("tune", ""));
        let target = &self.gpu.target;
        match (self.key.op, variant) {
            (ConvOp::Conv2dDWeight, variant) => {
                let steps = self.key.steps;
                let step = |count: usize| if steps > 1 { count / steps } else { 0 };
                let series = |view, count| Series { view, step: step(count) };
                let operands = Pairs { x: series(a, counts[0]), dy: series(b, counts[1]), steps };
                let mut state = State::new();
                let stage = &mut Stage::whole(steps, &mut state);
                variant.d_weight(&mut program, target, shape, (operands, stage), out, site)?;
            }
            (ConvOp::Conv2d | ConvOp::ConvTranspose2d, Variant::Conv(tile)) => {
                let run = if self.key.op == ConvOp::Conv2d { conv2d } else { conv_transpose2d };
                run(&mut program, target, tile, shape, (a, b, self.order, Start::default(), out), site)?;
            }
            _ => return Err(Error::Config(format!("{variant} is no variant for {}", self.key))),
        }
        Plan::new(&program, true).fits(&program, target)?;
        Ok(Prepared { program, views })
    }

    /// Compiles and runs a variant, and compares its result: with plain loops, and all of it with that of another variant
    /// that was right. `alter` may change the result before that.
    ///
    /// # Errors
    /// What the driver refuses; a lost device.
    pub async fn run(
        &mut self,
        prepared: &Prepared,
        other: Option<&Runner>,
        alter: &dyn Fn(&mut [f32]),
    ) -> Result<Verdict> {
        let (gpu, Prepared { program, views }) = (self.gpu, prepared);
        let fresh = self.store.get("result").is_none();
        let recording = Recording::new(gpu, program, &Plan::new(program, true), &mut self.store).await?;
        if fresh {
            recording.write(gpu, views[0], &self.operands[0]);
            recording.write(gpu, views[1], &self.operands[1]);
        }
        recording.write(gpu, views[2], &vec![f32::NAN; counts(&self.key).result]); // what is not written shows
        recording.run(gpu);
        let mut result: Vec<f32> = recording.read(gpu, views[2]).await?;
        alter(&mut result);
        let picked = self.sample.iter().map(|&(i, exact)| (exact, result[i]));
        let sampled = difference(picked);
        let error = match other {
            Some(other) => {
                let whole = other.result.iter().zip(&result).map(|(&a, &b)| (f64::from(a), b));
                f64::max(sampled, difference(whole))
            }
            None => sampled,
        };
        if error > TOLERANCE {
            return Ok(Verdict::Wrong(error));
        }
        let first = usize::from(program.launches[0].packs_weight);
        let mut runner = Runner { recording, first, result, seconds: 0.0, error };
        runner.seconds = self.time(&runner, 1).await?;
        Ok(Verdict::Right(Box::new(runner)))
    }

    /// Seconds of one run, from submission to completion, in the mean over `times` in one submission.
    async fn time(&self, runner: &Runner, times: usize) -> Result<f64> {
        let begin = Instant::now();
        runner.recording.run_from(self.gpu, runner.first, times);
        self.gpu.wait().await?;
        Ok(begin.elapsed().as_secs_f64() / times as f64)
    }

    /// Times two variants in turn, so that a machine that is busy with something else slows both, until `seconds` are over,
    /// at most seven times each. Gives the second's share of the first's time, and leaves the median times in both.
    ///
    /// # Errors
    /// A lost device.
    pub async fn compare(&self, present: &mut Runner, candidate: &mut Runner, seconds: f64) -> Result<f64> {
        let begin = Instant::now();
        let times = (LEAST_RUN / present.seconds.min(candidate.seconds)).ceil().clamp(1.0, 64.0) as usize;
        let (mut old, mut new, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        while ratios.len() < 7 && (ratios.len() < 3 || begin.elapsed().as_secs_f64() < seconds) {
            old.push(self.time(present, times).await?);
            new.push(self.time(candidate, times).await?);
            ratios.push(new[new.len() - 1] / old[old.len() - 1]);
            let lost = |by: f64| ratios.iter().all(|&r| r > by);
            if lost(1.6) || ratios.len() == 2 && lost(1.25) {
                break;
            }
        }
        (present.seconds, candidate.seconds) = (median(&mut old), median(&mut new));
        Ok(median(&mut ratios))
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Largest difference between expected and found values, relative to the largest expected one; infinite if a value is not
/// finite.
fn difference(pairs: impl Iterator<Item = (f64, f32)>) -> f64 {
    let (mut worst, mut largest) = (0.0, f64::MIN_POSITIVE);
    for (expected, found) in pairs {
        let error = (expected - f64::from(found)).abs();
        worst = if error.is_finite() { f64::max(worst, error) } else { f64::INFINITY };
        largest = f64::max(largest, expected.abs());
        if worst == f64::INFINITY {
            break;
        }
    }
    worst / largest
}
