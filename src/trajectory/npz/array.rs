//! Arrays of an npz file: a zip archive with one `NAME.npy` for each. An array is read whole, as f64 in C order, or stays in
//! its file and gives the rows that are asked for.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use npyz::{DType, Endianness, NpyHeader, TypeChar};
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

use crate::{Error, Result};

/// An npz file.
pub struct Npz {
    path: PathBuf,
    archive: ZipArchive<BufReader<File>>,
    /// Bytes of the file.
    bytes: u64,
}

/// What the header of an array says.
#[derive(Clone, Debug, PartialEq)]
struct Header {
    shape: Vec<usize>,
    /// Whether the first index runs fastest, and not the last.
    fortran: bool,
    number: Number,
    /// Bytes before the first number.
    start: u64,
}

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Number {
    kind: Kind,
    bytes: usize,
    big_endian: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Float,
    Signed,
    Unsigned,
}

/// An array in C order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Extents.
    pub shape: Vec<usize>,
    /// The numbers.
    pub data: Vec<f64>,
}

/// An array [A, N, B] that stays in its file.
#[derive(Debug)]
pub struct Rows {
    name: String,
    file: File,
    /// Where the numbers begin.
    start: u64,
    header: Header,
    /// CRC-32 of the array, as the archive gives it.
    pub crc: u32,
    scratch: Vec<u8>,
}

/// Bytes of a header at most; numpy's have some 100.
const LONGEST_HEADER: usize = 1 << 16;
/// Gaps of so many bytes between rows are read along, as that is faster than to go on behind them.
const GAP: usize = 32 << 10;
/// Bytes that are read at once at most, but for single rows.
const READ: usize = 1 << 20;

/// Numbers of an array that is held whole, at most: 2 GiB as f64.
const MOST_NUMBERS: u64 = 1 << 28;
/// Deflate makes at most so many bytes of one; an array that claims more than its part of the file can hold is refused.
const MOST_DEFLATED: u64 = 1032;

/// Arrays that an error names at most.
const NAMED: usize = 12;

/// How an npy file begins.
const NPY: &[u8] = b"\x93NUMPY";

impl Npz {
    /// Opens a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is no zip archive.
    pub fn open(path: &Path) -> Result<Npz> {
        let file = File::open(path).map_err(Error::io(path))?;
        let bytes = file.metadata().map_err(Error::io(path))?.len();
        let mut reader = BufReader::new(file);
        let mut start = Vec::new();
        Read::take(&mut reader, NPY.len() as u64).read_to_end(&mut start).map_err(Error::io(path))?;
        if start == NPY {
            return Err(Error::Data(format!(
                "{0}: found a single array (npy), expected an npz file of several, each with its name: \
                 numpy.savez(\"{1}.npz\", NAME=numpy.load(\"{0}\"), ...)",
                path.display(),
                path.with_extension("").display()
            )));
        }
        let archive = ZipArchive::new(reader)
            .map_err(|e| Error::Data(format!("{}: expected an npz (zip) file: {e}", path.display())))?;
        Ok(Npz { path: path.to_path_buf(), archive, bytes })
    }

    /// Whether it holds an array of this name.
    pub fn holds(&self, name: &str) -> bool {
        self.archive.index_for_name(&format!("{name}.npy")).is_some()
    }

    /// Refuses a file in which arrays of these names are missing; the error says which, and which there are. Names in the file
    /// are only compared and shown: none becomes a path.
    pub fn expect(&self, names: &[&str]) -> Result<()> {
        let missing: Vec<&str> = names.iter().copied().filter(|name| !self.holds(name)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let arrays = self.archive.file_names().filter_map(Result::ok);
        let mut there: Vec<String> = arrays.take(NAMED).map(|file| file.trim_end_matches(".npy").into()).collect();
        there.sort_unstable();
        let more = if self.archive.len() > there.len() { ", ..." } else { "" };
        let there = if there.is_empty() { "none".into() } else { there.join(", ") + more };
        let (what, are) = if missing.len() > 1 { ("arrays", "are") } else { ("array", "is") };
        let (path, missing) = (self.path.display(), missing.join(", "));
        Err(Error::Data(format!(
            "{path}: {what} {missing} {are} missing: expected {}, found {there}",
            names.join(", ")
        )))
    }

    /// The error of an array of this file.
    pub fn refuse(&self, array: &str, what: &str) -> Error {
        Error::Data(format!("{}: array '{array}': {what}", self.path.display()))
    }

    /// Reads a whole array.
    ///
    /// # Errors
    /// An array that is missing, damaged, or of another rank, whose numbers are of no type known, or that has more than 2^28.
    pub fn array(&mut self, name: &str, rank: usize) -> Result<Array> {
        self.expect(&[name])?;
        self.read_array(name, rank).map_err(|what| self.refuse(name, &what))
    }

    fn read_array(&mut self, name: &str, rank: usize) -> Result<Array, String> {
        let mut entry = self.archive.by_name(&format!("{name}.npy")).map_err(no_array)?;
        let size = claimed(&entry, self.bytes)?;
        let header = Header::read(&mut entry, size, (name, rank))?;
        if header.count() as u64 > MOST_NUMBERS {
            let (shape, count) = (&header.shape, header.count());
            return Err(format!("shape {shape:?} has {count} numbers, at most {MOST_NUMBERS} are held in memory"));
        }
        let mut bytes = vec![0; header.count() * header.number.bytes];
        entry.read_exact(&mut bytes).map_err(cut_short)?;
        io::copy(&mut entry, &mut io::sink()).map_err(|e| format!("damaged: {e}"))?; // its end is where the CRC is checked
        let mut stored = Vec::with_capacity(header.count());
        header.number.decode(&bytes, &mut stored);
        drop(bytes);
        let data = match header.fortran {
            true => (0..stored.len()).map(|at| stored[in_fortran_order(at, &header.shape)]).collect(),
            false => stored,
        };
        Ok(Array { shape: header.shape, data })
    }

    /// Prepares an array of rank 3 for reading by rows. All of it is read once, so that a damaged one is refused before
    /// anything is made of it. A compressed one is unpacked to a temporary file, which is gone when the rows are dropped, or
    /// when the program ends, however it ends.
    ///
    /// # Errors
    /// As [`Npz::array`]; no room for the temporary file.
    pub fn rows(&mut self, name: &str) -> Result<Rows> {
        self.expect(&[name])?;
        self.prepare_rows(name).map_err(|what| self.refuse(name, &what))
    }

    fn prepare_rows(&mut self, name: &str) -> Result<Rows, String> {
        let entry_name = format!("{name}.npy");
        let mut entry = self.archive.by_name(&entry_name).map_err(no_array)?;
        let size = claimed(&entry, self.bytes)?;
        let (crc, method) = (entry.crc32(), entry.compression());
        let header = Header::read(&mut entry, size, (name, 3))?;
        let rest = header.bytes();
        let damaged = |e: io::Error| format!("damaged: {e}");
        let (file, start) = if method == CompressionMethod::Stored {
            let start = entry.data_start().ok_or("its place in the file is not known")?;
            io::copy(&mut entry, &mut io::sink()).map_err(damaged)?;
            (
                File::open(&self.path).map_err(|e| format!("it cannot be opened a second time: {e}"))?,
                start + header.start,
            )
        } else {
            let no_room = |e: io::Error| {
                format!(
                    "it is compressed, and unpacking its {rest} bytes to a temporary file in {} failed: {e}; name a folder \
                     with more room by TMPDIR, or store the array uncompressed (numpy.savez)",
                    std::env::temp_dir().display()
                )
            };
            let mut file = tempfile::tempfile().map_err(no_room)?;
            let (mut chunk, mut unpacked) = (vec![0; READ], 0);
            loop {
                let count = entry.read(&mut chunk).map_err(damaged)?;
                unpacked += count as u64;
                if count == 0 {
                    break;
                }
                if unpacked > rest {
                    return Err(format!("damaged: it unpacks to more than the {rest} bytes that its header says"));
                }
                io::Write::write_all(&mut file, &chunk[..count]).map_err(no_room)?;
            }
            if unpacked < rest {
                return Err(format!("cut short: it unpacks to {unpacked} bytes, its header says {rest}"));
            }
            (file, 0)
        };
        Ok(Rows { name: name.into(), file, start, header, crc, scratch: Vec::new() })
    }
}

/// The bytes that an entry says it has, if it can be read and a file of this many bytes can hold them: memory and disk are asked
/// for by this number.
fn claimed<R: Read + ?Sized>(entry: &ZipFile<'_, R>, file: u64) -> Result<u64, String> {
    let (claimed, packed) = (entry.size(), entry.compressed_size().min(file));
    let most = match entry.compression() {
        CompressionMethod::Stored => packed,
        CompressionMethod::Deflated => packed.saturating_mul(MOST_DEFLATED),
        other => {
            return Err(format!(
                "expected an array that is stored or deflated, found compression by {other}; write it with numpy.savez or \
                 numpy.savez_compressed"
            ));
        }
    };
    match claimed <= most {
        true => Ok(claimed),
        false => Err(format!("it says that it has {claimed} bytes, but the file can hold at most {most} of them")),
    }
}

fn no_array(error: zip::result::ZipError) -> String {
    format!("the array cannot be read: {error}")
}

fn cut_short(error: io::Error) -> String {
    format!("cut short: {error}")
}

impl Header {
    /// Reads the header of an array of `size` bytes, and no further.
    fn read(from: &mut impl Read, size: u64, (name, rank): (&str, usize)) -> Result<Header, String> {
        let bytes = header_bytes(from)?;
        let start = bytes.len() as u64;
        let npy =
            NpyHeader::from_reader(&bytes[..]).map_err(|e| format!("no npy array: {}", shortened(&e.to_string())))?;
        let number = Number::of(&npy.dtype())?; // before the shape: of Python objects it says nothing
        let shape: Vec<usize> = npy.shape().iter().map(|&length| length as usize).collect();
        if shape.len() != rank {
            let shown = shortened(&format!("{shape:?}"));
            let dimensions = if rank == 1 { "dimension" } else { "dimensions" };
            let mended = mended(name, &shape, rank).map_or(String::new(), |line| format!("; in numpy: {line}"));
            return Err(format!("expected {rank} {dimensions}, found shape {shown}{mended}"));
        }
        let product = |product: u64, &length: &usize| product.checked_mul(length as u64);
        match shape.iter().try_fold(number.bytes as u64, product) {
            Some(bytes) if Some(bytes) == size.checked_sub(start) => {}
            asked => {
                let (asked, found) = (asked.map_or("more than 2^64".into(), |n| n.to_string()), size - start.min(size));
                return Err(format!("shape {shape:?} asks for {asked} bytes, found {found}"));
            }
        }
        Ok(Header { shape, fortran: npy.order() == npyz::Order::Fortran, number, start })
    }

    /// Number of numbers.
    fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// Their bytes.
    fn bytes(&self) -> u64 {
        self.count() as u64 * self.number.bytes as u64
    }
}

/// The bytes of a header, up to the first number. Refused is what the npy parser would choke on: a header without end, extents
/// whose product no 64 bits hold.
fn header_bytes(from: &mut impl Read) -> Result<Vec<u8>, String> {
    let cut_short = |e: io::Error| format!("no npy array: {e}");
    let mut bytes = vec![0; 10];
    from.read_exact(&mut bytes).map_err(cut_short)?;
    let mut length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    if bytes.starts_with(NPY) && bytes[6] > 1 {
        let mut more = [0; 2];
        from.read_exact(&mut more).map_err(cut_short)?;
        bytes.extend(more);
        length |= usize::from(u16::from_le_bytes(more)) << 16;
    }
    if length > LONGEST_HEADER {
        return Err(format!("no npy array: expected a header of at most {LONGEST_HEADER} bytes, found {length}"));
    }
    let text = bytes.len();
    bytes.resize(text + length, 0);
    from.read_exact(&mut bytes[text..]).map_err(cut_short)?;
    let text = String::from_utf8_lossy(&bytes[text..]);
    let shape = text.split_once("'shape'").and_then(|(_, rest)| rest.split_once('(')?.1.split_once(')'));
    let shape = shape.map_or("", |(shape, _)| shape);
    let mut extents = shape.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    let product =
        extents.try_fold(1u64, |product, extent| product.checked_mul(extent.parse().unwrap_or(u64::MAX).max(1)));
    match product {
        Some(_) => Ok(bytes),
        None => Err(format!("shape ({}) is none that an array can have", shortened(shape))),
    }
}

/// The line of numpy that may make an array of a shape of another rank what it should be.
fn mended(name: &str, shape: &[usize], rank: usize) -> Option<String> {
    match (rank, shape) {
        (1, shape) if shape.iter().filter(|&&length| length != 1).count() <= 1 => {
            Some(format!("{name} = {name}.reshape(-1)"))
        }
        (1, [_, _]) if name == super::NAMES[1] => {
            Some(format!("{name} = {name}.argmax(axis=1), if a row has its 1 at the label (one-hot)"))
        }
        (3, [_, _]) => Some(format!("{name} = {name}[None], if there is one timestep")),
        _ => None,
    }
}

/// The start of a text.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

impl Number {
    fn of(dtype: &DType) -> Result<Number, String> {
        let known = match dtype {
            DType::Plain(of) => {
                let kind = match of.type_char() {
                    TypeChar::Float => Some((Kind::Float, [2, 4, 8].as_slice())),
                    TypeChar::Int => Some((Kind::Signed, [1, 2, 4, 8].as_slice())),
                    TypeChar::Uint => Some((Kind::Unsigned, [1, 2, 4, 8].as_slice())),
                    _ => None,
                };
                let big_endian = of.endianness() == Endianness::Big;
                let bytes = of.size_field() as usize;
                kind.filter(|(_, sizes)| sizes.contains(&bytes)).map(|(kind, _)| Number { kind, bytes, big_endian })
            }
            _ => None,
        };
        known.ok_or_else(|| {
            let descr = shortened(&dtype.descr());
            let objects =
                if descr.contains("|O") { " (Python objects, pickled; nothing of a pickle is run)" } else { "" };
            format!(
                "expected a dtype of floating-point numbers of 2, 4 or 8 bytes, or integers, found {descr}{objects}"
            )
        })
    }

    /// Appends the numbers that the bytes hold.
    fn decode(self, bytes: &[u8], to: &mut Vec<f64>) {
        use Kind::{Float, Signed, Unsigned};
        fn all<const B: usize>(bytes: &[u8], swap: bool, to: &mut Vec<f64>, of: impl Fn([u8; B]) -> f64) {
            to.extend(bytes.as_chunks::<B>().0.iter().map(|&one| {
                let mut one = one;
                if swap {
                    one.reverse();
                }
                of(one)
            }));
        }
        let swap = self.big_endian;
        match (self.kind, self.bytes) {
            (Float, 2) => all(bytes, swap, to, |b| half::f16::from_le_bytes(b).to_f64()),
            (Float, 4) => all(bytes, swap, to, |b| f64::from(f32::from_le_bytes(b))),
            (Float, _) => all(bytes, swap, to, f64::from_le_bytes),
            (Signed, 1) => all(bytes, swap, to, |b| f64::from(i8::from_le_bytes(b))),
            (Signed, 2) => all(bytes, swap, to, |b| f64::from(i16::from_le_bytes(b))),
            (Signed, 4) => all(bytes, swap, to, |b| f64::from(i32::from_le_bytes(b))),
            (Signed, _) => all(bytes, swap, to, |b| i64::from_le_bytes(b) as f64),
            (Unsigned, 1) => all(bytes, swap, to, |b: [u8; 1]| f64::from(b[0])),
            (Unsigned, 2) => all(bytes, swap, to, |b| f64::from(u16::from_le_bytes(b))),
            (Unsigned, 4) => all(bytes, swap, to, |b| f64::from(u32::from_le_bytes(b))),
            (Unsigned, _) => all(bytes, swap, to, |b| u64::from_le_bytes(b) as f64),
        }
    }
}

impl Rows {
    /// Extents [A, N, B].
    pub fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|i| self.header.shape[i])
    }

    /// Hands over the numbers [a, id, b] of some rows, for all a and b, as `put(a, place of the id in ids, b, number)`, in the
    /// order in which they are stored. Ids need no order, but ascending ones are read fastest.
    ///
    /// # Errors
    /// A file that can no longer be read; what `put` says.
    pub fn read(
        &mut self,
        ids: &[u32],
        mut put: impl FnMut(usize, usize, usize, f64) -> Result<(), String>,
    ) -> Result<(), String> {
        let [a, images, b] = self.shape();
        let fortran = self.header.fortran;
        let (outer, inner) = if fortran { (b, a) } else { (a, b) };
        let row = inner * self.header.number.bytes;
        let mut sorted: Vec<(usize, usize)> = ids.iter().map(|&id| id as usize).zip(0..).collect();
        sorted.sort_unstable();
        let mut numbers = Vec::with_capacity(inner);
        for o in 0..outer {
            for run in runs(&sorted, row) {
                let (first, last) = (sorted[run.start].0, sorted[run.end - 1].0);
                self.scratch.resize((last + 1 - first) * row, 0);
                self.file
                    .seek(SeekFrom::Start(self.start + ((o * images + first) * row) as u64))
                    .and_then(|_| self.file.read_exact(&mut self.scratch))
                    .map_err(|e| format!("it can no longer be read: {e}"))?;
                for &(id, place) in &sorted[run] {
                    numbers.clear();
                    self.header.number.decode(&self.scratch[(id - first) * row..][..row], &mut numbers);
                    for (i, &number) in numbers.iter().enumerate() {
                        let (a, b) = if fortran { (i, o) } else { (o, i) };
                        put(a, place, b, number)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The array's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Ranges of ascending rows that are read together.
fn runs(sorted: &[(usize, usize)], row: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (at, &(id, _)) in sorted.iter().enumerate() {
        match runs.last_mut() {
            Some(run)
                if (id - sorted[run.end - 1].0).saturating_sub(1) * row <= GAP
                    && (id + 1 - sorted[run.start].0) * row <= READ =>
            {
                run.end = at + 1;
            }
            _ => runs.push(at..at + 1),
        }
    }
    runs
}

/// Where the element stands in Fortran order that has the index `at` in C order.
fn in_fortran_order(mut at: usize, shape: &[usize]) -> usize {
    let (mut offset, mut stride) = (0, shape.iter().product::<usize>());
    for length in shape.iter().rev() {
        stride /= length;
        offset += at % length * stride;
        at /= length;
    }
    offset
}

/// The index of element `at` (C order) as people write it: `[2, 0, 7]`.
pub fn place(mut at: usize, shape: &[usize]) -> String {
    let mut index = vec![0; shape.len()];
    for (i, length) in index.iter_mut().zip(shape).rev() {
        *i = at % length;
        at /= length;
    }
    format!("{index:?}")
}
