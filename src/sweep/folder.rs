//! The folder of a sweep: a run folder for each combination, and a list of what all of them are.
//!
//! ```text
//! DIR/.sweep.toml                    name and configuration of every run, before data and adapter have had their say
//!     interaction=additive,seed=1/   a run folder
//!     ...
//! ```
//!
//! The list is written before the first run starts, and each run folder survives what `train/run_folder.rs` says. So there is
//! no other state: which runs are finished, begun or still to come is what their folders say, and several processes can work
//! on one list, as a run that is under way holds its folder locked.

use super::vary::{Axis, combinations};
use crate::dataset::place;
use crate::files::{self, write_atomically};
use crate::network::{RunConfig, TrainingConfig};
use crate::train::Event;
use crate::train::run_folder::{checkpoints, read_config, read_metrics};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// The list's file. Its name begins with a point, so that `DIR/*` names the runs alone.
const LIST: &str = ".sweep.toml";

/// First line of the list.
const MARK: &str = "# Written by recurve: the runs of this sweep, each with its configuration.\n";

/// Keys that say how long a run is, what of it stays and what memory it may take, which may change while a sweep goes on.
const MAY_CHANGE: [&str; 5] =
    ["training.steps", "training.epochs", "training.checkpoint_every", "training.keep", "training.memory"];

/// A sweep's folder and runs.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The folder.
    pub root: PathBuf,
    /// In the order of the combinations.
    pub runs: Vec<Planned>,
}

/// A run of a sweep.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    /// The name of its folder, which tells the combination.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its configuration.
    pub config: RunConfig,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing of it is saved.
    New,
    /// It has a checkpoint of this step, and goes on from there.
    Begun(u64),
    /// It has the length that it should have.
    Finished,
}

/// The list on disk.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    runs: Vec<Listed>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    name: String,
    config: Table,
}

impl Sweep {
    /// All combinations of the axes' values in the configuration file `base`; `flags` are put into each. Every configuration is
    /// read and checked.
    ///
    /// # Errors
    /// A key or value that no configuration can have, with the run's name; a flag that says what is varied; combinations that
    /// are the same run.
    pub fn new(root: &Path, base: &str, axes: &[Axis], flags: impl Fn(&mut RunConfig)) -> Result<Sweep> {
        let mut runs: Vec<Planned> = Vec::new();
        for combination in combinations(base, axes)? {
            let name = combination.name;
            let named = |error| Error::Config(format!("{name}: {error}"));
            let mut config = RunConfig::parse(&combination.config).map_err(named)?;
            let before = table(&config);
            flags(&mut config);
            config.validate().map_err(named)?;
            let after = table(&config);
            let overruled = |axis: &&Axis| axis.of(&before) != axis.of(&after);
            if let Some(axis) = axes.iter().find(overruled) {
                let key = &axis.key;
                return Err(Error::Config(format!("--vary {key}: a flag of this command says {key} too; give one")));
            }
            if let Some(path) = config.data.path.as_mut().filter(|path| place::is_on_disk(path)) {
                *path = place::absolute(path, root)?.0;
            }
            if let Some(same) = runs.iter().find(|other| other.config == config) {
                let first = &same.name;
                return Err(Error::Config(format!(
                    "--vary: {first} and {name} are the same run; give its values once"
                )));
            }
            runs.push(Planned { folder: root.join(&name), name, config });
        }
        Ok(Sweep { root: root.into(), runs })
    }

    /// Makes the folder and writes the list, before the first run: a list that is there already is extended. What the user
    /// should know of that, in words.
    ///
    /// # Errors
    /// A run of the same name that is another one; a folder that holds something else; what the operating system says.
    pub fn record(&self) -> Result<Vec<String>> {
        let path = self.root.join(LIST);
        let mut list = read_list(&self.root)?.unwrap_or_default();
        let (before, mut known) = (list.runs.len(), 0);
        for run in &self.runs {
            let config = table(&run.config);
            match list.runs.iter_mut().find(|listed| listed.name == run.name) {
                Some(listed) => {
                    self.same(run, &listed.config, &config)?;
                    (known, listed.config) = (known + 1, config);
                }
                None => list.runs.push(Listed { name: run.name.clone(), config }),
            }
        }
        std::fs::create_dir_all(&self.root).map_err(Error::io(&self.root))?;
        let text = toml::to_string(&list).expect("a list of configurations has a TOML form");
        let text = format!("{MARK}\n{text}");
        if files::read_text(&path, files::LONG_TEXT).ok().as_deref() != Some(&text) {
            write_atomically(&path, text.as_bytes()).map_err(Error::io(&path))?;
        }
        let mut said = Vec::new();
        if before > 0 && known < self.runs.len() {
            said.push(format!("the sweep of {before} runs is extended by {}", self.runs.len() - known));
        }
        if known < before {
            said.push(format!(
                "{} further runs of this sweep are not of this list, and stay as they are",
                before - known
            ));
        }
        Ok(said)
    }

    /// A run of the same name must be the same run, but for its length.
    fn same(&self, run: &Planned, listed: &Table, now: &Table) -> Result<()> {
        let mut changes = Vec::new();
        changed("", Some(&Value::Table(listed.clone())), Some(&Value::Table(now.clone())), &mut changes);
        changes.retain(|(key, _)| !MAY_CHANGE.contains(&key.as_str()));
        if changes.is_empty() {
            return Ok(());
        }
        let changes: Vec<String> = changes.into_iter().map(|(key, how)| format!("{key} {how}")).collect();
        Err(Error::Config(format!(
            "{} holds a sweep whose run {} is another one: {}; give the command as it was, or another --out",
            self.root.display(),
            run.name,
            changes.join(", ")
        )))
    }
}

impl Planned {
    /// How far it is.
    ///
    /// # Errors
    /// A folder or log that cannot be read.
    pub fn standing(&self) -> Result<Standing> {
        standing(&self.folder, &self.config.training)
    }
}

fn standing(folder: &Path, training: &TrainingConfig) -> Result<Standing> {
    let Some((step, _)) = checkpoints(folder)?.pop() else { return Ok(Standing::New) };
    let has = read_config(folder)?.training;
    if (has.steps, has.epochs) != (training.steps, training.epochs) {
        return Ok(Standing::Begun(step));
    }
    let over = |event: &Event| match *event {
        Event::End { step, epoch, .. } => training.steps == Some(step) || training.epochs == Some(epoch),
        _ => false,
    };
    Ok(if read_metrics(folder)?.iter().any(over) { Standing::Finished } else { Standing::Begun(step) })
}

/// The run folders that a path stands for: those of a sweep's finished runs where it is the folder of one, itself otherwise.
/// What of a sweep is not finished is left out, which the second value says.
///
/// # Errors
/// A sweep of which nothing is finished; a list that cannot be read.
pub fn runs_of(path: &Path) -> Result<(Vec<PathBuf>, Option<String>)> {
    let Some(list) = read_list(path)? else { return Ok((vec![path.into()], None)) };
    let (mut finished, mut rest) = (Vec::new(), Vec::new());
    for Listed { name, config } in list.runs {
        let training = RunConfig::parse(&config.to_string()).map_err(|e| damaged(path, &e.to_string()))?.training;
        let folder = path.join(&name);
        match standing(&folder, &training)? {
            Standing::Finished => finished.push(folder),
            _ => rest.push(name),
        }
    }
    if finished.is_empty() {
        let path = path.display();
        return Err(Error::Config(format!("{path}: none of this sweep's {} runs is finished", rest.len())));
    }
    let left = rest.join(", ");
    let note = format!("{}: not finished, and left out: {left}", path.display());
    Ok((finished, (!rest.is_empty()).then_some(note)))
}

/// The list of a sweep's folder, if it is one.
fn read_list(root: &Path) -> Result<Option<List>> {
    let path = root.join(LIST);
    let text = match files::read_text(&path, files::LONG_TEXT) {
        Ok(text) => text,
        Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(e) => return Err(Error::io(path)(e)),
    };
    let list: List = toml::from_str(&text).map_err(|e| damaged(root, &e.to_string()))?;
    let own = |listed: &Listed| {
        !listed.name.is_empty() && !listed.name.starts_with('.') && !listed.name.contains(['/', '\\'])
    };
    if let Some(listed) = list.runs.iter().find(|listed| !own(listed)) {
        return Err(damaged(root, &format!("`{}` is no name of a run", listed.name)));
    }
    Ok(Some(list))
}

fn damaged(root: &Path, why: &str) -> Error {
    let path = root.join(LIST);
    Error::Config(format!(
        "{}: not the list of a sweep: {why}; remove it, and the sweep lists its runs anew",
        path.display()
    ))
}

/// A configuration as a table, as it stands in a file.
fn table(config: &RunConfig) -> Table {
    toml::from_str(&config.to_toml()).expect("own TOML")
}

/// What differs between two values at one key, with both.
fn changed(key: &str, then: Option<&Value>, now: Option<&Value>, into: &mut Vec<(String, String)>) {
    match (then, now) {
        (Some(Value::Table(then)), Some(Value::Table(now))) => {
            for part in then.keys().chain(now.keys().filter(|part| !then.contains_key(*part))) {
                let key = if key.is_empty() { part.clone() } else { format!("{key}.{part}") };
                changed(&key, then.get(part), now.get(part), into);
            }
        }
        _ if then == now => {}
        _ => {
            let show = |value: Option<&Value>| value.map_or("absent".to_string(), Value::to_string);
            into.push((key.into(), format!("was {}, is {}", show(then), show(now))));
        }
    }
}
