//! What can go wrong in a benchmark.

use std::io;
use std::path::PathBuf;

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;
use volley_client::ClientError;

/// Why a benchmark stopped.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A wrong choice on the command line.
    #[error("{0}")]
    Usage(String),
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The cluster, or a query on it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Plain DataFusion, or a generator.
    #[error("{}", .0.strip_backtrace())]
    DataFusion(#[from] DataFusionError),
    /// A Parquet file can't be written.
    #[error("{path}: {source}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ParquetError,
    },
    /// Another engine that is compared.
    #[error("{peer}: {why}")]
    Peer {
        /// Its program.
        peer: String,
        /// What is wrong with it.
        why: String,
    },
    /// Some queries failed or gave a wrong answer; said above already.
    #[error("{right} of {all} right")]
    NotAllRight {
        /// Right ones.
        right: usize,
        /// All that ran.
        all: usize,
    },
}

/// A result of a benchmark.
pub type Result<T, E = BenchError> = std::result::Result<T, E>;

impl From<ArrowError> for BenchError {
    fn from(error: ArrowError) -> Self {
        Self::DataFusion(error.into())
    }
}

impl BenchError {
    /// For `map_err` of file operations.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
