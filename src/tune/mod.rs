//! The tuner: finds the fastest variant of every convolution of a network by measuring in its real shapes.
//!
//! The shapes come from lowering. For each, [`model`] lists the few variants that could beat the present choice, `trial.rs`
//! runs them on the device. A variant's time counts only if its result agrees with plain loops; it replaces the present
//! choice only if it wins clearly, both timed in turn. [`cache`] keeps what was found. A deadline covers everything; shapes
//! with the most work come first, and what was not reached keeps the choice of the table ([`crate::kernels::choose`]).

pub mod cache;
pub mod model;
mod trial;

use crate::gpu::Gpu;
use crate::kernels::choose::{Choices, Key, Use, Uses, Variant};
use crate::{Error, Result};
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;
pub use trial::TOLERANCE;
use trial::{Runner, Verdict, Workbench};

/// Seconds that tuning takes unless told otherwise.
pub const SECONDS: f64 = 10.0;
/// A run is tuned without being asked only if it lasts this many times as long as tuning may take.
pub const REPAID: f64 = 30.0;
/// A candidate must need less than this share of the best one's time.
const MARGIN: f64 = 0.97;
/// Shapes with less than this share of a network's work keep the table's choice.
const NEGLIGIBLE: f64 = 0.002;

/// Where a program's choices come from.
#[derive(Clone, Debug, Default)]
pub enum Tuning {
    /// The table alone.
    Off,
    /// What earlier runs found; if they found nothing for this network, and the run is long enough to repay it, measured now.
    #[default]
    Auto,
    /// What earlier runs found, and the rest measured now, within so many seconds.
    Now(f64),
    /// A file, for example `choices.toml` of another run.
    File(PathBuf),
}

/// What became of a variant.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It serves the shape from now on.
    Chosen,
    /// It does not win clearly, or has been beaten.
    Slower,
    /// Its result is wrong.
    Wrong,
    /// It cannot run here: what the compiler or driver said.
    Refused(String),
    /// No time was left.
    NotTried,
}

/// A variant that was considered for a shape.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Operation and shape for which it was tried.
    pub key: Key,
    /// Launches of it in one run of the program.
    pub launches: usize,
    /// What was tried.
    pub variant: Variant,
    /// Whether the shape had this choice before.
    pub present: bool,
    /// Median time of one launch, milliseconds.
    pub ms: Option<f64>,
    /// Share of the time of the best so far, both measured in turn; 1 for the present choice.
    pub ratio: Option<f64>,
    /// Rate at that time, padding included.
    pub gflops: Option<f64>,
    /// Time that the model predicts from the present choice's, milliseconds.
    pub predicted_ms: Option<f64>,
    /// Largest difference to plain loops, relative to the largest result.
    pub error: Option<f64>,
    /// Milliseconds from the text to the first result.
    pub compile_ms: Option<f64>,
    /// Bytes of the kernel's text.
    pub text_bytes: Option<usize>,
    /// What became of it.
    pub outcome: Fate,
}

/// What tuning found.
#[derive(Clone, Debug, Serialize)]
pub struct Tuned {
    /// The variants of the shapes that were measured, or were not worth it.
    #[serde(skip)]
    pub choices: Choices,
    /// Everything that was considered, in order.
    pub trials: Vec<Trial>,
    /// Shapes that were measured.
    pub shapes: usize,
    /// Shapes for which no time was left.
    pub left: usize,
    /// Milliseconds that all launches of the measured shapes take in one run of the program: with the choices present before,
    /// by the ratios measured in turn, and with those made.
    pub before_ms: f64,
    /// See `before_ms`.
    pub after_ms: f64,
    /// Seconds that it took.
    pub seconds: f64,
}

/// How to tune.
pub struct TuneOptions<'a> {
    /// Seconds for everything, compilation included.
    pub seconds: f64,
    /// Seconds since any moment: the clock by which the deadline is kept. Variants are timed by another, so that a test may
    /// decide how fast this one goes.
    pub clock: &'a dyn Fn() -> f64,
    /// Told of every trial as it ends.
    pub progress: &'a mut dyn FnMut(&Trial),
    /// May change a variant's result before it is compared: for tests of the comparison.
    pub alter: &'a dyn Fn(&Key, &Variant, &mut [f32]),
}

/// The shapes worth measuring, those with the most work first.
fn worth(uses: &Uses) -> Vec<(Key, Use)> {
    let work = |(key, used): &(Key, Use)| key.flops() * used.launches as f64;
    let mut list: Vec<(Key, Use)> = uses.iter().map(|(k, u)| (*k, *u)).collect();
    let total: f64 = list.iter().map(work).sum();
    list.retain(|row| work(row) >= NEGLIGIBLE * total);
    list.sort_by(|a, b| work(b).total_cmp(&work(a)));
    list
}

/// How much a driver's compiler can be trusted to be as slow as [`model::compile_seconds`] says, learned on the way.
struct Compiler<'a> {
    gpu: &'a Gpu,
    seen: BTreeSet<String>,
    /// Measured seconds over predicted ones, of all kernels so far.
    measured: f64,
    predicted: f64,
}

impl Compiler<'_> {
    /// Seconds to expect for a kernel text; none if it was compiled before.
    fn expected(&self, source: &str) -> f64 {
        if self.seen.contains(source) {
            return 0.0;
        }
        // Twice as long as usual happens.
        2.0 * model::compile_seconds(&self.gpu.target, source.len()) * self.measured / self.predicted
    }

    fn learn(&mut self, source: &str, seconds: f64) {
        if self.seen.insert(source.to_string()) {
            self.measured += seconds;
            self.predicted += model::compile_seconds(&self.gpu.target, source.len());
        }
    }
}

/// Measures. The choices present in `uses` are what candidates must beat.
///
/// # Errors
/// A shape that no variant was found to compute right, the present one included: the network must not run on such a driver. A
/// lost device.
pub async fn tune(gpu: &Gpu, uses: &Uses, options: &mut TuneOptions<'_>) -> Result<Tuned> {
    let begin = (options.clock)();
    let (choices, trials) = (Choices::default(), Vec::new());
    let mut tuned = Tuned { choices, trials, shapes: 0, left: 0, before_ms: 0.0, after_ms: 0.0, seconds: 0.0 };
    let mut compiler = Compiler { gpu, seen: BTreeSet::new(), measured: 0.5, predicted: 0.5 };
    for (key, used) in worth(uses) {
        let left = options.seconds - ((options.clock)() - begin);
        let before = tuned.trials.len();
        let best = shape(gpu, &key, &used, left, options, &mut compiler, &mut tuned.trials).await?;
        for trial in &tuned.trials[before..] {
            (options.progress)(trial);
        }
        match best {
            Some((at, gain)) => {
                let chosen = &tuned.trials[at];
                let ms = chosen.ms.expect("it was timed") * used.launches as f64;
                tuned.choices.tuned.insert(key, chosen.variant);
                tuned.shapes += 1;
                tuned.after_ms += ms;
                tuned.before_ms += ms / gain;
            }
            None => {
                refuse_if_wrong(gpu, &tuned.trials[before..])?;
                tuned.left += 1;
            }
        }
    }
    tuned.seconds = (options.clock)() - begin;
    Ok(tuned)
}

/// The error for a shape of whose variants, `trials`, none was found right, if the present one is wrong: without the tuner,
/// the network would compute with it.
fn refuse_if_wrong(gpu: &Gpu, trials: &[Trial]) -> Result<()> {
    let Some(present) = trials.iter().find(|trial| trial.present && trial.outcome == Fate::Wrong) else {
        return Ok(());
    };
    let others = |of: fn(&Fate) -> bool| trials.iter().filter(|t| !t.present && of(&t.outcome)).count();
    let wrong = others(|outcome| *outcome == Fate::Wrong);
    let refused = others(|outcome| matches!(outcome, Fate::Refused(_)));
    let untried = others(|outcome| *outcome == Fate::NotTried);
    let more = if untried > 0 { ", or give the tuner more seconds to try the others" } else { "" };
    Err(Error::Gpu(format!(
        "{}: no variant of this kernel was found to compute it right on adapter `{}`, driver `{}`: with the table's choice, \
         `{}`, the largest error is {:.0e} of the largest result, allowed {:.0e}; of the other variants {wrong} are wrong, \
         {refused} do not run, {untried} were not tried; run `recurve check` to see what else this driver computes wrong, \
         then update it or choose another adapter with --adapter{more}",
        present.key,
        gpu.target.name,
        gpu.target.driver,
        present.variant,
        present.error.unwrap_or(f64::INFINITY),
        trial::TOLERANCE,
    )))
}

/// Tries the candidates of one shape within `left` seconds; gives the best one's trial and its share of the present choice's
/// time, or `None` if not even the present choice could be measured.
async fn shape(
    gpu: &Gpu,
    key: &Key,
    used: &Use,
    left: f64,
    options: &mut TuneOptions<'_>,
    compiler: &mut Compiler<'_>,
    trials: &mut Vec<Trial>,
) -> Result<Option<(usize, f64)>> {
    let (target, clock) = (&gpu.target, options.clock);
    let begin = clock();
    let mut bench: Option<Workbench> = None;
    let mut best: Option<(Runner, usize)> = None; // and its trial
    let candidates = model::candidates(target, key, &used.variant);
    let base = model::cost(target, key, &used.variant);
    let (mut first_ms, mut gain) = (None, 1.0);
    for (i, variant) in [used.variant].into_iter().chain(candidates).enumerate() {
        let mut trial = Trial {
            key: *key,
            launches: used.launches,
            variant,
            present: i == 0,
            ms: None,
            ratio: None,
            gflops: None,
            predicted_ms: first_ms.map(|ms: f64| ms * model::cost(target, key, &variant) / base),
            error: None,
            compile_ms: None,
            text_bytes: None,
            outcome: Fate::NotTried,
        };
        // A shape may take half of what is left, so that the next ones get their turn.
        let share = if i == 0 { left } else { left / 2.0 };
        let room = |needed: f64| clock() - begin + needed < share;
        // What making operands and one run take at the least, on a machine that does 4 GFLOP/s on a CPU.
        let rate = if target.cpu { 4e9 } else { 4e11 };
        let once = 3.0 * key.flops() / rate;
        if !room(once) {
            trials.push(trial);
            if i == 0 {
                return Ok(None);
            }
            continue;
        }
        let bench = bench.get_or_insert_with(|| Workbench::new(gpu, key));
        let prepared = match bench.prepare(&variant) {
            Ok(prepared) => prepared,
            Err(error) => {
                trial.outcome = Fate::Refused(error.to_string());
                trials.push(trial);
                continue;
            }
        };
        let source = prepared.kernel().source.clone();
        trial.text_bytes = Some(source.len());
        if !room(once + compiler.expected(&source)) {
            trials.push(trial);
            if i == 0 {
                return Ok(None);
            }
            continue;
        }
        let started = clock();
        let alter = |result: &mut [f32]| (options.alter)(key, &variant, result);
        let verdict = bench.run(&prepared, best.as_ref().map(|b| &b.0), &alter).await;
        let compile = clock() - started;
        compiler.learn(&source, compile);
        trial.compile_ms = Some(compile * 1e3);
        let timed = |trial: &mut Trial, seconds: f64| {
            trial.ms = Some(seconds * 1e3);
            trial.gflops = Some(key.flops() / seconds / 1e9);
        };
        match verdict {
            Err(error) => {
                gpu.wait().await?; // a lost device ends it; a variant that the driver refuses does not
                trial.outcome = Fate::Refused(error.to_string());
            }
            Ok(Verdict::Wrong(error)) => (trial.error, trial.outcome) = (Some(error), Fate::Wrong),
            Ok(Verdict::Right(runner)) => {
                let mut runner = *runner;
                trial.error = Some(runner.error);
                let ratio = match &mut best {
                    None => 1.0,
                    Some((present, at)) => {
                        let spare = (share - (clock() - begin)).clamp(0.0, 0.5);
                        let ratio = bench.compare(present, &mut runner, spare).await?;
                        timed(&mut trials[*at], present.seconds);
                        ratio
                    }
                };
                trial.ratio = Some(ratio);
                timed(&mut trial, runner.seconds);
                if i == 0 {
                    first_ms = trial.ms;
                }
                trial.outcome = Fate::Slower;
                if best.is_none() || ratio < MARGIN {
                    gain *= ratio;
                    best = Some((runner, trials.len()));
                }
            }
        }
        trials.push(trial);
    }
    Ok(best.map(|(_, at)| {
        trials[at].outcome = Fate::Chosen;
        (at, gain)
    }))
}

/// The choices of a program, and where they come from.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// A variant for every shape of the program.
    pub choices: Choices,
    /// One sentence for the user.
    pub origin: String,
    /// What was measured, if anything was.
    pub tuned: Option<Tuned>,
}

/// Decides on the variants of a program whose shapes are `uses`, all of them as the table chooses. `work` is what the whole
/// run will compute, in multiplications and additions: 0 if that is not known.
///
/// # Errors
/// A file of choices that cannot be used; a shape that no variant computes right (see [`tune`]); a lost device.
pub async fn choose(gpu: &Gpu, uses: &Uses, tuning: &Tuning, work: f64, folder: Option<&Path>) -> Result<Chosen> {
    let target = &gpu.target;
    let complete = |known: &Choices| {
        let all = uses.iter().map(|(key, used)| (*key, known.tuned.get(key).copied().unwrap_or(used.variant)));
        Choices { tuned: all.collect(), ..Choices::default() }
    };
    let wanted = worth(uses);
    let (known, seconds) = match tuning {
        Tuning::Off => (Choices::default(), None),
        Tuning::File(path) => {
            let missing = || Error::Config(format!("{}: no such file", path.display()));
            let choices = complete(&cache::read(path, target)?.ok_or_else(missing)?);
            return Ok(Chosen { choices, origin: format!("kernel variants: from {}", path.display()), tuned: None });
        }
        Tuning::Auto => {
            // What a CPU driver and a small GPU reach.
            let rate = if target.cpu { 20e9 } else { 1e12 };
            let known = cache::recall(folder, target);
            // Once something was tuned, equal runs get equal choices: only `Now` goes on with what was left.
            let begun = wanted.iter().any(|(key, _)| known.tuned.contains_key(key));
            (known, (!begun && work / rate >= REPAID * SECONDS).then_some(SECONDS))
        }
        Tuning::Now(seconds) => (cache::recall(folder, target), Some(*seconds)),
    };
    let missing: Uses = wanted.iter().filter(|(key, _)| !known.tuned.contains_key(key)).copied().collect();
    let mut tuned = None;
    let mut all = known;
    let origin = match (tuning, seconds) {
        (Tuning::Off, _) => "kernel variants: from the table".to_string(),
        (_, Some(seconds)) if !missing.is_empty() => {
            eprintln!("tuning {} shapes, at most {seconds:.0} s", missing.len());
            let begin = Instant::now();
            let clock = || begin.elapsed().as_secs_f64();
            let mut options = TuneOptions { seconds, clock: &clock, progress: &mut |_| (), alter: &|_, _, _| () };
            let found = tune(gpu, &missing, &mut options).await?;
            cache::remember(folder, target, &found.choices);
            all.tuned.extend(&found.choices.tuned);
            let (shapes, left, took) = (found.shapes, found.left, found.seconds);
            tuned = Some(found);
            format!("kernel variants: {shapes} shapes tuned in {took:.1} s, {left} left to the table")
        }
        _ if missing.len() == wanted.len() => {
            "kernel variants: from the table (none tuned yet for these shapes)".into()
        }
        _ => format!("kernel variants: tuned earlier for {} of {} shapes", wanted.len() - missing.len(), wanted.len()),
    };
    Ok(Chosen { choices: complete(&all), origin, tuned })
}
