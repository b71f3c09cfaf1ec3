//! Where the pictures of a chunked HDF5 dataset lie in its file, where they lie there as they are: a picture is then read alone,
//! not with all of its chunk, so that shuffled reading costs no more than reading in order.
//!
//! The HDF5 reader does not tell addresses, but it asks a storage for what it reads. So each chunk is read once through a storage
//! that hands out nothing in place of a chunk's bytes, and notes where they would have been.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex};

use hdf5_reader::error::Result as Read;
use hdf5_reader::storage::{FileStorage, Storage, StorageBuffer};
use hdf5_reader::{Dataset, Hdf5File, OpenOptions};

use crate::files::read_at;

/// Chunks whose first picture is compared with what the HDF5 reader makes of it.
const COMPARED: usize = 16;

/// Chunks of more bytes are left to the HDF5 reader.
const LARGEST: usize = 256 << 20;

/// Pictures that can be read one by one.
pub(super) struct Chunks {
    file: File,
    /// Pictures of a chunk.
    each: usize,
    /// Where each chunk begins; `None` for one that is encoded, or was never written.
    begins: Vec<Option<u64>>,
    /// Bytes of a picture.
    size: usize,
}

/// A file of which reads of a chunk's length are noted, and not done.
struct Noting {
    file: FileStorage,
    blank: Arc<[u8]>,
    noted: Mutex<Vec<u64>>,
}

impl Storage for Noting {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_range(&self, offset: u64, len: usize) -> Read<StorageBuffer> {
        if len != self.blank.len() || offset.checked_add(len as u64).is_none_or(|end| end > self.file.len()) {
            return self.file.read_range(offset, len);
        }
        self.noted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(offset);
        StorageBuffer::from_shared(self.blank.clone(), 0, len)
    }
}

impl Chunks {
    /// Those of `dataset`, of the name `name` and pictures of `size` bytes, in a file that is opened with `options`; `None` where
    /// its chunks are not whole pictures, or none lies in this file as it is. `picture` reads one by the HDF5 reader, which is the
    /// measure.
    pub(super) fn find(
        path: &Path,
        options: OpenOptions,
        (dataset, name): (&Dataset, &str),
        size: usize,
        picture: impl Fn(usize) -> Option<Vec<u8>>,
    ) -> Option<Chunks> {
        let (shape, chunk) = (dataset.shape(), dataset.chunks()?);
        if shape.len() != 4 || chunk.len() != 4 || (1..4).any(|d| u64::from(chunk[d]) != shape[d]) {
            return None;
        }
        let each = usize::try_from(chunk[0]).ok().filter(|each| *each > 0)?;
        let blank: Arc<[u8]> = vec![0; each.checked_mul(size).filter(|bytes| *bytes <= LARGEST)?].into();
        let file = File::open(path).ok()?;
        let plain = FileStorage::from_file(file.try_clone().ok()?).ok()?;
        let noting = Arc::new(Noting { file: plain, blank, noted: Mutex::default() });
        let options = options.with_chunk_cache_bytes(0);
        let dataset = Hdf5File::from_storage_with_options(noting.clone(), options).ok()?.dataset(name).ok()?;
        let count = usize::try_from(shape[0]).ok()?;
        let mut begins = vec![None; count.div_ceil(each)];
        let mut chunks = dataset.iter_chunks().ok()?;
        loop {
            noting.noted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clear();
            let Some(read) = chunks.next() else { break };
            let noted = noting.noted.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            // A chunk that is encoded is no longer what was handed out, or not of that length.
            let (Ok(read), [begin]) = (read, &noted[..]) else { continue };
            if let Some(at) = begins.get_mut(*read.offsets().first()? as usize / each) {
                *at = Some(*begin);
            }
        }
        let chunks = Chunks { file, each, begins, size };
        let known: Vec<usize> = (0..chunks.begins.len()).filter(|&chunk| chunks.begins[chunk].is_some()).collect();
        let mut compared = known.iter().step_by(known.len().div_ceil(COMPARED).max(1)).chain(known.last());
        let mut own = vec![0; size];
        let same = compared.all(|chunk| {
            chunks.read(chunk * each, &mut own).is_some_and(|read| read.is_ok())
                && picture(chunk * each).as_ref() == Some(&own)
        });
        (same && !known.is_empty()).then_some(chunks)
    }

    /// Reads a picture; `None` where it has to be read by the HDF5 reader.
    pub(super) fn read(&self, picture: usize, into: &mut [u8]) -> Option<std::io::Result<()>> {
        let begin = (*self.begins.get(picture / self.each)?)?;
        Some(read_at(&self.file, into, begin + (picture % self.each * self.size) as u64))
    }
}
