//! The one error type of the library: what was wrong, where, what was expected and found, what to do.

use std::path::{Path, PathBuf};

/// `Result` with [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong on user input or on the user's machine. Messages are for people: they name the
/// file or key, what was expected and found, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A data set is not what it should be.
    #[error("{0}")]
    Data(String),
    /// A configuration (TOML file or flags) is wrong.
    #[error("{0}")]
    Config(String),
    /// A checkpoint or run folder cannot be used.
    #[error("{0}")]
    Checkpoint(String),
    /// No adapter, a lost device, a limit that does not suffice, a kernel that does not compile.
    #[error("{0}")]
    Gpu(String),
    /// Training cannot go on (for example a loss that is not finite).
    #[error("{0}")]
    Training(String),
}

impl Error {
    /// Attaches the path to an I/O error: `fs::read(p).map_err(Error::io(p))`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }
}
