//! What the adapter reaches at best: multiply-adds in registers, and memory streamed in working sets of several sizes. The
//! kernels that measure are verified like all others, and the best of a few settings counts.

use super::measure::{Reference, figure, measure, measure_in_turn, median, submit_seconds};
use crate::Result;
use crate::check::probes::{fma_probe, fma_probes, load_probes};
use crate::gpu::{Gpu, Recording};
use crate::kernels::Target;
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

/// The adapter's ceilings, and the loop of multiply-adds that is run beside each row.
pub struct Roof {
    /// As they were at the start.
    pub ceilings: Ceilings,
    /// Runs before and after every sample.
    pub reference: Reference,
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

    /// In words, for people: lines of at most 120 characters.
    pub fn describe(&self) -> String {
        let one = |b: &Bandwidth| format!("{} GB/s in {}", figure(b.gbps), size(b.bytes));
        let bandwidth: Vec<String> = self.bandwidth.iter().map(one).collect();
        let slower = 100.0 * (self.unrest - 1.0);
        let busy = format!(" (at best; {slower:.0} % slower at the median: a busy machine)");
        let busy = if self.unrest > 1.15 { busy } else { String::new() };
        format!(
            "Ceilings, measured: {} GFLOP/s multiply-adds in registers{busy};\n  {};\n  empty submission {:.0} us, dependent launch {:.1} us",
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

/// Bytes of the working sets: from what fits a core's cache to what only memory holds.
fn working_sets(target: &Target) -> Vec<u64> {
    let largest = if target.cpu { 64 << 20 } else { 256 << 20 };
    [256 << 10, 4 << 20, 32 << 20, largest]
        .into_iter()
        .filter(|&b| b / 2 <= target.max_binding.min(target.max_buffer))
        .collect()
}

/// The fastest sample: a ceiling is what was reached, whatever else ran meanwhile.
fn least(samples: &[f64]) -> f64 {
    samples.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The loop of multiply-adds that is fastest on this adapter, and what it reached: GFLOP/s, name, and its median sample's time
/// over its least. The candidates take turns, for about `seconds`.
async fn multiply_adds(gpu: &Gpu, seconds: f64) -> Result<(Reference, f64, String, f64)> {
    let probes = fma_probes(&gpu.target)?;
    let mut recordings: Vec<Recording> = Vec::new();
    for probe in &probes {
        recordings.push(probe.verified(gpu).await?);
    }
    let all: Vec<&Recording> = recordings.iter().collect();
    let samples = measure_in_turn(gpu, &all, seconds, None).await?;
    let rate = |i: usize| probes[i].flops / least(&samples[i].seconds) / 1e9;
    let best = (0..probes.len()).max_by(|&a, &b| rate(a).total_cmp(&rate(b))).expect("there are probes");
    let unrest = median(&samples[best].seconds) / least(&samples[best].seconds);
    let (rate, label) = (rate(best), probes[best].label());
    let reference = Reference::new(gpu, recordings.swap_remove(best), probes[best].flops).await?;
    Ok((reference, rate, label, unrest))
}

/// The loop of multiply-adds that is fastest on this adapter, found in about a third of a second.
///
/// # Errors
/// What the device says; a measuring kernel that computes something wrong.
pub async fn reference(gpu: &Gpu) -> Result<Reference> {
    Ok(multiply_adds(gpu, 0.3).await?.0)
}

/// Measures the ceilings in about `seconds`.
///
/// # Errors
/// What the device says; a measuring kernel that computes something wrong.
pub async fn roof(gpu: &Gpu, seconds: f64) -> Result<Roof> {
    let target = &gpu.target;
    let sets = working_sets(target);
    let each = seconds / (6 + 5 * sets.len()) as f64;
    let (reference, gflops, kernel, unrest) = multiply_adds(gpu, 6.0 * each).await?;
    let mut bandwidth = Vec::new();
    for set in sets {
        let mut best = Bandwidth { bytes: set, gbps: 0.0, kernel: String::new() };
        for probe in load_probes(target, set)? {
            let samples = measure(gpu, &probe.verified(gpu).await?, each, None).await?.seconds;
            let gbps = probe.bytes as f64 / least(&samples) / 1e9;
            if gbps > best.gbps {
                best = Bandwidth { bytes: set, gbps, kernel: probe.label() };
            }
        }
        bandwidth.push(best);
    }
    let submit = submit_seconds(gpu, 15).await?;
    let nothing = fma_probe(8, 8, 1, 64, 0)?;
    let recording = nothing.verified(gpu).await?;
    let mut times = Vec::new();
    for _ in 0..7 {
        times.push(recording.time(gpu, 100, None).await?.wall);
    }
    let dispatch_us = 1e6 * (median(&times) - submit).max(0.0) / 100.0;
    let ceilings = Ceilings { gflops, kernel, unrest, bandwidth, submit_us: 1e6 * submit, dispatch_us };
    Ok(Roof { ceilings, reference })
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
