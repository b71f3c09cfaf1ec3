//! Golden HDF5 files: good ones must read exactly as the tensors beside them say, broken ones must be refused.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::{Dtype, SafeTensors};

use super::inspect::inspect;
use super::{Dataset, Hdf5, Normaliser, SPLITS};
use crate::{Error, Result, files};

/// A golden file that passed.
#[derive(Clone, Debug)]
pub struct GoldenH5 {
    /// What was compared, or with what words the file was refused.
    pub compared: String,
    /// Largest difference between normalised values; 0 for a file that had to be refused.
    pub largest_error: f64,
    /// Largest difference that passes.
    pub tolerance: f64,
}

/// Files that store their statistics as f32 may differ from the reference, normalised with f64, by this much.
const SINGLE_PRECISION_TOLERANCE: f64 = 2e-6;

/// Checks one HDF5 file against what stands in the same folder.
///
/// With an `expected.safetensors` that holds `<split>/data`: pictures, labels, statistics and the number of categories
/// must be equal, and so must the normalised pictures, bit for bit (see [`Normaliser`]; files that store their
/// statistics in single precision: to 2e-6). Without it but with a `files.json` that names the file's defect: the file
/// must be refused. An error says what failed.
pub fn check_h5(path: &Path) -> Result<GoldenH5> {
    let expected = path.with_file_name("expected.safetensors");
    if expected.is_file() {
        return equals(path, &expected);
    }
    let listed = path.with_file_name("files.json");
    let text = files::read_text(&listed, files::LONG_TEXT).map_err(Error::io(&listed))?;
    let defects: BTreeMap<String, String> = serde_json::from_str(&text)
        .map_err(|e| Error::Data(format!("{}: expected an object of strings: {e}", listed.display())))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let Some(defect) = defects.get(&*stem) else {
        return Err(failed(path, format!("{}: expected a defect for {stem}, found none", listed.display())));
    };
    match inspect(&path.to_string_lossy()) {
        Err(error) => Ok(GoldenH5 { compared: format!("refused: {error}"), largest_error: 0.0, tolerance: 0.0 }),
        Ok(_) => Err(failed(path, format!("expected to be refused ({defect}), was accepted"))),
    }
}

fn equals(path: &Path, expected_path: &Path) -> Result<GoldenH5> {
    let bytes = files::read(expected_path, files::TENSORS).map_err(Error::io(expected_path))?;
    let broken = |e: &dyn std::fmt::Display| Error::Data(format!("{}: {e}", expected_path.display()));
    let expected = SafeTensors::deserialize(&bytes).map_err(|e| broken(&e))?;
    let tensor = |name: &str, dtype: Dtype| {
        let tensor = expected.tensor(name).map_err(|e| broken(&e))?;
        if tensor.dtype() != dtype {
            return Err(broken(&format!("{name}: expected {dtype:?}, found {:?}", tensor.dtype())));
        }
        Ok(tensor)
    };
    inspect(&path.to_string_lossy())?;
    let dataset = Hdf5::open(path)?;
    let single = dataset.single_precision_statistics();

    for (name, found) in [("train_img_mean_channels", dataset.mean()), ("train_img_std_channels", dataset.std())] {
        let wanted = numbers(tensor(name, Dtype::F64)?.data(), f64::from_le_bytes);
        let wanted = if single { wanted.into_iter().map(|x| f64::from(x as f32)).collect() } else { wanted };
        if wanted != found {
            return Err(failed(path, format!("/{name}: expected {wanted:?}, found {found:?}")));
        }
    }
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(&e))?;
    if let Some(text) = metadata.metadata().as_ref().and_then(|m| m.get("categories")) {
        let wanted: Vec<String> = serde_json::from_str(text).map_err(|e| broken(&format!("categories: {e}")))?;
        if wanted != dataset.classes() {
            return Err(failed(path, format!("/categories: expected {wanted:?}, found {:?}", dataset.classes())));
        }
    }

    let normaliser = Normaliser::new(dataset.mean(), dataset.std());
    let tolerance = if single { SINGLE_PRECISION_TOLERANCE } else { 0.0 };
    let (mut largest_error, mut values, mut splits) = (0.0_f64, 0, Vec::new());
    for split in SPLITS {
        let Ok(wanted) = expected.tensor(&format!("{split}/data")) else { continue };
        let n = dataset.len(split)?;
        let side = dataset.image_size();
        let pictures = dataset.read(split, &(0..n).collect::<Vec<_>>())?;
        if wanted.shape() != [n, side, side, 3] || wanted.data() != pictures.data {
            let (found, wanted) = ([n, side, side, 3], wanted.shape());
            return Err(failed(path, format!("/{split}/data: expected other bytes (shapes {wanted:?}, {found:?})")));
        }
        let wanted = numbers(tensor(&format!("{split}/labels"), Dtype::I64)?.data(), i64::from_le_bytes);
        if !wanted.iter().copied().eq(pictures.labels.iter().map(|&l| i64::from(l))) {
            let found = &pictures.labels;
            return Err(failed(path, format!("/{split}/labels: expected {wanted:?}, found {found:?}")));
        }
        // The reference is [N, 3, S, S], pictures are [N, S, S, 3].
        let wanted = numbers(tensor(&format!("{split}/normalised"), Dtype::F32)?.data(), f32::from_le_bytes);
        if wanted.len() != pictures.data.len() {
            return Err(failed(path, format!("{split}/normalised: expected {} values", pictures.data.len())));
        }
        let pixels = side * side;
        for (i, &wanted) in wanted.iter().enumerate() {
            let (image, c, pixel) = (i / (3 * pixels), i / pixels % 3, i % pixels);
            let found = normaliser.value(c, pictures.data[(image * pixels + pixel) * 3 + c]);
            let error = f64::from(wanted - found).abs();
            largest_error = largest_error.max(if error.is_nan() { f64::INFINITY } else { error });
        }
        values += wanted.len();
        splits.push(format!("{split} {n}"));
    }
    if splits.is_empty() {
        return Err(broken(&"expected tensors <split>/data, found none"));
    }
    if largest_error > tolerance {
        let what = format!("normalised pictures: largest error {largest_error:.3e}, tolerance {tolerance:.0e}");
        return Err(failed(path, what));
    }
    let compared =
        format!("pictures, labels, statistics, categories and {values} normalised values ({})", splits.join(", "));
    Ok(GoldenH5 { compared, largest_error, tolerance })
}

fn numbers<const N: usize, T>(bytes: &[u8], read: fn([u8; N]) -> T) -> Vec<T> {
    let (values, _) = bytes.as_chunks::<N>();
    values.iter().map(|&b| read(b)).collect()
}

fn failed(path: &Path, what: String) -> Error {
    Error::Data(format!("{}: {what}", path.display()))
}
