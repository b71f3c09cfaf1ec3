//! Where a number first stopped being finite: the steps since the state that the host holds are repeated, which gives the same
//! bits, and the last ones launch by launch.

use super::session::Session;
use crate::dataset::Loader;
use crate::engine::NotFinite;
use crate::ops::LossScale;
use crate::{Error, Result};

impl Session<'_> {
    /// The first number that is not finite up to the evaluation after `step`, in words; none where the repetition met none. The
    /// device is left in the state of the repetition.
    ///
    /// # Errors
    /// What the device or the data say.
    pub(super) async fn suspect(&mut self, step: u64) -> Result<Option<String>> {
        let held = self.run.held.checkpoint.clone();
        self.engine.set_parameters(&held.parameters)?;
        self.engine.set_moments(&held.adam_m, &held.adam_v)?;
        self.engine.set_loss_scale(held.state.loss_scale.unwrap_or(LossScale::INITIAL));
        let (config, total) = (self.run.config.clone(), self.run.total_steps());
        let training = &config.training;
        let (split, batches) = (&config.data.train_split, training.batches());
        let mut loader = Loader::train(&self.run.dataset, split, &batches, held.state.step)?;
        let mut last = None;
        for now in held.state.step + 1..=step {
            let (_, batch) = loader.next().expect("training batches never end")?;
            // A step's loss is that before its update, which may be what went wrong.
            if now + 1 < step {
                for (images, reading) in self.step(&batch, now, total).await?.scores {
                    self.engine.finish_scores(reading, images).await?;
                }
                continue;
            }
            self.set_hyper(now, total).await?;
            for (part, batch) in self.mine(&batch).iter().enumerate() {
                self.feed(batch).await?;
                self.engine.set_part(part == 0).await?;
                if let Some(found) = self.engine.first_not_finite(false).await? {
                    return Ok(Some(in_step(now, &found)));
                }
            }
            if let Some(found) = self.engine.first_not_finite(true).await? {
                return Ok(Some(in_step(now, &found)));
            }
            last = Some(batch);
        }
        // Training came through: the updated network is what is tried before it is saved, and evaluated.
        let split = &config.data.eval_split;
        let tried = last.iter().flat_map(|batch| self.mine(batch)).map(Ok);
        let evaluated = Loader::eval(&self.run.dataset, split, self.evaluator.batch)?.map(|item| Ok(item?.1));
        for batch in tried.chain(evaluated) {
            let batch = batch?;
            if self.forward(&batch).await?.total_loss().is_finite() {
                continue;
            }
            if let Some(found) = self.evaluator.first_not_finite(false).await? {
                return Ok(Some(format!("{found}, in the forward pass after step {step}")));
            }
        }
        Ok(None)
    }

    /// What is added to the error of a run that has diverged.
    pub(super) async fn explained(&mut self, error: Error, step: u64) -> Error {
        let Error::Training(said) = error else { return error };
        let found = match self.suspect(step).await {
            Ok(Some(found)) => format!("The first number that is not finite, when repeated with checks: {found}."),
            Ok(None) => "Repeated with checks, every number was finite: run `recurve check` on this adapter.".into(),
            Err(error) => format!("It could not be repeated with checks: {error}."),
        };
        Error::Training(format!("{said}. {found}"))
    }
}

fn in_step(step: u64, found: &NotFinite) -> String {
    format!("{found}, in step {step}")
}
