//! What the peers written in Rust share: their flags, the line protocol, a DataFusion session with the tables, and child processes.

pub mod children;
pub mod protocol;
pub mod session;

use std::path::PathBuf;

/// The flags that every peer has.
#[derive(Debug, Clone, clap::Args)]
pub struct Flags {
    /// Folder with one TABLE.parquet, or one folder TABLE with Parquet files, for each table.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Name of the suite. Whatever tables DIR has are there, so it only has to match what the queries name.
    #[arg(long)]
    pub suite: String,
    /// Threads to use, or processes of one thread each.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: u16,
}

impl Flags {
    /// `--threads`.
    pub fn threads(&self) -> usize {
        usize::from(self.threads)
    }
}
