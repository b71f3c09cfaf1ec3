//! The events of `metrics.jsonl`: one JSON object a line, told apart by `event`.

use crate::error::{Error, Result};
use crate::files;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// One line of `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// Training starts, or goes on, after `step` steps.
    Start {
        /// Steps already done: 0 for a new run.
        step: u64,
        /// Seed of the run.
        seed: u64,
        /// Name of the GPU.
        adapter: String,
        /// Its driver and version.
        driver: String,
        /// Bytes that the memory plan announced.
        planned_bytes: u64,
        /// Bytes that were allocated.
        allocated_bytes: u64,
        /// Bytes of host memory for batches read ahead and for what goes to the device and back; 0 in older logs.
        #[serde(default)]
        host_bytes: u64,
        /// Values that the network learns.
        parameters: u64,
        /// Activations that a step packs to f16 for its backward pass, so that gradients are rounded; absent where none is.
        #[serde(default, skip_serializing_if = "is_zero")]
        packed_values: u64,
    },
    /// One training step is done.
    Step {
        /// Its number, from 1.
        step: u64,
        /// Epochs completed before it.
        epoch: u64,
        /// Loss of its batch before the update: mean over pictures, sum over timesteps.
        loss: f64,
        /// Norm of the gradients, all parameters taken together, before they were clipped; absent where they are not, in f32.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grad_norm: Option<f64>,
        /// The loss scale after the step; absent in f32.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        loss_scale: Option<f32>,
        /// Training speed.
        images_per_s: f64,
        /// Wall-clock time since the command began; 0 in older logs.
        #[serde(default)]
        seconds: f64,
    },
    /// A step has changed nothing, as a gradient was not finite in mixed precision.
    Skipped {
        /// Its number.
        step: u64,
        /// Steps that the run has skipped in all.
        skipped: u32,
        /// What the loss scale has fallen to.
        loss_scale: f32,
    },
    /// A whole split was evaluated, or (`train`) an epoch trained on.
    Epoch {
        /// Epochs completed.
        epoch: u64,
        /// Steps done.
        step: u64,
        /// The split.
        split: String,
        /// Mean loss at each timestep; `null` before there are logits.
        loss: Vec<Option<f64>>,
        /// Fraction of pictures classified correctly at each timestep; `null` before there are logits.
        accuracy: Vec<Option<f64>>,
        /// Pictures counted: those of the split; of `train`, those trained on since the epoch or the process began.
        images: u64,
    },
    /// The run has reached the length that it had then; one that is made longer goes on after it.
    End {
        /// Steps done.
        step: u64,
        /// Epochs completed.
        epoch: u64,
        /// Wall-clock time since the last `start`.
        seconds: f64,
    },
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Event {
    /// Steps done at the event.
    pub fn step(&self) -> u64 {
        match *self {
            Event::Start { step, .. }
            | Event::Step { step, .. }
            | Event::Skipped { step, .. }
            | Event::Epoch { step, .. }
            | Event::End { step, .. } => step,
        }
    }

    /// The line, without its end. JSON has no NaN and no infinity, so such a number is refused.
    pub fn to_line(&self) -> Result<String> {
        let finite = match self {
            Event::Start { .. } => true,
            Event::Step { loss, grad_norm, loss_scale, images_per_s, seconds, .. } => {
                loss.is_finite()
                    && grad_norm.is_none_or(f64::is_finite)
                    && loss_scale.is_none_or(f32::is_finite)
                    && images_per_s.is_finite()
                    && seconds.is_finite()
            }
            Event::Epoch { loss, accuracy, .. } => loss.iter().chain(accuracy).flatten().all(|v| v.is_finite()),
            Event::Skipped { loss_scale, .. } => loss_scale.is_finite(),
            Event::End { seconds, .. } => seconds.is_finite(),
        };
        if !finite {
            return Err(Error::Training(format!("a number that is not finite cannot be logged: {self:?}")));
        }
        Ok(serde_json::to_string(self).expect("an event has only plain fields"))
    }

    /// Whether a run that goes on from a checkpoint of `step` keeps this event. What came later is done again; an
    /// earlier attempt that started there has left nothing.
    pub(super) fn survives_resume(&self, step: u64) -> bool {
        match self {
            Event::Start { step: start, .. } => *start < step,
            Event::Step { .. } | Event::Skipped { .. } | Event::Epoch { .. } | Event::End { .. } => self.step() <= step,
        }
    }
}

/// Reads a log. The last line may be torn (the run was killed or the disk was full): it is left out. Any other line
/// that cannot be read is an error.
pub fn read(path: &Path) -> Result<Vec<Event>> {
    Ok(read_lines(path)?.into_iter().map(|(_, event)| event).collect())
}

/// As [`read`], with each event's line as it stands in the file.
pub(super) fn read_lines(path: &Path) -> Result<Vec<(String, Event)>> {
    let bytes = files::read(path, files::LONG_TEXT).map_err(Error::io(path))?;
    let lines = || bytes.split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let last = lines().last().map(|(i, _)| i);
    let mut events = Vec::new();
    for (i, line) in lines() {
        match serde_json::from_slice(line) {
            Ok(event) => events.push((String::from_utf8_lossy(line).into_owned(), event)),
            Err(_) if Some(i) == last => {}
            Err(e) => {
                return Err(Error::Checkpoint(format!(
                    "{}: line {} is no event of a training log: {e}; mend or delete it",
                    path.display(),
                    i + 1
                )));
            }
        }
    }
    Ok(events)
}
