//! `bench step`: a whole training step, and where its time goes.

use super::cases::{Case, step_cases};
use super::ceilings::Roof;
use super::measure::{Clock, Reference, Samples, believed_by_both, device_seconds, in_turn, median, paired_ratio};
use super::table::{Row, Subject};
use crate::dataset::{Batch, Normaliser, Pictures};
use crate::engine::Engine;
use crate::gpu::{Gpu, Store, Timer, Timing};
use crate::graph::compile::Request;
use crate::graph::passes::Passes;
use crate::graph::plan::Plan;
use crate::host::processor_seconds;
use crate::kernels::choose::Choices;
use crate::kernels::{Access, BufferId, Launch, Program};
use crate::network::{Network, Precision, Schedule, initialise};
use crate::ops::Hyper;
use crate::reference::random::uniform;
use crate::{Error, Result};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// Launches and time of a part of the step.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Share {
    /// How many launches of the step belong to it.
    pub launches: usize,
    /// Milliseconds that they take together.
    pub ms: f64,
}

/// One launch of the step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timed {
    /// `conv2d v2.bottom_up t=1`.
    pub label: String,
    /// The operation that asked for it.
    pub op: String,
    /// Kernel and variant.
    pub kernel: String,
    /// Area of the network.
    pub area: String,
    /// Timestep, if it has one.
    pub timestep: Option<usize>,
    /// Workgroups in x, y, z.
    pub grid: [u32; 3],
    /// Begin, microseconds from the first: by the device's clock, or, where that is not believed, the sum of those before.
    pub begin_us: f64,
    /// Duration, microseconds.
    pub duration_us: f64,
}

/// A training step in figures.
#[derive(Clone, Debug, Serialize)]
pub struct StepFigures {
    /// Images per second of the median step.
    pub images_per_s: f64,
    /// Median time of a step, milliseconds.
    pub ms: f64,
    /// Least and largest time, milliseconds.
    pub spread: [f64; 2],
    /// Launches per step.
    pub dispatches: usize,
    /// Launches that wait for an earlier one, as the step is replayed.
    pub barriers: usize,
    /// Bytes that the plan asks for.
    pub peak_bytes: u64,
    /// Bytes that were allocated.
    pub allocated_bytes: u64,
    /// Bytes that the operations of a step read and write, each operand once.
    pub operand_bytes: f64,
    /// Additions and multiplications of a step.
    pub flops: f64,
    /// Per cent of what the ceilings allow, operation by operation; absent without ceilings.
    pub percent: Option<f64>,
    /// The step's rate over that of multiply-adds in registers between the steps: see [`Row::share`].
    pub share: Option<f64>,
    /// That rate, in 10^9 operations per second: see [`Row::ceiling_gflops`].
    pub ceiling_gflops: Option<f64>,
    /// Processor time of a step, milliseconds: see [`Row::processor_ms`].
    pub processor_ms: Option<f64>,
    /// Host time per step to encode and submit, milliseconds (median).
    pub cpu_ms: f64,
    /// From the request to the first finished step: compiling, allocating, running, milliseconds.
    pub first_step_ms: f64,
    /// Of it: graph, plan, buffers and pipelines.
    pub prepare_ms: f64,
    /// Of it: the first run beyond the median step, in which drivers compile.
    pub compile_ms: f64,
    /// Where the times of the parts come from: timestamps within one submission, or each launch submitted alone, whose sum
    /// exceeds `ms`.
    pub parts_by: &'static str,
    /// Why timestamps were offered and not believed.
    pub doubt: Option<String>,
    /// Shares of the step by operation.
    pub ops: BTreeMap<String, Share>,
    /// Shares of the step by area.
    pub areas: BTreeMap<String, Share>,
    /// Shares of the step by kernel.
    pub kernels: BTreeMap<String, Share>,
}

/// The network as `step` measures it, ready to run on random pictures.
struct RunningStep<'g> {
    engine: Engine<'g>,
    done: u64,
}

const ADAM: Hyper = Hyper { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

impl<'g> RunningStep<'g> {
    async fn new(gpu: &'g Gpu, request: &Request<'_>) -> Result<RunningStep<'g>> {
        let Request { network, batch, .. } = *request;
        let mut engine = Engine::new(gpu, request, &mut Store::default()).await?;
        let values = initialise(&network.parameters, 1);
        engine.set_parameters(&values)?;
        engine.set_moments(&values.zeros(), &values.zeros())?;
        engine.set_normaliser(&Normaliser::new([127.5; 3], [74.0; 3]));
        engine.feed(&noise(network, batch)).await?;
        Ok(RunningStep { engine, done: 0 })
    }

    /// One step, by the wall clock.
    async fn run(&mut self) -> Result<Timing> {
        self.done += 1;
        let (begin, processor) = (Instant::now(), processor_seconds());
        self.engine.set_step(&ADAM, self.done, 1.0).await?;
        self.engine.run();
        let host = begin.elapsed().as_secs_f64();
        self.engine.gpu.wait().await?;
        let wall = begin.elapsed().as_secs_f64();
        let processor = processor_seconds().zip(processor).map(|(now, then)| now - then);
        Ok(Timing { wall, host, processor, passes: None })
    }

    /// Fails unless the loss of the last step is a number.
    async fn check(&self) -> Result<()> {
        let loss = self.engine.scores(self.engine.batch).await?.loss;
        if loss.iter().any(|l| !l.is_finite()) {
            return Err(Error::Training(format!("the loss of the measured steps is not finite: {loss:?}")));
        }
        Ok(())
    }

    fn launches(&self) -> &[Launch] {
        &self.engine.compiled.program.launches
    }
}

/// Pictures of random bytes.
fn noise(network: &Network, n: usize) -> Batch {
    let side = network.image_size;
    let data = uniform(1, 3 * side * side * n, 0.0, 256.0).into_iter().map(|x| x as u8).collect();
    let labels = (0..n).map(|i| (i % network.classes) as u32).collect();
    Batch::new(Pictures { data, labels, n, side }, n)
}

/// Images a second of a training step, the median over `seconds`.
///
/// # Errors
/// What does not fit the adapter, or what the device says.
pub async fn images_per_s(gpu: &Gpu, network: &Network, batch: usize, choices: &Choices, seconds: f64) -> Result<f64> {
    let schedule = Schedule::plain(network.timesteps);
    let request = Request { choices, ..Request::training(network, &schedule, batch, &gpu.target) };
    let mut bench = RunningStep::new(gpu, &request).await?;
    bench.run().await?;
    let (mut times, start) = (Vec::new(), Instant::now());
    while times.len() < 3 || start.elapsed().as_secs_f64() < seconds {
        times.push(bench.run().await?.wall);
    }
    bench.check().await?;
    Ok(batch as f64 / median(&times))
}

/// Measures a training step of a network on random pictures: figures, rows (the whole, then every operation), and the
/// launches of one step in order. `name` stands in the rows, `args` are what repeats them.
///
/// # Errors
/// What does not fit the adapter, or what the device says.
pub async fn step(
    gpu: &Gpu,
    (network, batch, passes, choices, precision): (&Network, usize, Passes, &Choices, Precision),
    (name, args): (&str, &str),
    roof: Option<&Roof>,
    seconds: f64,
) -> Result<(StepFigures, Vec<Row>, Vec<Timed>)> {
    let (before, begin) = (gpu.allocated(), Instant::now());
    let schedule = Schedule::plain(network.timesteps);
    let request = Request::training(network, &schedule, batch, &gpu.target);
    let mut bench = RunningStep::new(gpu, &Request { passes, choices, precision, ..request }).await?;
    let allocated_bytes = gpu.allocated() - before;
    let prepare = begin.elapsed().as_secs_f64();
    let first_run = bench.run().await?.wall;
    let first_step = begin.elapsed().as_secs_f64();
    bench.run().await?;
    let reference = roof.map(|roof| &roof.reference);
    let ceilings = roof.map(|roof| &roof.ceilings);
    let mut host = Vec::new();
    let run = async |_| {
        let timing = bench.run().await?;
        host.push(timing.host);
        Ok(timing)
    };
    let wall = in_turn(gpu, (vec![1], run), seconds, reference.map(|of| (of, None))).await?.swap_remove(0);
    bench.check().await?;
    let middle = median(&wall.seconds);
    let LaunchTimes { runs, begins, source, doubt, beside } = launch_times(gpu, &bench, reference).await?;
    let launches = bench.launches();
    let compiled = &bench.engine.compiled;
    let cases = step_cases(compiled, "");
    let roof = |case: &Case| ceilings.map_or(0.0, |c| case.uses as f64 * c.seconds(case.flops(), case.bytes()));
    let total = |of: &dyn Fn(&Case) -> f64, op: Option<&str>| -> f64 {
        cases.iter().filter(|c| op.is_none_or(|op| op == c.op)).map(of).sum()
    };
    let flops = |case: &Case| case.uses as f64 * case.flops();
    let bytes = |case: &Case| case.uses as f64 * case.bytes();

    let mut rows = Vec::new();
    let mut row = |op: &str, part: &Program, samples: Samples| {
        let only = (op != "step").then_some(op);
        let (flops, bytes) = (total(&flops, only), total(&bytes, only));
        let (id, op, shape, args) = (format!("{op}/{name}"), op.into(), name.into(), args.into());
        let subject = Subject { id, op, shape, tile: None, uses: 1, args, flops, bytes };
        let first = if only.is_some() { 0.0 } else { first_run };
        let mut row = Row::new(subject, part, &samples, (0.0, first), None);
        row.percent = ceilings.map(|_| 100.0 * total(&roof, only) / (1e-3 * row.ms));
        rows.push(row);
    };
    row("step", &compiled.program, wall);
    let mut names: Vec<&str> = Vec::new();
    for launch in launches {
        if !names.contains(&launch.op) {
            names.push(launch.op);
        }
    }
    for name in names {
        let of_op = |i: &usize| launches[*i].op == name;
        let mine: Vec<usize> = (0..launches.len()).filter(of_op).collect();
        let seconds = runs.iter().map(|run| mine.iter().map(|&i| run[i]).sum()).collect();
        let mut part = Program::default();
        part.launches = mine.iter().map(|&i| launches[i].clone()).collect();
        let (processor, ceilings, doubt) = (Vec::new(), beside.clone(), doubt.clone());
        row(name, &part, Samples { seconds, repeats: 1, processor, ceilings, source, doubt });
    }

    let mut timed = Vec::new();
    let [mut ops, mut areas, mut kernels] = [(); 3].map(|()| BTreeMap::<String, Share>::new());
    let mut end = 0.0;
    for (i, launch) in launches.iter().enumerate() {
        let duration = median(&runs.iter().map(|run| run[i]).collect::<Vec<_>>());
        for (table, key) in [(&mut ops, launch.op), (&mut areas, &launch.area), (&mut kernels, launch.kernel.name)] {
            let share = table.entry(key.to_string()).or_default();
            share.launches += 1;
            share.ms += 1e3 * duration;
        }
        let begin = begins.as_ref().map_or(end, |b| b[i]);
        end += duration;
        timed.push(Timed {
            label: launch.label.clone(),
            op: launch.op.to_string(),
            kernel: launch.kernel.label(),
            area: launch.area.clone(),
            timestep: launch.timestep,
            grid: launch.grid,
            begin_us: 1e6 * begin,
            duration_us: 1e6 * duration,
        });
    }
    let step = StepFigures {
        images_per_s: batch as f64 / middle,
        ms: 1e3 * middle,
        spread: [rows[0].min_ms, rows[0].max_ms],
        dispatches: launches.len(),
        barriers: barriers(&compiled.program, &compiled.plan),
        peak_bytes: compiled.peak_bytes(),
        allocated_bytes,
        operand_bytes: total(&bytes, None),
        flops: total(&flops, None),
        percent: rows[0].percent,
        share: rows[0].share,
        ceiling_gflops: rows[0].ceiling_gflops,
        processor_ms: rows[0].processor_ms,
        cpu_ms: 1e3 * median(&host),
        first_step_ms: 1e3 * first_step,
        prepare_ms: 1e3 * prepare,
        compile_ms: 1e3 * (first_run - middle).max(0.0),
        parts_by: if source == Clock::Timestamp { "timestamps" } else { "launches submitted alone" },
        doubt,
        ops,
        areas,
        kernels,
    };
    Ok((step, rows, timed))
}

/// Seconds of every launch.
struct LaunchTimes {
    /// Of several runs.
    runs: Vec<Vec<f64>>,
    /// Begins in the last run, by the device's clock.
    begins: Option<Vec<f64>>,
    source: Clock,
    doubt: Option<String>,
    /// What the reference reached around each run, in 10^9 operations per second; empty without one.
    beside: Vec<f64>,
}

/// Times the launches by timestamps around each, if they are offered and plausible, else alone; before and after each run of
/// all launches the reference.
async fn launch_times(gpu: &Gpu, bench: &RunningStep<'_>, reference: Option<&Reference>) -> Result<LaunchTimes> {
    const RUNS: usize = 5;
    let recording = bench.engine.recording();
    let timer = Timer::new(gpu, bench.launches().len()).await?;
    let single = Timer::new(gpu, 1).await?;
    let beside = async |to: &mut Vec<Timing>| -> Result<()> {
        if let Some(reference) = reference {
            to.push(reference.time(gpu, single.as_ref()).await?);
        }
        Ok(())
    };
    let rates = |of: &[Timing], source: Clock| -> Vec<f64> {
        let seconds = |t: &Timing| match source {
            Clock::Wall => t.wall,
            Clock::Timestamp => device_seconds(t).expect("believed"),
        };
        let pairs = of.windows(2);
        pairs.filter_map(|pair| Some(reference?.rate(seconds(&pair[0]), seconds(&pair[1])))).collect()
    };
    let (mut timings, mut around) = (Vec::new(), Vec::new());
    beside(&mut around).await?;
    for _ in 0..RUNS {
        timings.push(recording.time_passes(gpu, timer.as_ref()).await?);
        beside(&mut around).await?;
    }
    let (source, doubt) = believed_by_both(&timings, &around);
    if source == Clock::Timestamp {
        let mut passes = timings.iter().filter_map(|t| t.passes.as_ref());
        let runs: Vec<Vec<f64>> = passes.clone().map(|p| p.iter().map(|[b, e]| (e - b).max(0.0)).collect()).collect();
        let begins = passes.next_back().map(|p| p.iter().map(|b| b[0]).collect());
        return Ok(LaunchTimes { runs, begins, source, doubt, beside: rates(&around, source) });
    }
    let (mut runs, mut around) = (Vec::new(), Vec::new());
    beside(&mut around).await?;
    for _ in 0..RUNS.min(3) {
        runs.push(recording.time_launches(gpu, 1).await?);
        beside(&mut around).await?;
    }
    Ok(LaunchTimes { runs, begins: None, source, doubt, beside: rates(&around, source) })
}

/// Launches before which a barrier stands when a program is replayed: those that read what was written since the buffer was
/// last waited for, or write what was touched. This is what wgpu does, whole buffers at a time.
pub fn barriers(program: &Program, plan: &Plan) -> usize {
    let place = |buffer: BufferId| match plan.slot_of[buffer.0] {
        Some(slot) => (0, slot),
        None => (1, buffer.0),
    };
    let mut last: HashMap<(usize, usize), Access> = HashMap::new();
    let waits = |launch: &&Launch| {
        let access_of = |name: &str| launch.kernel.bindings.iter().find(|b| b.name == name).map(|b| b.access);
        let touched: HashMap<_, _> =
            launch.operands.iter().filter_map(|(name, view)| Some((place(view.buffer), access_of(name)?))).collect();
        let mut waits = false;
        for (place, access) in touched {
            let before = last.insert(place, access);
            waits |= before.is_some_and(|before| before != access || access == Access::ReadWrite);
        }
        waits
    };
    program.launches.iter().filter(waits).count()
}

/// What a graph pass is worth: the step without it against the step with all.
#[derive(Clone, Debug, Serialize)]
pub struct PassEffect {
    /// The pass that was off; empty for all on.
    pub without: String,
    /// Launches per step.
    pub dispatches: usize,
    /// Launches that wait for an earlier one.
    pub barriers: usize,
    /// Bytes that the plan asks for.
    pub peak_bytes: u64,
    /// Median time of a step, milliseconds.
    pub ms: f64,
    /// Time relative to all passes on: the median over rounds in which all were measured.
    pub ratio: f64,
    /// 95 % confidence interval of the ratio.
    pub ratio_ci: [f64; 2],
}

/// Measures the step with all passes on and with each off. The variants take turns, so that what else the machine does
/// meets all of them alike, with the reference between them; `seconds` is for each. Also as rows, in which `name` and `args`
/// stand.
///
/// # Errors
/// What does not fit the adapter, or what the device says.
pub async fn passes(
    gpu: &Gpu,
    network: &Network,
    batch: usize,
    (name, args): (&str, &str),
    seconds: f64,
    reference: Option<&Reference>,
) -> Result<(Vec<PassEffect>, Vec<Row>)> {
    let mut variants: Vec<(&str, RunningStep)> = Vec::new();
    for pass in std::iter::once("").chain(Passes::NAMES) {
        let off: Vec<&str> = (!pass.is_empty()).then_some(pass).into_iter().collect();
        let (schedule, passes) = (Schedule::plain(network.timesteps), Passes::without(&off)?);
        let request = Request::training(network, &schedule, batch, &gpu.target);
        let mut bench = RunningStep::new(gpu, &Request { passes, ..request }).await?;
        bench.run().await?;
        variants.push((pass, bench));
    }
    let count = variants.len();
    let run = async |i: usize| variants[i].1.run().await;
    let samples = in_turn(gpu, (vec![1; count], run), seconds * count as f64, reference.map(|of| (of, None))).await?;
    let (mut effects, mut rows) = (Vec::new(), Vec::new());
    for ((without, bench), mine) in variants.iter().zip(&samples) {
        bench.check().await?;
        let compiled = &bench.engine.compiled;
        let (ratio, ratio_ci) =
            if without.is_empty() { (1.0, [1.0; 2]) } else { paired_ratio(&mine.seconds, &samples[0].seconds) };
        effects.push(PassEffect {
            without: without.to_string(),
            dispatches: bench.launches().len(),
            barriers: barriers(&compiled.program, &compiled.plan),
            peak_bytes: compiled.peak_bytes(),
            ms: 1e3 * median(&mine.seconds),
            ratio,
            ratio_ci,
        });
        let op = if without.is_empty() { "step".to_string() } else { format!("step-without-{without}") };
        let cases = step_cases(compiled, "");
        let total = |of: &dyn Fn(&Case) -> f64| cases.iter().map(|c| c.uses as f64 * of(c)).sum();
        let (flops, bytes) = (total(&Case::flops), total(&Case::bytes));
        let (id, shape, args) = (format!("{op}/{name}"), name.into(), args.into());
        let subject = Subject { id, op, shape, tile: None, uses: 1, args, flops, bytes };
        rows.push(Row::new(subject, &compiled.program, mine, (0.0, 0.0), None));
    }
    Ok((effects, rows))
}
