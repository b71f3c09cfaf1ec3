//! Every reader of files that others may have made, called on bytes: for the tests of hostile input and for fuzzing
//! (`tests/fuzz/`). Whatever the bytes are, a reader gives an error or what it read; it does not panic, hang or ask for memory
//! without bound.
#![allow(dead_code)] // a fuzz target uses one of them

use recurve::dataset::{Dataset, Folder, Hdf5};
use recurve::kernels::Target;
use recurve::network::{Protocol, RunConfig};
use recurve::train::{Checkpoint, metrics};
use recurve::trajectory::npz::{Extraction, StoredBatch, StoredExtraction};
use recurve::weights::{Flags, infer};
use recurve::{Error, Result, tune, weights};
use std::fs;
use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// A reader: bytes, and a folder for a file that holds them.
pub type Reader = fn(&[u8], &Path) -> Result<()>;

/// All of them.
pub const READERS: [(&str, Reader); 13] = [
    ("hdf5", hdf5),
    ("npz", npz),
    ("npy", npy),
    ("pickle", pickle),
    ("pth", pth),
    ("safetensors", safetensors),
    ("checkpoint", checkpoint),
    ("config", config),
    ("protocol", protocol),
    ("choices", choices),
    ("metrics", log),
    ("pictures", pictures),
    ("names", names),
];

/// The adapter that choices are read for.
pub fn target() -> Target {
    Target { cpu: true, subgroup: 8, ..Target::minimum() }
}

/// For a fuzzer: the reader of this name, on bytes whose checksums are mended, so that it gets past them.
pub fn once(name: &str, bytes: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let folder = place.join(format!("recurve-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder for the files");
        folder
    });
    let (_, reader) = READERS.iter().find(|(known, _)| *known == name).expect("a reader");
    let mut bytes = bytes.to_vec();
    mend(name, &mut bytes);
    let _ = reader(&bytes, folder);
}

fn file(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, bytes).map_err(Error::io(&path))?;
    Ok(path)
}

fn hdf5(bytes: &[u8], folder: &Path) -> Result<()> {
    let data = Hdf5::open(&file(folder, "a.h5", bytes)?)?;
    for split in data.splits() {
        data.verify(&split)?;
        let last = data.len(&split)? - 1;
        data.read(&split, &[last, 0])?;
    }
    Ok(())
}

fn npz(bytes: &[u8], folder: &Path) -> Result<()> {
    let path = file(folder, "a.npz", bytes)?;
    let whole = Extraction::read(&path);
    let mut stored = StoredExtraction::open(&path)?;
    let last = stored.extent.samples as u32 - 1;
    stored.read(&[last, 0], 2, &mut StoredBatch::default())?;
    whole.map(drop)
}

/// One array of an npz file whose other arrays are sound.
fn npy(bytes: &[u8], folder: &Path) -> Result<()> {
    let sound = |shape: &str, count: usize| {
        let head = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
        let head = format!("{head:<117}\n");
        [b"\x93NUMPY\x01\0v\0", head.as_bytes(), &vec![0; 8 * count]].concat()
    };
    let (labels, weight) = (sound("(3,)", 3), sound("(4, 5)", 20));
    let representations = sound("(2, 3, 5)", 30);
    let arrays = [
        ("outputs_all.npy", bytes),
        ("labels_all.npy", &labels),
        ("representations_all.npy", &representations),
        ("readout_weight.npy", &weight),
    ];
    npz(&zipped(&arrays, bytes.len().is_multiple_of(2)), folder)
}

/// The pickle of a state dict whose storages are sound.
fn pickle(bytes: &[u8], folder: &Path) -> Result<()> {
    let storages: Vec<(String, Vec<u8>)> = (0..40).map(|i| (format!("archive/data/{i}"), vec![0; 4096])).collect();
    let mut entries = vec![("archive/data.pkl", bytes), ("archive/version", &b"3\n"[..])];
    entries.extend(storages.iter().map(|(name, data)| (name.as_str(), data.as_slice())));
    pth(&zipped(&entries, false), folder)
}

fn zipped(entries: &[(&str, &[u8])], deflated: bool) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let method = if deflated { zip::CompressionMethod::Deflated } else { zip::CompressionMethod::Stored };
    for (name, data) in entries {
        zip.start_file(*name, zip::write::SimpleFileOptions::default().compression_method(method)).expect("in memory");
        zip.write_all(data).expect("in memory");
    }
    zip.finish().expect("in memory").into_inner()
}

fn pth(bytes: &[u8], folder: &Path) -> Result<()> {
    let read = weights::read(&file(folder, "a.pth", bytes)?)?;
    let _ = infer(&read.tensors, None, &Flags::default()); // it may ask for flags
    Ok(())
}

fn safetensors(bytes: &[u8], folder: &Path) -> Result<()> {
    pth(bytes, folder)
}

fn checkpoint(bytes: &[u8], folder: &Path) -> Result<()> {
    Checkpoint::read(&file(folder, "a.safetensors", bytes)?).map(drop)
}

fn config(bytes: &[u8], folder: &Path) -> Result<()> {
    let config = RunConfig::read(&file(folder, "a.toml", bytes)?)?;
    let again = RunConfig::parse(&config.to_toml()).expect("what was read can be written and read again");
    assert_eq!(again, RunConfig { classes_open: false, ..config.clone() }, "what is written is what was read");
    config.network.network().map(drop)
}

fn protocol(bytes: &[u8], folder: &Path) -> Result<()> {
    Protocol::read(&file(folder, "a.toml", bytes)?).map(drop)
}

fn choices(bytes: &[u8], folder: &Path) -> Result<()> {
    tune::cache::read(&file(folder, "choices.toml", bytes)?, &target()).map(drop)
}

fn log(bytes: &[u8], folder: &Path) -> Result<()> {
    metrics::read(&file(folder, "metrics.jsonl", bytes)?).map(drop)
}

/// One picture among sound ones.
fn pictures(bytes: &[u8], folder: &Path) -> Result<()> {
    for (place, shade) in [("train/a", 10), ("train/b", 200), ("val/a", 30), ("val/b", 40)] {
        let class = folder.join("pictures").join(place);
        if !class.join("sound.png").exists() {
            fs::create_dir_all(&class).map_err(Error::io(&class))?;
            fs::write(class.join("sound.png"), grey(shade)).map_err(Error::io(&class))?;
        }
    }
    fs::write(folder.join("pictures/train/a/a.png"), bytes).map_err(Error::io(folder))?;
    Folder::open(&folder.join("pictures"), 4).map(drop)
}

/// A PNG picture of 2 x 1 pixels, uncompressed: black, and a shade of grey.
fn grey(shade: u8) -> Vec<u8> {
    let row = [0, 0, shade];
    let (a, b) = row.iter().fold((1u32, 0u32), |(a, b), &x| (a + u32::from(x), b + a + u32::from(x)));
    let data = [&[0x78, 1, 1, 3, 0, 0xfc, 0xff][..], &row, &(b << 16 | a).to_be_bytes()].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, content) in [(b"IHDR", &[0, 0, 0, 2, 0, 0, 0, 1, 8, 0, 0, 0, 0][..]), (b"IDAT", &data), (b"IEND", &[])] {
        png.extend((content.len() as u32).to_be_bytes());
        png.extend(kind);
        png.extend(content);
        png.extend([0; 4]);
    }
    mend("pictures", &mut png);
    png
}

/// Folders of classes and files in them whose names are the lines.
fn names(bytes: &[u8], folder: &Path) -> Result<()> {
    let root = folder.join("names");
    fs::remove_dir_all(&root).ok();
    for split in ["train", "val"] {
        for (i, line) in bytes.split(|&byte| byte == b'\n').take(8).enumerate() {
            let name = os_name(line);
            // What no file system takes is no name.
            if line.contains(&b'/') || fs::create_dir_all(root.join(split).join(&name)).is_err() {
                continue;
            }
            let class = root.join(split).join(&name);
            fs::write(class.join("a.png"), grey(i as u8 + 1)).map_err(Error::io(&class))?;
            fs::write(class.join(&name), b"x").ok();
        }
    }
    Folder::open(&root, 4).map(drop)
}

#[cfg(unix)]
fn os_name(bytes: &[u8]) -> std::ffi::OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn os_name(bytes: &[u8]) -> std::ffi::OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Writes the right checksums into a changed file, as far as its structure is still there.
pub fn mend(name: &str, bytes: &mut [u8]) {
    match name {
        "pictures" => {
            let mut at = 8;
            while let Some(length) = bytes.get(at..at + 4) {
                let length = u32::from_be_bytes(length.try_into().expect("4 bytes")) as usize;
                let Some(content) = length.checked_add(at + 8).and_then(|end| bytes.get(at + 4..end)) else { break };
                let crc = crc32(content).to_be_bytes();
                at += 8 + length;
                if let Some(place) = bytes.get_mut(at..at + 4) {
                    place.copy_from_slice(&crc);
                }
                at += 4;
            }
        }
        "hdf5" => {
            for at in 0..bytes.len().saturating_sub(10) {
                if bytes[at..].starts_with(b"OHDR\x02") {
                    let length = u32::from_le_bytes(bytes[at + 6..at + 10].try_into().expect("4 bytes")) as usize;
                    mend_hdf5(bytes, at, at + 10 + length);
                }
            }
            mend_hdf5(bytes, 0, 44);
        }
        _ => {}
    }
}

/// The checksum of a superblock or object header, which follows it.
fn mend_hdf5(bytes: &mut [u8], start: usize, end: usize) {
    if let Some(content) = bytes.get(start..end) {
        let sum = hdf5_reader::checksum::jenkins_lookup3(content).to_le_bytes();
        if let Some(place) = bytes.get_mut(end..end + 4) {
            place.copy_from_slice(&sum);
        }
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0xEDB8_8320 } else { sum >> 1 })
    })
}
