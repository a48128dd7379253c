//! Why an executor does not start or stops.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why an executor could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not of this host.
    #[error("can't listen on {address}: {source}; choose another with --listen HOST:PORT")]
    Listen {
        /// Where it should have listened.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The work directory can't be used.
    #[error("can't use the work directory {path}: {source}; choose another with --work-dir DIR")]
    WorkDir {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Threads could not be made.
    #[error("can't start {what}: {message}")]
    Threads {
        /// Which threads.
        what: &'static str,
        /// What the system said.
        message: String,
    },
    /// Another part could not be built.
    #[error("can't set up {what}: {message}")]
    Setup {
        /// Which part.
        what: &'static str,
        /// Why.
        message: String,
    },
    /// The scheduler does not want this executor, and will not later.
    #[error("the scheduler at {scheduler} refuses this executor: {reason}")]
    Refused {
        /// Which scheduler.
        scheduler: String,
        /// Its words.
        reason: String,
    },
}
