//! The built-in cases of `recurve check`: those of the table ([`super::rows`]), every operation, forward and backward, in
//! shapes that divide by nothing, and every kernel variant; and what only graph passes make, operations that are fed by lists
//! over time. All against twins.

use super::case::Case;
use super::goldens::{Bits, judge, report};
use super::ladder;
use super::probes::probes;
use super::rows::cases;
use super::{CaseReport, repeated};
use crate::Result;
use crate::gpu::Gpu;
use crate::graph::ValueId;
use crate::kernels::Target;
use crate::ops::{
    Add, ChannelSum, Conv2dDWeight, ConvTranspose2dDWeight, Modulate, Norm, NormDAffine, NormDInput, Relu,
};
use crate::reference::random::normal;

/// Runs every case and hands its report over. With `repeat` above 1 each runs that often, and must give equal bits.
///
/// # Errors
/// A lost device. A case that cannot run has failed.
pub async fn run_cases(gpu: &Gpu, repeat: usize, take: &mut dyn FnMut(CaseReport)) -> Result<()> {
    for case in table(&gpu.target) {
        let verdict = match repeated(repeat, async || case.run(gpu).await.map(Bits)).await {
            Ok((found, equal_bits)) => {
                let (passed, error, detail) = judge(&case.compare(&found.0), "");
                report(passed, error, detail, equal_bits)
            }
            Err(error) => report(false, f64::INFINITY, error.to_string(), None),
        };
        take(CaseReport { name: case.name, kind: case.kind, ..verdict });
        gpu.check()?;
    }
    for probe in probes(&gpu.target)? {
        let verdict = match repeated(repeat, async || probe.verified(gpu).await.map(|_| ())).await {
            Ok(((), equal_bits)) => report(true, 0.0, "exact".into(), equal_bits),
            Err(error) => report(false, f64::INFINITY, error.to_string(), None),
        };
        take(CaseReport { name: probe.label(), kind: "ceiling".into(), ..verdict });
        gpu.check()?;
    }
    let task = ladder::Task::new(ladder::CHECKED, true);
    for rung in ladder::rungs(&gpu.target, &ladder::CHECKED) {
        let bits = |result: &[f32]| -> Vec<u32> { result.iter().map(|v| v.to_bits()).collect() };
        let run = async || rung.verified(gpu, &task).await.map(|found| (found.error.to_bits(), bits(&found.result)));
        let verdict = match repeated(repeat, run).await {
            Ok(((error, _), equal_bits)) => {
                report(true, f64::from_bits(error) / ladder::TOLERANCE, "every result".into(), equal_bits)
            }
            Err(error) => report(false, f64::INFINITY, error.to_string(), None),
        };
        take(CaseReport { name: rung.name.into(), kind: "ladder".into(), ..verdict });
        gpu.check()?;
    }
    Ok(())
}

/// All cases for an adapter.
pub fn table(target: &Target) -> Vec<Case> {
    cases(target).into_iter().chain(fused()).collect()
}

/// Forms that only networks and graph passes make.
fn fused() -> Vec<Case> {
    let mut list = vec![mixed()];
    for op in [Norm { groups: 1, per_channel: false, relu: true }, Norm { groups: 2, per_channel: true, relu: true }] {
        list.push(folded_norm(op));
    }
    for (name, steps) in FOLDS {
        let (x, dy) = ([5, 5, 7, 3], [9, 5, 7, 3]);
        list.push(folded(name, Conv2dDWeight { k: 3, stride: 1, linear: false }, (&x, &dy), steps, 0.0));
        let (x, dy) = ([5, 6, 8, 3], [9, 3, 4, 3]);
        list.push(folded(name, Conv2dDWeight { k: 3, stride: 2, linear: false }, (&x, &dy), steps, 0.0));
        let (x, dy) = ([5, 3, 5, 3], [9, 6, 10, 3]);
        list.push(folded(name, ConvTranspose2dDWeight { k: 3, stride: 2 }, (&x, &dy), steps, 0.0));
    }
    // Winograd's method transforms so many timesteps at a time that this takes two parts.
    let (large, op) = ([32, 16, 16, 64], Conv2dDWeight { k: 3, stride: 1, linear: false });
    list.push(folded("1 stretch of large maps", op, (&large, &large), &[0, 1, 2, 3], 0.0));
    // So few values that some taps meet in one part only, and some never.
    list.push(folded("1 stretch of large sparse maps", op, (&large, &large), &[0, 1, 2, 3], 2.6));
    list.push(folded_bias());
    list
}

/// Rectified random maps, one a timestep, that lie behind each other in one buffer; `below` is taken from their values.
fn series(case: &mut Case, name: &str, map: &[usize], steps: usize, below: f32) -> Vec<ValueId> {
    let one = |t| {
        let values = normal(100 + case.inputs.len() as u64, map.iter().product());
        let value = case.input(map, values.iter().map(|v| v - below).collect());
        case.graph.node(Relu, &[value], name, "op", t)[0]
    };
    (0..steps).map(one).collect()
}

/// b (1 + l + t).
fn mixed() -> Case {
    let mut case = Case::new("fused", "modulate by a sum");
    let [b, l, t] = [0; 3].map(|_| case.random(&[5, 5, 7, 3]));
    let s = case.node(Add, &[l, t])[0];
    let y = case.node(Modulate, &[b, s])[0];
    case.want("y", y);
    case.finished()
}

/// Gradients of gamma and beta over three timesteps at once.
fn folded_norm(op: Norm) -> Case {
    let map = [4, 5, 7, 3];
    let (what, affine) = if op.per_channel { ("2 groups", vec![4]) } else { ("layer", vec![4, 5, 7]) };
    let mut case = Case::new("fused", &format!("norm_d_affine over 3 steps 3x4x5x7 {what}"));
    let (gamma, beta) = (case.random(&affine), case.random(&affine));
    let (x, dy) = (series(&mut case, "x", &map, 3, 0.0), series(&mut case, "dy", &map, 3, 0.0));
    let mut row_sums = Vec::new();
    for (t, (x, dy)) in x.into_iter().zip(dy).enumerate() {
        let out = case.graph.node(op, &[x, gamma, beta], "y", "op", t);
        row_sums.push(case.graph.node(NormDInput(op), &[x, out[1], gamma, dy, out[0]], "dx", "op", t)[1]);
    }
    let affine = NormDAffine { map: [map[0], map[1], map[2]], per_channel: op.per_channel };
    let d = case.node(affine, &row_sums);
    case.want("d_gamma", d[0]);
    case.want("d_beta", d[1]);
    case.finished()
}

/// Which x belongs to which of the steps of dy: x that stand in order are one stretch of memory, x that serve two steps
/// end one.
const FOLDS: [(&str, &[usize]); 3] =
    [("1 stretch", &[0, 1, 2]), ("2 stretches", &[0, 0, 1, 2]), ("3 stretches", &[1, 1, 1])];

/// A weight gradient over timesteps.
fn folded(
    name: &str,
    op: impl Into<crate::ops::Op>,
    (x, dy): (&[usize], &[usize]),
    steps: &[usize],
    below: f32,
) -> Case {
    let op = op.into();
    let stride = op.label(&[x, dy], &op.output_shapes(&[x, dy]).iter().map(Vec::as_slice).collect::<Vec<_>>());
    let mut case = Case::new("fused", &format!("{}{stride} over {} steps in {name}", op.name(), steps.len()));
    let (x, dy) = (series(&mut case, "x", x, steps.len(), below), series(&mut case, "dy", dy, steps.len(), below));
    let inputs: Vec<ValueId> = steps.iter().map(|&t| x[t]).chain(dy).collect();
    let dw = case.node(op, &inputs)[0];
    case.want("dw", dw);
    case.finished()
}

/// The gradient of a bias over timesteps.
fn folded_bias() -> Case {
    let mut case = Case::new("fused", "channel_sum over 3 steps");
    let dy = series(&mut case, "dy", &[5, 5, 7, 33], 3, 0.0);
    let db = case.node(ChannelSum, &dy)[0];
    case.want("db", db);
    case.finished()
}
