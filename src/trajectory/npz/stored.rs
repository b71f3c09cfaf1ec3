//! An extraction that stays in its file: small arrays in memory, outputs and representations read batch by batch.

use std::path::{Path, PathBuf};

use super::array::{Npz, Rows};
use super::{Extent, NAMES, check_shapes, finite, labels};
use crate::trajectory::definitions::first_arg_max;
use crate::{Error, Result};

/// The arrays of one network over one set of samples: see [`super::Extraction`], whose layout and conditions are these.
#[derive(Debug)]
pub struct StoredExtraction {
    /// The file.
    pub path: PathBuf,
    /// T, N, K, D.
    pub extent: Extent,
    /// \[N\] Each below K.
    pub labels: Vec<u32>,
    /// \[K, D\]
    pub readout_weight: Vec<f64>,
    /// \[K\]; none for a readout without bias.
    pub readout_bias: Option<Vec<f64>>,
    /// Whether the file says itself that its readout has a bias or none; one without the array does not.
    pub names_bias: bool,
    outputs: Rows,
    representations: Rows,
}

/// A batch as streams take it, image innermost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredBatch {
    /// \[T\]\[K\]\[width\]
    pub outputs: Vec<f32>,
    /// \[T\]\[D\]\[width\]
    pub representations: Vec<f32>,
}

/// So many rows of outputs are no probabilities by chance.
const SURE: usize = 8;

/// Whether numbers are probabilities of classes, as far as half precision tells.
fn is_distribution(outputs: &[f64]) -> bool {
    outputs.iter().all(|p| (0.0..=1.0).contains(p)) && (outputs.iter().sum::<f64>() - 1.0).abs() < 0.01
}

impl StoredExtraction {
    /// Opens an npz file. Refused is what [`super::Extraction::read`] refuses, but for outputs and representations that are not
    /// finite: these are found when they are read.
    ///
    /// # Errors
    /// A file that cannot be read or is no extraction; no room to unpack a compressed array.
    pub fn open(path: &Path) -> Result<StoredExtraction> {
        let mut npz = Npz::open(path)?;
        npz.expect(&NAMES[..4])?;
        let names = [NAMES[1], NAMES[3], NAMES[4]].into_iter().zip([1, 2, 1]);
        let read: Vec<_> = names.map(|(name, rank)| super::small(&mut npz, name, rank)).collect::<Result<_>>()?;
        let [of_labels, weight, bias] = <[_; 3]>::try_from(read).expect("three names");
        let (outputs, representations) = (npz.rows(NAMES[0])?, npz.rows(NAMES[2])?);
        let of = [&outputs.shape()[..], &of_labels.shape, &representations.shape(), &weight.shape, &bias.shape];
        let extent = check_shapes(&npz, of)?;
        for (name, array) in [NAMES[1], NAMES[3], NAMES[4]].iter().zip([&of_labels, &weight, &bias]) {
            finite(&npz, name, array)?;
        }
        let labels = labels(&npz, &of_labels, extent.classes)?.into_iter().map(|label| label as u32).collect();
        Ok(StoredExtraction {
            path: path.to_path_buf(),
            extent,
            labels,
            readout_weight: weight.data,
            readout_bias: (bias.shape[0] != 0).then_some(bias.data),
            names_bias: npz.holds(NAMES[4]),
            outputs,
            representations,
        })
    }

    /// Refuses another network's extraction that is not of the same samples in the same form.
    ///
    /// # Errors
    /// Other numbers of timesteps, samples, classes or features; another label.
    pub fn matches(&self, other: &StoredExtraction) -> Result<()> {
        let (path, of) = (other.path.display(), self.path.display());
        if self.extent != other.extent {
            let (expected, found) = (self.extent, other.extent);
            return Err(Error::Data(format!(
                "{path}: expected {expected}, as {of} has, found {found}: both must hold the same network, trained and \
                 untrained, over the same samples"
            )));
        }
        if let Some(at) = (0..self.labels.len()).find(|&i| self.labels[i] != other.labels[i]) {
            let (expected, found) = (self.labels[at], other.labels[at]);
            return Err(Error::Data(format!(
                "{path}: array 'labels_all': expected label {expected} at [{at}], as {of} has, found {found}: both must hold \
                 the same samples in the same order"
            )));
        }
        Ok(())
    }

    /// CRC-32 of the representations, as the archive gives it.
    pub fn crc(&self) -> u32 {
        self.representations.crc
    }

    /// Reads the samples `ids`, at most `width` of them, into a batch of that width; the rest of it stays as it was. Outputs
    /// are rounded to f32 so that the largest, the first of them where several are equal, stays the largest alone or the first:
    /// the class of a sample is that of the numbers in the file.
    ///
    /// # Errors
    /// Numbers that are not finite, or too large for f32, with their place; a file that can no longer be read.
    pub fn read(&mut self, ids: &[u32], width: usize, to: &mut StoredBatch) -> Result<()> {
        let Extent { timesteps, classes, features, .. } = self.extent;
        let refuse = |path: &Path, array: &str, what: String| {
            Error::Data(format!("{}: array '{array}': {what}", path.display()))
        };
        let checked = |t: usize, n: usize, i: usize, number: f64| -> Result<f32, String> {
            let rounded = number as f32;
            let id = ids[n];
            match (number.is_finite(), rounded.is_finite()) {
                (false, _) => Err(format!("expected finite numbers, found {number} at [{t}, {id}, {i}]")),
                (_, false) => {
                    Err(format!("found {number:e} at [{t}, {id}, {i}], too large for f32, in which is computed"))
                }
                _ => Ok(rounded),
            }
        };
        to.representations.resize(timesteps * features * width, 0.0);
        let representations = &mut to.representations;
        let read = self.representations.read(ids, |t, n, d, number| {
            representations[(t * features + d) * width + n] = checked(t, n, d, number)?;
            Ok(())
        });
        read.map_err(|what| refuse(&self.path, self.representations.name(), what))?;

        to.outputs.resize(timesteps * classes * width, 0.0);
        let mut exact = vec![0.0; timesteps * classes * ids.len()];
        let outputs = &mut to.outputs;
        let read = self.outputs.read(ids, |t, n, k, number| {
            outputs[(t * classes + k) * width + n] = checked(t, n, k, number)?;
            exact[(t * ids.len() + n) * classes + k] = number;
            Ok(())
        });
        read.map_err(|what| refuse(&self.path, self.outputs.name(), what))?;
        if classes > 1 && exact.len() >= SURE * classes && exact.chunks_exact(classes).all(is_distribution) {
            return Err(refuse(
                &self.path,
                self.outputs.name(),
                "expected logits or log-probabilities, found probabilities: numbers from 0 to 1 that add up to 1 over the \
                 classes; give their logarithm (numpy.log)"
                    .into(),
            ));
        }
        for (at, exact) in exact.chunks_exact(classes).enumerate() {
            let (t, n) = (at / ids.len(), at % ids.len());
            let rounded = |k: usize| (t * classes + k) * width + n;
            let class = first_arg_max(exact.iter().copied()).expect("a class at least");
            if first_arg_max((0..classes).map(|k| outputs[rounded(k)])) != Some(class) {
                outputs[rounded(class)] = outputs[rounded(class)].next_up();
            }
        }
        Ok(())
    }
}
