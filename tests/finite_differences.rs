//! Gradients of the kernels against finite differences of the kernels' own forward pass, on the adapter found. Twins and
//! goldens say that the numbers are right; this says that backward belongs to forward, without knowing a derivative.

use recurve::check::run::run_case;
use recurve::gpu::{Gpu, Options};
use recurve::kernels::choose::Choices;
use recurve::reference::conv_transpose2d::ConvTranspose2d;
use recurve::reference::conv2d::Conv2d;
use recurve::reference::finite_differences::gradient_errors;
use recurve::reference::golden::{Op, OpCase, Results};
use recurve::reference::linear::Linear;
use recurve::reference::mix::Interaction;
use recurve::reference::norm::{Norm, NormKind};
use recurve::reference::random::normal;
use recurve::reference::softmax_ce::SoftmaxCe;
use recurve::reference::{ImageShape, Tensor};
use std::collections::BTreeMap;

/// Half the distance of neighbouring points of the stencil.
const STEP: f32 = 1.0 / 256.0;
/// A gradient that is wrong in one of a thousand components errs by 0.03; rounding of f32 forward passes by less than 1e-4.
const TOLERANCE: f64 = 1e-3;

/// Named inputs with their shapes.
type Inputs = Vec<(&'static str, Vec<usize>, Vec<f32>)>;

fn random(seed: u64, shape: &[usize], scale: f32) -> Vec<f32> {
    normal(seed, shape.iter().product()).iter().map(|v| v * scale).collect()
}

fn run(gpu: &Gpu, op: &Op, names: &Inputs, values: &[Vec<f32>], labels: &[usize], gy: &[f32]) -> Results {
    let tensor = |shape: &[usize], values: &[f32]| Tensor { shape: shape.to_vec(), values: values.to_vec() };
    let mut inputs: BTreeMap<String, Tensor> = BTreeMap::new();
    for ((name, shape, _), values) in names.iter().zip(values) {
        inputs.insert(name.to_string(), tensor(shape, values));
    }
    inputs.insert("gy".into(), tensor(&output_shape(op, names), gy));
    let (name, data, labels, expected) = (String::new(), String::new(), labels.to_vec(), BTreeMap::new());
    let case = OpCase { name, op: *op, data, inputs, labels, expected };
    run_case(gpu, &case, Choices::TABLE).expect("the device answers")
}

fn output_shape(op: &Op, inputs: &Inputs) -> Vec<usize> {
    let x = &inputs[0].1;
    let four = |s: ImageShape| vec![s.n, s.c, s.h, s.w];
    match op {
        Op::Conv2d(s) => four(s.output()),
        Op::ConvTranspose2d(s) => four(s.output()),
        Op::Linear(s) => vec![s.n, s.outputs],
        Op::MaxPool(s) => vec![s.n, s.c, s.h / 2, s.w / 2],
        Op::AvgPool(s) => vec![s.n, s.c],
        _ => x.clone(),
    }
}

#[test]
fn gradients_belong_to_their_forward_pass() {
    let gpu = Gpu::open(&Options { adapter: None, checked: true }).expect("this test needs an adapter");
    let map = ImageShape::new(3, 4, 5, 6);
    let four = vec![map.n, map.c, map.h, map.w];
    let count = map.len();
    // Away from kinks by more than the stencil reaches.
    let bounded: Vec<f32> = random(1, &four, 1.0).iter().map(|x| x + 0.05_f32.copysign(*x)).collect();
    let distinct: Vec<f32> = (0..count).map(|i| (i * 7919 % count) as f32 * 0.0625 - 5.0).collect();
    let mut cases: Vec<(&str, Op, Inputs)> = Vec::new();
    for k in [1, 3, 5] {
        let s = Conv2d { n: 3, c_in: 4, c_out: 5, h: 5, w: 6, k, stride: 1 };
        let (w, scale) = (vec![5, 4, k, k], 0.5 / k as f32);
        let inputs = vec![
            ("x", four.clone(), random(2, &four, 1.0)),
            ("w", w.clone(), random(3, &w, scale)),
            ("b", vec![5], random(4, &[5], 1.0)),
        ];
        cases.push(("conv2d", Op::Conv2d(s), inputs));
        let s = ConvTranspose2d { n: 3, c_in: 4, c_out: 5, h: 5, w: 6, k, stride: 2 };
        let w = vec![4, 5, k, k];
        let inputs = vec![
            ("x", four.clone(), random(5, &four, 1.0)),
            ("w", w.clone(), random(6, &w, scale)),
            ("b", vec![5], random(7, &[5], 1.0)),
        ];
        cases.push(("conv_transpose2d", Op::ConvTranspose2d(s), inputs));
    }
    let (x, w) = (vec![5, 12], vec![7, 12]);
    let inputs = vec![
        ("x", x.clone(), random(8, &x, 1.0)),
        ("w", w.clone(), random(9, &w, 0.3)),
        ("b", vec![7], random(10, &[7], 1.0)),
    ];
    cases.push(("linear", Op::Linear(Linear { n: 5, inputs: 12, outputs: 7 }), inputs));
    for (kind, affine) in [
        (NormKind::Layer, vec![map.c, map.h, map.w]),
        (NormKind::Group { groups: 1 }, vec![map.c]),
        (NormKind::Group { groups: 2 }, vec![map.c]),
    ] {
        let inputs = vec![
            ("x", four.clone(), random(11, &four, 2.0)),
            ("w", affine.clone(), random(12, &affine, 1.0)),
            ("b", affine.clone(), random(13, &affine, 1.0)),
        ];
        cases.push(("norm", Op::Norm(Norm { shape: map, kind }), inputs));
    }
    cases.push(("relu", Op::Relu, vec![("x", four.clone(), bounded)]));
    cases.push(("max_pool", Op::MaxPool(map), vec![("x", four.clone(), distinct)]));
    cases.push(("avg_pool", Op::AvgPool(map), vec![("x", four.clone(), random(14, &four, 1.0))]));
    for kind in [Interaction::Additive, Interaction::Multiplicative] {
        for names in [&["b"][..], &["b", "l"], &["b", "t"], &["b", "l", "t"]] {
            let inputs = names.iter().enumerate();
            let inputs = inputs.map(|(i, &name)| (name, four.clone(), random(15 + i as u64, &four, 1.0))).collect();
            cases.push(("mix", Op::Mix(kind), inputs));
        }
    }

    for (name, op, inputs) in &cases {
        let values: Vec<Vec<f32>> = inputs.iter().map(|i| i.2.clone()).collect();
        let zeros = vec![0.0; output_shape(op, inputs).iter().product()];
        let errors = gradient_errors(
            &values,
            STEP,
            77,
            |values| run(&gpu, op, inputs, values, &[], &zeros)["y"].clone(),
            |values, gy| {
                let mut found = run(&gpu, op, inputs, values, &[], gy);
                inputs.iter().map(|i| found.remove(&format!("g{}", i.0)).expect("every input has one")).collect()
            },
        );
        println!("{name}: {errors:?}");
        assert!(errors.iter().all(|e| *e < TOLERANCE), "{name} {op:?}: {errors:?}");
    }

    // The loss has no upstream gradient: it is where gradients start.
    let (n, classes) = (4, 6);
    let inputs: Inputs = vec![("z", vec![n, classes], random(20, &[n, classes], 1.0))];
    let labels = [0, 5, 2, 2];
    let op = Op::SoftmaxCe(SoftmaxCe { n, classes });
    let values = vec![inputs[0].2.clone()];
    let errors = gradient_errors(
        &values,
        STEP,
        78,
        |values| run(&gpu, &op, &inputs, values, &labels, &[])["loss"].clone(),
        |values, gy| {
            let gz = run(&gpu, &op, &inputs, values, &labels, &[]).remove("gz").expect("of the logits");
            vec![gz.iter().map(|g| g * gy[0]).collect()]
        },
    );
    println!("softmax_ce: {errors:?}");
    assert!(errors[0] < TOLERANCE, "softmax_ce: {errors:?}");
}
