//! The ladder of `docs/kernels.md`: one convolution, from the plainest kernel that is right to the fastest, each rung one
//! step that a writer of kernels takes. All but the first are variants of the engine's own kernels.

use super::run::{image_first, image_last};
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::choose::{ConvOp, tile};
use crate::kernels::conv::{ConvShape, Outputs, Source, Start, Tile, WeightOrder, Winograd, conv2d};
use crate::kernels::{BufferSpec, Program, Role, Settings, Site, Target, View, align};
use crate::reference::random::normal;
use crate::reference::sample::{Product, Sampled, positions, sampled};
use crate::{Error, Result};

/// Largest error relative to the largest result.
pub const TOLERANCE: f64 = 1e-4;

/// The rungs that a shape has at most, from the first on: names, and what each does that the one before does not.
pub const RUNGS: [(&str, &str); 7] = [
    ("plain", "an invocation for each output"),
    ("vectors", "images innermost, in vectors"),
    ("rows", "several rows an invocation"),
    ("channels", "several channels an invocation"),
    ("broadcast", "weights shared by the workgroup"),
    ("f2", "Winograd's method, 2 x 2 tiles"),
    ("f4", "Winograd's method, 4 x 4 tiles"),
];

/// One rung.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rung {
    /// See [`RUNGS`].
    pub name: &'static str,
    /// See [`RUNGS`].
    pub step: &'static str,
    /// The variant; the first rung is a kernel of its own.
    pub tile: Option<Tile>,
}

/// The rungs for an adapter and a shape. Steps that it cannot take are left out: Winograd's method beyond the kernel sizes
/// that have transforms, a tile that is the one before.
pub fn rungs(target: &Target, shape: &ConvShape) -> Vec<Rung> {
    // What the table chooses without Winograd's method is where the direct rungs lead.
    let direct = tile(target, ConvOp::Conv2d, shape);
    let uniform = Tile { source: Source::Uniform, ..direct };
    let transformed = |outputs: Outputs| {
        let tiles = Winograd::new(outputs, shape)?.tiles();
        let products = tile(target, ConvOp::Conv2d, &ConvShape::same(1, shape.cin, shape.cout, 1, tiles, 1));
        let tile = Tile { winograd: Some(outputs), ..products };
        Winograd::of(&tile, shape, target).map(|_| tile)
    };
    let tiles = [
        Some(Tile { r: 1, nv: 1, ..uniform }),
        Some(Tile { r: 1, ..uniform }),
        Some(uniform),
        Some(direct),
        transformed(Outputs::Two),
        transformed(Outputs::Four),
    ];
    let (name, step) = RUNGS[0];
    let mut rungs = vec![Rung { name, step, tile: None }];
    for ((name, step), tile) in RUNGS[1..].iter().zip(tiles) {
        if tile.is_some() && rungs.last().is_none_or(|before| before.tile != tile) {
            rungs.push(Rung { name, step, tile });
        }
    }
    rungs
}

/// A convolution's operands in the engine's order, and some of its results by plain loops.
pub struct Task {
    shape: ConvShape,
    x: Vec<f32>,
    w: Vec<f32>,
    /// Where in the result, and the value there.
    expected: Vec<(usize, f64)>,
}

impl Task {
    /// A convolution of random numbers; with `all`, every result is known, else a sample.
    pub fn new(shape: ConvShape, all: bool) -> Task {
        let ConvShape { n, cin, cout, in_h, in_w, out_h, out_w, k, stride } = shape;
        let (x, w) = (normal(1, cin * in_h * in_w * n), normal(2, cout * cin * k * k));
        let extents = Sampled { n, cin, cout, in_h, in_w, out_h, out_w, k, stride };
        let count = cout * out_h * out_w * n;
        let places: Vec<usize> = if all { (0..count).collect() } else { positions(count).collect() };
        let one = |i| (i, sampled(&extents, Product::Forward, (&x, &w, &[]), i));
        let expected = places.into_iter().map(one).collect();
        Task { shape, x, w, expected }
    }

    /// Makes one expected result wrong: for tests of the comparison.
    pub fn spoil(&mut self) {
        let middle = self.expected.len() / 2;
        self.expected[middle].1 += 1.0;
    }

    /// Largest difference of a result to plain loops, relative to the largest; infinite for NaN.
    fn error(&self, result: &[f32]) -> f64 {
        let (mut worst, mut largest) = (0.0, f64::MIN_POSITIVE);
        for &(i, expected) in &self.expected {
            let error = (expected - f64::from(result[i])).abs();
            worst = f64::max(worst, if error.is_nan() { f64::INFINITY } else { error });
            largest = largest.max(expected.abs());
        }
        worst / largest
    }
}

/// A rung that is on the device and gave the right result.
pub struct Verified {
    /// Can be timed.
    pub recording: Recording,
    /// Its launches.
    pub program: Program,
    /// Largest difference to plain loops, relative to the largest result.
    pub error: f64,
    /// What it gave, in the engine's order.
    pub result: Vec<f32>,
}

impl Rung {
    /// Its launches, and where x, w and y lie.
    ///
    /// # Errors
    /// When naga refuses the variant.
    pub fn program(&self, target: &Target, shape: &ConvShape) -> Result<(Program, [View; 3])> {
        let ConvShape { n, cin, cout, in_h, in_w, out_h, out_w, k, .. } = *shape;
        let count = cout * out_h * out_w * n;
        let mut program = Program::default();
        let mut array = |name: &str, count: usize, role: Role| {
            let (name, bytes, area) = (name.to_string(), align(4 * count as u64), String::new());
            let buffer = program.buffer(BufferSpec { name, bytes, role, area, timestep: None });
            View { buffer, offset: 0, bytes: 4 * count as u64, half: false }
        };
        let x = array("x", cin * in_h * in_w * n, Role::Input);
        let w = array("w", cout * cin * k * k, Role::Input);
        let y = array("y", count, Role::Output);
        let site = Site::of("ladder", "");
        match &self.tile {
            Some(tile) => {
                let order = WeightOrder::out_first(cin, k);
                conv2d(&mut program, target, tile, shape, (x, w, order, Start::default(), y), site)?;
            }
            None => {
                const LANES: usize = 64;
                let settings = Settings::new().set("L", LANES as u32);
                let params = [("cin", cin), ("cout", cout), ("h", in_h), ("w", in_w), ("k", k), ("count", count)];
                let params = params.map(|(name, value)| (name, value.into()));
                let groups = count.div_ceil(LANES);
                let operands = [("x", x), ("w", w), ("y", y)];
                program.add(target, ("ladder_plain", settings), &operands, &params, [groups, 1, 1], site)?;
            }
        }
        Ok((program, [x, w, y]))
    }

    /// Puts the rung on the device, runs it once and compares.
    ///
    /// # Errors
    /// What does not fit the adapter or the driver refuses; a result that is wrong.
    pub async fn verified(&self, gpu: &Gpu, task: &Task) -> Result<Verified> {
        let (program, [x, w, y]) = self.program(&gpu.target, &task.shape)?;
        let plan = Plan::new(&program, true);
        plan.fits(&program, &gpu.target)?;
        let recording = Recording::new(gpu, &program, &plan, &mut Store::default()).await?;
        // PyTorch's order has the images outermost.
        let plain = self.tile.is_none();
        let operand = if plain { image_first(&task.x, task.shape.n) } else { task.x.clone() };
        recording.write(gpu, x, &operand);
        recording.write(gpu, w, &task.w);
        recording.write(gpu, y, &vec![f32::NAN; y.bytes as usize / 4]); // what is not written shows
        recording.poison(gpu, &program);
        recording.run(gpu);
        let result: Vec<f32> = recording.read(gpu, y).await?;
        let result = if plain { image_last(&result, task.shape.n) } else { result };
        let error = task.error(&result);
        if error > TOLERANCE {
            let name = self.name;
            return Err(Error::Gpu(format!(
                "{name}: wrong result, relative error {error:.1e} (allowed {TOLERANCE:.0e})"
            )));
        }
        Ok(Verified { recording, program, error, result })
    }
}

/// The shape in which rungs are checked: it fills no tile.
pub const CHECKED: ConvShape =
    ConvShape { n: 4, cin: 5, cout: 19, in_h: 5, in_w: 7, out_h: 5, out_w: 7, k: 3, stride: 1 };
/// The shape that is climbed unless another is asked for: large enough for every rung, small enough for the first.
pub const CLIMBED: ConvShape =
    ConvShape { n: 8, cin: 128, cout: 128, in_h: 16, in_w: 16, out_h: 16, out_w: 16, k: 3, stride: 1 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_another_variant() {
        let lavapipe = Target { cpu: true, subgroup: 8, driver: "llvmpipe".into(), ..Target::minimum() };
        let gpu = Target { subgroup: 32, ..Target::minimum() };
        for target in [&lavapipe, &gpu] {
            let found = rungs(target, &CLIMBED);
            let names: Vec<&str> = found.iter().map(|rung| rung.name).collect();
            assert_eq!(names, RUNGS.map(|(name, _)| name), "{}", target.driver);
            for pair in found.windows(2) {
                assert_ne!(pair[0].tile, pair[1].tile, "{} and {}", pair[0].name, pair[1].name);
            }
        }
        // Where lanes cannot exchange values, the last direct tile is the one before; large kernels have no transforms.
        let narrow = Target { cpu: true, ..Target::minimum() };
        let names = |shape: &ConvShape| rungs(&narrow, shape).iter().map(|rung| rung.name).collect::<Vec<_>>();
        assert!(!names(&CLIMBED).contains(&"broadcast"), "{:?}", names(&CLIMBED));
        let large = ConvShape { k: 7, ..CLIMBED };
        assert!(!names(&large).contains(&"f2") && names(&large).contains(&"channels"), "{:?}", names(&large));
    }
}
