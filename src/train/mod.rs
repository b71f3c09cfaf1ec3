//! The training run: step, checkpoints, metrics, run folder.
