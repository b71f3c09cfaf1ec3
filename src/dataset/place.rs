//! Where the data of a run lie, and whether what lies there are those data: a run may be opened from another working folder, or
//! after it was moved, alone or together with its data.

use super::{Dataset, open};
use crate::hash::fnv1a;
use crate::{Error, Result};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Pictures of the first split that are part of a fingerprint.
const LOOKED_AT: usize = 8;

/// The place of a run's data, as its configuration holds it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// As the user said it, or absolute once the run was started.
    pub path: &'a str,
    /// The same path, seen from the run folder.
    pub from_run: Option<&'a str>,
    /// What the data were when the run was started, see [`fingerprint`].
    pub fingerprint: Option<&'a str>,
}

/// What a data set holds, as far as it is known without reading all of it: of each split a hash of its size and labels, of the first
/// of some pictures too, as `SPLIT:HASH SPLIT:HASH ...`.
///
/// # Errors
/// Pictures that cannot be read.
pub fn fingerprint(data: &dyn Dataset) -> Result<String> {
    let mut parts = Vec::new();
    for (i, split) in data.splits().iter().enumerate() {
        let count = data.len(split)?;
        let mut bytes = (data.image_size() as u64).to_le_bytes().to_vec();
        bytes.extend(data.labels(split)?.iter().flat_map(|label| label.to_le_bytes()));
        if i == 0 {
            let shown = count.min(LOOKED_AT);
            let indices: Vec<usize> = (0..shown).map(|i| i * count / shown).collect();
            bytes.extend(data.read(split, &indices)?.data);
        }
        parts.push(format!("{split}:{:016x}", fnv1a(&bytes)));
    }
    Ok(parts.join(" "))
}

/// What of an expected fingerprint is not in the one found; splits that were added since do no harm.
fn differs(found: &str, expected: &str) -> Option<String> {
    let other: Vec<&str> = expected.split(' ').filter(|part| !found.split(' ').any(|found| found == *part)).collect();
    let names: Vec<&str> = other.iter().map(|part| part.split(':').next().unwrap_or_default()).collect();
    (!other.is_empty()).then(|| names.join(", "))
}

/// Whether these are data on a disk, and no built-in stimuli.
pub fn is_on_disk(spec: &str) -> bool {
    spec.split(':').next() != Some("glyphs")
}

/// An absolute path to data, and the same path seen from the folder of a run.
///
/// # Errors
/// No working folder.
pub fn absolute(spec: &str, run: &Path) -> Result<(String, Option<String>)> {
    let path = std::path::absolute(spec).map_err(Error::io(spec))?;
    let (data, run) = (real(&path), real(&std::path::absolute(run).map_err(Error::io(run))?));
    let text = |path: PathBuf| path.into_os_string().into_string().ok();
    Ok((text(path).unwrap_or_else(|| spec.into()), between(&run, &data).and_then(text)))
}

/// A path without links, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let existing = path.ancestors().find_map(|folder| Some((folder, folder.canonicalize().ok()?)));
    match existing.and_then(|(folder, real)| Some(real.join(path.strip_prefix(folder).ok()?))) {
        Some(real) => real,
        None => path.into(),
    }
}

/// The way from one folder to a path; `None` where there is none (another drive).
fn between(from: &Path, to: &Path) -> Option<PathBuf> {
    let (a, b): (Vec<Component>, Vec<Component>) = (from.components().collect(), to.components().collect());
    let common = a.iter().zip(&b).take_while(|(a, b)| a == b).count();
    let up = (common > 0).then(|| a[common..].iter().map(|_| Component::ParentDir));
    Some(up?.chain(b[common..].iter().copied()).collect())
}

/// Opens the data of the run in the folder `run` at the network's image size: where they were said to be, else where they lie
/// seen from the run. Of data at another place than they were, the second value says so.
///
/// # Errors
/// None found, or others than those that the run was started on.
pub fn find(place: Place, run: &Path, side: usize) -> Result<(Arc<dyn Dataset>, Option<String>)> {
    let said = Path::new(place.path);
    if !is_on_disk(place.path) {
        return Ok((open(place.path, Some(side))?, None));
    }
    let mut candidates = vec![said.to_path_buf()];
    candidates.extend(place.from_run.map(|path| run.join(path)));
    if said.is_relative() {
        candidates.extend([run.join(said), run.join("..").join(said)]);
    }
    let mut known: Vec<PathBuf> = Vec::new();
    candidates.retain(|path| {
        let real = real(&std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        let new = !known.contains(&real);
        known.push(real);
        new
    });
    let mut others = Vec::new();
    for (i, path) in candidates.iter().enumerate().filter(|(_, path)| path.exists()) {
        let Some(spec) = path.to_str() else { continue };
        let data = open(spec, Some(side));
        if let Some(expected) = place.fingerprint {
            // What stands there may be something else altogether.
            let other = match data.as_ref().map(|data| fingerprint(&**data)) {
                Ok(Ok(found)) => differs(&found, expected)
                    .map(|splits| format!("{spec} holds other data (other pictures or labels in {splits})")),
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(other) = other {
                others.push(other);
                continue;
            }
        }
        let here = std::env::current_dir().unwrap_or_default();
        let note = match (i, said.is_relative()) {
            (0, false) => None,
            (0, true) if place.fingerprint.is_some() => None,
            (0, true) => Some(format!(
                "{spec} is taken from the present folder, {}: the run does not record in which folder its data lie",
                here.display()
            )),
            _ => Some(format!(
                "the data are taken from {spec}, where they lie seen from the run folder; {} is not there",
                place.path
            )),
        };
        return Ok((data?, note));
    }
    let tried: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
    let what = match others.is_empty() {
        true => format!("no such file or folder: tried {}", tried.join(", ")),
        false => format!("the data that the run was started on were not found: {}", others.join("; ")),
    };
    Err(Error::Data(format!(
        "{}: {what}. The path comes from config.toml of the run folder {}; give the data set by --data",
        place.path,
        run.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_may_be_added_to_data_but_not_changed() {
        assert_eq!(differs("train:1 val:2 test:3", "train:1 val:2"), None);
        assert_eq!(differs("train:1 val:3", "train:1 val:2 test:3").as_deref(), Some("val, test"));
        let data = open("glyphs:train=10,val=10,test=10", Some(16)).unwrap();
        let other = open("glyphs:train=10,val=10,test=10,seed=5", Some(16)).unwrap();
        let [a, b] = [&data, &other].map(|data| fingerprint(&**data).unwrap());
        assert_eq!(a, fingerprint(&*data).unwrap());
        assert!(differs(&a, &b).unwrap().contains("train"));
    }

    #[test]
    fn the_way_from_folder_to_file() {
        let way = |from: &str, to: &str| between(Path::new(from), Path::new(to)).unwrap();
        assert_eq!(way("/a/b/run", "/a/data.h5"), Path::new("../../data.h5"));
        assert_eq!(way("/a/run", "/a/run/in.h5"), Path::new("in.h5"));
        assert_eq!(way("/x/run", "/data"), Path::new("../../data"));
    }
}
