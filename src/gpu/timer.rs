//! Times of submitted work: wall time from submission to completion, and the device's own timestamps where it offers them.

use super::device::Gpu;
use super::recording::{Recording, Step};
use super::rings::{Downloads, Reading, Uploads};
use crate::Result;
use crate::graph::plan::Ring;
use crate::host::processor_seconds;
use std::time::Instant;

/// Queries of one set: WebGPU's limit.
const MOST_QUERIES: usize = 4096;

/// Timestamps before and after compute passes.
pub struct Timer {
    sets: Vec<wgpu::QuerySet>,
    resolved: wgpu::Buffer,
    /// An empty ring.
    uploads: Uploads,
    /// What the timestamps come back through.
    downloads: Downloads,
    /// Seconds per tick.
    period: f64,
}

impl Timer {
    /// A timer for `passes` passes per submission; `None` where the adapter has no timestamps.
    ///
    /// # Errors
    /// Out of memory.
    pub async fn new(gpu: &Gpu, passes: usize) -> Result<Option<Timer>> {
        if !gpu.features.contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let queries = 2 * passes.max(1);
        let sets = (0..queries).step_by(MOST_QUERIES).map(|first| {
            let count = (queries - first).min(MOST_QUERIES) as u32;
            let (label, ty) = (Some("timestamps"), wgpu::QueryType::Timestamp);
            gpu.device.create_query_set(&wgpu::QuerySetDescriptor { label, ty, count })
        });
        let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = gpu.buffer("timestamps", 8 * queries as u64, usage).await?;
        let uploads = Uploads::new(gpu, Ring::default()).await?;
        let downloads = Downloads::new(gpu, &[Ring { bytes: 8 * queries as u64, count: 1 }]).await?;
        let period = f64::from(gpu.queue.get_timestamp_period()) * 1e-9;
        Ok(Some(Timer { sets: sets.collect(), resolved, uploads, downloads, period }))
    }

    fn writes(&self, pass: usize) -> wgpu::ComputePassTimestampWrites<'_> {
        let (set, first) = (2 * pass / MOST_QUERIES, (2 * pass % MOST_QUERIES) as u32);
        wgpu::ComputePassTimestampWrites {
            query_set: &self.sets[set],
            beginning_of_pass_write_index: Some(first),
            end_of_pass_write_index: Some(first + 1),
        }
    }

    /// Begin and end of the passes of the last submission, seconds from the first begin.
    async fn read(&self, gpu: &Gpu, passes: usize) -> Result<Vec<[f64; 2]>> {
        let queries = 2 * passes;
        self.uploads.submit(gpu, |encoder| {
            for (i, set) in self.sets.iter().enumerate().take(queries.div_ceil(MOST_QUERIES)) {
                let count = (queries - i * MOST_QUERIES).min(MOST_QUERIES) as u32;
                encoder.resolve_query_set(set, 0..count, &self.resolved, (8 * i * MOST_QUERIES) as u64);
            }
        });
        let from = (&self.resolved, 0, 8 * queries as u64);
        let ticks: Vec<u64> = Reading::start(gpu, from, &self.uploads, &self.downloads).finish(gpu).await?;
        let seconds = |t: u64| t.wrapping_sub(ticks[0]) as i64 as f64 * self.period;
        Ok(ticks.chunks_exact(2).map(|pair| [seconds(pair[0]), seconds(pair[1])]).collect())
    }
}

/// Times of one submission, seconds.
#[derive(Clone, Debug)]
pub struct Timing {
    /// From the call to the device's answer that it is done: encoding and submission included.
    pub wall: f64,
    /// By the host alone, to encode and submit.
    pub host: f64,
    /// Processor time of all threads of this process meanwhile, the driver's among them; `None` where the system is not asked.
    pub processor: Option<f64>,
    /// Begin and end of each compute pass by the device's clock, from the first begin; `None` without timestamps.
    pub passes: Option<Vec<[f64; 2]>>,
}

impl Recording {
    /// Runs all launches `repeats` times in one compute pass, and waits.
    ///
    /// # Errors
    /// A lost device.
    pub async fn time(&self, gpu: &Gpu, repeats: usize, timer: Option<&Timer>) -> Result<Timing> {
        self.flush(gpu);
        let steps: Vec<&Step> = (0..repeats).flat_map(|_| &self.steps).collect();
        timed(gpu, &[&steps], timer).await
    }

    /// Runs all launches once, each in a compute pass of its own, and waits.
    ///
    /// # Errors
    /// A lost device.
    pub async fn time_passes(&self, gpu: &Gpu, timer: Option<&Timer>) -> Result<Timing> {
        self.flush(gpu);
        let steps: Vec<[&Step; 1]> = self.steps.iter().map(|step| [step]).collect();
        let passes: Vec<&[&Step]> = steps.iter().map(|step| &step[..]).collect();
        timed(gpu, &passes, timer).await
    }

    /// Wall time of each launch alone, in seconds: the least of `repeats` runs, each submitted and waited for. The cost of
    /// submitting is in every figure.
    ///
    /// # Errors
    /// A lost device.
    pub async fn time_launches(&self, gpu: &Gpu, repeats: usize) -> Result<Vec<f64>> {
        self.flush(gpu);
        let mut least = vec![f64::INFINITY; self.steps.len()];
        for _ in 0..repeats {
            for (step, least) in self.steps.iter().zip(&mut least) {
                *least = least.min(timed(gpu, &[&[step]], None).await?.wall);
            }
        }
        Ok(least)
    }
}

/// Wall time of an empty submission, seconds.
///
/// # Errors
/// A lost device.
pub async fn time_nothing(gpu: &Gpu) -> Result<f64> {
    Ok(timed(gpu, &[&[]], None).await?.wall)
}

async fn timed(gpu: &Gpu, passes: &[&[&Step]], timer: Option<&Timer>) -> Result<Timing> {
    let (start, processor) = (Instant::now(), processor_seconds());
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    for (i, steps) in passes.iter().enumerate() {
        let timestamp_writes = timer.map(|timer| timer.writes(i));
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: None, timestamp_writes });
        steps.iter().for_each(|step| step.encode(&mut pass));
    }
    gpu.queue.submit([encoder.finish()]);
    let host = start.elapsed().as_secs_f64();
    gpu.wait().await?;
    let wall = start.elapsed().as_secs_f64();
    let processor = processor_seconds().zip(processor).map(|(now, then)| now - then);
    let passes = match timer {
        Some(timer) => Some(timer.read(gpu, passes.len()).await?),
        None => None,
    };
    Ok(Timing { wall, host, processor, passes })
}
