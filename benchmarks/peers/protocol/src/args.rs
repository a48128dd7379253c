//! The flags that every peer takes.

use std::num::NonZeroUsize;
use std::path::PathBuf;

/// The flags that every peer takes; those of one engine go beside them.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct PeerArgs {
    /// Folder of the tables
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Suite that the tables are of; all tables of the folder are there anyway
    #[arg(long, value_name = "S")]
    pub suite: String,
    /// Threads that compute, over all processes of the engine
    #[arg(long, value_name = "N")]
    pub threads: NonZeroUsize,
}
