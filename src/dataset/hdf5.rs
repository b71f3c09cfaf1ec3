//! MiniEcoset's HDF5 schema: groups `train`, `val`, `test` and, if there, `testplus`, each with `data` (u8 `[N, S, S, 3]`) and
//! `labels` (`[N]`); at the top `categories`, `train_img_mean_channels` and `train_img_std_channels` (0..255).
//!
//! External links and external storage are followed, relative to the file that names them. Virtual datasets are refused.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use hdf5_reader::error::Error as ReadError;
use hdf5_reader::storage::DynStorage;
use hdf5_reader::{
    Datatype, ExternalFileResolver, ExternalLinkResolver, FileStorage, Hdf5File, OpenOptions, SliceInfo, SliceInfoElem,
    StringSize,
};

use super::chunks::Chunks;
use super::names::class_names;
use super::{CACHE_BYTES, Dataset, Pictures, SPLITS, no_such_picture};
use crate::{Error, Result};

/// Bytes of a split too large to be kept that [`Dataset::verify`] reads, and in how many runs of neighbours.
const LOOKED_AT: usize = 64 << 20;
const RUNS: usize = 64;

/// More pictures of a split, or more classes, than these are taken for a damaged file.
const MOST_PICTURES: u64 = 1 << 26;
const MOST_CLASSES: u64 = 1_000_000;

/// Larger pictures than this are taken for a damaged file.
const LARGEST_SIDE: u64 = 4096;

/// An open file. Opening reads the structure and the labels and checks both; pictures are read when asked for.
pub struct Hdf5 {
    path: PathBuf,
    classes: Vec<String>,
    mean: [f64; 3],
    std: [f64; 3],
    /// Whether the statistics are stored in single precision.
    single_precision: bool,
    side: usize,
    splits: Vec<Split>,
    notes: Vec<String>,
    pointed: Arc<Pointed>,
}

struct Split {
    name: &'static str,
    labels: Vec<u32>,
    data: hdf5_reader::Dataset,
    /// Whether the split is decoded as a whole at its first use and kept: random access into compressed chunks would
    /// decode a chunk for every picture.
    keep: bool,
    kept: Mutex<Option<Arc<Vec<u8>>>>,
    /// Of a split that is not kept, where its pictures lie, if they lie there as they are; found at the first use.
    chunks: OnceLock<Option<Chunks>>,
}

impl Hdf5 {
    /// Opens a file that has at least `train`; a group that is there must be sound.
    pub fn open(path: &Path) -> Result<Hdf5> {
        let pointed = Arc::default();
        Hdf5::open_pointed(path, &pointed).map_err(|error| pointed.named(error))
    }

    fn open_pointed(path: &Path, pointed: &Arc<Pointed>) -> Result<Hdf5> {
        let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
        if size == 0 {
            return Err(Error::Data(format!(
                "{}: expected an HDF5 file, found an empty one (0 bytes)",
                path.display()
            )));
        }
        let options = Others::beside(path, pointed, 0);
        let file = Hdf5File::open_with_options(path, options).map_err(|e| not_readable(path, e))?;
        let end = file.superblock().eof_address;
        if end > size {
            return Err(Error::Data(format!(
                "{}: the HDF5 file is truncated: expected {end} bytes as its superblock says, found {size}; copy it again",
                path.display()
            )));
        }
        let root = file.root_group().map_err(|e| not_readable(path, e))?;
        let reader = Reader { path, file: &file, pointed };
        let (groups, datasets) = root.member_names().map_err(|e| cannot_read(path, "/", e))?;

        let (classes, notes) = class_names(reader.categories(&datasets)?);
        let (mean, single_precision) = reader.statistics(&datasets, "train_img_mean_channels", "finite", |_| true)?;
        let (std, _) = reader.statistics(&datasets, "train_img_std_channels", "positive", |x| x > 0.0)?;
        let mut hdf5 = Hdf5 {
            path: path.into(),
            classes,
            mean,
            std,
            single_precision,
            side: 0,
            splits: Vec::new(),
            notes,
            pointed: pointed.clone(),
        };
        for name in SPLITS.into_iter().filter(|name| !groups.iter().any(|g| g == name)) {
            reader.opened(&format!("/{name}"), || file.group(name))?;
        }
        if !groups.iter().any(|g| g == "train") {
            return Err(no_group(path, "train", &groups));
        }
        let mut room = CACHE_BYTES;
        for name in SPLITS.into_iter().filter(|name| groups.iter().any(|g| g == name)) {
            let (labels, data, side) = reader.split(name, hdf5.classes.len())?;
            if hdf5.splits.is_empty() {
                hdf5.side = side;
            } else if side != hdf5.side {
                let expected = format!("pictures of {0} x {0} pixels as in /train/data", hdf5.side);
                return Err(reader.wrong(&format!("/{name}/data"), &expected, &format!("{side} x {side}")));
            }
            let bytes = labels.len().saturating_mul(side * side * 3);
            let keep = bytes <= room;
            room -= if keep { bytes } else { 0 };
            hdf5.splits.push(Split { name, labels, data, keep, kept: Mutex::new(None), chunks: OnceLock::new() });
        }
        Ok(hdf5)
    }

    /// Whether the file stores mean and standard deviation as f32 rather than f64.
    pub fn single_precision_statistics(&self) -> bool {
        self.single_precision
    }

    fn split(&self, split: &str) -> Result<&Split> {
        let there: Vec<String> = self.splits();
        self.splits.iter().find(|s| s.name == split).ok_or_else(|| no_group(&self.path, split, &there))
    }

    fn picture_bytes(&self) -> usize {
        self.side * self.side * 3
    }

    /// Reads a split whose pictures are not kept, as much of it as is read in little time: runs of pictures at equal distances.
    fn look_into(&self, split: &Split) -> Result<()> {
        let count = split.labels.len();
        let run = (LOOKED_AT / RUNS / self.picture_bytes()).clamp(1, count);
        let runs = RUNS.min(count.div_ceil(run));
        for i in 0..runs {
            let first = if runs > 1 { i * (count - run) / (runs - 1) } else { 0 };
            self.slice(split, first, run)?;
        }
        Ok(())
    }

    /// All bytes of a small split, decoded once.
    fn kept(&self, split: &Split) -> Result<Arc<Vec<u8>>> {
        let mut kept = locked(&split.kept);
        if let Some(bytes) = &*kept {
            return Ok(bytes.clone());
        }
        let bytes = split.data.read_raw_bytes().map_err(|e| self.data_error(split, e))?;
        let expected = split.labels.len() * self.picture_bytes();
        if bytes.len() != expected {
            let found = ReadError::Other(format!("{} bytes instead of {expected}", bytes.len()));
            return Err(self.data_error(split, found));
        }
        Ok(kept.insert(Arc::new(bytes)).clone())
    }

    /// The pictures `first .. first + count` of a split, straight from the file.
    fn slice(&self, split: &Split, first: usize, count: usize) -> Result<Vec<u8>> {
        let mut selection = SliceInfo::all(4);
        selection.selections[0] = SliceInfoElem::Slice { start: first as u64, end: (first + count) as u64, step: 1 };
        let array = split.data.read_slice::<u8>(&selection).map_err(|e| self.data_error(split, e))?;
        Ok(array.into_raw_vec_and_offset().0)
    }

    /// Where the pictures of a split lie that can be read one by one.
    fn chunks<'a>(&self, split: &'a Split) -> Option<&'a Chunks> {
        let find = || {
            let (options, name) = (Others::beside(&self.path, &self.pointed, 0), format!("/{}/data", split.name));
            let picture = |i: usize| self.slice(split, i, 1).ok();
            Chunks::find(&self.path, options, (&split.data, &name), self.picture_bytes(), picture)
        };
        split.chunks.get_or_init(find).as_ref()
    }

    fn data_error(&self, split: &Split, error: ReadError) -> Error {
        self.pointed.named(cannot_read(&self.path, &format!("/{}/data", split.name), error))
    }
}

impl Dataset for Hdf5 {
    fn name(&self) -> String {
        self.path.display().to_string()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn image_size(&self) -> usize {
        self.side
    }

    fn splits(&self) -> Vec<String> {
        self.splits.iter().map(|s| s.name.to_string()).collect()
    }

    fn labels(&self, split: &str) -> Result<Vec<u32>> {
        Ok(self.split(split)?.labels.clone())
    }

    fn len(&self, split: &str) -> Result<usize> {
        Ok(self.split(split)?.labels.len())
    }

    fn mean(&self) -> [f64; 3] {
        self.mean
    }

    fn std(&self) -> [f64; 3] {
        self.std
    }

    fn states_statistics(&self) -> bool {
        true
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn verify(&self, split: &str) -> Result<()> {
        let split = self.split(split)?;
        if split.keep { self.kept(split).map(drop) } else { self.look_into(split) }
    }

    /// Chunks that are encoded may be damaged; nothing tells whether plain bytes are.
    fn unverified(&self) -> Vec<String> {
        let encoded = |split: &&Split| !split.keep && split.data.chunks().is_some() && self.chunks(split).is_none();
        self.splits.iter().filter(encoded).map(|split| split.name.to_string()).collect()
    }

    fn examine(&self, split: &str, pictures: Range<usize>) -> Result<()> {
        self.slice(self.split(split)?, pictures.start, pictures.len()).map(drop)
    }

    fn read(&self, split: &str, indices: &[usize]) -> Result<Pictures> {
        let split = self.split(split)?;
        let (size, len) = (self.picture_bytes(), split.labels.len());
        if let Some(&beyond) = indices.iter().find(|&&i| i >= len) {
            return Err(no_such_picture(&self.name(), split.name, beyond, len));
        }
        let mut data = vec![0; indices.len() * size];
        if split.keep {
            let all = self.kept(split)?;
            for (picture, &i) in data.chunks_exact_mut(size).zip(indices) {
                picture.copy_from_slice(&all[i * size..][..size]);
            }
        } else {
            // In the file's order, neighbours together, so that a chunk that must be decoded is decoded once a batch.
            let mut order: Vec<usize> = (0..indices.len()).collect();
            order.sort_by_key(|&k| indices[k]);
            if let Some(chunks) = self.chunks(split) {
                let mut rest = Vec::new();
                for k in order {
                    match chunks.read(indices[k], &mut data[k * size..][..size]) {
                        Some(read) => read.map_err(Error::io(&self.path))?,
                        None => rest.push(k),
                    }
                }
                order = rest;
            }
            for run in order.chunk_by(|&a, &b| indices[b] <= indices[a] + 1) {
                let (first, last) = (indices[run[0]], indices[run[run.len() - 1]]);
                let bytes = self.slice(split, first, last - first + 1)?;
                for &k in run {
                    data[k * size..][..size].copy_from_slice(&bytes[(indices[k] - first) * size..][..size]);
                }
            }
        }
        let labels = indices.iter().map(|&i| split.labels[i]).collect();
        Ok(Pictures { data, labels, n: indices.len(), side: self.side })
    }
}

/// What opening a file needs at every step: the file, and its path for messages.
struct Reader<'a> {
    path: &'a Path,
    file: &'a Hdf5File,
    pointed: &'a Pointed,
}

impl Reader<'_> {
    fn wrong(&self, dataset: &str, expected: &str, found: &str) -> Error {
        Error::Data(format!("{}: {dataset}: expected {expected}, found {found}", self.path.display()))
    }

    /// Tries to open what is not listed, which a link that leads to another file that is not there is not either. An error is
    /// about such a link.
    fn opened<T>(&self, name: &str, open: impl FnOnce() -> Result<T, ReadError>) -> Result<()> {
        self.pointed.forget_absent();
        match (open(), self.pointed.absent(self.path, name)) {
            (Err(_), Some(absent)) => Err(absent),
            _ => Ok(()),
        }
    }

    /// Opens `/name` if it is among the datasets that are `there`.
    fn dataset(&self, name: &str, there: &[String], expected: &str) -> Result<hdf5_reader::Dataset> {
        if !there.iter().any(|there| name.ends_with(&format!("/{there}"))) {
            self.opened(name, || self.file.dataset(name))?;
        }
        if !there.iter().any(|there| name.ends_with(&format!("/{there}"))) {
            let found = match there {
                [] => "no dataset there".into(),
                _ => format!("only {}", there.join(", ")),
            };
            return Err(self.wrong(name, expected, &found));
        }
        self.file.dataset(name).map_err(|e| cannot_read(self.path, name, e))
    }

    fn categories(&self, there: &[String]) -> Result<Vec<String>> {
        let name = "/categories";
        let dataset = self.dataset(name, there, "a dataset with the class names")?;
        if dataset.ndim() != 1 || dataset.shape()[0] == 0 {
            return Err(self.wrong(name, "shape [classes]", &format!("shape {:?}", dataset.shape())));
        }
        if dataset.shape()[0] > MOST_CLASSES {
            let found = dataset.shape()[0].to_string();
            return Err(self.wrong(name, &format!("at most {MOST_CLASSES} class names"), &found));
        }
        match dataset.dtype() {
            Datatype::String { .. } | Datatype::VarLen { .. } => {}
            other => return Err(self.wrong(name, "text", &type_name(other))),
        }
        if !matches!(dataset.dtype(), Datatype::String { size: StringSize::Fixed(_), .. }) {
            self.texts_lie_apart(&dataset, name)?;
        }
        dataset.read_strings().map_err(|e| cannot_read(self.path, name, e))
    }

    /// Refuses texts of any length that lie in the file upon each other, so that all of them together are no longer than the
    /// file. Each is a reference: a length (4 bytes), the address of a heap ("GCOL", version, size at byte 8), and a number in it.
    fn texts_lie_apart(&self, dataset: &hdf5_reader::Dataset, name: &str) -> Result<()> {
        let raw = dataset.read_raw_bytes().map_err(|e| cannot_read(self.path, name, e))?;
        let superblock = self.file.superblock();
        let address = usize::from(superblock.offset_size);
        let (mut texts, mut heaps) = (HashSet::new(), HashSet::new());
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        for reference in raw.chunks_exact(4 + address + 4) {
            let (heap, text) = (number(&reference[4..4 + address]), number(&reference[4 + address..]) as u16);
            if text != 0 && !texts.insert((heap, text)) {
                return Err(self.wrong(
                    name,
                    "a text of its own for each class",
                    "two that are one and the same in the file",
                ));
            }
            heaps.insert(heap);
        }
        let mut file = std::fs::File::open(self.path).map_err(Error::io(self.path))?;
        let (whole, mut claimed) = (file.metadata().map_err(Error::io(self.path))?.len(), 0_u64);
        for heap in heaps {
            let mut head = [0; 16];
            let place = SeekFrom::Start(heap.saturating_add(superblock.base_address).saturating_add(8));
            let size = &mut head[..usize::from(superblock.length_size)];
            // A heap that is not there is refused where it is read.
            if file.seek(place).and_then(|_| file.read_exact(size)).is_ok() {
                claimed = claimed.saturating_add(number(size));
            }
        }
        if claimed > whole {
            let found = format!("heaps of {claimed} bytes in a file of {whole}");
            return Err(self.wrong(name, "texts that lie apart from each other", &found));
        }
        Ok(())
    }

    /// Three numbers, one per channel, and whether they are stored as f32.
    fn statistics(&self, there: &[String], name: &str, what: &str, good: fn(f64) -> bool) -> Result<([f64; 3], bool)> {
        let name = format!("/{name}");
        let dataset = self.dataset(&name, there, "a dataset with one number for each of 3 channels")?;
        if dataset.shape() != [3] {
            return Err(self.wrong(&name, "shape [3]", &format!("shape {:?}", dataset.shape())));
        }
        let values = self.numbers(&dataset, &name)?;
        if let Some((c, x)) = values.iter().enumerate().find(|(_, x)| !x.is_finite() || !good(**x)) {
            return Err(self.wrong(&name, &format!("{what} numbers"), &format!("{x} for channel {c}")));
        }
        let single = matches!(dataset.dtype(), Datatype::FloatingPoint { size: 4, .. });
        Ok(([values[0], values[1], values[2]], single))
    }

    /// Labels, the still unread pictures, and their side.
    fn split(&self, split: &str, classes: usize) -> Result<(Vec<u32>, hdf5_reader::Dataset, usize)> {
        let group = self.file.group(split).map_err(|e| cannot_read(self.path, &format!("/{split}"), e))?;
        let (_, there) = group.member_names().map_err(|e| cannot_read(self.path, &format!("/{split}"), e))?;

        let name = format!("/{split}/data");
        let data = self.dataset(&name, &there, "a dataset with the pictures")?;
        let shape = data.shape();
        if shape.len() != 4 || shape[3] != 3 {
            let expected = "shape [pictures, side, side, 3]";
            return Err(self.wrong(&name, expected, &format!("shape {shape:?}")));
        }
        if !matches!(data.dtype(), Datatype::FixedPoint { size: 1, signed: false, .. }) {
            return Err(self.wrong(&name, "type u8", &type_name(data.dtype())));
        }
        if shape[0] == 0 || shape[1] == 0 {
            return Err(self.wrong(&name, "at least one picture", &format!("shape {shape:?}")));
        }
        if shape[1] != shape[2] {
            let found = format!("{} x {} pixels (shape {shape:?})", shape[1], shape[2]);
            return Err(self.wrong(&name, "square pictures", &found));
        }
        if shape[1] > LARGEST_SIDE {
            return Err(self.wrong(
                &name,
                &format!("pictures of at most {LARGEST_SIDE} pixels"),
                &shape[1].to_string(),
            ));
        }
        if shape[0] > MOST_PICTURES {
            return Err(self.wrong(&name, &format!("at most {MOST_PICTURES} pictures"), &shape[0].to_string()));
        }
        let (count, side) = (shape[0], shape[1] as usize);

        let name = format!("/{split}/labels");
        let dataset = self.dataset(&name, &there, "a dataset with the labels")?;
        if dataset.ndim() != 1 {
            let expected = format!("shape [{count}], one label for each picture");
            return Err(self.wrong(&name, &expected, &format!("shape {:?}", dataset.shape())));
        }
        if dataset.shape()[0] != count {
            let expected = format!("{count} labels, one for each picture of /{split}/data");
            return Err(self.wrong(&name, &expected, &dataset.shape()[0].to_string()));
        }
        let expected = format!("whole numbers from 0 to {} ({classes} categories)", classes - 1);
        let mut labels = Vec::new();
        for (i, label) in self.numbers(&dataset, &name)?.into_iter().enumerate() {
            if label.fract() != 0.0 || !(0.0..classes as f64).contains(&label) {
                return Err(self.wrong(&name, &expected, &format!("{label} at index {i}")));
            }
            labels.push(label as u32);
        }
        Ok((labels, data, side))
    }

    /// All values of a numeric dataset. Exact for f32, f64 and whole numbers up to 2^53.
    fn numbers(&self, dataset: &hdf5_reader::Dataset, name: &str) -> Result<Vec<f64>> {
        macro_rules! read {
            ($type:ty) => {
                dataset.read_array::<$type>().map(|a| a.into_iter().map(|x| x as f64).collect())
            };
        }
        let values = match dataset.dtype() {
            Datatype::FixedPoint { size: 1, signed: false, .. } => read!(u8),
            Datatype::FixedPoint { size: 1, signed: true, .. } => read!(i8),
            Datatype::FixedPoint { size: 2, signed: false, .. } => read!(u16),
            Datatype::FixedPoint { size: 2, signed: true, .. } => read!(i16),
            Datatype::FixedPoint { size: 4, signed: false, .. } => read!(u32),
            Datatype::FixedPoint { size: 4, signed: true, .. } => read!(i32),
            Datatype::FixedPoint { size: 8, signed: false, .. } => read!(u64),
            Datatype::FixedPoint { size: 8, signed: true, .. } => read!(i64),
            Datatype::FloatingPoint { size: 4, .. } => read!(f32),
            Datatype::FloatingPoint { size: 8, .. } => read!(f64),
            other => return Err(self.wrong(name, "integers or floating-point numbers", &type_name(other))),
        };
        values.map_err(|e| cannot_read(self.path, name, e))
    }
}

/// A data type as people write it.
fn type_name(datatype: &Datatype) -> String {
    match datatype {
        Datatype::FixedPoint { size, signed: true, .. } => format!("type i{}", 8 * u32::from(*size)),
        Datatype::FixedPoint { size, signed: false, .. } => format!("type u{}", 8 * u32::from(*size)),
        Datatype::FloatingPoint { size, .. } => format!("type f{} (floating point)", 8 * u32::from(*size)),
        Datatype::String { .. } => "text".into(),
        other => format!("type {other:?}"),
    }
}

fn no_group(path: &Path, split: &str, there: &[String]) -> Error {
    let found = if there.is_empty() { "no group".into() } else { format!("only the groups {}", there.join(", ")) };
    Error::Data(format!("{}: /{split}: expected a group with data and labels, found {found}", path.display()))
}

fn not_readable(path: &Path, error: ReadError) -> Error {
    let what = match error {
        ReadError::InvalidMagic => "expected an HDF5 file, found no HDF5 signature in it".into(),
        ReadError::UnexpectedEof { .. } => format!("the HDF5 file is truncated: {error}; copy it again"),
        _ => format!("the HDF5 file cannot be read: {error}"),
    };
    Error::Data(format!("{}: {what}", path.display()))
}

fn cannot_read(path: &Path, dataset: &str, error: ReadError) -> Error {
    let told = error.to_string();
    if told.contains("unsupported layout class 3") {
        return virtual_dataset(path, dataset);
    }
    if told.contains("cannot allocate") {
        return Error::Data(format!(
            "{}: {dataset}: there is not enough memory to read it: {told}; end other programs, or raise the limit (ulimit -v)",
            path.display()
        ));
    }
    if told.contains("external raw data file") {
        return Error::Data(format!(
            "{}: {dataset}: its data lie in another file (external storage), which cannot be read: {told}; put that file where \
             it is looked for, relative to the folder of {0}, or write the pictures into one file",
            path.display()
        ));
    }
    Error::Data(format!(
        "{}: {dataset}: expected readable data, found damage or an unsupported encoding: {error}",
        path.display()
    ))
}

/// The error for a dataset that is put together of others.
fn virtual_dataset(path: &Path, dataset: &str) -> Error {
    let sources = virtual_sources(path);
    let from = match &sources[..] {
        [] => "of data in other files".to_string(),
        _ => format!("of data in {}", sources.join(", ")),
    };
    Error::Data(format!(
        "{}: {dataset}: holds a virtual dataset, put together {from}, which this program does not read; write the pictures into \
         one file, with h5py for example: new[\"train/data\"] = old[\"train/data\"][:]",
        path.display()
    ))
}

/// Most bytes of a file that are searched for the names of sources.
const SEARCHED: u64 = 16 << 20;

/// The files that virtual datasets name, each once, as far as they are found: the lists of sources lie in global heaps ("GCOL"),
/// each a version (0), a count of 8 bytes, and for each source the name of its file and its dataset, ended by zeros.
fn virtual_sources(path: &Path) -> Vec<String> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(SEARCHED).read_to_end(&mut bytes));
    let mut names: Vec<String> = Vec::new();
    if read.is_err() {
        return names;
    }
    for heap in (0..bytes.len()).step_by(8).filter(|&at| bytes[at..].starts_with(b"GCOL")) {
        let mut at = heap + 16;
        // An object: index (2 bytes), references (2), nothing (4), size (8), content in whole words of 8.
        while let Some(head) = bytes.get(at..at + 16) {
            let size = u64::from_le_bytes(head[8..].try_into().expect("8 bytes"));
            let content = usize::try_from(size).ok().and_then(|size| bytes.get(at + 16..)?.get(..size));
            let (Some(content), true) = (content, head[..2] != [0, 0]) else { break };
            if let Some([0, count @ ..]) = content.get(..9)
                && count.iter().any(|&byte| byte > 0)
                && let Some(end) = content[9..].iter().position(|&byte| byte == 0)
                && let Ok(name) = std::str::from_utf8(&content[9..9 + end])
                && !name.is_empty()
                && !names.iter().any(|known| known == name)
            {
                names.push(name.into());
            }
            at += 16 + content.len().next_multiple_of(8);
        }
    }
    names
}

/// The other files that a file points to, as far as they were looked for.
#[derive(Default)]
struct Pointed {
    there: Mutex<Vec<PathBuf>>,
    absent: Mutex<Vec<PathBuf>>,
}

impl Pointed {
    fn forget_absent(&self) {
        locked(&self.absent).clear();
    }

    /// The error for `what`, which lies in the file that was missed last, if one was.
    fn absent(&self, path: &Path, what: &str) -> Option<Error> {
        let missed = locked(&self.absent).last()?.clone();
        Some(Error::Data(format!(
            "{}: {what}: lies in another, external file, {}, which is not there; put it there, or write everything into one file",
            path.display(),
            missed.display()
        )))
    }

    /// An error with the other files in which its cause may lie.
    fn named(&self, error: Error) -> Error {
        let there = locked(&self.there);
        match error {
            Error::Data(text) if !there.is_empty() => {
                let files: Vec<String> = there.iter().map(|file| file.display().to_string()).collect();
                Error::Data(format!("{text} (this file points to external files: {})", files.join(", ")))
            }
            other => other,
        }
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Finds the other files that a file points to: absolute paths, or those relative to its folder.
struct Others {
    folder: PathBuf,
    pointed: Arc<Pointed>,
    /// Links from file to file on the way here.
    depth: usize,
}

/// Most links from file to file.
const DEPTH: usize = 8;

impl Others {
    /// How a file is opened, so that what it points to is found.
    fn beside(path: &Path, pointed: &Arc<Pointed>, depth: usize) -> OpenOptions {
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        let others = Arc::new(Others { folder, pointed: pointed.clone(), depth });
        OpenOptions::default()
            .with_max_read_bytes(CACHE_BYTES)
            .with_external_link_resolver(others.clone())
            .with_external_file_resolver(others)
    }

    fn find(&self, name: &str) -> Option<PathBuf> {
        let path = self.folder.join(name);
        if path.is_file() {
            let mut there = locked(&self.pointed.there);
            if !there.contains(&path) {
                there.push(path.clone());
            }
            return Some(path);
        }
        locked(&self.pointed.absent).push(path);
        None
    }
}

impl ExternalLinkResolver for Others {
    fn resolve_external_link(&self, name: &str) -> hdf5_reader::error::Result<Option<Hdf5File>> {
        if self.depth >= DEPTH {
            return Err(ReadError::Other(format!(
                "external links lead through more than {DEPTH} files, last to {name}"
            )));
        }
        let Some(path) = self.find(name) else { return Ok(None) };
        Hdf5File::open_with_options(&path, Others::beside(&path, &self.pointed, self.depth + 1)).map(Some)
    }
}

impl ExternalFileResolver for Others {
    fn resolve_external_file(&self, name: &str) -> hdf5_reader::error::Result<Option<DynStorage>> {
        let Some(path) = self.find(name) else { return Ok(None) };
        let file = std::fs::File::open(&path)?;
        Ok(Some(Arc::new(FileStorage::from_file(file)?)))
    }
}
