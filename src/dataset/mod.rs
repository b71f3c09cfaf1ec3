//! Pictures and labels: MiniEcoset's HDF5 files, folders of images, built-in stimuli; batches prepared off the
//! training thread.
//!
//! [`open`] turns what the user wrote after `--data` into a [`Dataset`]; a [`Loader`] turns a split of it into
//! [`Batch`]es; [`inspect`](inspect::inspect) reads and verifies all of it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::{Error, Result};

pub mod augment;
mod chunks;
mod exif;
mod folder;
mod glyphs;
pub mod goldens;
mod hdf5;
pub mod inspect;
mod jpeg;
mod loader;
pub mod names;
pub(crate) mod outline;
mod picture;
pub mod place;
mod png;
pub(crate) mod random;
pub mod statistics;

pub use augment::Augmentation;
pub use folder::Folder;
pub use glyphs::Glyphs;
pub use hdf5::Hdf5;
pub use loader::{LastBatch, Loader, TrainingBatches, permutation};

/// The splits of MiniEcoset, in its order. `testplus` is the larger (here: also harder) second test set.
pub const SPLITS: [&str; 4] = ["train", "val", "test", "testplus"];

/// Decoded pictures kept in memory per data set, in bytes; splits beyond it are read from disk batch by batch.
const CACHE_BYTES: usize = 256 << 20;

/// Labelled square RGB pictures in named splits.
pub trait Dataset: Send + Sync {
    /// What the pictures are and where they lie, for messages and reports.
    fn name(&self) -> String;
    /// Class names; a label is an index into them.
    fn classes(&self) -> &[String];
    /// Side of the square pictures, in pixels.
    fn image_size(&self) -> usize;
    /// The splits that exist, in the order of [`SPLITS`].
    fn splits(&self) -> Vec<String>;
    /// Labels of a split in its own order (for an endless split: of its first epoch). An error names the split and
    /// lists those there are.
    fn labels(&self, split: &str) -> Result<Vec<u32>>;
    /// Number of pictures in a split (for an endless split: of one epoch). An error as for [`Dataset::labels`].
    fn len(&self, split: &str) -> Result<usize>;
    /// Whether the split goes on for ever: epoch e of it holds the pictures `e * len .. (e + 1) * len`.
    fn endless(&self, _split: &str) -> bool {
        false
    }
    /// Mean of each channel over the training set, on the scale 0..255.
    fn mean(&self) -> [f64; 3];
    /// Standard deviation of each channel over the training set, on the scale 0..255.
    fn std(&self) -> [f64; 3];
    /// Whether mean and deviation are what a file states, rather than computed from the pictures.
    fn states_statistics(&self) -> bool {
        false
    }
    /// The pictures at these indices of a split, in this order.
    fn read(&self, split: &str, indices: &[usize]) -> Result<Pictures>;
    /// The bytes of the file that a picture of a split has to itself; `None` where it has none.
    fn stored(&self, _split: &str, _picture: usize) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
    /// The pixels of a picture that is stored so.
    fn decode(&self, stored: Vec<u8>) -> Result<Vec<u8>> {
        Ok(stored)
    }
    /// Reads a split where opening did not, or where that takes long some of it, and finds what is damaged before it is needed. An
    /// error as for [`Dataset::labels`].
    fn verify(&self, split: &str) -> Result<()> {
        self.len(split).map(drop)
    }
    /// The splits in which pictures may be damaged that neither opening nor [`Dataset::verify`] has looked at, as that takes long:
    /// who trains on them has [`Dataset::examine`] look at all before the first epoch is over.
    fn unverified(&self) -> Vec<String> {
        Vec::new()
    }
    /// Looks whether these pictures of a split are sound. An error names what is damaged.
    fn examine(&self, split: &str, pictures: Range<usize>) -> Result<()> {
        self.read(split, &pictures.collect::<Vec<_>>()).map(drop)
    }
    /// What the user should know about how the data were read, one sentence each.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Pictures as stored: bytes, image by image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pictures {
    /// `[n][side][side][3]` ("NHWC"), RGB.
    pub data: Vec<u8>,
    /// `[n]`, indices into the class names.
    pub labels: Vec<u32>,
    /// Number of pictures.
    pub n: usize,
    /// Height and width in pixels.
    pub side: usize,
}

/// A batch as the network takes it: bytes, which the device normalises.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// `[labels.len()][side][side][3]`, filled up with zeros to whole words of four bytes.
    pub pictures: Vec<u8>,
    /// The picture that follows each of them in its split (the last is followed by the first), likewise; for protocols that
    /// show it.
    pub next: Option<Vec<u8>>,
    /// One label per picture, padding included.
    pub labels: Vec<u32>,
    /// How many pictures are real; those after them repeat the last one.
    pub n: usize,
    /// How many are real in the whole batch that this is a part of.
    pub whole: usize,
}

impl Batch {
    /// Pictures as a batch of `size`, the last repeated until there are so many.
    pub fn new(pictures: Pictures, size: usize) -> Batch {
        let Pictures { data, mut labels, n, side } = pictures;
        labels.resize(size, labels[n - 1]);
        let n = n.min(size);
        Batch { pictures: padded(data, 3 * side * side, size), next: None, labels, n, whole: n }
    }

    /// Bytes of a batch of `size` pictures.
    pub fn bytes(side: usize, size: usize, next: bool) -> u64 {
        let pictures = (3 * side * side * size).next_multiple_of(4);
        (pictures * (1 + usize::from(next)) + size_of::<u32>() * size) as u64
    }

    /// Adds the pictures that follow.
    pub fn with_next(self, next: Pictures) -> Batch {
        let next = padded(next.data, 3 * next.side * next.side, self.labels.len());
        Batch { next: Some(next), ..self }
    }
}

impl Batch {
    /// The batch cut into `parts` batches of equal length, which must divide it.
    pub fn parts(&self, parts: usize) -> Vec<Batch> {
        let (size, bytes) = (self.labels.len() / parts, self.pictures.len() / self.labels.len());
        assert_eq!(size * parts, self.labels.len(), "parts of a batch");
        let cut = |all: &[u8], part: usize| padded(all[part * size * bytes..][..size * bytes].to_vec(), bytes, size);
        let one = |part: usize| Batch {
            pictures: cut(&self.pictures, part),
            next: self.next.as_ref().map(|next| cut(next, part)),
            labels: self.labels[part * size..][..size].to_vec(),
            n: self.n.saturating_sub(part * size).min(size),
            whole: self.whole,
        };
        (0..parts).map(one).collect()
    }
}

/// Pictures of `bytes` bytes each, the last repeated until there are `size`, in whole words.
fn padded(mut data: Vec<u8>, bytes: usize, size: usize) -> Vec<u8> {
    data.truncate(size * bytes);
    data.reserve_exact((size * bytes).next_multiple_of(4) - data.len());
    while data.len() < size * bytes {
        data.extend_from_within(data.len() - bytes..);
    }
    data.resize((size * bytes).next_multiple_of(4), 0);
    data
}

/// Opens what the user named: an HDF5 file, a folder of images, or `glyphs` (also `glyphs:key=value,...`).
///
/// `image_size` is the side of the network's pictures: folders are resized to it and glyphs drawn at it, HDF5
/// pictures must have it. Without it, HDF5 pictures keep their own size, folders get 64 px and glyphs 32 px.
pub fn open(spec: &str, image_size: Option<usize>) -> Result<Arc<dyn Dataset>> {
    if image_size == Some(0) {
        return Err(Error::Config("image_size: expected at least 1, found 0".into()));
    }
    let (word, options) = spec.split_once(':').unwrap_or((spec, ""));
    if word == "glyphs" {
        return Ok(Arc::new(Glyphs::parse(options, image_size.unwrap_or(32))?));
    }
    let path = Path::new(spec);
    if path.is_dir() {
        Ok(Arc::new(Folder::open(path, image_size.unwrap_or(64))?))
    } else if path.is_file() {
        let dataset = Hdf5::open(path)?;
        match image_size {
            Some(side) if side != dataset.image_size() => Err(Error::Data(format!(
                "{spec}: its pictures are {found} x {found} pixels, the network's image_size is {side}; use a file with \
                 {side} x {side} pictures",
                found = dataset.image_size(),
            ))),
            _ => Ok(Arc::new(dataset)),
        }
    } else {
        let here = std::env::current_dir().ok().filter(|_| path.is_relative());
        let here = here.map_or(String::new(), |here| format!(" in {}", here.display()));
        Err(Error::Data(format!(
            "{spec}: no such file or folder{here}; expected an HDF5 file in MiniEcoset's schema, a folder with \
             train/<class>/*.png or *.jpg, or the word glyphs for the built-in stimuli"
        )))
    }
}

/// The error for a split that is not there.
fn no_such_split(dataset: &str, split: &str, there: &[String]) -> Error {
    Error::Data(format!("{dataset}: there is no split {split}; expected one of: {}", there.join(", ")))
}

/// The error for an index beyond a split's end.
fn no_such_picture(dataset: &str, split: &str, index: usize, len: usize) -> Error {
    Error::Data(format!("{dataset}: picture {index} of split {split} was asked for, but it has only {len}"))
}

/// Normalises with the training set's channel statistics: `(byte / 255 - f32(mean / 255)) / f32(std / 255)`, all in
/// f32, as the published code does (torchvision's `ToTensor` and `Normalize`).
pub struct Normaliser {
    table: [[f32; 256]; 3],
}

impl Normaliser {
    /// From means and standard deviations on the scale 0..255.
    pub fn new(mean: [f64; 3], std: [f64; 3]) -> Normaliser {
        let table = std::array::from_fn(|c| {
            let (mean, std) = ((mean[c] / 255.0) as f32, (std[c] / 255.0) as f32);
            std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / std)
        });
        Normaliser { table }
    }

    /// The normalised value of a byte of channel `c` (0 red, 1 green, 2 blue).
    pub fn value(&self, c: usize, byte: u8) -> f32 {
        self.table[c][byte as usize]
    }

    /// All values, [3, 256]: what the device gets.
    pub fn table(&self) -> &[f32] {
        self.table.as_flattened()
    }
}

/// Sums over pixels from which channel means and standard deviations follow; exact, whatever the order.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChannelSums {
    pixels: u64,
    sum: [u64; 3],
    squares: [u64; 3],
}

impl ChannelSums {
    /// Adds RGB bytes.
    pub fn add(&mut self, rgb: &[u8]) {
        self.pixels += rgb.len() as u64 / 3;
        for pixel in rgb.chunks_exact(3) {
            for c in 0..3 {
                let value = u64::from(pixel[c]);
                self.sum[c] += value;
                self.squares[c] += value * value;
            }
        }
    }

    /// Adds what another thread summed.
    pub fn merge(&mut self, other: &ChannelSums) {
        self.pixels += other.pixels;
        for c in 0..3 {
            self.sum[c] += other.sum[c];
            self.squares[c] += other.squares[c];
        }
    }

    /// Mean of each channel, 0..255.
    pub fn mean(&self) -> [f64; 3] {
        self.sum.map(|sum| sum as f64 / self.pixels as f64)
    }

    /// Standard deviation of each channel over all pixels (divisor: their number), 0..255.
    pub fn std(&self) -> [f64; 3] {
        std::array::from_fn(|c| {
            let n = u128::from(self.pixels);
            let spread = n * u128::from(self.squares[c]) - u128::from(self.sum[c]).pow(2);
            (spread as f64).sqrt() / self.pixels as f64
        })
    }
}
