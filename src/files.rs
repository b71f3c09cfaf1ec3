//! Files that are never half there.

use std::io::Write;
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
