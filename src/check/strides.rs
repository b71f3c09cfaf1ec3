//! Convolutions with stride, launched as an operation would: conv2d, the transposed convolution and the weight gradient in
//! every variant, with strides 2 and 4, kernels below and above the stride, in shapes that divide by nothing else.

use super::twin::sampled_key;
use crate::Result;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::checker;
use crate::graph::plan::Plan;
use crate::kernels::choose::{Choices, ConvOp, Key, Variant, variants};
use crate::kernels::conv::{ConvShape, Site, Start, conv_transpose2d, conv2d};
use crate::kernels::{BufferSpec, Program, Role, Target, View, align};
use crate::reference::golden::{Comparison, Results};
use crate::reference::random::normal;
use crate::reference::sample::{Product, sampled};

/// A convolution in a variant, or in the one that the table chooses.
pub struct Strided {
    key: Key,
    forced: Option<Variant>,
    /// x, then the weight or dy, then what the sums start from: a map, and a value per channel.
    operands: [Vec<f32>; 4],
}

/// All cases for an adapter.
pub fn cases(target: &Target) -> Vec<Strided> {
    let mut list = Vec::new();
    for stride in [2, 4] {
        for k in [1, 3, 5] {
            for (n, tables_only) in [(4, false), (3, true)] {
                let strided = ConvShape::strided(n, 5, 19, [3, 5], k, stride);
                let transposed = ConvShape::transposed(n, 19, 5, [3, 5], k, stride);
                for (op, shape, steps) in [
                    (ConvOp::Conv2d, strided, 1),
                    (ConvOp::ConvTranspose2d, transposed, 1),
                    (ConvOp::Conv2dDWeight, strided, 2),
                ] {
                    let key = Key { op, shape, steps };
                    list.push(Strided::new(key, None));
                    // Splitting is the same with every stride.
                    let once = |v: &Variant| !matches!(v, Variant::Weight(tile) if tile.splits > 1);
                    let all = variants(target, op, k, stride).into_iter().filter(|v| !tables_only && once(v));
                    list.extend(all.map(|variant| Strided::new(key, Some(variant))));
                }
            }
        }
    }
    list
}

/// Values of x, of the weight or dy, and of the result.
fn counts(key: &Key) -> [usize; 3] {
    let ConvShape { n, cin, cout, in_h, in_w, out_h, out_w, k, .. } = key.shape;
    let (x, y, w) = (key.steps * cin * in_h * in_w * n, key.steps * cout * out_h * out_w * n, cout * cin * k * k);
    if key.op == ConvOp::Conv2dDWeight { [x, y, w] } else { [x, w, y] }
}

impl Strided {
    fn new(key: Key, forced: Option<Variant>) -> Strided {
        let [x, second, result] = counts(&key);
        let operands = [(71, x), (72, second), (73, result), (74, key.shape.cout)];
        Strided { key, forced, operands: operands.map(|(seed, count)| normal(seed, count)) }
    }

    /// What is computed.
    pub fn name(&self) -> String {
        self.key.to_string()
    }

    /// The operation and how its variant was chosen.
    pub fn kind(&self) -> String {
        self.forced.map_or("strided".into(), |variant| format!("strided {variant}"))
    }

    /// The launches, where the operands lie, and the result.
    ///
    /// # Errors
    /// When naga refuses the variant.
    pub fn program(&self, target: &Target) -> Result<(Program, [View; 4], View)> {
        let key = &self.key;
        let choices = self.forced.map_or_else(Choices::default, Choices::force);
        let mut program = Program::default();
        let mut buffer = |name: &str, count: usize, role: Role| {
            let (name, area, bytes) = (name.to_string(), String::new(), 4 * count as u64);
            let buffer = program.buffer(BufferSpec { name, bytes: align(bytes), role, area, timestep: None });
            View { buffer, offset: 0, bytes }
        };
        let views = [0, 1, 2, 3].map(|i| buffer("operand", self.operands[i].len(), Role::Input));
        let [x, second, base, bias] = views;
        let out = buffer("result", counts(key)[2], Role::Output);
        let (order, ..) = sampled_key(key);
        let (shape, site) = (&key.shape, Site::of("strided", ""));
        match (choices.variant(target, key), key.op) {
            (variant, ConvOp::Conv2dDWeight) => {
                let step = |i: usize| self.operands[i].len() / key.steps;
                let maps = (x, step(0), second, step(1), key.steps);
                variant.d_weight(&mut program, target, shape, maps, out, site)?;
            }
            (Variant::Conv(tile), op) => {
                let start = Start { base: Some(base), bias: Some(bias), exact: true };
                let run = if op == ConvOp::Conv2d { conv2d } else { conv_transpose2d };
                run(&mut program, target, &tile, shape, (x, second, order, start, out), site)?;
            }
            (Variant::Weight(_), op) => unreachable!("a tile for {op:?}"),
        }
        Ok((program, views, out))
    }

    /// The result on the device.
    ///
    /// # Errors
    /// What the device says.
    pub fn run(&self, gpu: &Gpu) -> Result<Results> {
        let (program, views, out) = self.program(&gpu.target)?;
        let plan = Plan::new(&program, true);
        checker::check(&program, &plan)?;
        plan.fits(&program, &gpu.target)?;
        let recording = Recording::new(gpu, &program, &plan, &mut Store::default())?;
        recording.poison(gpu, &program);
        let used = |view: View| program.launches.iter().any(|l| l.operands.iter().any(|o| o.1.buffer == view.buffer));
        for (view, values) in views.iter().zip(&self.operands).filter(|(view, _)| used(**view)) {
            recording.write(gpu, *view, values);
        }
        recording.run(gpu);
        Ok([("result".to_string(), recording.read(gpu, out)?)].into())
    }

    /// The result by plain loops.
    fn expected(&self) -> Vec<f32> {
        let (_, shape, product) = sampled_key(&self.key);
        let [x, second, base, bias] = &self.operands;
        let operands = match product {
            Product::Forward => (&x[..], &second[..], &[][..]),
            Product::DInput => (&[][..], &second[..], &x[..]),
            Product::DWeight => (&x[..], &[][..], &second[..]),
        };
        let per_channel = base.len() / bias.len();
        let start = |i: usize| match self.key.op {
            ConvOp::Conv2dDWeight => 0.0,
            _ => f64::from(base[i]) + f64::from(bias[i / per_channel]),
        };
        (0..base.len()).map(|i| (sampled(&shape, product, operands, i) + start(i)) as f32).collect()
    }

    /// Tolerance: 1e-5 of the largest value, as for the operations themselves.
    pub fn compare(&self, found: &Results) -> Vec<Comparison> {
        let expected = self.expected();
        let largest = expected.iter().fold(1.0_f64, |m, v| m.max(f64::from(v.abs())));
        vec![Comparison::of("result", &expected, &found["result"], &vec![1e-5 * largest; expected.len()])]
    }
}
