//! Why the state store could not do what was asked.

use std::io;
use std::path::{Path, PathBuf};

/// Why the state store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote the key first: read it again and decide anew.
    #[error("'{key}' was changed by somebody else meanwhile")]
    Conflict {
        /// The key.
        key: String,
    },
    /// Another scheduler has the directory.
    #[error("state directory {path} is in use by another scheduler: stop it, or give this one its own --state-dir", path = path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory was written by another format version.
    #[error("{path} has state format {found}, this build reads format {expected}: use the Volley version that wrote it, or an empty directory", path = path.display())]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// The format that it has.
        found: u8,
        /// The format that this build reads.
        expected: u8,
    },
    /// A file is damaged.
    #[error("{path} is damaged at byte {offset}: {what}; restore it from a backup, or start with an empty --state-dir", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// A key that the store can't take.
    #[error("'{key}' is no key of the state store: it is empty or longer than 240 bytes")]
    Key {
        /// The key.
        key: String,
    },
    /// A value that the store can't take, or could not read back.
    #[error("'{key}' holds something that can't be read: {why}")]
    Value {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A record of the journal that can't be read.
    #[error("record {place} of the journal can't be read: {why}; start the Volley version that wrote it, or an empty --state-dir")]
    Record {
        /// Its place.
        place: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The operating system refused.
    #[error("can't {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another scheduler leads.
    #[error("this scheduler does not lead any more: {} does", leader.as_deref().unwrap_or("nobody yet, or another one"))]
    Deposed {
        /// Its name.
        leader: Option<String>,
    },
    /// etcd can't be reached, or refused.
    #[error("can't {action} in {location}: {why}")]
    Etcd {
        /// Its members and the prefix.
        location: String,
        /// What was tried, as a verb.
        action: &'static str,
        /// Why not.
        why: String,
    },
    /// The call was cut short by a shutdown or a panic.
    #[error("the state store was interrupted: {why}")]
    Interrupted {
        /// By what.
        why: String,
    },
}

impl StoreError {
    /// Wraps an I/O error with what was tried on which file.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }
}
