//! What ranks do together that train one network: each computes a shard of every batch, and all make the same update.
//!
//! Every decision that all must take at the same step is made of what all have seen: the loss is that of the whole batch, a
//! signal that one rank was sent stops all after the same step, an evaluation is that of the whole split. The leading rank alone
//! writes. Parameters and moments stay equal, bit by bit, as every rank makes its update of the same sums; that is checked
//! before each checkpoint.

use super::checkpoint::Checkpoint;
use super::run::{Best, Training};
use super::session::{Session, Submitted};
use super::stop::Stop;
use crate::dataset::{Batch, Loader};
use crate::engine::Scores;
use crate::gpu::Gpu;
use crate::hash::fnv1a;
use crate::kernels::choose::Choices;
use crate::network::{MARK, RunConfig};
use crate::ranks::{Ranks, Traffic};
use crate::tensors::Tensors;
use crate::tune::cache;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What the others must know of a run before its checkpoint.
#[derive(Serialize, Deserialize)]
struct Told {
    root: PathBuf,
    config: String,
    resumed: bool,
}

/// Tells the others of a run.
pub(super) async fn tell(
    ranks: &Ranks,
    root: &Path,
    config: &RunConfig,
    resumed: bool,
    start: &Checkpoint,
) -> Result<()> {
    // Complete, as the run's own file is: what it does not say, the run does not do.
    let told = Told { root: root.into(), config: format!("{MARK}{}", config.to_toml()), resumed };
    let told = serde_json::to_vec(&Some(told))
        .map_err(|e| Error::Config(format!("run folder {}: its name is no text: {e}", root.display())))?;
    let (told, checkpoint) = (ranks.broadcast(told), ranks.broadcast(start.to_bytes()?));
    told.await?;
    checkpoint.await?;
    Ok(())
}

/// Tells them that there is none.
pub(super) async fn tell_nothing(ranks: &Ranks) -> Result<()> {
    ranks.broadcast(b"null".to_vec()).await?;
    Ok(())
}

/// What the leading rank tells: folder, configuration, whether the run goes on, and its state.
pub(super) async fn told(ranks: &Ranks) -> Result<Option<(PathBuf, RunConfig, bool, Checkpoint)>> {
    let broken = |what: &str| Error::Config(format!("what the leading rank says of the run cannot be read: {what}"));
    let told = ranks.broadcast(Vec::new()).await?;
    let told: Option<Told> = serde_json::from_slice(&told).map_err(|e| broken(&e.to_string()))?;
    let Some(Told { root, config, resumed }) = told else { return Ok(None) };
    let bytes = ranks.broadcast(Vec::new()).await?;
    let checkpoint = Checkpoint::from_bytes(&bytes).map_err(|e| broken(&e))?;
    Ok(Some((root, RunConfig::parse(&config)?, resumed, checkpoint)))
}

/// What the exchange with other ranks costs this one, from its second step on.
#[derive(Default)]
pub(super) struct Cost {
    /// Steps, the first included.
    steps: u64,
    /// What the first step's sums have cost.
    first: Traffic,
    /// How long it has waited for sums after its own gradients were complete.
    waited: Duration,
    /// How long the first bucket was under way before the last was complete.
    ahead: Duration,
}

impl Training {
    /// Takes over what only the leading rank knows, from its log.
    pub(super) async fn agree(&mut self) -> Result<()> {
        if self.ranks.several() {
            let known = serde_json::to_vec(&(&self.due, self.best)).expect("plain fields");
            let known: (Vec<String>, Option<Best>) = serde_json::from_slice(&self.ranks.broadcast(known).await?)
                .map_err(|e| Error::Config(format!("what the leading rank knows of the run cannot be read: {e}")))?;
            (self.due, self.best) = known;
        }
        Ok(())
    }

    /// The kernel variants of the leading rank, for all: sums then round alike.
    pub(super) async fn same_choices(&self, gpu: &Gpu, choices: Choices) -> Result<Choices> {
        if !self.ranks.several() {
            return Ok(choices);
        }
        let text = cache::to_toml(&cache::Identity::of(&gpu.target), &choices);
        let text = self.ranks.broadcast(text.into_bytes()).await?;
        let rank = self.ranks.rank();
        cache::parse(&String::from_utf8_lossy(&text), &gpu.target).map_err(|what| {
            Error::Gpu(format!(
                "rank {rank}: its adapter {} cannot use the kernel variants of the leading rank's: {what}; ranks of one run need \
                 adapters and drivers of one kind, see --adapter",
                gpu.info.name
            ))
        })
    }
}

impl Session<'_> {
    /// The exit status with which the run is to end, if it is to: what all know of.
    pub(super) fn asked(&self, stop: &Stop) -> Option<u8> {
        if self.run.ranks.several() { self.asked_of_all } else { stop.asked() }
    }

    /// This rank's images of a batch, in parts: those that have pictures of their own. Where the last batch of an epoch leaves a
    /// rank none, it has one part all the same, whose images count nothing, as the others wait for its gradients.
    pub(super) fn mine(&self, batch: &Batch) -> Vec<Batch> {
        let ranks = &self.run.ranks;
        let mut parts = match ranks.several() {
            true => batch.parts(ranks.size()).swap_remove(ranks.rank()).parts(self.engine.parts),
            false => batch.parts(self.engine.parts),
        };
        let filled = parts.iter().take_while(|part| part.n > 0).count();
        parts.truncate(filled.max(1));
        parts
    }

    /// One step: this rank's gradients go to the others bucket by bucket while the rest are computed; the update is that of all
    /// ranks' sums.
    pub(super) async fn step_of_all(&mut self, batch: &Batch, lost: bool) -> Result<Submitted> {
        let parts = self.mine(batch);
        let (ranks, engine) = (&self.run.ranks, &self.engine);
        let (mut scores, mut under_way) = (Vec::new(), Vec::new());
        for (part, batch) in parts.iter().enumerate() {
            self.feed(batch).await?;
            match part + 1 == parts.len() {
                true => under_way = engine.pass_in_buckets(part == 0).await?,
                false => engine.pass_part(part == 0).await?,
            }
            if lost {
                engine.gpu.lose();
            }
            scores.push((batch.n, engine.scores_later()));
        }
        let (mut sums, mut begun) = (Vec::new(), None);
        for bucket in under_way {
            sums.push(ranks.sum(engine.finish_bucket(bucket).await?));
            begun.get_or_insert_with(Instant::now);
        }
        let complete = Instant::now();
        for (bucket, sum) in sums.into_iter().enumerate() {
            engine.feed_bucket(bucket, &sum.await?).await?;
        }
        self.exchange.waited += complete.elapsed();
        self.exchange.ahead += begun.map_or(Duration::ZERO, |begun| complete - begun);
        self.exchange.steps += 1;
        if self.exchange.steps == 1 {
            // The first step waits for drivers that compile.
            self.exchange = Cost { steps: 1, first: ranks.traffic(), ..Cost::default() };
        }
        engine.update();
        Ok(self.submitted(scores))
    }

    /// The scores of all ranks' images, added in the order of the ranks; whether some rank is to stop is told with them.
    pub(super) async fn of_all(&mut self, scores: Scores) -> Result<Scores> {
        if !self.run.ranks.several() {
            return Ok(scores);
        }
        let (first, steps) = (scores.first, scores.loss.len());
        let ends = [scores.images as f64, f64::from(self.stop.asked().unwrap_or(0))];
        let mine: Vec<u8> =
            [&scores.loss[..], &scores.correct, &ends].concat().into_iter().flat_map(f64::to_le_bytes).collect();
        let all = self.run.ranks.gather(mine.clone()).await?;
        let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        let numbers: Vec<f64> = all.chunks_exact(8).map(number).collect();
        let mut sums: Option<Scores> = None;
        for of_rank in numbers.chunks_exact(2 * steps + 2) {
            let (loss, correct) = (of_rank[..steps].to_vec(), of_rank[steps..2 * steps].to_vec());
            let images = of_rank[2 * steps] as usize;
            super::session::add(&mut sums, Scores { first, loss, correct, images });
            let status = of_rank[2 * steps + 1] as u8;
            self.asked_of_all = self.asked_of_all.max((status > 0).then_some(status));
        }
        Ok(sums.expect("a rank at least"))
    }

    /// Scores of no image.
    pub(super) fn no_scores(&self) -> Scores {
        let scores = self.evaluator.compiled.scores;
        Scores { first: scores.first, loss: vec![0.0; scores.steps], correct: vec![0.0; scores.steps], images: 0 }
    }

    /// The batches of a split for this rank, one in each round; in the last round some ranks may have none.
    pub(super) fn rounds(&self, split: &str) -> Result<impl Iterator<Item = Result<Option<Batch>>> + use<>> {
        let (ranks, batch) = (&self.run.ranks, self.evaluator.batch);
        let len = self.run.dataset.len(split)?;
        let mine = (0..len as u32).filter(|id| *id as usize / batch % ranks.size() == ranks.rank());
        let mine: Vec<u32> = mine.collect();
        let loader = Loader::listed(&self.run.dataset, split, &mine, mine.len(), batch, false)?;
        let rounds = len.div_ceil(batch).div_ceil(ranks.size());
        let mine = loader.map(|item| Ok(Some(item?.1)));
        Ok(mine.chain(std::iter::repeat_with(|| Ok(None))).take(rounds))
    }

    /// All ranks must hold the same numbers, or nothing that is saved could be trusted.
    pub(super) async fn check_replicas(&self, step: u64, state: [&Tensors; 3]) -> Result<()> {
        let ranks = &self.run.ranks;
        if !ranks.several() {
            return Ok(());
        }
        let tensors = state.into_iter().flat_map(|tensors| tensors.iter());
        let hashes: Vec<u8> = tensors.flat_map(|(_, t)| fnv1a(bytemuck::cast_slice(&t.values)).to_le_bytes()).collect();
        let all = ranks.gather(fnv1a(&hashes).to_le_bytes().to_vec()).await?;
        match all.chunks_exact(8).position(|of_rank| *of_rank != all[..8]) {
            None => Ok(()),
            Some(rank) => {
                ranks.fail_together();
                Err(Error::Training(format!(
                    "step {step}: rank {rank} holds other parameters than rank 0, although both had the same gradients: nothing \
                     is saved. Adapters and drivers of all ranks must be of one kind; run `recurve check` on each"
                )))
            }
        }
    }

    /// Says what the exchange has cost, where there were two steps at least.
    pub(super) fn tell_traffic(&self) {
        let (ranks, Cost { steps, first, waited, ahead }) = (&self.run.ranks, &self.exchange);
        if *steps < 2 {
            return;
        }
        let (traffic, steps) = (ranks.traffic(), (steps - 1) as f64);
        let ms = |time: Duration| 1e3 * time.as_secs_f64() / steps;
        self.progress.note(&format!(
            "{} ranks: {} buckets of gradients, {:.3} MiB sent by each in a step; {:.1} ms in exchange, the others awaited; the \
             first bucket went {:.1} ms before the last was complete, and {:.1} ms after that all sums were there",
            ranks.size(),
            self.engine.compiled.buckets.len(),
            (traffic.sent - first.sent) as f64 / steps / f64::from(1 << 20),
            ms(traffic.busy.saturating_sub(first.busy)),
            ms(*ahead),
            ms(*waited)
        ));
    }
}
