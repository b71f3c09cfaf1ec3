//! One shape on the device: variants compiled, compared with plain loops, and timed against each other.

use crate::check::rows::sampled_key;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::graph::precision::{half_a_unit, packed, rounded, unpacked};
use crate::kernels::choose::{ConvOp, Key, Variant};
use crate::kernels::conv::{ConvShape, Pairs, Series, Stage, Start, State, WeightOrder, conv_transpose2d, conv2d};
use crate::kernels::{BufferSpec, Kernel, Program, Role, Site, View, align};
use crate::reference::random::normal;
use crate::reference::sample::{Product, positions, sampled};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Instant;

/// Largest error relative to the largest result, beside what rounding to f16 may change of a result that is stored in it.
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

/// Whether each of x, the weight or dy, and the result is stored in f16: all but weights and their gradients where the key says so.
fn halves(key: &Key) -> [bool; 3] {
    let of_weight = key.op == ConvOp::Conv2dDWeight;
    [key.half, key.half && of_weight, key.half && !of_weight]
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
        let [half_x, half_second, _] = halves(key);
        let stored = |half: bool, values: Vec<f32>| if half { rounded(&values) } else { values };
        let operands = [stored(half_x, numbers(1, x)), stored(half_second, numbers(2, second))];
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
        let halves = halves(&self.key);
        let mut views = ["a", "b", "result"].into_iter().zip(counts).zip(halves).map(|((name, count), half)| {
            let (name, area, bytes) = (name.to_string(), String::new(), if half { 2 } else { 4 } * count as u64);
            let spec = BufferSpec { name, bytes: align(bytes), role: Role::Persistent, area, timestep: None };
            View { buffer: program.buffer(spec), offset: 0, bytes, half }
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
        let write = |view: View, values: &[f32]| match view.half {
            true => recording.write(gpu, view, &packed(values)),
            false => recording.write(gpu, view, values),
        };
        if fresh {
            write(views[0], &self.operands[0]);
            write(views[1], &self.operands[1]);
        }
        write(views[2], &vec![f32::NAN; counts(&self.key).result]); // what is not written shows
        recording.run(gpu);
        let mut result: Vec<f32> = match views[2].half {
            true => unpacked(&recording.read(gpu, views[2]).await?),
            false => recording.read(gpu, views[2]).await?,
        };
        alter(&mut result);
        let picked = self.sample.iter().map(|&(i, exact)| (exact, result[i]));
        let units = if views[2].half { 1.0 } else { 0.0 };
        let sampled = difference(picked, units);
        let error = match other {
            Some(other) => {
                let whole = other.result.iter().zip(&result).map(|(&a, &b)| (f64::from(a), b));
                f64::max(sampled, difference(whole, 2.0 * units))
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

    /// Times two variants in turn, so that a machine that is busy with something else slows both, until `seconds` are over, at
    /// most seven times each. Gives the second's share of the first's time, and leaves the median times in both.
    ///
    /// # Errors
    /// A lost device.
    pub async fn compare(&self, present: &mut Runner, candidate: &mut Runner, seconds: f64) -> Result<f64> {
        let begin = Instant::now();
        let times = (LEAST_RUN / present.seconds.min(candidate.seconds)).ceil().clamp(1.0, 64.0) as usize;
        let run = async |second: bool| self.time(if second { candidate } else { present }, times).await;
        let Rounds { mut old, mut new, mut ratios } = in_turn(run, &|| begin.elapsed().as_secs_f64() < seconds).await?;
        (present.seconds, candidate.seconds) = (median(&mut old), median(&mut new));
        Ok(median(&mut ratios))
    }
}

/// Times of two variants, round by round.
struct Rounds {
    old: Vec<f64>,
    new: Vec<f64>,
    /// `new` over `old`, both of one round.
    ratios: Vec<f64>,
}

/// Times the first and the second of two variants in rounds, each of which begins with what the last ended with: a machine
/// that becomes steadily slower or faster favours neither. Three rounds, or as many as there is time for, seven at most, and
/// an odd number, so that one of them is the median; fewer where the second has clearly lost: in both of two rounds, or by more in
/// one than a slow phase that begins within it explains.
async fn in_turn(mut time: impl AsyncFnMut(bool) -> Result<f64>, is_time: &dyn Fn() -> bool) -> Result<Rounds> {
    let mut rounds = Rounds { old: Vec::new(), new: Vec::new(), ratios: Vec::new() };
    loop {
        let count = rounds.ratios.len();
        let lost = |by: f64| count > 0 && rounds.ratios.iter().all(|&r| r > by);
        let enough = count >= 3 && count % 2 == 1 && (count >= 7 || !is_time());
        if enough || count == 1 && lost(2.5) || count == 2 && lost(1.25) {
            return Ok(rounds);
        }
        let second_first = count % 2 == 1;
        let mut pair = [0.0; 2];
        for second in [second_first, !second_first] {
            pair[usize::from(second)] = time(second).await?;
        }
        let [old, new] = pair;
        rounds.old.push(old);
        rounds.new.push(new);
        rounds.ratios.push(new / old);
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Largest difference between expected and found values, relative to the largest expected one; infinite if a value is not
/// finite. So many times what rounding to f16 may change of a value does not count.
fn difference(pairs: impl Iterator<Item = (f64, f32)>, times: f64) -> f64 {
    let (mut worst, mut largest) = (0.0, f64::MIN_POSITIVE);
    for (expected, found) in pairs {
        let rounding = if times > 0.0 { times * half_a_unit(expected as f32) } else { 0.0 };
        let error = (expected - f64::from(found)).abs() - rounding;
        worst = if error.is_finite() { f64::max(worst, error) } else { f64::INFINITY };
        largest = f64::max(largest, expected.abs());
        if worst == f64::INFINITY {
            break;
        }
    }
    worst / largest
}

#[cfg(test)]
mod tests {
    use super::*;
    use pollster::FutureExt;
    use std::cell::Cell;

    /// Ratio that is found for two variants of which the second takes `truth` times as long, on a machine whose slowness
    /// depends on the moment, and how often each ran.
    fn found(truth: f64, slowness: &dyn Fn(f64) -> f64, is_time: &dyn Fn() -> bool) -> (f64, usize) {
        let now = Cell::new(0.0);
        let time = async |second: bool| {
            let took = if second { truth } else { 1.0 } * slowness(now.get());
            now.set(now.get() + took);
            Ok(took)
        };
        let mut rounds = in_turn(time, is_time).block_on().unwrap();
        assert_eq!((rounds.old.len(), rounds.new.len()), (rounds.ratios.len(), rounds.ratios.len()));
        (median(&mut rounds.ratios), rounds.old.len())
    }

    #[test]
    fn a_machine_that_becomes_slower_favours_neither() {
        // 2 % a run, as at the end of a burst: in one order always, the second would look 2 % worse or better than it is.
        for drift in [0.02, -0.02] {
            let (ratio, runs) = found(1.0, &|t| 1.0 + drift * t, &|| true);
            assert_eq!(runs, 7);
            // One round's order is left over, of seven.
            assert!((ratio - 1.0).abs() < 0.03, "{ratio}");
            let (both, _) = found(0.9, &|t| 1.0 + drift * t, &|| true);
            assert!(both < 0.97 && both > 0.85, "a tenth is found in spite of it: {both}");
        }
    }

    #[test]
    fn slow_phases_leave_the_ratio_as_it_is() {
        // Twice as slow for a while: whichever rounds the change falls into, most are of one phase.
        for start in 0..12 {
            let slow = |t: f64| if (t as usize + start) / 6 % 2 == 1 { 2.0 } else { 1.0 };
            let (ratio, _) = found(0.8, &slow, &|| true);
            assert!((ratio - 0.8).abs() < 1e-9, "{ratio} from {start}");
        }
    }

    #[test]
    fn what_has_lost_is_left_early_and_rounds_are_odd() {
        let even = |_: f64| 1.0;
        assert_eq!(found(3.0, &even, &|| true).1, 1);
        assert_eq!(found(2.0, &even, &|| true).1, 2);
        assert_eq!(found(1.3, &even, &|| true).1, 2);
        assert_eq!(found(1.0, &even, &|| false).1, 3);
        let asked = Cell::new(0);
        let until = || {
            asked.set(asked.get() + 1);
            asked.get() < 2
        };
        assert_eq!(found(1.0, &even, &until).1, 5, "time ran out after the third");
    }
}
