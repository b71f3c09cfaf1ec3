//! The kernels that measure an adapter's ceilings, with the results that they must give.

use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::{BufferSpec, Kernel, Param, Program, Role, Settings, Site, Target, View, align};
use crate::{Error, Result};

/// A measuring kernel's program with what it must give.
pub struct Probe {
    /// The launch that is measured.
    pub program: Program,
    /// The arrays to be filled, with the number that repeats in them modulo 16.
    inputs: Vec<View>,
    output: View,
    /// Element `i` of the output, exactly.
    expected: Box<dyn Fn(usize) -> f32>,
    /// Operations of a run.
    pub flops: f64,
    /// Bytes of a run.
    pub bytes: u64,
}

/// Element `i` of every input array: small whole numbers, so that sums are exact.
fn element(i: usize) -> f32 {
    (i % 16) as f32
}

fn array(program: &mut Program, name: &str, count: usize, role: Role) -> View {
    let (name, bytes, area) = (name.to_string(), align(4 * count as u64), String::new());
    let buffer = program.buffer(BufferSpec { name, bytes, role, area, timestep: None });
    View { buffer, offset: 0, bytes: 4 * count as u64, half: false }
}

/// Turns of the multiply-add loop: some lavapipe versions stop loops beyond 30,000.
const TURNS: usize = 1000;

/// Chains of dependent multiply-adds in registers, `groups` groups of `lanes` lanes with so many chains each: `turns` turns of a loop
/// of `unroll` links.
///
/// # Errors
/// A variant that naga refuses.
pub fn fma_probe(lanes: usize, chains: usize, unroll: usize, groups: usize, turns: usize) -> Result<Probe> {
    let settings = Settings::new().set("L", lanes as u32).set("CHAINS", chains as u32).set("UNROLL", unroll as u32);
    let kernel = Kernel::new("bench_fma", &settings)?;
    let mut program = Program::default();
    let output = array(&mut program, "y", groups * lanes, Role::Output);
    let params: &[(&str, Param)] = &[("turns", turns.into()), ("a", 1.0.into()), ("b", 1.0.into())];
    program.launch(&kernel, &[("y", output)], params, [groups, 1, 1], Site::of("multiply-adds", ""));
    let links = turns * unroll;
    let expected = move |i: usize| (0..chains).map(|c| (i % 16 + c + links) as f32).sum();
    let flops = 2.0 * (groups * lanes * chains * links) as f64;
    Ok(Probe { program, inputs: Vec::new(), output, expected: Box::new(expected), flops, bytes: output.bytes })
}

/// The three streams.
const SUM: &str = "SUM";
const SCALE: &str = "";
const TRIAD: &str = "TRIAD";

fn load_probe(kind: &'static str, vector: bool, lanes: usize, unroll: usize, working_set: u64) -> Result<Probe> {
    let arrays = match kind {
        SUM => 1,
        SCALE => 2,
        _ => 3,
    };
    let width = if vector { 4 } else { 1 };
    let per_group = lanes * unroll * width;
    let groups = (working_set as usize / (4 * arrays * per_group)).max(1);
    let count = groups * per_group;
    let mut settings = Settings::new().set("L", lanes as u32).set("UNROLL", unroll as u32).flag("VECTOR", vector);
    if !kind.is_empty() {
        settings = settings.flag(kind, true);
    }
    let kernel = Kernel::new("bench_load", &settings)?;
    let mut program = Program::default();
    let x = array(&mut program, "x", count, Role::Input);
    let mut inputs = vec![x];
    let written = if kind == SUM { count / unroll } else { count };
    let output = array(&mut program, "y", written, Role::Output);
    let mut operands = vec![("x", x), ("y", output)];
    if kind == TRIAD {
        let z = array(&mut program, "z", count, Role::Input);
        inputs.push(z);
        operands.push(("z", z));
    }
    program.launch(&kernel, &operands, &[("scale", 3.0.into())], [groups, 1, 1], Site::of("stream", ""));
    let expected = move |i: usize| match kind {
        SUM => {
            let (group, lane, component) = (i / (lanes * width), i / width % lanes, i % width);
            let place = |u: usize| ((group * unroll + u) * lanes + lane) * width + component;
            3.0 * (0..unroll).map(|u| element(place(u))).sum::<f32>()
        }
        SCALE => 3.0 * element(i),
        _ => 4.0 * element(i),
    };
    let bytes = inputs.iter().map(|v| v.bytes).sum::<u64>() + output.bytes;
    Ok(Probe { program, inputs, output, expected: Box::new(expected), flops: 0.0, bytes })
}

/// The multiply-add probes: lanes and independent chains that between them suit CPUs and GPUs.
///
/// # Errors
/// A variant that naga refuses.
pub fn fma_probes(target: &Target) -> Result<Vec<Probe>> {
    let groups = if target.cpu { 512 } else { 16_384 };
    let lanes = if target.cpu { 8 } else { 64 };
    [8, 12, 16].into_iter().map(|chains| fma_probe(lanes, chains, 96 / chains, groups, TURNS)).collect()
}

/// The streams through a working set that fit the adapter's bindings and grids.
///
/// # Errors
/// A variant that naga refuses.
pub fn load_probes(target: &Target, working_set: u64) -> Result<Vec<Probe>> {
    let streams = [(SUM, false), (SUM, true), (SCALE, true), (TRIAD, false), (TRIAD, true)];
    let all = streams.into_iter().map(|(kind, vector)| load_probe(kind, vector, 64, 8, working_set));
    let fits = |probe: &Probe| Plan::new(&probe.program, true).fits(&probe.program, target).is_ok();
    all.filter(|probe| probe.as_ref().map_or(true, fits)).collect()
}

/// Every measuring kernel for an adapter, at a small size.
///
/// # Errors
/// A variant that naga refuses.
pub fn probes(target: &Target) -> Result<Vec<Probe>> {
    let mut all = fma_probes(target)?;
    all.extend(load_probes(target, 1 << 20)?);
    Ok(all)
}

impl Probe {
    /// Puts the probe on the device, runs it once and compares every result, which must be exact.
    ///
    /// # Errors
    /// What the device says; a result that is wrong.
    pub async fn verified(&self, gpu: &Gpu) -> Result<Recording> {
        let plan = Plan::new(&self.program, true);
        plan.fits(&self.program, &gpu.target)?;
        let recording = Recording::new(gpu, &self.program, &plan, &mut Store::default()).await?;
        for view in &self.inputs {
            let values: Vec<f32> = (0..view.bytes as usize / 4).map(element).collect();
            recording.write(gpu, *view, &values);
        }
        recording.run(gpu);
        let found: Vec<f32> = recording.read(gpu, self.output).await?;
        match found.iter().enumerate().find(|&(i, &value)| value != (self.expected)(i)) {
            None => Ok(recording),
            Some((i, value)) => {
                let expected = (self.expected)(i);
                Err(Error::Gpu(format!("{}: y[{i}] is {value}, expected {expected}", self.label())))
            }
        }
    }

    /// Name and variant of the kernel.
    pub fn label(&self) -> String {
        self.program.launches[0].kernel.label()
    }
}
