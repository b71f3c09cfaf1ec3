//! Comparison with stored results: `X.json` with the statistics of the extraction `X.npz` and of the untrained network's
//! `X_init.npz`, as an independent implementation that was checked against the published notebook computed them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::exact::{self, Silent};
use super::npz::Extraction;
use super::readout::Readout;
use super::statistics::Statistics;
use super::streaming::{Activity, ActivityBatch, Stream, image_innermost};
use crate::{Error, Result, files};

/// Tolerance for the statistics in f64.
pub const TOLERANCE_F64: f64 = 1e-9;
/// Tolerance for the statistics in f32.
pub const TOLERANCE_F32: f64 = 1e-4;
/// A difference d from a number x counts as the error d / (|x| + FLOOR): relative, but not to nothing. At the f32 tolerance
/// this lets pass 1e-7 near 0, less than one rounding of a cosine.
const FLOOR: f64 = 1e-3;

/// Keys that make a JSON file the result of an analysis.
const MARKS: [&str; 4] = ["t_stable_histogram", "change_by_t_stable", "cos_final_own_other", "readout_linkage"];
/// Keys in which the published notebook and this program differ where there are all-zero representations: see [`Silent`].
const COSINES: [&str; 4] =
    ["cos_current_now_later", "cos_final_own_other", "mean_cos_current_now_later", "mean_cos_final_own_other"];

/// A stored result with its input.
#[derive(Clone, Debug)]
pub struct Golden {
    /// The JSON file.
    pub path: PathBuf,
    /// Its contents.
    pub expected: Value,
    /// The network that was analysed.
    pub trained: Extraction,
    /// The network before training.
    pub untrained: Extraction,
}

/// How two results compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Agreement {
    /// The largest error of a number with fraction, relative: see the tolerances.
    pub largest_error: f64,
    /// Where it is.
    pub largest_at: String,
    /// The first difference that is too large, and how many there are.
    pub offence: Option<(String, usize)>,
}

impl Golden {
    /// Opens the golden analysis that a file is the result of. Files are recognised by their contents: `None` for those
    /// that have nothing to do with an analysis, and for an npz whose result `X.json` stands beside it and counts for it.
    /// An npz of an extraction without its result, or a result without its npz, is an error.
    pub fn open(path: &Path) -> Result<Option<Golden>> {
        let mut start = [0; 4];
        let length = File::open(path).and_then(|mut file| file.read(&mut start)).map_err(Error::io(path))?;
        if start == *b"PK\x03\x04" && Extraction::is_one(path) {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let result = path.with_file_name(format!("{}.json", stem.strip_suffix("_init").unwrap_or(&stem)));
            if !result.exists() && !path.with_extension("json").exists() {
                let (path, result) = (path.display(), result.display());
                return Err(Error::Data(format!("{path}: an extraction without its expected statistics, {result}")));
            }
            return Ok(None);
        }
        if !start[..length].trim_ascii_start().starts_with(b"{") {
            return Ok(None);
        }
        let text = files::read(path, files::LONG_TEXT).map_err(Error::io(path))?;
        let expected: Value = match serde_json::from_slice(&text) {
            Ok(value) => value,
            Err(_) => return Ok(None),
        };
        if !MARKS.iter().all(|key| expected.get(key).is_some()) {
            return Ok(None);
        }
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Some(Golden {
            trained: Extraction::read(&path.with_file_name(format!("{stem}.npz")))?,
            untrained: Extraction::read(&path.with_file_name(format!("{stem}_init.npz")))?,
            path: path.to_path_buf(),
            expected,
        }))
    }

    /// Compares the exact statistics, in f64 and with the published notebook's ways, with the stored ones.
    pub fn check_exact(&self) -> Result<Agreement> {
        let found = exact::statistics(&self.trained, &self.untrained, Silent::AsPublished)?;
        compare(&found, &self.expected, TOLERANCE_F64)
    }

    /// Compares statistics in f32 with the stored ones. Where representations are all zero, the means of cosines, in
    /// which this program differs from the published notebook by choice, are compared with the exact ones.
    pub fn check(&self, found: &Statistics) -> Result<Agreement> {
        let mut expected = self.expected.clone();
        if expected["silent_representations"] != 0 {
            let exact = exact::statistics(&self.trained, &self.untrained, Silent::LeftOut)?;
            let exact = to_value(&exact)?;
            for key in COSINES {
                expected[key] = exact[key].clone();
            }
        }
        compare(found, &expected, TOLERANCE_F32)
    }

    /// Samples and timesteps.
    pub fn extent(&self) -> (usize, usize) {
        (self.trained.samples, self.trained.timesteps)
    }

    /// The trained network's readout.
    pub fn readout(&self) -> Result<Readout> {
        let Extraction { classes, features, .. } = self.trained;
        Readout::new(self.trained.readout_weight.clone(), classes, features)
    }

    /// All samples in batches of `width`, of which the last may be padded.
    pub fn batches(&self, width: usize) -> impl Iterator<Item = Samples> {
        let samples = self.trained.samples;
        (0..samples).step_by(width).map(move |first| {
            let batch = first..(first + width).min(samples);
            let mut labels: Vec<u32> = self.trained.labels[batch.clone()].iter().map(|&label| label as u32).collect();
            labels.resize(width, 0);
            let of = |extraction: &Extraction| image_innermost(extraction, batch.clone(), width);
            Samples { images: batch.len(), labels, trained: of(&self.trained), untrained: of(&self.untrained) }
        })
    }

    /// The statistics as streamed on the CPU, in batches of `width`.
    pub fn streamed(&self, width: usize) -> Result<Statistics> {
        let mut stream = Stream::new(self.readout()?, self.trained.samples, self.trained.timesteps, true);
        self.batches(width).for_each(|samples| stream.add(&samples.batch()));
        stream.finish()
    }
}

/// Samples of a golden, one batch of them.
pub struct Samples {
    images: usize,
    labels: Vec<u32>,
    /// Logits and representations, image innermost.
    trained: (Vec<f32>, Vec<f32>),
    untrained: (Vec<f32>, Vec<f32>),
}

impl Samples {
    /// They, as streams take them.
    pub fn batch(&self) -> ActivityBatch<'_> {
        ActivityBatch {
            width: self.labels.len(),
            images: self.images,
            labels: &self.labels,
            trained: Activity { logits: &self.trained.0, representations: &self.trained.1 },
            untrained: Some(Activity { logits: &self.untrained.0, representations: &self.untrained.1 }),
        }
    }
}

/// Compares statistics with stored ones: keys, lengths, integers and nulls exactly, numbers with fraction to a relative
/// tolerance.
pub fn compare(found: &Statistics, expected: &Value, tolerance: f64) -> Result<Agreement> {
    let mut comparison = Agreement { largest_error: 0.0, largest_at: "none".into(), offence: None };
    comparison.visit("", &to_value(found)?, expected, tolerance);
    Ok(comparison)
}

impl Agreement {
    fn visit(&mut self, place: &str, found: &Value, expected: &Value, tolerance: f64) {
        match (found, expected) {
            (Value::Object(found), Value::Object(expected)) => {
                let dot = if place.is_empty() { "" } else { "." };
                for (key, value) in expected {
                    self.visit(&format!("{place}{dot}{key}"), found.get(key).unwrap_or(&Value::Null), value, tolerance);
                }
                for key in found.keys().filter(|key| !expected.contains_key(*key)) {
                    self.offend(format!("{place}{dot}{key}: missing in the stored statistics"));
                }
            }
            (Value::Array(found), Value::Array(expected)) if found.len() == expected.len() => {
                for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                    self.visit(&format!("{place}[{i}]"), found, expected, tolerance);
                }
            }
            (Value::Number(a), Value::Number(b)) if b.is_f64() => {
                let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
                let error = (a - b).abs() / (b.abs() + FLOOR);
                if error > self.largest_error {
                    (self.largest_error, self.largest_at) = (error, place.to_owned());
                }
                if error > tolerance || error.is_nan() {
                    self.offend(format!(
                        "{place}: expected {b}, found {a}: error {error:.1e}, tolerance {tolerance:.0e}"
                    ));
                }
            }
            _ if found == expected => {}
            _ => self.offend(format!("{place}: expected {}, found {}", short(expected), short(found))),
        }
    }

    fn offend(&mut self, what: String) {
        self.offence.get_or_insert((what, 0)).1 += 1;
    }
}

fn to_value(statistics: &Statistics) -> Result<Value> {
    serde_json::to_value(statistics).map_err(|e| Error::Data(format!("trajectory statistics as JSON: {e}")))
}

/// A value as text that fits a line.
fn short(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("an array of {}", values.len()),
        Value::Object(_) => "an object".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trajectories of 3 classes in 5 steps: every sample drifts from a random start towards its label's direction.
    fn example() -> Golden {
        let (timesteps, samples, classes, features) = (5, 90, 3, 7);
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f64 / (1u64 << 23) as f64 - 1.0
        };
        let readout_weight: Vec<f64> = (0..classes * features).map(|_| random()).collect();
        let labels: Vec<usize> = (0..samples).map(|i| i * 7 % classes).collect();
        let mut network = |pull: f64| {
            let start: Vec<f64> = (0..samples * features).map(|_| random()).collect();
            let mut representations = Vec::new();
            for t in 0..timesteps {
                for i in 0..samples {
                    for d in 0..features {
                        let drift = pull * t as f64 * readout_weight[labels[i] * features + d] + 0.2 * random();
                        representations.push(start[i * features + d] + drift);
                    }
                }
            }
            representations[3 * features..4 * features].fill(0.0);
            let outputs = representations
                .chunks_exact(features)
                .flat_map(|r| readout_weight.chunks_exact(features).map(|w| r.iter().zip(w).map(|(r, w)| r * w).sum()))
                .collect();
            let readout_weight = readout_weight.clone();
            let labels = labels.clone();
            let readout_bias = None;
            Extraction {
                timesteps,
                samples,
                classes,
                features,
                outputs,
                labels,
                representations,
                readout_weight,
                readout_bias,
            }
        };
        let (trained, untrained) = (network(0.4), network(0.0));
        let expected = to_value(&exact::statistics(&trained, &untrained, Silent::AsPublished).unwrap()).unwrap();
        Golden { path: PathBuf::from("example.json"), expected, trained, untrained }
    }

    #[test]
    fn streamed_agrees_with_exact_in_batches_of_any_width() {
        let golden = example();
        assert!(
            golden.expected["cos_final_own_other"][1][1].is_f64(),
            "the example is to have pairs: {}",
            golden.expected
        );
        for width in [1, 7, 90, 128] {
            let comparison = golden.check(&golden.streamed(width).unwrap()).unwrap();
            assert_eq!(comparison.offence, None, "width {width}");
            assert!(comparison.largest_error < 1e-5, "{comparison:?}");
        }
        assert_eq!(golden.streamed(7).unwrap(), golden.streamed(90).unwrap(), "summed in the order of the images");
    }

    #[test]
    fn silent_representations_are_left_out() {
        let golden = example();
        let [left_out, as_published] = [Silent::LeftOut, Silent::AsPublished]
            .map(|silent| to_value(&exact::statistics(&golden.trained, &golden.untrained, silent).unwrap()).unwrap());
        assert_ne!(
            left_out["cos_current_now_later"], as_published["cos_current_now_later"],
            "the example is to show it"
        );
        let streamed = golden.streamed(32).unwrap();
        assert_eq!(compare(&streamed, &left_out, TOLERANCE_F32).unwrap().offence, None);
        assert!(compare(&streamed, &as_published, TOLERANCE_F32).unwrap().offence.is_some());
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        let mut golden = example();
        golden.trained.outputs[40] = f64::NAN;
        let message = golden.streamed(16).unwrap_err().to_string();
        assert!(
            message.contains("trained") && message.contains("1 of 90") && message.contains("timestep 0"),
            "{message}"
        );
        let mut golden = example();
        golden.untrained.representations[5 * 90 * 7 - 1] = f64::INFINITY;
        let message = golden.streamed(16).unwrap_err().to_string();
        assert!(message.contains("untrained") && message.contains("timestep 4"), "{message}");
    }

    #[test]
    fn any_difference_is_found() {
        let golden = example();
        let found = exact::statistics(&golden.trained, &golden.untrained, Silent::AsPublished).unwrap();
        assert_eq!(compare(&found, &golden.expected, 1e-12).unwrap().offence, None);
        // Every number of every key, changed by a hair or by one; every null and every key, taken away or added.
        fn leaves(value: &Value, place: String, to: &mut Vec<String>) {
            match value {
                Value::Array(values) => {
                    (0..).zip(values).for_each(|(i, value)| leaves(value, format!("{place}/{i}"), to));
                }
                Value::Object(map) => map.iter().for_each(|(key, value)| leaves(value, format!("{place}/{key}"), to)),
                _ => to.push(place),
            }
        }
        let mut places = Vec::new();
        leaves(&golden.expected, String::new(), &mut places);
        assert!(places.len() > 400, "{}", places.len());
        for place in places {
            let mut spoilt = golden.expected.clone();
            let value = spoilt.pointer_mut(&place).unwrap();
            *value = match &*value {
                Value::Number(number) if number.is_f64() => {
                    let number = number.as_f64().unwrap();
                    (if number == 0.0 { 1e-3 } else { number * 1.003 }).into()
                }
                Value::Number(number) => (number.as_i64().unwrap() + 1).into(),
                _ => 0.0.into(),
            };
            let comparison = compare(&found, &spoilt, TOLERANCE_F32).unwrap();
            let key = place.split('/').nth(1).unwrap();
            assert!(comparison.offence.is_some_and(|(what, count)| what.starts_with(key) && count == 1), "{place}");
        }
        for key in golden.expected.as_object().unwrap().keys() {
            let mut spoilt = golden.expected.clone();
            spoilt.as_object_mut().unwrap().remove(key);
            assert!(compare(&found, &spoilt, TOLERANCE_F32).unwrap().offence.is_some(), "{key} missing");
        }
    }

    #[test]
    fn files_are_recognised_by_their_contents() {
        let folder = tempfile::tempdir().unwrap();
        let golden = example();
        let file = |name: &str| folder.path().join(name);
        golden.trained.write(&file("a.npz")).unwrap();
        assert!(Golden::open(&file("a.npz")).unwrap_err().to_string().contains("a.json"));
        std::fs::write(file("a.json"), golden.expected.to_string()).unwrap();
        assert!(Golden::open(&file("a.json")).unwrap_err().to_string().contains("a_init.npz"));
        golden.untrained.write(&file("a_init.npz")).unwrap();
        let opened = Golden::open(&file("a.json")).unwrap().unwrap();
        assert_eq!((&opened.trained, &opened.untrained), (&golden.trained, &golden.untrained));
        assert_eq!(opened.check_exact().unwrap().offence, None);
        assert!(Golden::open(&file("a.npz")).unwrap().is_none(), "counted with its result");
        assert!(Golden::open(&file("a_init.npz")).unwrap().is_none());
        for (name, contents) in [("b.json", "{\"accuracy\": 1}"), ("c.json", "{"), ("d.npz", "PK\x03\x04"), ("e", "")] {
            std::fs::write(file(name), contents).unwrap();
            assert!(Golden::open(&file(name)).unwrap().is_none(), "{name}");
        }
    }
}
