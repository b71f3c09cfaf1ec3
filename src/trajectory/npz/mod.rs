//! Stored outputs and representations of a network, in the layout that the published extraction script writes.

mod array;
mod stored;

pub use array::{Array, Npz};
pub use stored::{StoredBatch, StoredExtraction};

use std::path::Path;

use npyz::WriterBuilder;

use super::readout::Readout;
use crate::files::write_atomically;
use crate::{Error, Result};

/// The arrays of one network over one set of samples: T timesteps, N samples, K classes, D features; all at least 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Extraction {
    /// T.
    pub timesteps: usize,
    /// N.
    pub samples: usize,
    /// K.
    pub classes: usize,
    /// D.
    pub features: usize,
    /// `outputs_all` \[T, N, K\]: what the readout says, log-probabilities in the published script. Finite.
    pub outputs: Vec<f64>,
    /// `labels_all` \[N\], each below K.
    pub labels: Vec<usize>,
    /// `representations_all` \[T, N, D\]: what the readout sees. Finite.
    pub representations: Vec<f64>,
    /// `readout_weight` \[K, D\]. Finite.
    pub readout_weight: Vec<f64>,
    /// `readout_bias` \[K\]; an array of no entries, or none of this name, stands for a readout without bias.
    pub readout_bias: Option<Vec<f64>>,
}

/// The arrays of an extraction, in the order in which it is written.
pub const NAMES: [&str; 5] = ["outputs_all", "labels_all", "representations_all", "readout_weight", "readout_bias"];

impl Extraction {
    /// The readout.
    ///
    /// # Errors
    /// A vector without direction.
    pub fn readout(&self) -> Result<Readout> {
        Readout::new(self.readout_weight.clone(), self.classes, self.features)
    }

    /// Whether the file is an npz that holds the arrays of an extraction, by its contents. A file that cannot be read,
    /// or is no npz, is none.
    pub fn is_one(path: &Path) -> bool {
        Npz::open(path).is_ok_and(|npz| NAMES[..4].iter().all(|name| npz.holds(name)))
    }

    /// Reads an npz file: arrays of floating-point numbers of 2, 4 or 8 bytes or of integers, in C or Fortran order, of either
    /// byte order. Refuses arrays that are missing, disagree in shape, hold labels that are no class, or numbers that are not
    /// finite; the message names the file and the array.
    pub fn read(path: &Path) -> Result<Extraction> {
        let mut npz = Npz::open(path)?;
        npz.expect(&NAMES[..4])?;
        let arrays = NAMES.into_iter().zip([3, 1, 3, 2, 1]);
        let arrays: Vec<Array> = arrays.map(|(name, rank)| small(&mut npz, name, rank)).collect::<Result<_>>()?;
        let extent = check_shapes(&npz, std::array::from_fn(|i| arrays[i].shape.as_slice()))?;
        NAMES.iter().zip(&arrays).try_for_each(|(name, array)| finite(&npz, name, array))?;
        let labels = labels(&npz, &arrays[1], extent.classes)?;
        let Extent { timesteps, samples, classes, features } = extent;
        let [outputs, _, representations, weight, bias] = <[Array; 5]>::try_from(arrays).expect("five names");
        Ok(Extraction {
            timesteps,
            samples,
            classes,
            features,
            outputs: outputs.data,
            labels,
            representations: representations.data,
            readout_weight: weight.data,
            readout_bias: (bias.shape[0] != 0).then_some(bias.data),
        })
    }

    /// Writes the arrays as an npz file of float64, as the published script does, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.encode().map_err(Error::io(path))?;
        write_atomically(path, &bytes).map_err(Error::io(path))
    }

    fn encode(&self) -> std::io::Result<Vec<u8>> {
        let [t, n, k, d] = [self.timesteps, self.samples, self.classes, self.features].map(|length| length as u64);
        let labels: Vec<f64> = self.labels.iter().map(|&label| label as f64).collect();
        let bias = self.readout_bias.as_deref().unwrap_or(&[]);
        let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, shape, data) in [
            (NAMES[0], [t, n, k].as_slice(), self.outputs.as_slice()),
            (NAMES[1], &[n], &labels),
            (NAMES[2], &[t, n, d], &self.representations),
            (NAMES[3], &[k, d], &self.readout_weight),
            (NAMES[4], &[bias.len() as u64], bias),
        ] {
            zip.start_file(format!("{name}.npy"), stored.large_file(true))?;
            let mut array = npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut zip).begin_nd()?;
            array.extend(data.iter())?;
            array.finish()?;
        }
        Ok(zip.finish()?.into_inner())
    }

    /// \[K\] Outputs of one sample at one timestep.
    pub fn output(&self, t: usize, sample: usize) -> &[f64] {
        &self.outputs[(t * self.samples + sample) * self.classes..][..self.classes]
    }

    /// \[D\] Representation of one sample at one timestep.
    pub fn representation(&self, t: usize, sample: usize) -> &[f64] {
        &self.representations[(t * self.samples + sample) * self.features..][..self.features]
    }
}

/// Extents of an extraction, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// T.
    pub timesteps: usize,
    /// N.
    pub samples: usize,
    /// K.
    pub classes: usize,
    /// D.
    pub features: usize,
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let Extent { timesteps, samples, classes, features } = self;
        write!(f, "{timesteps} timesteps, {samples} samples, {classes} classes and {features} features")
    }
}

/// An array that is held whole; the bias is without entries where the file has no array of its name.
fn small(npz: &mut Npz, name: &str, rank: usize) -> Result<Array> {
    if name == NAMES[4] && !npz.holds(name) {
        return Ok(Array { shape: vec![0], data: Vec::new() });
    }
    npz.array(name, rank)
}

/// The extents that follow from the shapes of the five arrays, in the order of [`NAMES`], if these agree.
fn check_shapes(npz: &Npz, [outputs, labels, representations, weight, bias]: [&[usize]; 5]) -> Result<Extent> {
    let (t, n, k, d) = (outputs[0], outputs[1], outputs[2], representations[2]);
    // Both arrays with images before timesteps, or one of them.
    let both = t != n && labels == [t] && representations[..2] == [t, n];
    if both || (t != n && representations[..2] == [n, t]) {
        let of_outputs = both || labels != [n];
        let (name, found, last) = if of_outputs { (NAMES[0], outputs, "K") } else { (NAMES[2], representations, "D") };
        let mended = [NAMES[0], NAMES[2]].into_iter().filter(|of| both || *of == name);
        let mended: Vec<String> = mended.map(|of| format!("{of} = {of}.swapaxes(0, 1)")).collect();
        let what = format!(
            "expected [T, N, {last}] with N = {} as labels_all, found shape {found:?}: timesteps and images are swapped; in \
             numpy: {}",
            labels[0],
            mended.join("; ")
        );
        return Err(npz.refuse(name, &what));
    }
    if weight != [k, d] && weight == [d, k] {
        let what = format!("expected shape [{k}, {d}], found {weight:?}; in numpy: {0} = {0}.T", NAMES[3]);
        return Err(npz.refuse(NAMES[3], &what));
    }
    for (name, found, expected) in [
        (NAMES[0], outputs, [t.max(1), n.max(1), k.max(1)].as_slice()),
        (NAMES[1], labels, &[n]),
        (NAMES[2], representations, &[t, n, d.max(1)]),
        (NAMES[3], weight, &[k, d]),
    ] {
        if found != expected {
            return Err(npz.refuse(name, &format!("expected shape {expected:?}, found {found:?}")));
        }
    }
    if bias[0] != 0 && bias[0] != k {
        return Err(npz.refuse(NAMES[4], &format!("expected {k} entries, or none, found {}", bias[0])));
    }
    Ok(Extent { timesteps: t, samples: n, classes: k, features: d })
}

/// Refuses an array with a number that is not finite.
fn finite(npz: &Npz, name: &str, array: &Array) -> Result<()> {
    match array.data.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(at) => {
            let (found, place) = (array.data[at], array::place(at, &array.shape));
            Err(npz.refuse(name, &format!("expected finite numbers, found {found} at {place}")))
        }
    }
}

/// The labels, if each is a class.
fn labels(npz: &Npz, array: &Array, classes: usize) -> Result<Vec<usize>> {
    let is_class = |label: f64| label.fract() == 0.0 && (0.0..classes as f64).contains(&label);
    match array.data.iter().position(|&label| !is_class(label)) {
        None => Ok(array.data.iter().map(|&label| label as usize).collect()),
        Some(at) => {
            let found = array.data[at];
            let from_one = |label: f64| label == classes as f64 || (label >= 1.0 && is_class(label));
            let hint = match array.data.iter().all(|&label| from_one(label)) {
                true => format!(
                    "; none is 0, so that they seem to count from 1: in numpy: {0} = {0} - 1, if class 0 is the first row of \
                     readout_weight",
                    NAMES[1]
                ),
                false => String::new(),
            };
            let what = format!("expected whole numbers from 0 on, below {classes}, found {found} at [{at}]{hint}");
            Err(npz.refuse(NAMES[1], &what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::Order;
    use std::fs::File;

    fn example() -> Extraction {
        let values = |count: usize| (0..count).map(|i| i as f64 / 8.0 - 1.0).collect::<Vec<_>>();
        Extraction {
            timesteps: 2,
            samples: 3,
            classes: 4,
            features: 5,
            outputs: values(24),
            labels: vec![0, 3, 1],
            representations: values(30),
            readout_weight: values(20),
            readout_bias: Some(values(4)),
        }
    }

    /// Writes the example array by array, with one array replaced.
    fn write_with<T: npyz::AutoSerialize + Copy>(
        path: &Path,
        replaced: &str,
        replacement: Option<(&[u64], Order, &[T])>,
    ) {
        let one = example();
        let labels: Vec<f64> = one.labels.iter().map(|&label| label as f64).collect();
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, shape, data) in [
            ("outputs_all", [2u64, 3, 4].as_slice(), &one.outputs),
            ("labels_all", &[3], &labels),
            ("representations_all", &[2, 3, 5], &one.representations),
            ("readout_weight", &[4, 5], &one.readout_weight),
            ("readout_bias", &[4], one.readout_bias.as_ref().unwrap()),
        ] {
            let options = zip::write::SimpleFileOptions::default();
            if name != replaced {
                zip.start_file(format!("{name}.npy"), options).unwrap();
                let mut npy =
                    npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut zip).begin_nd().unwrap();
                npy.extend(data.iter()).unwrap();
                npy.finish().unwrap();
            } else if let Some((shape, order, data)) = replacement {
                zip.start_file(format!("{name}.npy"), options).unwrap();
                let options = npyz::WriteOptions::new().default_dtype().shape(shape).order(order);
                let mut npy = options.writer(&mut zip).begin_nd().unwrap();
                npy.extend(data.iter()).unwrap();
                npy.finish().unwrap();
            }
        }
        zip.finish().unwrap();
    }

    /// The example with images before timesteps.
    fn swap_both(path: &Path) {
        let one = example();
        let labels = one.labels.iter().map(|&label| label as f64).collect();
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        for (name, shape, data) in [
            ("outputs_all", [3u64, 2, 4].as_slice(), one.outputs),
            ("labels_all", &[3], labels),
            ("representations_all", &[3, 2, 5], one.representations),
            ("readout_weight", &[4, 5], one.readout_weight),
        ] {
            zip.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
            let mut npy = npyz::WriteOptions::new().default_dtype().shape(shape).writer(&mut zip).begin_nd().unwrap();
            npy.extend(data.iter()).unwrap();
            npy.finish().unwrap();
        }
        zip.finish().unwrap();
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        for bias in [example().readout_bias, None] {
            let one = Extraction { readout_bias: bias, ..example() };
            one.write(&path).unwrap();
            assert!(Extraction::is_one(&path));
            assert_eq!(Extraction::read(&path).unwrap(), one);
        }
        assert!(matches!(example().write(&folder.path().join("no/such/folder.npz")), Err(Error::Io { .. })));
    }

    #[test]
    fn without_an_array_of_biases_there_is_no_bias() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        example().write(&path).unwrap();
        assert!(StoredExtraction::open(&path).unwrap().names_bias);
        write_with::<f64>(&path, "readout_bias", None);
        assert!(!StoredExtraction::open(&path).unwrap().names_bias && Extraction::is_one(&path));
        assert_eq!(Extraction::read(&path).unwrap(), Extraction { readout_bias: None, ..example() });
        assert_eq!(StoredExtraction::open(&path).unwrap().readout_bias, None);
    }

    #[test]
    fn other_types_and_orders() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        // Fortran order: the first index runs fastest.
        let mut fortran = Vec::new();
        for d in 0..5 {
            for n in 0..3 {
                for t in 0..2 {
                    fortran.push(example().representation(t, n)[d] as f32);
                }
            }
        }
        write_with(&path, "representations_all", Some((&[2, 3, 5], Order::Fortran, &fortran)));
        assert_eq!(Extraction::read(&path).unwrap(), example());
        write_with(&path, "labels_all", Some((&[3], Order::C, &[0i64, 3, 1])));
        assert_eq!(Extraction::read(&path).unwrap(), example());
        write_with(&path, "labels_all", Some((&[3], Order::C, &[0u8, 3, 1])));
        assert_eq!(Extraction::read(&path).unwrap(), example());
    }

    #[test]
    fn errors_name_file_array_expected_and_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.npz");
        let refused = |words: &[&str]| {
            let message = Extraction::read(&path).unwrap_err().to_string();
            for word in words.iter().chain(&["broken.npz"]) {
                assert!(message.contains(word), "'{word}' is not in: {message}");
            }
        };
        write_with::<f64>(&path, "readout_weight", None);
        assert!(!Extraction::is_one(&path));
        refused(&["readout_weight", "found labels_all, outputs_all, readout_bias, representations_all"]);
        write_with(&path, "readout_weight", Some((&[4, 4], Order::C, &[1.0; 16])));
        refused(&["readout_weight", "[4, 5]", "[4, 4]"]);
        write_with(&path, "outputs_all", Some((&[2, 12], Order::C, &[1.0; 24])));
        refused(&[
            "outputs_all",
            "3 dimensions",
            "[2, 12]",
            "outputs_all = outputs_all[None], if there is one timestep",
        ]);
        write_with(&path, "readout_bias", Some((&[3], Order::C, &[1.0; 3])));
        refused(&["readout_bias", "4", "3"]);
        write_with(&path, "labels_all", Some((&[3], Order::C, &[0.0, 4.0, 1.0])));
        refused(&["labels_all", "below 4", "found 4 at [1]"]);
        write_with(&path, "labels_all", Some((&[3], Order::C, &[0.0, 0.5, -1.0])));
        refused(&["labels_all", "found 0.5 at [1]"]);
        write_with(&path, "labels_all", Some((&[3], Order::C, &[1.0, 4.0, 2.0])));
        refused(&["labels_all", "below 4", "found 4 at [1]", "count from 1", "labels_all = labels_all - 1"]);
        write_with(&path, "labels_all", Some((&[3, 1], Order::C, &[0.0, 3.0, 1.0])));
        refused(&["labels_all", "expected 1 dimension,", "[3, 1]", "labels_all = labels_all.reshape(-1)"]);
        let one_hot = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
        write_with(&path, "labels_all", Some((&[3, 4], Order::C, &one_hot)));
        refused(&["labels_all", "expected 1 dimension,", "[3, 4]", "labels_all = labels_all.argmax(axis=1)"]);
        write_with(&path, "readout_bias", Some((&[1, 4], Order::C, &[1.0; 4])));
        refused(&["readout_bias", "[1, 4]", "readout_bias = readout_bias.reshape(-1)"]);
        write_with(&path, "readout_weight", Some((&[5, 4], Order::C, &[1.0; 20])));
        refused(&["readout_weight", "[4, 5]", "[5, 4]", "readout_weight = readout_weight.T"]);
        write_with(&path, "outputs_all", Some((&[3, 2, 4], Order::C, &[1.0; 24])));
        refused(&["outputs_all", "[T, N, K] with N = 3", "[3, 2, 4]", "outputs_all = outputs_all.swapaxes(0, 1)"]);
        write_with(&path, "representations_all", Some((&[3, 2, 5], Order::C, &[1.0; 30])));
        let swapped = ["representations_all = representations_all.swapaxes(0, 1)"];
        refused(&["array 'representations_all'", "[T, N, D] with N = 3", "[3, 2, 5]", swapped[0]]);
        swap_both(&path);
        refused(&["array 'outputs_all'", "N = 3", "[3, 2, 4]", "outputs_all = outputs_all.swapaxes(0, 1)", swapped[0]]);
        write_with(&path, "labels_all", Some((&[3], Order::C, &[false, true, true])));
        refused(&["labels_all", "floating-point numbers", "b1"]);
        let mut values = example().representations;
        values[17] = f64::NAN;
        write_with(&path, "representations_all", Some((&[2, 3, 5], Order::C, &values)));
        refused(&["representations_all", "NaN at [1, 0, 2]"]);
        write_with(&path, "outputs_all", Some((&[2, 0, 4], Order::C, &[0f64; 0])));
        refused(&["outputs_all", "[2, 1, 4]", "[2, 0, 4]"]);

        example().write(&path).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        refused(&["npz"]);
        let mut bytes = Vec::new();
        let mut npy = npyz::WriteOptions::new().default_dtype().shape(&[3]).writer(&mut bytes).begin_nd().unwrap();
        npy.extend([1.0, 2.0, 3.0]).unwrap();
        npy.finish().unwrap();
        std::fs::write(&path, bytes).unwrap();
        refused(&["a single array (npy)", "numpy.savez(", "NAME=numpy.load("]);
        std::fs::write(&path, "not a zip").unwrap();
        refused(&["npz"]);
        assert!(!Extraction::is_one(&path));
        let gone = Extraction::read(&folder.path().join("gone.npz")).unwrap_err().to_string();
        assert!(gone.contains("gone.npz"), "{gone}");
    }
}
