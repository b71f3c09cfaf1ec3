//! Gradients of the kernels against finite differences of the kernels' own forward pass, on the adapter found, for every
//! operation of the table of cases. Twins and goldens say that the numbers are right; this says that backward belongs to forward,
//! without knowing a derivative.

use pollster::FutureExt;
use recurve::check::case::Case;
use recurve::check::rows::ROWS;
use recurve::gpu::{Gpu, Options};
use recurve::reference::finite_differences::gradient_errors;
use recurve::reference::golden::Results;

/// Half the distance of neighbouring points of the stencil.
const STEP: f32 = 1.0 / 256.0;
/// A gradient that is wrong in one of a thousand components errs by 0.03; rounding of f32 forward passes by less than 1e-4.
const TOLERANCE: f64 = 1e-3;

/// The error of each gradient. The upstream gradient of a loss is what each image counts, which is the last input.
fn errors(gpu: &Gpu, case: &Case) -> Vec<f64> {
    let count = case.wanted.iter().filter(|(name, _)| name.starts_with("d_input")).count();
    let given: Vec<Vec<f32>> = case.inputs.iter().map(|input| input.1.clone()).collect();
    let (differentiable, arriving) = (&given[..count], given.len() - 1);
    let is_loss = case.kind == "softmax_ce";
    let run = |values: &[Vec<f32>], d_y: Option<&[f32]>| -> Results {
        let mut all = given.clone();
        all[..count].clone_from_slice(values);
        if let Some(d_y) = d_y {
            all[arriving] = d_y.to_vec();
        }
        case.run_with(gpu, &all).block_on().unwrap_or_else(|e| panic!("{}: {e}", case.name))
    };
    let result = |values: &[Vec<f32>]| {
        let found = run(values, None);
        if !is_loss {
            return found["y"].clone();
        }
        found["y.1"][..found["y.1"].len() / 2].to_vec()
    };
    let gradients = |values: &[Vec<f32>], d_y: &[f32]| {
        let mut found = run(values, Some(d_y));
        (0..count).map(|i| found.remove(&format!("d_input {i}")).expect("every input has one")).collect()
    };
    gradient_errors(differentiable, STEP, 77, result, gradients)
}

#[test]
fn gradients_belong_to_their_forward_pass() {
    let gpu =
        Gpu::open(&Options { checked: true, ..Options::default() }).block_on().expect("this test needs an adapter");
    let mut forward_only = Vec::new();
    for row in ROWS {
        let cases = row.smooth();
        if cases.is_empty() {
            forward_only.push(row.names()[0]);
        }
        for case in cases {
            let errors = errors(&gpu, &case);
            println!("{}: {errors:?}", case.name);
            assert!(!errors.is_empty() && errors.iter().all(|e| *e < TOLERANCE), "{}: {errors:?}", case.name);
        }
    }
    assert_eq!(
        forward_only,
        ["channel_sum", "normalise", "scale", "accumulate", "clip", "loss_scale", "adam"],
        "no gradient by finite differences"
    );
}
