//! `bench kernels`: each case with each variant, verified against its twin first, then timed.

use super::cases::Case;
use super::ceilings::Roof;
use super::measure::measure;
use super::table::{Row, Subject};
use crate::Result;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::Target;
use crate::kernels::choose::Choices;
use std::time::Instant;

/// Error, relative to the largest result, up to which a result counts as right: f32 sums over up to 65,536 terms.
pub const TOLERANCE: f64 = 1e-4;

/// A case with a variant.
pub struct Job<'a> {
    /// Operation and shape that are measured.
    pub case: &'a Case,
    /// `chosen` for what the table of variants picks, else the tile's name with dashes.
    pub variant: String,
    /// The forced variant.
    pub choices: Choices,
}

impl Job<'_> {
    /// Operation, shape and variant.
    pub fn id(&self) -> String {
        format!("{}/{}", self.case.id(), self.variant)
    }
}

/// Every case with what the engine chooses, and with `all` also with every variant that the adapter can run.
pub fn jobs<'a>(target: &Target, cases: &'a [Case], all: bool) -> Vec<Job<'a>> {
    let mut jobs = Vec::new();
    for case in cases {
        jobs.push(Job { case, variant: "chosen".into(), choices: Choices::default() });
        if !all {
            continue;
        }
        jobs.extend(case.variants(target).into_iter().map(|variant| Job {
            case,
            variant: variant.to_string().replace(' ', "-"),
            choices: Choices::force(variant),
        }));
    }
    jobs
}

/// Verifies and measures one job. What cannot run or is wrong gives a failed row.
///
/// # Errors
/// A lost device.
pub async fn run(gpu: &Gpu, job: &Job<'_>, roof: Option<&Roof>, seconds: f64) -> Result<Row> {
    let case = job.case;
    let id = job.id();
    let args = format!("recurve bench kernels {} --row {id}", case.from);
    let (flops, bytes) = (case.flops(), case.bytes());
    let tile = case.variant(&gpu.target, &job.choices)?.map(|variant| variant.to_string());
    let (op, shape, uses) = (case.op.into(), case.shape.clone(), case.uses);
    let subject = Subject { id, op, shape, tile, uses, args, flops, bytes };
    let program = case.program(&gpu.target, &job.choices)?;
    if let Err(error) = Plan::new(&program, true).fits(&program, &gpu.target) {
        return Ok(Row::failed(subject, &program, 0.0, error.to_string())); // before operands are drawn
    }
    let prepared = case.prepared(&gpu.target, &job.choices)?;
    let program = &prepared.program;
    let plan = Plan::new(program, true);
    let begin = Instant::now();
    let recording = match Recording::new(gpu, program, &plan, &mut Store::default()).await {
        Ok(recording) => recording,
        Err(error) => return Ok(Row::failed(subject, program, 0.0, error.to_string())),
    };
    let mut first = begin.elapsed().as_secs_f64();
    for (view, values) in &prepared.inputs {
        recording.write(gpu, *view, values);
    }
    recording.poison(gpu, program);
    gpu.wait().await?;
    let begin = Instant::now();
    recording.run(gpu);
    gpu.wait().await?;
    first += begin.elapsed().as_secs_f64();
    let mut results: Vec<Vec<f32>> = Vec::new();
    for &view in &prepared.outputs {
        results.push(recording.read(gpu, view).await?);
    }
    let error = case.error(&results);
    if error > TOLERANCE {
        let why = format!("wrong result, relative error {error:.1e} (allowed {TOLERANCE:.0e}); nothing was timed");
        return Ok(Row::failed(subject, program, error, why));
    }
    let samples = measure(gpu, &recording, seconds, roof.map(|roof| &roof.reference)).await?;
    Ok(Row::new(subject, program, &samples, (error, first), roof.map(|roof| &roof.ceilings)))
}
