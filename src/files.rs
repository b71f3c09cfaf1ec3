//! Files that are never half there.

use std::io::Write;
use std::path::Path;

/// Writes to a temporary file beside `path`, flushes it to the disk, then renames it: after a crash at any moment
/// `path` is either as before or complete.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = atomic_write_file::AtomicWriteFile::open(path)?;
    file.write_all(bytes)?;
    file.commit()
}
