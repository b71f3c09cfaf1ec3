//! The runs of a comparison before they are measured: whether they can be compared, which of them are one network, and what a
//! network is called.
//!
//! Runs whose description (`[network]` or `[architecture]`) is the same are one network, trained several times: the seed is
//! no part of it. Networks of a published kind bear the name that stands in the published table; where several have one
//! name, what they differ in is added.

use super::Settings;
use crate::analysis::Selection;
use crate::analysis::facts::{checkpoint_hash, description};
use crate::analysis::run;
use crate::dataset::names::listed;
use crate::hash::fnv1a;
use crate::kernels::Target;
use crate::network::TrainingConfig;
use crate::report::published::{NETWORKS, comparison};
use crate::{Error, Result};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Runs that can be compared.
pub struct Opened {
    /// In the order of their networks.
    pub runs: Vec<Run>,
    /// Published ones first, in the order of their table.
    pub networks: Vec<Network>,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Number of pictures.
    pub images: usize,
    /// What the reader must know, one sentence each.
    pub notes: Vec<String>,
}

/// A run that can be compared.
pub struct Run {
    /// Its folder.
    pub folder: PathBuf,
    /// Its name here, and that of its report's folder: the folder's own, made distinct.
    pub name: String,
    /// The name of its network.
    pub network: String,
    /// Seed of its training; `None` where it was imported and nobody knows.
    pub seed: Option<u64>,
}

/// A network, trained once or several times.
#[derive(Clone, Debug, Serialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its row in the published table, if it is of a published kind.
    #[serde(skip)]
    pub published: Option<usize>,
    /// Names of its runs.
    pub runs: Vec<String>,
    /// Its description: the `[network]` or `[architecture]` of its runs.
    pub description: Value,
}

/// What a run is and is shown.
struct Looked {
    folder: PathBuf,
    description: Value,
    training: TrainingConfig,
    imported: bool,
    checkpoint: String,
    data: String,
    classes: Vec<String>,
    labels: Vec<u32>,
    /// Side of the pictures, and a hash of some of them.
    side: usize,
    pictures: u64,
}

/// Pictures of the split that are compared byte by byte, at equal distances.
const LOOKED_AT: usize = 64;

/// Opens all runs and refuses those that cannot be compared.
///
/// # Errors
/// A run that cannot be used, one that is given twice, runs that are shown different pictures.
pub fn open(settings: &Settings<'_>, target: &Target) -> Result<Opened> {
    let mut looked: Vec<Looked> = Vec::new();
    for folder in settings.runs {
        let one = Looked::at(folder, settings, target)?;
        if let Some(twice) = looked.iter().find(|other| same_folder(&other.folder, folder)) {
            return Err(Error::Config(format!(
                "{} and {} are the same run; name each run once",
                twice.folder.display(),
                folder.display()
            )));
        }
        looked.first().map_or(Ok(()), |first| one.sees_what_is_seen_by(first, settings.split))?;
        looked.push(one);
    }
    let first =
        looked.first().ok_or_else(|| Error::Config("no run to compare; name at least one run folder".into()))?;
    let (classes, images) = (first.classes.clone(), first.labels.len());
    let mut notes = Vec::new();
    if looked.iter().any(|one| one.classes != classes) {
        notes.push(format!(
            "The classes have other names in some data sets than in that of {}; they are taken to be the same, in the same order.",
            first.folder.display()
        ));
    }
    if looked.iter().any(|one| one.side != first.side) {
        notes.push(
            "Not all networks see the pictures in the same size: that they are the same pictures is known from their number and \
             labels alone."
                .into(),
        );
    }

    let names = distinct(looked.iter().map(|one| name_of(&one.folder)));
    for (one, name) in looked.iter().zip(&names) {
        let report = settings.folder.join(name);
        if let Some(inside) = looked.iter().find(|other| same_folder(&other.folder, &report)) {
            return Err(Error::Config(format!(
                "--out {}: the report on {} would be written into the run folder {}; choose another folder for the comparison",
                settings.folder.display(),
                one.folder.display(),
                inside.folder.display()
            )));
        }
    }
    let mut networks: Vec<Network> = Vec::new();
    for (one, name) in looked.iter().zip(&names) {
        match networks.iter_mut().find(|network| network.description == one.description) {
            Some(network) => network.runs.push(name.clone()),
            None => networks.push(Network {
                name: String::new(),
                published: None,
                runs: vec![name.clone()],
                description: one.description.clone(),
            }),
        }
    }
    name_all(&mut networks);
    networks.sort_by_key(|network| network.published.unwrap_or(usize::MAX));
    let mut runs = Vec::new();
    for network in &networks {
        let members: Vec<(&Looked, &String)> =
            looked.iter().zip(&names).filter(|(_, name)| network.runs.contains(name)).collect();
        notes.extend(doubts(&network.name, &members));
        runs.extend(members.iter().map(|(one, name)| Run {
            folder: one.folder.clone(),
            name: (*name).clone(),
            network: network.name.clone(),
            seed: one.seed(),
        }));
    }
    Ok(Opened { runs, networks, classes, images, notes })
}

impl Looked {
    fn at(folder: &Path, settings: &Settings<'_>, target: &Target) -> Result<Looked> {
        let selection = Selection {
            run: folder,
            data: settings.data,
            split: Some(settings.split),
            checkpoint: None,
            protocol: None,
        };
        let named = |error: Error| Error::Config(format!("{}: {error}", folder.display()));
        let run = run::Opened::new(&selection, target).map_err(named)?;
        run.labels_are_classes().map_err(named)?;
        let state = &run.trained.state;
        let shown = run.images.min(LOOKED_AT);
        let indices: Vec<usize> = (0..shown).map(|i| i * run.images / shown).collect();
        let pictures = run.data.read(&run.split, &indices).map_err(named)?;
        Ok(Looked {
            folder: folder.to_path_buf(),
            description: description(&state.network)?,
            training: state.training.clone(),
            imported: state.origin.is_some(),
            checkpoint: checkpoint_hash(&run)?,
            data: run.data.name(),
            classes: run.data.classes().to_vec(),
            labels: run.data.labels(&run.split).map_err(named)?,
            side: pictures.side,
            pictures: fnv1a(&pictures.data),
        })
    }

    fn seed(&self) -> Option<u64> {
        (!self.imported).then_some(self.training.seed)
    }

    /// Refuses runs that are shown different pictures.
    fn sees_what_is_seen_by(&self, first: &Looked, split: &str) -> Result<()> {
        let differs = |what: String| {
            Err(Error::Data(format!(
                "{} and {} were not shown the same pictures: {what}. Runs are compared on the same pictures; give one data set for \
                 all by --data",
                self.folder.display(),
                first.folder.display()
            )))
        };
        let (here, there) = (&self.data, &first.data);
        let [classes, other_classes] = [self.classes.len(), first.classes.len()];
        if classes != other_classes {
            return differs(format!("{here} has {classes} classes, {there} {other_classes}"));
        }
        let sorted = |names: &[String]| {
            let mut names = names.to_vec();
            names.sort();
            names
        };
        if self.classes != first.classes && sorted(&self.classes) == sorted(&first.classes) {
            return Err(Error::Data(format!(
                "{} and {} have their classes in another order ({} and {}), so that their outputs cannot be set side by side; \
                 compare runs that were trained with one order of the classes",
                self.folder.display(),
                first.folder.display(),
                listed(&self.classes),
                listed(&first.classes)
            )));
        }
        let [images, other_images] = [self.labels.len(), first.labels.len()];
        if images != other_images {
            return differs(format!("split {split} of {here} has {images}, that of {there} {other_images}"));
        }
        if let Some(i) = (0..images).find(|&i| self.labels[i] != first.labels[i]) {
            return differs(format!(
                "picture {i} of split {split} is of class {} in {here}, of class {} in {there}",
                self.labels[i], first.labels[i]
            ));
        }
        if self.side == first.side && self.pictures != first.pictures {
            return differs(format!(
                "split {split} of {here} holds other pictures than that of {there}, under the same labels"
            ));
        }
        Ok(())
    }
}

/// Why the runs of one network may not be what several trainings of it should be.
fn doubts(network: &str, members: &[(&Looked, &String)]) -> Vec<String> {
    let mut notes = Vec::new();
    for (i, (one, name)) in members.iter().enumerate() {
        for (other, earlier) in &members[..i] {
            if one.checkpoint == other.checkpoint {
                notes.push(format!(
                    "{earlier} and {name} ({network}) hold the same checkpoint: they are one training, counted twice."
                ));
            } else if let Some(seed) = one.seed().filter(|_| one.seed() == other.seed()) {
                notes.push(format!(
                    "{earlier} and {name} ({network}) were both trained with seed {seed}: they are no independent trainings, and \
                     the spread between runs is too small."
                ));
            }
        }
    }
    let without_seed = |one: &Looked| TrainingConfig { seed: 0, ..one.training.essential() };
    if members.iter().any(|(one, _)| without_seed(one) != without_seed(members[0].0)) {
        notes.push(format!(
            "The runs of {network} were not all trained in the same way: their sections [training] differ."
        ));
    }
    notes
}

fn same_folder(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

/// The name of a run's folder, whatever path leads there.
fn name_of(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    whole.file_name().map_or("run".into(), |name| name.to_string_lossy().into_owned())
}

/// What else stands in the folder of a comparison.
const TAKEN: [&str; 4] = ["figures", "tables", "compare.html", "compare.json"];

/// Names of folders, each made distinct by a number where it is taken (also for file systems that do not tell a from A).
fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut taken: Vec<String> = TAKEN.map(String::from).to_vec();
    let mut given = Vec::new();
    for name in names {
        let free = |name: &String, taken: &[String]| !taken.contains(&name.to_lowercase());
        let numbered = (2..).map(|i| format!("{name}-{i}"));
        let name = std::iter::once(name.clone()).chain(numbered).find(|name| free(name, &taken)).unwrap_or_default();
        taken.push(name.to_lowercase());
        given.push(name);
    }
    given
}

/// Most differences that a name tells.
const DIFFERENCES: usize = 3;

/// Gives every network a name of its own.
fn name_all(networks: &mut [Network]) {
    let kinds: Vec<(String, Option<usize>)> = networks.iter().map(|network| kind(&network.description)).collect();
    let leaves: Vec<BTreeMap<String, String>> = networks.iter().map(|network| leaves(&network.description)).collect();
    let mut names = Vec::new();
    for i in 0..networks.len() {
        let alike: Vec<usize> = (0..networks.len()).filter(|&j| kinds[j].0 == kinds[i].0).collect();
        let differs = |key: &&String| alike.iter().any(|&j| leaves[j].get(*key) != leaves[i].get(*key));
        let mut name = kinds[i].0.clone();
        for key in leaves[i].keys().filter(differs).take(DIFFERENCES) {
            name += &format!(", {key} = {}", leaves[i][key]);
        }
        names.push(name);
    }
    // What differs may lie behind the first differences, or be a key that this one lacks.
    let all = names.clone();
    for (i, name) in names.iter_mut().enumerate() {
        let earlier = all[..i].iter().filter(|other| *other == name).count();
        if all.iter().filter(|other| *other == name).count() > 1 {
            *name += &format!(" ({})", earlier + 1);
        }
    }
    for ((network, name), (_, published)) in networks.iter_mut().zip(names).zip(kinds) {
        (network.name, network.published) = (name, published);
    }
}

/// The name of a network's kind, and its row in the published table.
fn kind(description: &Value) -> (String, Option<usize>) {
    let found = comparison(description);
    if found.caveat.is_none() {
        return (NETWORKS[found.index].name.into(), Some(found.index));
    }
    if description.get("connections").is_some() {
        return ("own architecture".into(), None);
    }
    let flag = |key: &str| description.get(key).and_then(Value::as_bool) == Some(true);
    let text = |key: &str| description.get(key).and_then(Value::as_str).unwrap_or_default();
    let last = text("lt_position") == "last";
    let connections = match (flag("lateral"), flag("topdown") && !last) {
        (true, true) => "LT",
        (true, false) => "L",
        (false, true) => "T",
        (false, false) => "",
    };
    if connections.is_empty() || description.get("timesteps").and_then(Value::as_u64) == Some(1) {
        return ("feed-forward".into(), None);
    }
    let place = if last { " in the last layer" } else { "" };
    (format!("{connections} {}{place}", text("interaction")), None)
}

/// Every single value of a description by its path, such as `areas.1.channels`.
fn leaves(description: &Value) -> BTreeMap<String, String> {
    fn walk(value: &Value, path: &str, into: &mut BTreeMap<String, String>) {
        let below = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| walk(value, &below(key), into)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, value)| walk(value, &below(&i.to_string()), into));
            }
            Value::String(text) => drop(into.insert(path.into(), text.clone())),
            other => drop(into.insert(path.into(), other.to_string())),
        }
    }
    let mut all = BTreeMap::new();
    walk(description, "", &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn named(descriptions: &[Value]) -> Vec<(String, Option<usize>)> {
        let mut networks: Vec<Network> = descriptions
            .iter()
            .map(|d| Network { name: String::new(), published: None, runs: vec![], description: d.clone() })
            .collect();
        name_all(&mut networks);
        networks.into_iter().map(|network| (network.name, network.published)).collect()
    }

    fn family(lateral: bool, topdown: bool, interaction: &str, timesteps: u64) -> Value {
        json!({"lateral": lateral, "topdown": topdown, "interaction": interaction, "lt_position": "all", "timesteps": timesteps})
    }

    #[test]
    fn networks_have_the_published_names_and_what_differs() {
        let found = named(&[
            family(false, true, "multiplicative", 5),
            family(true, false, "additive", 5),
            family(true, false, "additive", 8),
            family(true, true, "additive", 5),
            family(false, false, "additive", 5),
        ]);
        let expected = [
            ("T multiplicative", Some(3)),
            ("L additive, timesteps = 5", Some(0)),
            ("L additive, timesteps = 8", Some(0)),
            ("LT additive", None),
            ("feed-forward", None),
        ];
        assert_eq!(found, expected.map(|(name, row)| (name.to_string(), row)));
    }

    #[test]
    fn names_differ_even_where_what_differs_cannot_be_told() {
        let own = |more: Value| json!({"areas": [{"name": "a", "channels": 1}], "connections": [], "more": more});
        let found = named(&[own(json!(1)), own(json!([])), own(json!({}))]);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["own architecture, more = 1", "own architecture (1)", "own architecture (2)"]);
    }

    #[test]
    fn names_of_folders_are_distinct_and_leave_the_own_ones_free() {
        let names = ["a", "A", "tables", "a", "a-2"].map(String::from);
        assert_eq!(distinct(names.into_iter()), ["a", "A-2", "tables-2", "a-3", "a-2-2"]);
    }
}
