//! A golden file taken apart tensor by tensor: whatever is missing, of another shape, not finite or left over is an error.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};

use crate::reference::Tensor;
use crate::{Error, Result};

/// A safetensors file, taken apart tensor by tensor.
pub(super) struct File {
    path: PathBuf,
    pub metadata: HashMap<String, String>,
    pub tensors: BTreeMap<String, RawTensor>,
}

/// A tensor as it lies in the file: little-endian bytes.
pub(super) struct RawTensor {
    dtype: Dtype,
    pub shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl File {
    pub fn read(path: &Path) -> Result<Self> {
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
    pub fn error(&self, what: impl std::fmt::Display) -> Error {
        Error::Data(format!("{}: {what}", self.path.display()))
    }

    /// The metadata value of `key`, parsed as JSON.
    pub fn json(&self, key: &str) -> Result<serde_json::Value> {
        let text = self.metadata.get(key).ok_or_else(|| self.error(format!("no metadata key `{key}`")))?;
        serde_json::from_str(text).map_err(|e| self.error(format!("metadata key `{key}` is not JSON: {e}")))
    }

    /// Takes out the tensor `name` as values of `N` bytes each, of any shape.
    pub fn take<T, const N: usize>(
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
    pub fn f32(&mut self, name: &str) -> Result<Tensor> {
        let (shape, values) = self.take(name, Dtype::F32, f32::from_le_bytes)?;
        match values.iter().position(|v| !v.is_finite()) {
            Some(i) => Err(self.error(format!("tensor `{name}`: {} at position {i} is not finite", values[i]))),
            None => Ok(Tensor { shape, values }),
        }
    }

    /// Takes out the f32 tensor `name`, which must have the given shape.
    pub fn f32_of(&mut self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let tensor = self.f32(name)?;
        self.check_shape(name, &tensor.shape, shape)?;
        Ok(tensor)
    }

    /// Takes out the i64 tensor `name`: `n` class numbers, each below `classes`.
    pub fn labels(&mut self, name: &str, n: usize, classes: usize) -> Result<Vec<usize>> {
        let (shape, values) = self.take(name, Dtype::I64, i64::from_le_bytes)?;
        self.check_shape(name, &shape, &[n])?;
        let label = |label: i64| usize::try_from(label).ok().filter(|&label| label < classes);
        let wrong = |v: i64| self.error(format!("tensor `{name}`: label {v}, expected 0 to {}", classes - 1));
        values.into_iter().map(|v| label(v).ok_or_else(|| wrong(v))).collect()
    }

    pub fn check_shape(&self, name: &str, found: &[usize], expected: &[usize]) -> Result<()> {
        if found == expected {
            return Ok(());
        }
        Err(self.error(format!("tensor `{name}`: expected shape {expected:?}, found {found:?}")))
    }

    /// Fails when a tensor was not taken out: it would go unchecked.
    pub fn finish(&self) -> Result<()> {
        match self.tensors.keys().next() {
            Some(name) => Err(self.error(format!("tensor `{name}` does not belong into this kind of golden file"))),
            None => Ok(()),
        }
    }
}
