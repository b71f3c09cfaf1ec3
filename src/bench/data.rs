//! `bench data`: how many pictures a second come from a data set, step by step: reading, decoding, augmenting, and batches as
//! training gets them; by one thread, and by as many as training uses. Beside it, what a training step takes.

use super::step::images_per_s;
use crate::dataset::augment::{Scratch, augment};
use crate::dataset::{Augmentation, Batch, Dataset, LastBatch, Loader, Pictures, TrainingBatches, permutation};
use crate::gpu::{Gpu, driver};
use crate::kernels::choose::Choices;
use crate::network::Network;
use crate::{Error, Result};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Pictures that a thread reads at a time; a batch, as far as it is prepared by one thread.
const BATCH: usize = 64;

/// Pictures a second.
#[derive(Clone, Debug, Serialize)]
pub struct Rate {
    /// What is done.
    pub name: &'static str,
    /// By one thread.
    pub per_core: f64,
    /// By as many threads as training uses.
    pub threads: f64,
}

/// The whole.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// The data set.
    pub data: String,
    /// Side of its pictures, in pixels.
    pub image_size: usize,
    /// Training pictures.
    pub pictures: usize,
    /// Threads that prepare batches.
    pub loader_threads: usize,
    /// Reading, decoding (absent where stored pictures need none), augmenting, batches.
    pub rows: Vec<Rate>,
    /// Images a second of a training step.
    pub step_images_per_s: f64,
    /// Images of the step.
    pub step_batch: usize,
    /// The adapter's name.
    pub adapter: String,
    /// Its driver and version.
    pub driver: String,
}

/// Measures the training split of a data set, `seconds` for each figure, and a step of `network` of so many images.
///
/// # Errors
/// Pictures that cannot be read; a network that does not fit.
pub async fn data(
    gpu: &Gpu,
    data: &Arc<dyn Dataset>,
    (network, batch): (&Network, usize),
    seconds: f64,
) -> Result<Figures> {
    let (split, side) = ("train", data.image_size());
    let count = data.len(split)?;
    // In an order like that of training. Each figure begins elsewhere: what was just read would lie in memory.
    let mut begin = 0;
    let order = permutation(count, 0, 1 << 40);
    let picture = |i: u64| order[i as usize % count];
    let chosen = |first: u64| -> Vec<usize> { (0..BATCH as u64).map(|i| picture(first + i)).collect() };

    let mut rows = Vec::new();
    let mut measure = |name: &'static str, work: &(dyn Fn(u64) -> Result<()> + Sync)| -> Result<()> {
        let mut rate = |threads| {
            begin += count as u64 / 10;
            pictures_per_s(threads, seconds, begin, work)
        };
        rows.push(Rate { name, per_core: rate(1)?, threads: rate(Loader::threads())? });
        Ok(())
    };
    if data.stored(split, 0)?.is_some() {
        measure("read", &|first| chosen(first).into_iter().try_for_each(|i| data.stored(split, i).map(drop)))?;
        let of_some: Vec<Vec<u8>> = chosen(0)
            .into_iter()
            .map(|i| data.stored(split, i))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        measure("decode", &|_| of_some.iter().try_for_each(|bytes| data.decode(bytes.clone()).map(drop)))?;
    } else {
        measure("read", &|first| data.read(split, &chosen(first)).map(drop))?;
    }
    let some = data.read(split, &chosen(0))?;
    measure("augment", &|first| {
        let (mut pictures, numbers) = (some.data.clone(), (first as usize..first as usize + BATCH).collect::<Vec<_>>());
        augment(&mut pictures, side, 1, 0, &numbers, &mut Scratch::default());
        Ok(())
    })?;
    let whole = |first: u64| -> Result<()> {
        let chosen = chosen(first);
        let mut pictures = anew(&**data, split, &chosen)?;
        augment(&mut pictures.data, side, 1, 0, &chosen, &mut Scratch::default());
        Batch::new(pictures, BATCH);
        Ok(())
    };
    measure("all", &whole)?;
    let how =
        TrainingBatches { batch: BATCH.min(count), last: LastBatch::Keep, augment: Augmentation::Trivial, seed: 1 };
    let loaded = loaded_per_s(data, split, &how, seconds)?;
    rows.push(Rate { name: "batches of training", per_core: loaded / Loader::threads() as f64, threads: loaded });
    let step_images_per_s = images_per_s(gpu, network, batch, Choices::TABLE, seconds).await?;
    Ok(Figures {
        data: data.name(),
        image_size: side,
        pictures: count,
        loader_threads: Loader::threads(),
        rows,
        step_images_per_s,
        step_batch: batch,
        adapter: gpu.info.name.clone(),
        driver: driver(&gpu.info),
    })
}

/// Pictures of a split, decoded though the data set may have kept them.
fn anew(data: &dyn Dataset, split: &str, chosen: &[usize]) -> Result<Pictures> {
    if data.stored(split, chosen[0])?.is_none() {
        return data.read(split, chosen);
    }
    let labels = data.labels(split)?;
    let mut pictures = Pictures { data: vec![], labels: vec![], n: chosen.len(), side: data.image_size() };
    for &i in chosen {
        let stored = data.stored(split, i)?.unwrap_or_default();
        pictures.data.extend(data.decode(stored)?);
        pictures.labels.push(labels[i]);
    }
    Ok(pictures)
}

/// Pictures a second of `work` on so many threads; it is told at which picture it begins, from `first` on, and does [`BATCH`] of
/// them.
fn pictures_per_s(threads: usize, seconds: f64, first: u64, work: &(dyn Fn(u64) -> Result<()> + Sync)) -> Result<f64> {
    work(first)?;
    let (done, begun) = (AtomicU64::new(first), Instant::now());
    let until = begun + Duration::from_secs_f64(seconds);
    let one = || -> Result<()> {
        loop {
            work(done.fetch_add(BATCH as u64, Ordering::Relaxed))?;
            if Instant::now() >= until {
                return Ok(());
            }
        }
    };
    std::thread::scope(|scope| -> Result<()> {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(one)).collect();
        one()?;
        others.into_iter().try_for_each(|other| {
            other.join().unwrap_or_else(|_| Err(Error::Data("a thread that was measured stopped".into())))
        })
    })?;
    Ok((done.load(Ordering::Relaxed) - first) as f64 / begun.elapsed().as_secs_f64())
}

/// Pictures a second of the loader that training uses, when nothing else is done.
fn loaded_per_s(data: &Arc<dyn Dataset>, split: &str, how: &TrainingBatches, seconds: f64) -> Result<f64> {
    let mut loader = Loader::train(data, split, how, 0)?;
    let mut next = || loader.next().expect("training batches never end");
    next()?;
    let (begun, mut done) = (Instant::now(), 0);
    while done == 0 || begun.elapsed().as_secs_f64() < seconds {
        done += next()?.1.n;
    }
    Ok(done as f64 / begun.elapsed().as_secs_f64())
}
