//! Golden files: reference numbers that an independent PyTorch implementation computed in f64 from f32 inputs.
//!
//! Two kinds of `.safetensors` file are read, told apart by their metadata alone: single operations (key `op`,
//! [`read_op_cases`]) and whole networks with their gradients and training steps (key `config`, [`read_network`]).
//! Both give named inputs and named expected results. A twin or a kernel produces results under the same names, and
//! `compare` holds them against the expected ones, each element with the error that is allowed for it. Files are read
//! strictly: a tensor that is missing, of the wrong shape, not finite or not understood is an error, so that no
//! number in a file goes unchecked.

mod network;
mod ops;

pub use network::{NetworkGolden, read_network};
pub use ops::{Op, OpCase, read_op_cases, run_twin};

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use super::Tensor;
use crate::{Error, Result};

/// Results by name, as a twin or a kernel produces them.
pub type Results = BTreeMap<String, Vec<f32>>;

/// The content of a golden file.
#[derive(Debug)]
pub enum Golden {
    /// Cases of one operation, named as in the file.
    Ops(String, Vec<OpCase>),
    /// A network.
    Network(Box<NetworkGolden>),
}

/// Reads a `.safetensors` file as whichever kind its metadata say it is; `None` when they name neither kind.
///
/// # Errors
/// When the file cannot be read, or is of one of the kinds and not what it should be.
pub fn read(path: &Path) -> Result<Option<Golden>> {
    let file = File::read(path)?;
    if file.metadata.contains_key("op") {
        let (op, cases) = ops::from_file(file)?;
        Ok(Some(Golden::Ops(op, cases)))
    } else if file.metadata.contains_key("config") {
        Ok(Some(Golden::Network(Box::new(network::from_file(file)?))))
    } else {
        Ok(None)
    }
}

/// How far one result is from the expected one, at the element where the error is largest relative to what is allowed.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// Name of the result.
    pub tensor: String,
    /// Position of that element, row-major.
    pub position: usize,
    /// The expected value there.
    pub expected: f64,
    /// The value found there; NaN when the result is missing, unexpected or of the wrong length.
    pub found: f64,
    /// `|found - expected|`; infinite when that is no number.
    pub error: f64,
    /// The largest error allowed there.
    pub allowed: f64,
}

impl Comparison {
    /// Error relative to what is allowed: at most 1 when the result passes. 0 when there is no error.
    pub fn ratio(&self) -> f64 {
        let ratio = self.error / self.allowed;
        match self.error {
            0.0 => 0.0,
            _ if ratio.is_nan() => f64::INFINITY,
            _ => ratio,
        }
    }

    /// Whether the error is within what is allowed.
    pub fn passes(&self) -> bool {
        self.error <= self.allowed
    }

    /// The comparison of a result that cannot be compared.
    fn failed(tensor: &str) -> Self {
        let (expected, found, error, allowed) = (f64::NAN, f64::NAN, f64::INFINITY, 0.0);
        Self { tensor: tensor.to_owned(), position: 0, expected, found, error, allowed }
    }

    /// Finds the worst element. All three have the same length.
    pub(crate) fn of(tensor: &str, expected: &[f32], found: &[f32], allowed: &[f64]) -> Self {
        let at = |position: usize| {
            let (expected, found) = (expected[position] as f64, found[position] as f64);
            let difference = (found - expected).abs();
            let error = if difference.is_finite() { difference } else { f64::INFINITY };
            Self { tensor: tensor.to_owned(), position, expected, found, error, allowed: allowed[position] }
        };
        (0..expected.len())
            .map(at)
            .reduce(|worst, next| if next.ratio() > worst.ratio() { next } else { worst })
            .unwrap_or(Self::failed(tensor))
    }
}

/// Compares each expected tensor with the result of that name. `allowed` gives the largest error allowed for each
/// element of a tensor. A missing or unexpected result fails.
fn compare(
    expected: &BTreeMap<String, Tensor>,
    found: &Results,
    allowed: impl Fn(&str) -> Vec<f64>,
) -> Vec<Comparison> {
    let unexpected = found.keys().filter(|name| !expected.contains_key(*name)).map(|name| Comparison::failed(name));
    let compared = expected.iter().map(|(name, tensor)| match found.get(name) {
        Some(values) if values.len() == tensor.values.len() => {
            Comparison::of(name, &tensor.values, values, &allowed(name))
        }
        _ => Comparison::failed(name),
    });
    compared.chain(unexpected).collect()
}

/// The comparison whose error is largest relative to what is allowed; `None` of none.
pub fn worst(comparisons: &[Comparison]) -> Option<&Comparison> {
    comparisons.iter().reduce(|worst, next| if next.ratio() > worst.ratio() { next } else { worst })
}

/// Largest absolute value of a tensor.
fn max_abs(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |max: f64, &v| max.max(v.abs() as f64))
}

/// A safetensors file, taken apart tensor by tensor.
struct File {
    path: PathBuf,
    metadata: HashMap<String, String>,
    tensors: BTreeMap<String, RawTensor>,
}

/// A tensor as it lies in the file: little-endian bytes.
struct RawTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl File {
    fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let not_safetensors = |e| Error::Data(format!("{}: not a safetensors file, or damaged: {e}", path.display()));
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(not_safetensors)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(not_safetensors)?;
        let raw = |view: safetensors::tensor::TensorView<'_>| RawTensor {
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        };
        Ok(Self {
            path: path.to_path_buf(),
            metadata: header.metadata().clone().unwrap_or_default(),
            tensors: tensors.iter().map(|(name, view)| (name.to_owned(), raw(view))).collect(),
        })
    }

    /// An error about this file.
    fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::Data(format!("{}: {what}", self.path.display()))
    }

    /// The metadata value of `key`, parsed as JSON.
    fn json(&self, key: &str) -> Result<serde_json::Value> {
        let text = self.metadata.get(key).ok_or_else(|| self.error(format!("no metadata key `{key}`")))?;
        serde_json::from_str(text).map_err(|e| self.error(format!("metadata key `{key}` is not JSON: {e}")))
    }

    /// Takes out the tensor `name` as values of `N` bytes each, of any shape.
    fn take<T, const N: usize>(
        &mut self,
        name: &str,
        dtype: Dtype,
        parse: impl Fn([u8; N]) -> T,
    ) -> Result<(Vec<usize>, Vec<T>)> {
        let raw = self.tensors.remove(name).ok_or_else(|| self.error(format!("tensor `{name}` is missing")))?;
        if raw.dtype != dtype {
            return Err(self.error(format!("tensor `{name}`: expected {dtype:?} values, found {:?}", raw.dtype)));
        }
        Ok((raw.shape, raw.bytes.as_chunks::<N>().0.iter().map(|&bytes| parse(bytes)).collect()))
    }

    /// Takes out the f32 tensor `name`, of any shape, all values finite.
    fn f32(&mut self, name: &str) -> Result<Tensor> {
        let (shape, values) = self.take(name, Dtype::F32, f32::from_le_bytes)?;
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(self.error(format!("tensor `{name}`: {} at position {i} is not finite", values[i]))),
            None => Ok(Tensor { shape, values }),
        }
    }

    /// Takes out the f32 tensor `name`, which must have the given shape.
    fn f32_of(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.f32(name)?;
        self.check_shape(name, &tensor.shape, shape)?;
        Ok(tensor)
    }

    /// Takes out the i64 tensor `name`: `n` class numbers, each below `classes`.
    fn labels(&mut self, name: &str, n: usize, classes: usize) -> Result<Vec<usize>> {
        let (shape, values) = self.take(name, Dtype::I64, i64::from_le_bytes)?;
        self.check_shape(name, &shape, &[n])?;
        let label = |label: i64| usize::try_from(label).ok().filter(|&label| label < classes);
        let wrong = |v: i64| self.error(format!("tensor `{name}`: label {v}, expected 0 to {}", classes - 1));
        values.into_iter().map(|v| label(v).ok_or_else(|| wrong(v))).collect()
    }

    fn check_shape(&self, name: &str, found: &[usize], expected: &[usize]) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        Err(self.error(format!("tensor `{name}`: expected shape {expected:?}, found {found:?}")))
    }

    /// Fails when a tensor was not taken out: it would go unchecked.
    fn finish(&self) -> Result<()> {
        match self.tensors.keys().next() {
            Some(name) => Err(self.error(format!("tensor `{name}` does not belong into this kind of golden file"))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    /// A ReLU file of one case: shapes and values of its tensors, and its metadata, changed by the caller.
    struct Parts {
        tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
        metadata: HashMap<String, String>,
    }

    fn relu_file() -> Parts {
        let bytes = |values: [f32; 3]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensors = [
            ("c0/x", [-1.0, 0.0, 2.0]),
            ("c0/gy", [5.0, 6.0, 7.0]),
            ("c0/y", [0.0, 0.0, 2.0]),
            ("c0/gx", [0.0, 0.0, 7.0]),
        ];
        let tensors = tensors.map(|(name, values)| (name.to_owned(), (Dtype::F32, vec![3], bytes(values))));
        let cases = r#"[{"name": "c0", "x": [3]}]"#;
        let metadata = [("op", "relu"), ("cases", cases)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Parts { tensors: BTreeMap::from(tensors), metadata: HashMap::from(metadata) }
    }

    fn read_parts(parts: &Parts) -> Result<Option<Golden>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.safetensors");
        let view = |(dtype, shape, bytes)| TensorView::new(dtype, shape, bytes).unwrap();
        let views = parts.tensors.iter().map(|(name, (d, s, b))| (name, view((*d, s.clone(), b.as_slice()))));
        safetensors::serialize_to_file(views, Some(parts.metadata.clone()), &path).unwrap();
        read(&path)
    }

    #[test]
    fn a_file_is_recognised_by_its_metadata() {
        let Some(Golden::Ops(op, cases)) = read_parts(&relu_file()).unwrap() else { panic!("an operation") };
        assert_eq!((op.as_str(), cases.len()), ("relu", 1));
        let comparisons = cases[0].compare(&run_twin(&cases[0]));
        assert_eq!(comparisons.len(), 2);
        assert!(comparisons.iter().all(|c| c.passes() && c.ratio() == 0.0));

        let mut neither = relu_file();
        neither.metadata.clear();
        assert!(read_parts(&neither).unwrap().is_none());
    }

    #[test]
    fn broken_files_are_refused_with_the_place() {
        let message = |change: &dyn Fn(&mut Parts)| {
            let mut parts = relu_file();
            change(&mut parts);
            let message = read_parts(&parts).unwrap_err().to_string();
            assert!(message.contains("some.safetensors"), "{message}");
            message
        };
        let set = |key: &'static str, value: &'static str| {
            move |p: &mut Parts| drop(p.metadata.insert(key.to_owned(), value.to_owned()))
        };
        let of_x = |message: String| assert!(message.contains("c0/x"), "{message}");
        of_x(message(&|p| drop(p.tensors.remove("c0/x"))));
        of_x(message(&|p| p.tensors.get_mut("c0/x").unwrap().0 = Dtype::I32));
        of_x(message(&|p| p.tensors.get_mut("c0/x").unwrap().1 = vec![1, 3]));
        of_x(message(&|p| p.tensors.get_mut("c0/x").unwrap().2[..4].copy_from_slice(&f32::NAN.to_le_bytes())));
        let extra = message(&|p| drop(p.tensors.insert("c0/z".into(), (Dtype::F32, vec![1], vec![0; 4]))));
        assert!(extra.contains("c0/z"), "{extra}");
        assert!(message(&set("op", "gelu")).contains("gelu"));
        assert!(message(&set("op", "maxpool2x2")).contains("expected 4 extents"));
        assert!(message(&set("cases", "[]")).contains("no case"));
        assert!(message(&set("cases", "{")).contains("not JSON"));
        let network = |p: &mut Parts| {
            p.metadata.clear();
            p.metadata.insert("config".into(), r#"{"image_size": 16}"#.into());
        };
        assert!(message(&network).contains("in_channels"));
    }

    #[test]
    fn results_that_cannot_be_compared_fail() {
        let Some(Golden::Ops(_, cases)) = read_parts(&relu_file()).unwrap() else { panic!("an operation") };
        let right = run_twin(&cases[0]);
        let fails = |change: &dyn Fn(&mut Results), tensor: &str| {
            let mut results = right.clone();
            change(&mut results);
            let comparisons = cases[0].compare(&results);
            let worst = worst(&comparisons).unwrap();
            assert!(!worst.passes() && worst.tensor == tensor && worst.ratio() == f64::INFINITY, "{worst:?}");
        };
        fails(&|r| drop(r.remove("y")), "y");
        fails(&|r| drop(r.insert("gx".into(), vec![0.0; 2])), "gx");
        fails(&|r| r.get_mut("y").unwrap()[1] = f32::NAN, "y");
        fails(&|r| r.get_mut("y").unwrap()[1] = 1e-30, "y");
        fails(&|r| drop(r.insert("gw".into(), vec![])), "gw");
    }
}
