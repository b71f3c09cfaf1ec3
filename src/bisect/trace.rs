//! Traces: every tensor of an execution in a safetensors file, in the order of the program, so that an execution elsewhere, or by
//! another version, can be held against it.
//!
//! The metadata key `recurve trace` holds one JSON object, [`Head`]. Tensors are f32, images innermost. A file is written and
//! read tensor by tensor: it may be larger than the memory.

use super::{Execution, Side, TensorFacts};
use crate::files::Partial;
use crate::{Error, Result};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Changes when an older program could no longer read the file.
const FORMAT: u32 = 1;
/// The metadata key.
const KEY: &str = "recurve trace";
/// Most bytes of a header, as safetensors has it.
const MOST_HEADER: u64 = 100_000_000;

/// What a trace says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    format: u32,
    /// Who computed it.
    pub side: Side,
    /// Hashes of what it was given.
    pub given: BTreeMap<String, String>,
    /// Its tensors, in order.
    pub tensors: Vec<TensorFacts>,
}

/// A trace that is read.
pub struct Trace {
    /// What it says of itself.
    pub head: Head,
    file: File,
    path: PathBuf,
    /// Where tensors begin in the file, and where each does after that.
    start: u64,
    offsets: Vec<(usize, usize)>,
}

/// Runs an execution and writes all of its tensors to a file, which gets its name when it is complete. How many they are, and
/// how many bytes.
///
/// # Errors
/// A lost device; what the disk says.
pub async fn write(execution: &mut Execution<'_>, path: &Path) -> Result<(usize, u64)> {
    let partial = Partial::new(path).map_err(Error::io(path))?;
    let mut file = BufWriter::new(File::create(partial.place()).map_err(Error::io(path))?);
    let written = stream(execution, &mut file, path).await?;
    file.into_inner().map_err(|e| Error::io(path)(e.into_error()))?;
    partial.commit().map_err(Error::io(path))?;
    Ok(written)
}

async fn stream(execution: &mut Execution<'_>, to: &mut impl Write, path: &Path) -> Result<(usize, u64)> {
    let tensors: Vec<TensorFacts> = execution.facts().cloned().collect();
    let mut end = 0;
    let mut listed = Vec::new();
    for facts in &tensors {
        let (start, bytes) = (end, 4 * facts.shape.iter().product::<usize>());
        end += bytes;
        listed.push((
            facts.name.clone(),
            TensorInfo { dtype: Dtype::F32, shape: facts.shape.clone(), data_offsets: (start, end) },
        ));
    }
    let count = tensors.len();
    let head = Head { format: FORMAT, side: execution.side.clone(), given: execution.given.clone(), tensors };
    let json = serde_json::to_string(&head).expect("plain fields");
    let header = Metadata::new(Some(HashMap::from([(KEY.to_string(), json)])), listed)
        .map_err(|e| Error::Data(format!("{}: {e}", path.display())))?;
    let mut header = serde_json::to_vec(&header).expect("plain fields");
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() as u64 > MOST_HEADER {
        return Err(Error::Data(format!(
            "{}: {count} tensors are more than a safetensors file can name",
            path.display()
        )));
    }
    to.write_all(&(header.len() as u64).to_le_bytes()).map_err(Error::io(path))?;
    to.write_all(&header).map_err(Error::io(path))?;
    for tensor in 0..count {
        let values = execution.values(tensor).await?;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_bits().to_le_bytes()).collect();
        to.write_all(&bytes).map_err(Error::io(path))?;
    }
    to.flush().map_err(Error::io(path))?;
    Ok((count, 8 + header.len() as u64 + end as u64))
}

impl Trace {
    /// Runs an execution into a file that is gone when the trace is dropped.
    ///
    /// # Errors
    /// A lost device; what the disk says.
    pub async fn temporary(execution: &mut Execution<'_>) -> Result<Trace> {
        let path = std::env::temp_dir().join("a temporary trace");
        let file = tempfile::tempfile().map_err(Error::io(&path))?;
        let mut to = BufWriter::new(file);
        stream(execution, &mut to, &path).await?;
        let file = to.into_inner().map_err(|e| Error::io(&path)(e.into_error()))?;
        Trace::of(file, &path)
    }

    /// Opens a file and checks all but the numbers.
    ///
    /// # Errors
    /// A file that cannot be read, is no trace, is cut, or contradicts itself. The message names it.
    pub fn open(path: &Path) -> Result<Trace> {
        Trace::of(File::open(path).map_err(Error::io(path))?, path)
    }

    fn of(mut file: File, path: &Path) -> Result<Trace> {
        let bad = |what: String| {
            Error::Data(format!("{}: {what}; a trace is what `recurve bisect --write` wrote", path.display()))
        };
        let length = file.metadata().map_err(Error::io(path))?.len();
        let mut size = [0; 8];
        file.seek(SeekFrom::Start(0)).map_err(Error::io(path))?;
        if length < 8 {
            return Err(bad(format!("not a trace: {length} bytes")));
        }
        file.read_exact(&mut size).map_err(Error::io(path))?;
        let size = u64::from_le_bytes(size);
        if size > MOST_HEADER || size > length - 8 {
            return Err(bad(format!("not a safetensors file, or cut: a header of {size} bytes in a file of {length}")));
        }
        let mut header = vec![0; size as usize];
        file.read_exact(&mut header).map_err(Error::io(path))?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|e| bad(format!("not a safetensors file: {e}")))?;
        let json = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let json = json.ok_or_else(|| bad(format!("not a trace: its metadata has no key `{KEY}`")))?;
        #[derive(Deserialize)]
        struct AnyHead {
            format: u32,
        }
        let damaged = |e| bad(format!("the metadata key `{KEY}` is damaged: {e}"));
        let AnyHead { format } = serde_json::from_str(json).map_err(damaged)?;
        if format != FORMAT {
            return Err(bad(format!("a trace of format {format}, this program reads format {FORMAT}")));
        }
        let head: Head = serde_json::from_str(json).map_err(damaged)?;
        let (expected, found) = (header.data_len() as u64, length - 8 - size);
        if expected != found {
            return Err(bad(format!("cut or damaged: {found} bytes of tensors, its header says {expected}")));
        }
        let mut offsets = Vec::new();
        for facts in &head.tensors {
            let info = header.info(&facts.name).filter(|i| i.shape == facts.shape && i.dtype == Dtype::F32);
            let info = info.ok_or_else(|| {
                bad(format!("damaged: no tensor `{}` of type F32 and shape {:?}", facts.name, facts.shape))
            })?;
            offsets.push(info.data_offsets);
        }
        Ok(Trace { head, file, path: path.to_path_buf(), start: 8 + size, offsets })
    }

    /// The numbers of a tensor.
    ///
    /// # Errors
    /// What the disk says.
    pub fn values(&mut self, tensor: usize) -> Result<Vec<f32>> {
        let (first, end) = self.offsets[tensor];
        let mut bytes = vec![0; end - first];
        self.file.seek(SeekFrom::Start(self.start + first as u64)).map_err(Error::io(&self.path))?;
        self.file.read_exact(&mut bytes).map_err(Error::io(&self.path))?;
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }
}
