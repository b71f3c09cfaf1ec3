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
    /// Another process is training in the run folder.
    #[error("{0}")]
    Busy(String),
    /// No adapter, a limit that does not suffice, a kernel that does not compile.
    #[error("{0}")]
    Gpu(String),
    /// The device stopped working or was taken away: nothing that it held can be read any more.
    #[error(
        "the device was lost: {adapter}: {reason}. What it held is gone; start again (`recurve train --resume RUN` goes on \
         from a run's last checkpoint). If the driver reset it because a kernel ran too long, use a smaller --batch, or \
         compute it in parts with --accumulate"
    )]
    DeviceLost {
        /// The adapter's name.
        adapter: String,
        /// What the driver said.
        reason: String,
    },
    /// The device has no memory left for what was asked.
    #[error(
        "out of memory: {:.3} MiB for {what} on {adapter}: {reason}. {advice}", *bytes as f64 / (1u64 << 20) as f64
    )]
    OutOfMemory {
        /// The adapter's name.
        adapter: String,
        /// The buffer, with the tensor in it.
        what: String,
        /// Bytes asked for.
        bytes: u64,
        /// What the driver said.
        reason: String,
        /// What is large, and what can be done.
        advice: String,
    },
    /// Training cannot go on (for example a loss that is not finite).
    #[error("{0}")]
    Training(String),
}

impl Error {
    /// What helps where the device has no memory left.
    pub const MORE_MEMORY: &str =
        "Use a smaller --batch, compute it in parts with --accumulate, or end other programs that use this adapter";

    /// Attaches the path to an I/O error: `fs::read(p).map_err(Error::io(p))`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { path, source }
    }
}
