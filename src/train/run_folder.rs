//! The folder of one run, and how it survives being killed at any moment.
//!
//! ```text
//! RUN/config.toml                       complete: the run can be replayed from it
//!     choices.toml                      which kernel variant serves which shape: the run keeps them
//!     metrics.jsonl                     one event a line
//!     checkpoints/00000500.safetensors  one at each saved step
//!     checkpoint.safetensors            the newest complete one
//!     .lock                             held by the process that trains here
//! ```
//!
//! Every file but the log is written beside its place and renamed, so it is never half there. What belongs to a step is
//! logged first, then `checkpoints/NNNNNNNN` is written, then `checkpoint.safetensors` (the same bytes, so that damage to
//! one file leaves the other), then what the rule `keep` of the configuration does not name is removed. A run killed between
//! any two of these goes on from the newest complete checkpoint, and events after it leave the log, as they will happen
//! again. All of it happens on a thread of its own while the device computes the next steps ([`RunFolder::save_later`]).

use super::checkpoint::{Checkpoint, write_checkpoint_bytes};
use super::metrics::{self, Event};
use crate::error::{Error, Result};
use crate::files::{self, write_atomically};
use crate::network::{Description, Keep, MARK, RunConfig, TrainingConfig};
use crate::parallel;
use serde_json::Value;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A run folder in which this process trains. No second process can meanwhile.
#[derive(Debug)]
pub struct RunFolder {
    root: PathBuf,
    /// `None`: another process writes.
    files: Option<Files>,
}

/// What the process that writes has open.
#[derive(Debug)]
struct Files {
    metrics: File,
    _lock: Lock,
}

/// The file that a running run holds locked.
const LOCK: &str = ".lock";

/// A held lock. It is given back by name: merely closed, it would live on in a copy of the file that a process just
/// being started by another thread still has open.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.unlock().ok(); // closing gives it back too
    }
}

/// A run that goes on.
#[derive(Debug)]
pub struct Resumed {
    /// The folder, locked.
    pub folder: RunFolder,
    /// The run's own configuration.
    pub config: RunConfig,
    /// Where to go on; `None` if the run was stopped before its first checkpoint, so that it starts anew.
    pub checkpoint: Option<Checkpoint>,
    /// What the user should know, for example that a damaged checkpoint was passed over.
    pub warnings: Vec<String>,
    /// The file that the checkpoint was read from.
    pub from: Option<PathBuf>,
}

/// A checkpoint that is being written on a thread of its own, or has been on this one.
#[derive(Debug)]
pub struct Saving {
    step: u64,
    writing: Writing,
}

#[derive(Debug)]
enum Writing {
    Thread(JoinHandle<Result<PathBuf>>),
    Over(Result<PathBuf>),
}

impl Saving {
    /// The steps that the checkpoint stands behind.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Whether it has been written, or has failed.
    pub fn is_over(&self) -> bool {
        match &self.writing {
            Writing::Thread(thread) => thread.is_finished(),
            Writing::Over(_) => true,
        }
    }

    /// Waits for it; gives the numbered file.
    ///
    /// # Errors
    /// What went wrong with it.
    pub fn finish(self) -> Result<PathBuf> {
        match self.writing {
            Writing::Thread(thread) => thread.join().expect("no panic in there"),
            Writing::Over(written) => written,
        }
    }
}

/// The newest usable checkpoint of a run.
#[derive(Debug)]
pub struct Latest {
    /// Its content.
    pub checkpoint: Checkpoint,
    /// Its file.
    pub path: PathBuf,
    /// One sentence for each damaged checkpoint that was passed over.
    pub warnings: Vec<String>,
}

impl RunFolder {
    /// Makes the folder, its parents too, for a new run. Refuses one that holds checkpoints or another's `config.toml`;
    /// what a run left that never came to its first checkpoint is replaced.
    pub fn create(root: &Path, config: &RunConfig) -> Result<RunFolder> {
        config.validate()?;
        let unusable = |e| {
            let root = root.display();
            Error::Checkpoint(format!("run folder {root}: cannot be created or written: {e}; give another --out"))
        };
        std::fs::create_dir_all(root.join("checkpoints")).map_err(unusable)?;
        let lock = lock(root)?;
        if newest_path(root).exists() || !checkpoints(root)?.is_empty() {
            return Err(Error::Checkpoint(format!(
                "run folder {0} already holds a run's checkpoints: go on with it by --resume {0}, or give another --out",
                root.display()
            )));
        }
        match files::read_text(&config_path(root), files::TEXT) {
            Ok(text) if !text.starts_with(MARK) => {
                return Err(Error::Checkpoint(format!(
                    "{}: this file is not from a run and would be overwritten; give another --out",
                    config_path(root).display()
                )));
            }
            _ => {}
        }
        remove_leftovers(root)?;
        write_config(root, config).map_err(unusable)?;
        write_atomically(&metrics_path(root), b"").map_err(unusable)?;
        let files = Some(Files { metrics: open_metrics(root)?, _lock: lock });
        Ok(RunFolder { root: root.to_path_buf(), files })
    }

    /// The folder of a run that another process writes: here nothing is.
    pub fn of_another(root: &Path) -> RunFolder {
        RunFolder { root: root.to_path_buf(), files: None }
    }

    /// Takes the folder of a new run away again, as far as nothing else lies in it.
    pub fn withdraw(self) {
        let RunFolder { root, files } = self;
        drop(files);
        for file in [config_path(&root), metrics_path(&root), root.join(LOCK)] {
            _ = std::fs::remove_file(file);
        }
        _ = std::fs::remove_dir(root.join("checkpoints"));
        _ = std::fs::remove_dir(root);
    }

    /// Opens the folder of a run that is to go on: finds the newest usable checkpoint, makes it
    /// `checkpoint.safetensors`, and takes later events out of the log.
    pub fn resume(root: &Path) -> Result<Resumed> {
        let config = read_config(root)?;
        let lock = lock_soon(root)?;
        remove_leftovers(root)?;
        let latest = latest(root)?;
        if let Some(Latest { checkpoint, path, .. }) = &latest {
            check_same_run(&config, checkpoint, root, path)?;
            if *path != newest_path(root) {
                checkpoint.write(&newest_path(root))?;
            }
        }
        trim_metrics(root, latest.as_ref().map(|l| l.checkpoint.state.step))?;
        std::fs::create_dir_all(root.join("checkpoints")).map_err(Error::io(root.join("checkpoints")))?;
        let files = Some(Files { metrics: open_metrics(root)?, _lock: lock });
        let folder = RunFolder { root: root.to_path_buf(), files };
        let Some(Latest { checkpoint, path, warnings }) = latest else {
            return Ok(Resumed { folder, config, checkpoint: None, warnings: Vec::new(), from: None });
        };
        Ok(Resumed { folder, config, checkpoint: Some(checkpoint), warnings, from: Some(path) })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Replaces `config.toml`, for example after `--steps` has raised the run's length.
    pub fn set_config(&self, config: &RunConfig) -> Result<()> {
        if self.files.is_none() {
            return Ok(());
        }
        write_config(&self.root, config).map_err(Error::io(config_path(&self.root)))
    }

    /// Appends an event to the log.
    pub fn log(&mut self, event: &Event) -> Result<()> {
        let line = event.to_line()? + "\n";
        let Some(files) = &mut self.files else { return Ok(()) };
        files.metrics.write_all(line.as_bytes()).map_err(|e| unlogged(&self.root, &e))
    }

    /// The log's length in bytes, for [`RunFolder::rewind_log`].
    ///
    /// # Errors
    /// What the operating system says.
    pub fn log_bytes(&self) -> Result<u64> {
        let Some(files) = &self.files else { return Ok(0) };
        files.metrics.metadata().map(|of| of.len()).map_err(Error::io(metrics_path(&self.root)))
    }

    /// Takes the events out of the log that came after it was so long.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn rewind_log(&mut self, bytes: u64) -> Result<()> {
        let Some(files) = &self.files else { return Ok(()) };
        files.metrics.set_len(bytes).map_err(|e| unlogged(&self.root, &e))
    }

    /// Saves a checkpoint and returns its numbered file. Log everything that belongs to its step before.
    pub fn save(&mut self, checkpoint: &Checkpoint) -> Result<PathBuf> {
        match &self.files {
            Some(files) => store(&self.root, &files.metrics, checkpoint, None),
            None => Ok(numbered_path(&self.root, checkpoint.state.step)),
        }
    }

    /// As [`RunFolder::save`], on a thread of its own, which then removes the checkpoints that the rule does not name. Of two,
    /// the first must have finished before the second begins.
    ///
    /// # Errors
    /// A thread that cannot be started; what goes wrong later is told by [`Saving::finish`].
    pub fn save_later(&self, checkpoint: Arc<Checkpoint>, rule: &Rule) -> Result<Saving> {
        let step = checkpoint.state.step;
        let unsaved = |e| Error::Checkpoint(format!("checkpoint of step {step} not written: {e}"));
        let Some(files) = &self.files else {
            return Ok(Saving { step, writing: Writing::Over(Ok(numbered_path(&self.root, step))) });
        };
        let (root, metrics) = (self.root.clone(), files.metrics.try_clone().map_err(unsaved)?);
        let (kept, given) = (rule.clone(), checkpoint.clone());
        let started = parallel::start("checkpoint", move || store(&root, &metrics, &given, Some(&kept)));
        let writing = match started {
            Ok(thread) => Writing::Thread(thread),
            // The system starts no further thread.
            Err(_) => Writing::Over(store(&self.root, &files.metrics, &checkpoint, Some(rule))),
        };
        Ok(Saving { step, writing })
    }
}

/// Which checkpoints of a run stay, and what its rule must know.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The rule.
    pub keep: Keep,
    /// Steps of an epoch.
    pub steps_per_epoch: u64,
    /// The step of what it calls the best.
    pub best: Option<u64>,
}

/// Writes a checkpoint's two files, after all that was logged has reached the disk, and removes those that the run's rule
/// does not keep.
fn store(root: &Path, metrics: &File, checkpoint: &Checkpoint, rule: Option<&Rule>) -> Result<PathBuf> {
    let bytes = checkpoint.to_bytes()?;
    metrics.sync_data().map_err(|e| unlogged(root, &e))?;
    let step = checkpoint.state.step;
    let numbered = numbered_path(root, step);
    write_checkpoint_bytes(&numbered, &bytes)?;
    write_checkpoint_bytes(&newest_path(root), &bytes)?;
    let Some(Rule { keep, steps_per_epoch, best }) = rule else { return Ok(numbered) };
    let saved: Vec<u64> =
        checkpoints(root)?.into_iter().map(|(saved, _)| saved).filter(|saved| *saved <= step).collect();
    for step in keep.dropped(&saved, *steps_per_epoch, *best) {
        let path = numbered_path(root, step);
        if let Err(error) = std::fs::remove_file(&path) {
            eprintln!("warning: {} should not stay, but cannot be removed: {error}", path.display());
        }
    }
    Ok(numbered)
}

fn unlogged(root: &Path, error: &std::io::Error) -> Error {
    Error::Checkpoint(format!(
        "log {}: could not be written: {error}; the run's checkpoints are unharmed: free space or mend the permissions, \
         then go on with --resume",
        metrics_path(root).display()
    ))
}

/// Whether a folder is that of a run, by what lies in it.
pub fn is_run(root: &Path) -> bool {
    config_path(root).exists() && root.join("checkpoints").is_dir()
}

/// Refuses to write over a file of a run, where something else is asked for.
///
/// # Errors
/// A file that is there, in a run folder or its folder of checkpoints.
pub fn not_of_a_run(out: &Path) -> Result<()> {
    match out.ancestors().skip(1).take(2).find(|root| is_run(root)) {
        Some(root) if out.is_file() => Err(Error::Checkpoint(format!(
            "{}: is a file of the run {}; choose another name by --out",
            out.display(),
            root.display()
        ))),
        _ => Ok(()),
    }
}

/// Reads the configuration of a run.
///
/// # Errors
/// A folder, or a file, that is no run; a configuration that describes no network, as `config.toml` of a run always does: what it
/// lacks is not taken from a preset.
pub fn read_config(root: &Path) -> Result<RunConfig> {
    let path = config_path(root);
    if root.is_file() {
        let activity = if root.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("npz")) {
            format!("; stored activity has its report by: recurve analyse {}", root.display())
        } else {
            String::new()
        };
        return Err(Error::Checkpoint(format!(
            "{} is a file, not a run folder: expected the folder that `recurve train --out` or `recurve import --out` has \
             made, with config.toml and checkpoints{activity}",
            root.display()
        )));
    }
    if !path.exists() {
        return Err(Error::Checkpoint(format!(
            "{} is not a run folder, as it has no config.toml (and so no checkpoint to use); \
             start a run there with: recurve train --out {0}",
            root.display()
        )));
    }
    let text = files::read_text(&path, files::TEXT).map_err(Error::io(&path))?;
    let config = RunConfig::parse(&text).map_err(|e| Error::Config(format!("{}: {e}", path.display())))?;
    let described = |table: toml::Table| ["network", "architecture"].iter().any(|section| table.contains_key(*section));
    if !text.parse::<toml::Table>().is_ok_and(described) {
        return Err(Error::Config(format!(
            "{}: describes no network: expected the section [network] or [architecture], which the configuration of a run \
             always has, found {}; put the file back from a copy, or write the sections that the run was trained with",
            path.display(),
            if text.trim().is_empty() { "an empty file" } else { "neither" }
        )));
    }
    Ok(config)
}

/// Reads the log of a run.
///
/// # Errors
/// A log that is not there, or that cannot be read.
pub fn read_metrics(root: &Path) -> Result<Vec<Event>> {
    let path = metrics_path(root);
    if !path.exists() {
        return Err(Error::Checkpoint(format!(
            "run folder {}: metrics.jsonl is missing, the log of the training, from which curves are drawn; put it back from a \
             copy, or do without curves: touch {}",
            root.display(),
            path.display()
        )));
    }
    metrics::read(&path)
}

/// The numbered checkpoints of a run, by step, whether or not they are usable.
pub fn checkpoints(root: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let folder = root.join("checkpoints");
    let mut found = Vec::new();
    for path in list(&folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(step) = name.strip_suffix(".safetensors").and_then(|n| n.parse().ok()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest usable checkpoint of a run; `None` if it has none at all. Damaged ones are passed over with a warning;
/// where all are damaged, that is the error.
pub fn latest(root: &Path) -> Result<Option<Latest>> {
    let newest = newest_path(root);
    let mut warnings = Vec::new();
    let mut best = None;
    if newest.exists() {
        match Checkpoint::read(&newest) {
            Ok(checkpoint) => best = Some((checkpoint, newest)),
            Err(e) => warnings.push(e.to_string()),
        }
    }
    for (step, path) in checkpoints(root)?.into_iter().rev() {
        if best.as_ref().is_some_and(|(checkpoint, _)| checkpoint.state.step >= step) {
            break;
        }
        match Checkpoint::read(&path) {
            Ok(checkpoint) => {
                best = Some((checkpoint, path));
                break;
            }
            Err(e) => warnings.push(e.to_string()),
        }
    }
    match best {
        Some((checkpoint, path)) => Ok(Some(Latest { checkpoint, path, warnings })),
        None if warnings.is_empty() => Ok(None),
        None => Err(Error::Checkpoint(format!(
            "run folder {}: no checkpoint is usable, the run must be started anew:\n  {}",
            root.display(),
            warnings.join("\n  ")
        ))),
    }
}

/// The checkpoint of this step, or the newest usable one, for who uses a run without going on with it. Warnings about
/// damaged ones go to stderr.
///
/// # Errors
/// No checkpoint at all, none of this step (the message lists those there are), or a damaged one.
pub fn chosen(root: &Path, step: Option<u64>) -> Result<(Checkpoint, PathBuf)> {
    let Some(step) = step else {
        let latest = latest(root)?
            .ok_or_else(|| Error::Checkpoint(format!("{}: holds no checkpoint; train it first", root.display())))?;
        tell_of_damaged(&latest.warnings, &latest.path, latest.checkpoint.state.step);
        return Ok((latest.checkpoint, latest.path));
    };
    let all = checkpoints(root)?;
    match all.iter().find(|(s, _)| *s == step) {
        Some((_, path)) => Ok((Checkpoint::read(path)?, path.clone())),
        None => {
            let steps: Vec<String> = all.iter().map(|(s, _)| s.to_string()).collect();
            let list = steps.join(", ");
            Err(Error::Checkpoint(format!("no checkpoint of step {step}; there are checkpoints of steps {list}")))
        }
    }
}

/// Says which checkpoints were passed over, if any, and which, of which step, is used in their place.
pub(super) fn tell_of_damaged(warnings: &[String], used: &Path, step: u64) {
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    if !warnings.is_empty() {
        let untrained =
            if step == 0 { ", before any training: no good checkpoint of a later step is left" } else { "" };
        eprintln!("the newest good checkpoint is used: {}, of step {step}{untrained}", used.display());
    }
}

/// Where a run keeps its kernel variants.
pub fn choices_path(root: &Path) -> PathBuf {
    root.join("choices.toml")
}

fn config_path(root: &Path) -> PathBuf {
    root.join("config.toml")
}

fn metrics_path(root: &Path) -> PathBuf {
    root.join("metrics.jsonl")
}

fn numbered_path(root: &Path, step: u64) -> PathBuf {
    root.join("checkpoints").join(format!("{step:08}.safetensors"))
}

pub(super) fn newest_path(root: &Path) -> PathBuf {
    root.join("checkpoint.safetensors")
}

fn write_config(root: &Path, config: &RunConfig) -> std::io::Result<()> {
    write_atomically(&config_path(root), format!("{MARK}\n{}", config.to_toml()).as_bytes())
}

fn open_metrics(root: &Path) -> Result<File> {
    let path = metrics_path(root);
    OpenOptions::new().append(true).create(true).open(&path).map_err(Error::io(&path))
}

/// Files of a folder; none if it does not exist.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path())).collect::<std::io::Result<_>>().map_err(Error::io(folder)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io(folder)(e)),
    }
}

/// As [`lock`], but waits a while for a process that may be about to end: one that was killed holds its lock until the system
/// has taken it down, and a job of several processes may be said to be over before all of them are.
fn lock_soon(root: &Path) -> Result<Lock> {
    let begun = Instant::now();
    loop {
        match lock(root) {
            Err(Error::Busy(_)) if begun.elapsed() < DYING => std::thread::sleep(DYING / 50),
            ended => return ended,
        }
    }
}

/// How long a process that was killed may take to be gone.
const DYING: Duration = Duration::from_secs(5);

/// Takes the folder for this process; the lock goes with the process, however that ends. A file system without locks is
/// said, and used.
fn lock(root: &Path) -> Result<Lock> {
    let path = root.join(LOCK);
    let unusable =
        |e| Error::Checkpoint(format!("run folder {}: cannot be locked ({}): {e}", root.display(), path.display()));
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Busy(format!(
            "run folder {}: another process is training here; wait for it, or give another --out",
            root.display()
        ))),
        Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
            eprintln!(
                "warning: run folder {}: this file system knows no locks ({e}): take care that no other process trains here",
                root.display()
            );
            Ok(Lock(file))
        }
        Err(TryLockError::Error(e)) => Err(unusable(e)),
    }
}

/// Removes temporary files of a process that was killed while it wrote: `.<name>.<random>`.
fn remove_leftovers(root: &Path) -> Result<()> {
    let ours = |name: &str| {
        let rest = name.strip_prefix('.').and_then(|n| n.rsplit_once('.')).map(|(file, _)| file);
        rest.is_some_and(|f| {
            ["config.toml", "choices.toml", "metrics.jsonl"].contains(&f) || f.ends_with(".safetensors")
        })
    };
    for path in list(root)?.into_iter().chain(list(&root.join("checkpoints"))?) {
        if path.file_name().is_some_and(|n| ours(&n.to_string_lossy())) {
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Keeps the events that a run going on after `step` steps keeps; none where it starts anew.
fn trim_metrics(root: &Path, step: Option<u64>) -> Result<()> {
    let path = metrics_path(root);
    let mut kept = String::new();
    if let Some(step) = step
        && path.exists()
    {
        for (line, _) in metrics::read_lines(&path)?.iter().filter(|(_, event)| event.survives_resume(step)) {
            kept += line;
            kept.push('\n');
        }
    }
    write_atomically(&path, kept.as_bytes()).map_err(Error::io(&path))
}

/// A checkpoint can only go on as the run that it was saved in: same network, batches, augmentation and seed. Length and
/// learning rate may have been edited.
fn check_same_run(config: &RunConfig, checkpoint: &Checkpoint, root: &Path, path: &Path) -> Result<()> {
    let state = &checkpoint.state;
    let mut changes = network_changes(&config.network, &state.network);
    let (now, then) = (&config.training, &state.training);
    let facts = |of: &TrainingConfig| {
        let word = |word: &dyn std::fmt::Debug| format!("{word:?}").to_lowercase();
        [of.batch.to_string(), of.seed.to_string(), word(&of.last_batch), word(&of.augment)]
    };
    for ((key, now), then) in ["batch", "seed", "last_batch", "augment"].into_iter().zip(facts(now)).zip(facts(then)) {
        if now != then {
            changes.push(format!("training.{key} = {now}, in the checkpoint {then}"));
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    Err(Error::Checkpoint(format!(
        "{}: it differs from the checkpoint {}, so the run cannot go on: {}; undo the edit or start a new run",
        config_path(root).display(),
        path.display(),
        changes.join("; ")
    )))
}

/// What differs between two descriptions, by key.
fn network_changes(now: &Description, then: &Description) -> Vec<String> {
    let json = |description: &Description| {
        let (network, architecture) = description.sections();
        network.map_or_else(|| serde_json::to_value(architecture), serde_json::to_value).expect("plain fields only")
    };
    if now.section() != then.section() {
        return vec![format!(
            "it describes its network by [{}], the checkpoint by [{}]",
            now.section(),
            then.section()
        )];
    }
    let mut changes = Vec::new();
    json_changes(now.section(), Some(&json(now)), Some(&json(then)), &mut changes);
    changes
}

/// Walks through two JSON values that stand at one place.
fn json_changes(place: &str, now: Option<&Value>, then: Option<&Value>, changes: &mut Vec<String>) {
    match (now, then) {
        (Some(Value::Object(now)), Some(Value::Object(then))) => {
            let keys = now.keys().chain(then.keys().filter(|key| !now.contains_key(*key)));
            keys.for_each(|key| json_changes(&format!("{place}.{key}"), now.get(key), then.get(key), changes));
        }
        (Some(Value::Array(now)), Some(Value::Array(then))) if !now.iter().all(Value::is_number) => {
            for i in 0..now.len().max(then.len()) {
                json_changes(&format!("{place}[{i}]"), now.get(i), then.get(i), changes);
            }
        }
        _ if now == then => {}
        _ => {
            let show = |value: Option<&Value>| value.map_or("absent".into(), Value::to_string);
            changes.push(format!("{place} = {}, in the checkpoint {}", show(now), show(then)));
        }
    }
}
