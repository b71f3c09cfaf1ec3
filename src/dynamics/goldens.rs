//! Comparison with stored results: `dynamics_X.json` of an independent implementation, which names the npz files it was
//! computed from.

use super::{Dynamics, Parameters, Structure, Subject, Wants, gpu, space};
use crate::files;
use crate::gpu::Gpu;
use crate::trajectory::npz::Extraction;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use zip::ZipArchive;

/// Tolerance for measures that were computed in f64.
pub const TOLERANCE_F64: f64 = 1e-9;

/// A stored result with its input.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The JSON file.
    pub path: PathBuf,
    /// What the measures were told.
    pub parameters: Parameters,
    /// Tolerances in f32, by the beginning of a key.
    pub tolerance: BTreeMap<String, f64>,
    /// The numbers, by key.
    pub expected: Map<String, Value>,
    /// The network.
    pub trained: Extraction,
    /// The network before training.
    pub untrained: Extraction,
    /// \[N\] The decoders' training images.
    pub train: Vec<bool>,
    /// \[R\]\[N\] Bootstrap counts.
    pub replicates: Vec<Vec<u8>>,
}

/// How numbers compare with the stored ones.
#[derive(Clone, Debug, Default)]
pub struct Agreement {
    /// Every difference that is too large.
    pub differences: Vec<String>,
    /// The largest difference of a number with fraction, as a part of what is allowed there.
    pub largest: f64,
    /// Where it is.
    pub largest_at: String,
}

/// The file as it is written.
#[derive(Deserialize)]
struct Stored {
    input: String,
    input_init: String,
    extra: String,
    parameters: Parameters,
    tolerance: BTreeMap<String, f64>,
    expected: Map<String, Value>,
}

impl Golden {
    /// Whether a JSON value is a stored result of dynamics, by its members.
    pub fn is_one(value: &Value) -> bool {
        ["input", "input_init", "extra", "parameters", "tolerance", "expected"]
            .iter()
            .all(|key| value.get(key).is_some())
    }

    /// Whether a file is one that a stored result beside it names, and so no golden file of its own: the names of what
    /// `dynamics_X.json` names begin with `dynamics_X`.
    pub fn names(file: &Path) -> bool {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(stem) = name.strip_suffix(".npz") else { return false };
        let stem = stem.strip_suffix("_init").unwrap_or(stem);
        let stem = stem.strip_suffix("_input").unwrap_or(stem);
        let text = files::read(&file.with_file_name(format!("{stem}.json")), files::LONG_TEXT).unwrap_or_default();
        let Ok(value) = serde_json::from_slice::<Value>(&text) else { return false };
        Golden::is_one(&value) && ["input", "input_init", "extra"].iter().any(|key| value[key] == name)
    }

    /// Opens a result and what it names.
    ///
    /// # Errors
    /// A file that cannot be read, or that lacks something.
    pub fn open(path: &Path) -> Result<Golden> {
        let file = File::open(path).map_err(Error::io(path))?;
        let stored: Stored =
            serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_reader(BufReader::new(file)))
                .map_err(|e| Error::Data(format!("{}: no stored dynamics: {e}", path.display())))?;
        let beside = |name: &str| path.with_file_name(name);
        let Stored { parameters, tolerance, expected, .. } = &stored;
        let (parameters, tolerance, expected) = (parameters.clone(), tolerance.clone(), expected.clone());
        let (trained, untrained) =
            (Extraction::read(&beside(&stored.input))?, Extraction::read(&beside(&stored.input_init))?);
        let extra = beside(&stored.extra);
        let train = bytes(&extra, "train", &[trained.samples])?.into_iter().map(|flag| flag != 0).collect();
        let counts = bytes(&extra, "bootstrap_counts", &[0, trained.samples])?;
        let replicates = counts.chunks_exact(trained.samples).map(<[u8]>::to_vec).collect();
        for (what, found, expected) in [
            ("timesteps", untrained.timesteps, trained.timesteps),
            ("samples", untrained.samples, trained.samples),
            ("classes", untrained.classes, trained.classes),
            ("features", untrained.features, trained.features),
        ] {
            if found != expected {
                let (file, other) = (beside(&stored.input_init), beside(&stored.input));
                return Err(Error::Data(format!(
                    "{}: expected {expected} {what}, as in {}, found {found}",
                    file.display(),
                    other.display()
                )));
            }
        }
        if untrained.labels != trained.labels {
            let (file, other) = (beside(&stored.input_init), beside(&stored.input));
            return Err(Error::Data(format!(
                "{}: array 'labels_all': expected the labels of {}, found others",
                file.display(),
                other.display()
            )));
        }
        parameters
            .check(trained.samples, trained.classes)
            .map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
        Ok(Golden { path: path.to_path_buf(), parameters, tolerance, expected, trained, untrained, train, replicates })
    }

    /// What was measured.
    pub fn subject(&self) -> Subject<'_> {
        let (trained, untrained) = (&self.trained, Some(&self.untrained));
        Subject { trained, untrained, train: &self.train, replicates: &self.replicates, parameters: &self.parameters }
    }

    /// The measures by the kernels, in batches of 64.
    ///
    /// # Errors
    /// What the device says.
    pub async fn streamed(&self, gpu: &Gpu) -> Result<Dynamics> {
        let (trained, untrained) = gpu::stream(gpu, [&self.trained, &self.untrained], &Wants::all(), 64).await?;
        let structure = space::stored(gpu, &self.subject(), 64).await?;
        let (features, told) = (self.trained.features, &self.parameters);
        Ok(Dynamics::new(&trained, untrained.as_ref(), Some(structure), features, told, &self.replicates))
    }

    /// The members of [`Dynamics`] that are expected here: all, but for the tables of single images where none were kept.
    pub fn keys(&self) -> Vec<&'static str> {
        let expected = |key: &&str| *key != "tables" || self.parameters.tables;
        Dynamics::KEYS.iter().copied().chain(Structure::KEYS).filter(expected).collect()
    }

    /// Compares the members of an object with the stored ones of the same names: integers, nulls and shapes exactly, other
    /// numbers to `tolerance` (in f32: to the file's own, `None`) of the largest stored number of their array, or of 1.
    /// Members that are not found are differences too.
    pub fn agreement(&self, found: &Value, members: &[&str], tolerance: Option<f64>) -> Agreement {
        let mut agreement = Agreement::default();
        for member in members {
            match (self.expected.get(*member), found.get(*member)) {
                (Some(expected), Some(found)) => self.visit(member, found, expected, tolerance, &mut agreement),
                (expected, found) => agreement.differences.push(format!(
                    "{member}: {} stored, {} found",
                    if expected.is_some() { "is" } else { "is not" },
                    if found.is_some() { "is" } else { "is not" }
                )),
            }
        }
        agreement
    }

    /// Every difference that [`Golden::agreement`] finds, as text.
    pub fn differences(&self, found: &Value, members: &[&str], tolerance: Option<f64>) -> Vec<String> {
        self.agreement(found, members, tolerance).differences
    }

    fn visit(&self, key: &str, found: &Value, expected: &Value, tolerance: Option<f64>, to: &mut Agreement) {
        if let (Value::Object(found), Value::Object(expected)) = (found, expected) {
            for (name, value) in expected {
                let found = found.get(name).unwrap_or(&Value::Null);
                self.visit(&format!("{key}.{name}"), found, value, tolerance, to);
            }
            let surplus = found.keys().filter(|name| !expected.contains_key(*name));
            to.differences.extend(surplus.map(|name| format!("{key}.{name}: not among the stored numbers")));
            return;
        }
        let tolerance = tolerance.unwrap_or_else(|| self.tolerance_of(key));
        let scale = largest(expected).max(1.0);
        to.compare(key, found, expected, tolerance * scale);
    }

    /// The tolerance of the longest member of the file's table that the key begins with; none at all without.
    fn tolerance_of(&self, key: &str) -> f64 {
        let begins =
            |prefix: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let matching = self.tolerance.iter().filter(|(prefix, _)| begins(prefix));
        matching.max_by_key(|(prefix, _)| prefix.len()).map_or(0.0, |(_, &tolerance)| tolerance)
    }
}

impl Agreement {
    /// Compares arrays element by element; `allowed` is absolute.
    fn compare(&mut self, place: &str, found: &Value, expected: &Value, allowed: f64) {
        match (found, expected) {
            (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
                for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                    self.compare(&format!("{place}[{i}]"), found, expected, allowed);
                }
            }
            (Value::Number(a), Value::Number(b)) if b.is_f64() => {
                let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
                let difference = (a - b).abs();
                let part = if difference == 0.0 { 0.0 } else { difference / allowed };
                if part > self.largest {
                    (self.largest, self.largest_at) = (part, place.to_owned());
                }
                if difference > allowed || difference.is_nan() {
                    self.differences.push(format!(
                        "{place}: expected {b}, found {a}, {difference:.1e} apart, {allowed:.1e} allowed"
                    ));
                }
            }
            _ if found == expected => {}
            _ => self.differences.push(format!("{place}: expected {}, found {}", short(expected), short(found))),
        }
    }
}

/// The largest absolute number of an array, 0 without numbers.
fn largest(value: &Value) -> f64 {
    match value {
        Value::Array(values) => values.iter().map(largest).fold(0.0, f64::max),
        other => other.as_f64().map_or(0.0, f64::abs),
    }
}

fn short(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("an array of {}", values.len()),
        Value::Object(_) => "an object".into(),
        other => other.to_string(),
    }
}

/// An array of bytes of an npz file. Where `shape` is 0, any length is taken.
fn bytes(path: &Path, name: &str, shape: &[usize]) -> Result<Vec<u8>> {
    let refuse = |what: String| Error::Data(format!("{}: array '{name}': {what}", path.display()));
    let file = File::open(path).map_err(Error::io(path))?;
    let mut archive =
        ZipArchive::new(BufReader::new(file)).map_err(|e| refuse(format!("expected an npz file: {e}")))?;
    let entry = archive.by_name(&format!("{name}.npy")).map_err(|e| refuse(e.to_string()))?;
    let npy = npyz::NpyFile::new(entry).map_err(|e| refuse(e.to_string()))?;
    let found: Vec<usize> = npy.shape().iter().map(|&length| length as usize).collect();
    let fits =
        found.len() == shape.len() && found.iter().zip(shape).all(|(&found, &length)| length == 0 || found == length);
    if !fits || npy.order() != npyz::Order::C {
        return Err(refuse(format!("expected shape {shape:?} in C order (0: any), found {found:?}")));
    }
    npy.into_vec::<u8>().map_err(|e| refuse(e.to_string()))
}
