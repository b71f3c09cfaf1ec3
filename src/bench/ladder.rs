//! `bench ladder`: what each step of `docs/kernels.md` brings on this adapter. All rungs take turns, with the multiply-add
//! loop between them; a rung whose result is wrong fails, and is not timed.

use super::ceilings::Roof;
use super::measure::{measure_in_turn, paired_ratio};
use super::table::{Row, Subject};
use crate::Result;
use crate::check::ladder::{Task, rungs};
use crate::gpu::{Gpu, Recording};
use crate::kernels::Program;
use crate::kernels::conv::ConvShape;
use serde::Serialize;
use std::time::Instant;

/// What a step brought.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Name of the rung.
    pub rung: &'static str,
    /// What it does that the one before does not.
    pub step: &'static str,
    /// Time of the rung before over this one's: the median over rounds in which both were measured. Absent for the first.
    pub gain: Option<f64>,
    /// Its 95 % bootstrap confidence interval.
    pub gain_ci: Option<[f64; 2]>,
    /// Time of the first rung over this one's, in the same way.
    pub from_first: f64,
}

/// Measures all rungs in a shape, `seconds` for each: a row for each, and what each step brought. A rung that fails is a
/// failed row, and no step.
///
/// # Errors
/// A lost device.
pub async fn ladder(
    gpu: &Gpu,
    shape: &ConvShape,
    args: &str,
    roof: Option<&Roof>,
    seconds: f64,
) -> Result<(Vec<Step>, Vec<Row>)> {
    let ConvShape { n, cin, cout, in_h, in_w, k, .. } = *shape;
    let task = Task::new(*shape, false);
    let bytes = 4.0 * (cin * in_h * in_w * n + cout * cin * k * k + cout * in_h * in_w * n) as f64;
    let (mut ready, mut failed) = (Vec::new(), Vec::new());
    for rung in rungs(&gpu.target, shape) {
        let subject = Subject {
            id: format!("ladder/{n}x{cin}x{in_h}x{in_w}-{cout}-k{k}/{}", rung.name),
            op: rung.name.into(),
            shape: format!("{n}x{cin}x{in_h}x{in_w}-{cout}-k{k}"),
            tile: Some(rung.tile.map_or("plain loops".into(), |tile| tile.to_string())),
            uses: 0,
            args: args.into(),
            flops: shape.flops(),
            bytes,
        };
        let begin = Instant::now();
        match rung.verified(gpu, &task).await {
            Ok(found) => ready.push((rung, subject, found, begin.elapsed().as_secs_f64())),
            Err(error) => {
                gpu.check()?; // a lost device ends it
                failed.push(Row::failed(subject, &Program::default(), f64::INFINITY, error.to_string()));
            }
        }
    }
    let recordings: Vec<&Recording> = ready.iter().map(|(_, _, found, _)| &found.recording).collect();
    if recordings.is_empty() {
        return Ok((Vec::new(), failed));
    }
    let all = seconds * recordings.len() as f64;
    let samples = measure_in_turn(gpu, &recordings, all, roof.map(|roof| &roof.reference)).await?;
    let mut steps = Vec::new();
    for (i, (rung, ..)) in ready.iter().enumerate() {
        let over = |j: usize| paired_ratio(&samples[j].seconds, &samples[i].seconds);
        let gain = i.checked_sub(1).map(over);
        steps.push(Step {
            rung: rung.name,
            step: rung.step,
            gain: gain.map(|(gain, _)| gain),
            gain_ci: gain.map(|(_, interval)| interval),
            from_first: over(0).0,
        });
    }
    let mut rows = Vec::new();
    for ((_, subject, found, first), samples) in ready.into_iter().zip(&samples) {
        let ceilings = roof.map(|roof| &roof.ceilings);
        rows.push(Row::new(subject, &found.program, samples, (found.error, first), ceilings));
    }
    rows.extend(failed);
    Ok((steps, rows))
}
