//! Stored outputs and representations of a network, in the layout that the published extraction script writes.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use npyz::WriterBuilder;
use zip::ZipArchive;

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
    /// `readout_bias` \[K\]; an array of no entries stands for a readout without bias.
    pub readout_bias: Option<Vec<f64>>,
}

const NAMES: [&str; 5] = ["outputs_all", "labels_all", "representations_all", "readout_weight", "readout_bias"];

impl Extraction {
    /// Whether the file is an npz that holds the arrays of an extraction, by its contents. A file that cannot be read,
    /// or is no npz, is none.
    pub fn is_one(path: &Path) -> bool {
        let Some(archive) = File::open(path).ok().and_then(|file| ZipArchive::new(BufReader::new(file)).ok()) else {
            return false;
        };
        NAMES[..4].iter().all(|name| archive.index_for_name(&format!("{name}.npy")).is_some())
    }

    /// Reads an npz file: arrays of f64, f32 or integers, in C or Fortran order, of either byte order. Refuses arrays
    /// that are missing, disagree in shape, hold labels that are no class, or numbers that are not finite; the message
    /// names the file and the array.
    pub fn read(path: &Path) -> Result<Extraction> {
        let file = File::open(path).map_err(Error::io(path))?;
        let mut archive = ZipArchive::new(BufReader::new(file))
            .map_err(|e| Error::Data(format!("{}: expected an npz (zip) file: {e}", path.display())))?;
        let mut array =
            |name: &str, rank: usize| read_array(&mut archive, name, rank).map_err(|what| refuse(path, name, &what));
        let outputs = array("outputs_all", 3)?;
        let labels = array("labels_all", 1)?;
        let representations = array("representations_all", 3)?;
        let weight = array("readout_weight", 2)?;
        let bias = array("readout_bias", 1)?;
        let (t, n, k, d) = (outputs.shape[0], outputs.shape[1], outputs.shape[2], representations.shape[2]);
        for (name, array, expected) in [
            ("outputs_all", &outputs, [t.max(1), n.max(1), k.max(1)].as_slice()),
            ("labels_all", &labels, &[n]),
            ("representations_all", &representations, &[t, n, d.max(1)]),
            ("readout_weight", &weight, &[k, d]),
        ] {
            if array.shape != expected {
                return Err(refuse(path, name, &format!("expected shape {expected:?}, found {:?}", array.shape)));
            }
        }
        if bias.shape[0] != 0 && bias.shape[0] != k {
            let found = bias.shape[0];
            return Err(refuse(path, "readout_bias", &format!("expected {k} entries, or none, found {found}")));
        }
        for (name, array) in NAMES.iter().zip([&outputs, &labels, &representations, &weight, &bias]) {
            if let Some(at) = array.data.iter().position(|value| !value.is_finite()) {
                let place = place(at, &array.shape);
                return Err(refuse(
                    path,
                    name,
                    &format!("expected finite numbers, found {} at {place}", array.data[at]),
                ));
            }
        }
        if let Some(at) =
            labels.data.iter().position(|&label| label.fract() != 0.0 || !(0.0..k as f64).contains(&label))
        {
            let found = labels.data[at];
            return Err(refuse(
                path,
                "labels_all",
                &format!("expected whole numbers below {k}, found {found} at [{at}]"),
            ));
        }
        Ok(Extraction {
            timesteps: t,
            samples: n,
            classes: k,
            features: d,
            outputs: outputs.data,
            labels: labels.data.iter().map(|&label| label as usize).collect(),
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

/// An array in C order.
struct Array {
    shape: Vec<usize>,
    data: Vec<f64>,
}

/// Reads one array of the archive as f64; the error says what is wrong with it.
fn read_array<R: Read + Seek>(archive: &mut ZipArchive<R>, name: &str, rank: usize) -> Result<Array, String> {
    let entry = archive.by_name(&format!("{name}.npy")).map_err(|e| format!("the array cannot be read: {e}"))?;
    let bytes = entry.size();
    let npy = npyz::NpyFile::new(entry).map_err(|e| format!("no npy array: {e}"))?;
    let shape: Vec<usize> = npy.shape().iter().map(|&length| length as usize).collect();
    if shape.len() != rank {
        return Err(format!("expected {rank} dimensions, found shape {shape:?}"));
    }
    let count = shape.iter().try_fold(1usize, |count, &length| count.checked_mul(length));
    if count.is_none_or(|count| count as u64 > bytes) {
        return Err(format!("shape {shape:?} asks for more numbers than its {bytes} bytes can hold"));
    }
    let strides: Vec<usize> = npy.strides().iter().map(|&stride| stride as usize).collect();
    let fortran = npy.order() == npyz::Order::Fortran;
    let stored = read_numbers(npy)?;
    let data =
        if fortran { (0..stored.len()).map(|at| stored[offset(at, &shape, &strides)]).collect() } else { stored };
    Ok(Array { shape, data })
}

/// Reads the numbers of an array, whichever of the usual types they have, in the order in which they are stored.
fn read_numbers<R: Read>(npy: npyz::NpyFile<R>) -> Result<Vec<f64>, String> {
    fn collect<T: npyz::Deserialize, R: Read>(
        numbers: npyz::NpyReader<T, R>,
        to_f64: impl Fn(T) -> f64,
    ) -> Result<Vec<f64>, String> {
        numbers.map(|number| number.map(&to_f64)).collect::<std::io::Result<_>>().map_err(|e| format!("cut short: {e}"))
    }
    let npy = match npy.try_data::<f64>() {
        Ok(numbers) => return collect(numbers, |x| x),
        Err(npy) => npy,
    };
    let npy = match npy.try_data::<f32>() {
        Ok(numbers) => return collect(numbers, f64::from),
        Err(npy) => npy,
    };
    let npy = match npy.try_data::<i64>() {
        Ok(numbers) => return collect(numbers, |x| x as f64),
        Err(npy) => npy,
    };
    let npy = match npy.try_data::<i32>() {
        Ok(numbers) => return collect(numbers, f64::from),
        Err(npy) => npy,
    };
    match npy.try_data::<u8>() {
        Ok(numbers) => collect(numbers, f64::from),
        Err(npy) => Err(format!("expected numbers of type f8, f4, i8, i4 or u1, found {}", npy.dtype().descr())),
    }
}

/// Where the element stands in storage that has C-order index `at` in an array of this shape.
fn offset(mut at: usize, shape: &[usize], strides: &[usize]) -> usize {
    let mut offset = 0;
    for (length, stride) in shape.iter().zip(strides).rev() {
        offset += at % length * stride;
        at /= length;
    }
    offset
}

/// The index of element `at` (C order) as people write it: `[2, 0, 7]`.
fn place(mut at: usize, shape: &[usize]) -> String {
    let mut index = vec![0; shape.len()];
    for (i, length) in index.iter_mut().zip(shape).rev() {
        *i = at % length;
        at /= length;
    }
    format!("{index:?}")
}

fn refuse(path: &Path, array: &str, what: &str) -> Error {
    Error::Data(format!("{}: array '{array}': {what}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use npyz::Order;

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
        refused(&["readout_weight"]);
        write_with(&path, "readout_weight", Some((&[4, 4], Order::C, &[1.0; 16])));
        refused(&["readout_weight", "[4, 5]", "[4, 4]"]);
        write_with(&path, "outputs_all", Some((&[2, 12], Order::C, &[1.0; 24])));
        refused(&["outputs_all", "3 dimensions", "[2, 12]"]);
        write_with(&path, "readout_bias", Some((&[3], Order::C, &[1.0; 3])));
        refused(&["readout_bias", "4", "3"]);
        write_with(&path, "labels_all", Some((&[3], Order::C, &[0.0, 4.0, 1.0])));
        refused(&["labels_all", "below 4", "found 4 at [1]"]);
        write_with(&path, "labels_all", Some((&[3], Order::C, &[0.0, 0.5, -1.0])));
        refused(&["labels_all", "found 0.5 at [1]"]);
        write_with(&path, "labels_all", Some((&[3], Order::C, &[0u16, 1, 2])));
        refused(&["labels_all", "u2"]);
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
        std::fs::write(&path, "not a zip").unwrap();
        refused(&["npz"]);
        assert!(!Extraction::is_one(&path));
        let gone = Extraction::read(&folder.path().join("gone.npz")).unwrap_err().to_string();
        assert!(gone.contains("gone.npz"), "{gone}");
    }
}
