//! What can go wrong with a spill file.

use std::io;
use std::path::{Path, PathBuf};

use volley_proto::{AttemptId, ExecutorId, Failure};

use super::format::ChunkId;

/// Why a spill file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SpillError {
    /// The disk, or the user's share of it, is used up.
    #[error("the disk that holds spill file '{}' is full", path.display())]
    Full {
        /// The file that was written.
        path: PathBuf,
    },
    /// The output was freed while it was written.
    #[error("spill file '{}' is not written any more: its output was freed", path.display())]
    Freed {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("can't {action} spill file '{}': {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A chunk is not what was written.
    #[error("chunk {chunk} of spill file '{}' is corrupt: its checksum is {found:08x} instead of {expected:08x}", path.display())]
    CorruptChunk {
        /// The file.
        path: PathBuf,
        /// The chunk.
        chunk: ChunkId,
        /// The checksum that was written.
        expected: u32,
        /// The checksum of what was read.
        found: u32,
    },
    /// The file is not a whole spill file.
    #[error("'{}' is not a whole spill file: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
}

impl SpillError {
    /// Sorts an error of the operating system.
    pub(super) fn from_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path: path.to_owned() },
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }

    /// The failure of a task that wanted to write.
    pub fn while_writing(&self) -> Failure {
        match self {
            Self::Full { .. } => Failure::resources(self.to_string()),
            Self::Freed { .. } => Failure::cancelled(self.to_string()),
            Self::Io { .. } | Self::CorruptChunk { .. } | Self::Malformed { .. } => Failure::retry(self.to_string()),
        }
    }

    /// The failure of a task that wanted to read the output of `producer` on `executor`.
    pub fn while_reading(&self, producer: AttemptId, executor: &ExecutorId) -> Failure {
        Failure::rerun(producer, executor.clone(), self.to_string())
    }
}
