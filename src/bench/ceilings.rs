//! What the adapter reaches at best: multiply-adds in registers, and memory streamed in working sets of several sizes. The
//! kernels that measure are verified like all others, and the best of a few settings counts.

use super::measure::{measure, median, submit_seconds};
use super::table::figure;
use crate::gpu::{Gpu, Recording, Store};
use crate::graph::plan::Plan;
use crate::kernels::{BufferSpec, Kernel, Param, Program, Role, Settings, Site, Target, View, align};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Bandwidth in one working set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Bytes of all arrays together.
    pub bytes: u64,
    /// Bytes read and written per second, in 10^9.
    pub gbps: f64,
    /// The kernel that reached it.
    pub kernel: String,
}

/// The adapter's ceilings.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ceilings {
    /// Multiplications and additions per second, in 10^9.
    pub gflops: f64,
    /// The kernel that reached it.
    pub kernel: String,
    /// Its median sample's time over its least: far above 1 where the machine does something else meanwhile.
    pub unrest: f64,
    /// By working set, smallest first.
    pub bandwidth: Vec<Bandwidth>,
    /// An empty submission and the wait for it, microseconds.
    pub submit_us: f64,
    /// A launch of 64 workgroups that do next to nothing and wait for the launch before, microseconds.
    pub dispatch_us: f64,
}

impl Ceilings {
    /// Bytes per second, in 10^9, in a working set of so many bytes: of the smallest measured one that holds it.
    pub fn gbps(&self, bytes: f64) -> f64 {
        let holds = self.bandwidth.iter().find(|b| b.bytes as f64 >= bytes).or(self.bandwidth.last());
        holds.map_or(f64::NAN, |b| b.gbps)
    }

    /// In one sentence, for people.
    pub fn describe(&self) -> String {
        let one = |b: &Bandwidth| format!("{} GB/s in {}", figure(b.gbps), size(b.bytes));
        let bandwidth: Vec<String> = self.bandwidth.iter().map(one).collect();
        let slower = 100.0 * (self.unrest - 1.0);
        let busy = format!(" (at best; {slower:.0} % slower at the median: the machine is busy)");
        let busy = if self.unrest > 1.15 { busy } else { String::new() };
        format!(
            "Ceilings, measured: {} GFLOP/s multiply-adds in registers{busy}; {}; empty submission {:.0} us, dependent launch {:.1} us",
            figure(self.gflops),
            bandwidth.join(", "),
            self.submit_us,
            self.dispatch_us
        )
    }

    /// The least time, in seconds, in which the ceilings allow so many operations on so many bytes.
    pub fn seconds(&self, flops: f64, bytes: f64) -> f64 {
        f64::max(flops / self.gflops, bytes / self.gbps(bytes)) / 1e9
    }
}

/// A number of bytes in KiB or MiB.
pub fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{} KiB", bytes >> 10),
        mib => format!("{mib} MiB"),
    }
}

/// A measuring kernel's program with what it must give.
pub struct Probe {
    /// One launch.
    pub program: Program,
    /// The arrays to be filled, with the number that repeats in them modulo 16.
    inputs: Vec<View>,
    output: View,
    /// Element `i` of the output, exactly.
    expected: Box<dyn Fn(usize) -> f32>,
    /// Operations of a run.
    flops: f64,
    /// Bytes of a run.
    bytes: u64,
}

/// Element `i` of every input array: small whole numbers, so that sums are exact.
fn element(i: usize) -> f32 {
    (i % 16) as f32
}

fn array(program: &mut Program, name: &str, count: usize, role: Role) -> View {
    let (name, bytes, area) = (name.to_string(), align(4 * count as u64), String::new());
    let buffer = program.buffer(BufferSpec { name, bytes, role, area, timestep: None });
    View { buffer, offset: 0, bytes: 4 * count as u64 }
}

/// Turns of the multiply-add loop: some lavapipe versions stop loops beyond 30,000.
const TURNS: usize = 1000;

fn fma_probe(lanes: usize, chains: usize, unroll: usize, groups: usize, turns: usize) -> Result<Probe> {
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
fn fma_probes(target: &Target) -> Result<Vec<Probe>> {
    let groups = if target.cpu { 512 } else { 16_384 };
    let lanes = if target.cpu { 8 } else { 64 };
    [8, 12, 16].into_iter().map(|chains| fma_probe(lanes, chains, 96 / chains, groups, TURNS)).collect()
}

/// The streams through a working set that fit the adapter's bindings and grids.
fn load_probes(target: &Target, working_set: u64) -> Result<Vec<Probe>> {
    let streams = [(SUM, false), (SUM, true), (SCALE, true), (TRIAD, false), (TRIAD, true)];
    let all = streams.into_iter().map(|(kind, vector)| load_probe(kind, vector, 64, 8, working_set));
    let fits = |probe: &Probe| Plan::new(&probe.program, true).fits(&probe.program, target).is_ok();
    all.filter(|probe| probe.as_ref().map_or(true, fits)).collect()
}

/// Bytes of the working sets: from what fits a core's cache to what only memory holds.
fn working_sets(target: &Target) -> Vec<u64> {
    let largest = if target.cpu { 64 << 20 } else { 256 << 20 };
    [256 << 10, 4 << 20, 32 << 20, largest]
        .into_iter()
        .filter(|&b| b / 2 <= target.max_binding.min(target.max_buffer))
        .collect()
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
    pub fn verified(&self, gpu: &Gpu) -> Result<Recording> {
        let plan = Plan::new(&self.program, true);
        plan.fits(&self.program, &gpu.target)?;
        let recording = Recording::new(gpu, &self.program, &plan, &mut Store::default())?;
        for view in &self.inputs {
            let values: Vec<f32> = (0..view.bytes as usize / 4).map(element).collect();
            recording.write(gpu, *view, &values);
        }
        recording.run(gpu);
        let found: Vec<f32> = recording.read(gpu, self.output)?;
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

/// Measures the ceilings in about `seconds`.
///
/// # Errors
/// What the device says; a measuring kernel that computes something wrong.
pub fn ceilings(gpu: &Gpu, seconds: f64) -> Result<Ceilings> {
    let target = &gpu.target;
    let (fma, sets) = (fma_probes(target)?, working_sets(target));
    let each = seconds / (2 * fma.len() + 5 * sets.len()) as f64;
    // The fastest sample counts: a ceiling is what was reached, whatever else ran meanwhile. Also the median.
    let times = |probe: &Probe, seconds: f64| -> Result<(f64, f64)> {
        let samples = measure(gpu, &probe.verified(gpu)?, seconds)?.seconds;
        Ok((samples.iter().copied().fold(f64::INFINITY, f64::min), median(&samples)))
    };
    let (mut gflops, mut kernel, mut unrest) = (0.0, String::new(), 1.0);
    for probe in &fma {
        let (least, middle) = times(probe, 2.0 * each)?;
        let rate = probe.flops / least / 1e9;
        if rate > gflops {
            (gflops, kernel, unrest) = (rate, probe.label(), middle / least);
        }
    }
    let mut bandwidth = Vec::new();
    for set in sets {
        let mut best = Bandwidth { bytes: set, gbps: 0.0, kernel: String::new() };
        for probe in load_probes(target, set)? {
            let gbps = probe.bytes as f64 / times(&probe, each)?.0 / 1e9;
            if gbps > best.gbps {
                best = Bandwidth { bytes: set, gbps, kernel: probe.label() };
            }
        }
        bandwidth.push(best);
    }
    let submit = submit_seconds(gpu, 15)?;
    let nothing = fma_probe(8, 8, 1, 64, 0)?;
    let recording = nothing.verified(gpu)?;
    let times: Vec<f64> = (0..7).map(|_| Ok(recording.time(gpu, 100, None)?.wall)).collect::<Result<_>>()?;
    let dispatch_us = 1e6 * (median(&times) - submit).max(0.0) / 100.0;
    Ok(Ceilings { gflops, kernel, unrest, bandwidth, submit_us: 1e6 * submit, dispatch_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_roof_is_the_lower_of_both_ceilings_in_the_rows_own_working_set() {
        let at = |bytes, gbps| Bandwidth { bytes, gbps, kernel: String::new() };
        let bandwidth = vec![at(1000, 50.0), at(1_000_000, 10.0)];
        let c =
            Ceilings { gflops: 100.0, kernel: String::new(), unrest: 1.0, bandwidth, submit_us: 0.0, dispatch_us: 0.0 };
        assert_eq!((c.gbps(1000.0), c.gbps(1001.0), c.gbps(1e9)), (50.0, 10.0, 10.0));
        assert_eq!(c.seconds(2e11, 1000.0), 2.0); // bound by operations
        assert_eq!(c.seconds(1.0, 1e10), 1.0); // bound by memory
    }
}
