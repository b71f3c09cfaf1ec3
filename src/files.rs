//! Files that are never half there, and never read without end.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Writes to a temporary file beside `path`, flushes it to the disk, then renames it: after a crash at any moment
/// `path` is either as before or complete. A link stays, the file that it leads to is written; what is no file, such as a pipe
/// or a terminal, takes the bytes as they come.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    if std::fs::metadata(path).is_ok_and(|of| !of.is_file() && !of.is_dir()) {
        return std::fs::write(path, bytes);
    }
    let mut file = atomic_write_file::AtomicWriteFile::open(path)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Bytes of a text that people write, such as a configuration, at most.
pub const TEXT: u64 = 1 << 20;
/// Bytes of a text that programs write, at most: choices, a report, a log of 10 million steps.
pub const LONG_TEXT: u64 = 1 << 30;
/// Bytes of a file of tensors, at most.
pub const TENSORS: u64 = 16 << 30;
/// Bytes that are read at most from what is no file and has no size: a pipe, a device.
pub const PIPED: u64 = 64 << 20;

/// Reads a file that is held whole. One of more than `most` bytes, or a pipe that gives more than [`PIPED`], is refused before
/// memory for it is asked for.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    let (most, size) = if metadata.is_file() { (most, metadata.len()) } else { (most.min(PIPED), 0) };
    let too_large = || {
        let expected = format!("expected a file of at most {most} bytes, found a larger one");
        io::Error::new(io::ErrorKind::FileTooLarge, expected)
    };
    if size > most {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size as usize)?;
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_large()) } else { Ok(bytes) }
}

/// As [`read`], of a text in UTF-8.
pub fn read_text(path: &Path, most: u64) -> io::Result<String> {
    String::from_utf8(read(path, most)?).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("expected text in UTF-8, found other bytes from byte {at} on"),
        )
    })
}

/// Removes a file that is about to be written last of several, as a sign that all are there: without it what is there is not
/// complete.
pub fn remove_sign(path: &Path) -> std::io::Result<()> {
    std::fs::remove_file(path).or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
}

/// A file or folder under construction: it grows as `NAME.partial` and gets its name when it is complete. Until then, and for
/// ever where its construction fails or is interrupted, nothing stands under the name that was not there before.
#[derive(Debug)]
pub struct Partial {
    partial: PathBuf,
    path: PathBuf,
}

impl Partial {
    /// Begins. What an interrupted construction left behind is removed.
    pub fn new(path: &Path) -> std::io::Result<Partial> {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".partial");
        let partial = Partial { partial: path.with_file_name(name), path: path.to_path_buf() };
        partial.remove()?;
        Ok(partial)
    }

    /// Where it grows.
    pub fn place(&self) -> &Path {
        &self.partial
    }

    /// Gives the finished file or folder its name, after all of it has reached the disk. A file that has the name is replaced,
    /// a folder only if it is empty.
    pub fn commit(self) -> std::io::Result<()> {
        if self.partial.is_dir() {
            for entry in std::fs::read_dir(&self.partial)? {
                std::fs::File::open(entry?.path())?.sync_all()?;
            }
            if self.path.is_dir() {
                std::fs::remove_dir(&self.path)?;
            }
        } else {
            std::fs::File::open(&self.partial)?.sync_all()?;
        }
        std::fs::rename(&self.partial, &self.path)
    }

    fn remove(&self) -> std::io::Result<()> {
        let removed = match self.partial.is_dir() {
            true => std::fs::remove_dir_all(&self.partial),
            false => std::fs::remove_file(&self.partial),
        };
        removed.or_else(|e| if e.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        self.remove().ok(); // after `commit` there is nothing left to remove
    }
}

/// Reads as many bytes as `into` takes from a place in a file, whatever else is read from it meanwhile.
///
/// # Errors
/// What the operating system says, an end before the last byte too.
#[cfg(unix)]
pub fn read_at(file: &std::fs::File, into: &mut [u8], at: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, into, at)
}

/// Reads as many bytes as `into` takes from a place in a file, whatever else is read from it meanwhile.
///
/// # Errors
/// What the operating system says, an end before the last byte too.
#[cfg(windows)]
pub fn read_at(file: &std::fs::File, mut into: &mut [u8], mut at: u64) -> std::io::Result<()> {
    while !into.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, into, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => (into, at) = (&mut into[read..], at + read as u64),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        for text in ["first", "second and longer", "3"] {
            write_atomically(&path, text.as_bytes()).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_atomically(folder.path(), b"x").is_err(), "a folder is no file");
        assert!(write_atomically(&folder.path().join("no/a.txt"), b"x").is_err());
    }

    #[test]
    fn what_is_too_large_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, [b'x'; 100]).unwrap();
        assert_eq!(read(&path, 100).unwrap().len(), 100);
        assert!(read(&path, 99).unwrap_err().to_string().contains("at most 99 bytes"));
        // A terabyte that takes no room on the disk.
        std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert!(read(&path, TENSORS).unwrap_err().to_string().contains("at most"));
        std::fs::write(&path, b"ab\xff").unwrap();
        assert!(read_text(&path, 9).unwrap_err().to_string().contains("from byte 2 on"));
        #[cfg(unix)]
        assert!(read(Path::new("/dev/zero"), TENSORS).is_err(), "it has no end");
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_and_devices_are_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_atomically(&link, b"new").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        write_atomically(Path::new("/dev/null"), b"gone").unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
    }
}
