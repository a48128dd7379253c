//! Delta Lake tables: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.
//!
//! The library reads and writes the log. What the log names is read and written as any other Parquet files are: a scan is the engine's, whose
//! file ranges are spread over tasks, and a write's files are staged by tasks and appear with one entry of the log.
//!
//! ```text
//! catalog entry ── DeltaLog (store, newest version) ── DeltaProvider: one version, a snapshot ── scan of its files
//!                                                 └── commit: one log entry for the files of a write
//! ```

mod changes;
mod commit;
mod create;
mod files;
mod log;
mod provider;
mod values;

use datafusion::error::DataFusionError;
use deltalake_core::DeltaTableError;

pub(crate) use changes::{check_appends, rewritten_files};
pub use commit::commit;
pub(crate) use create::create;
pub(crate) use log::DeltaLog;
pub(crate) use provider::DeltaProvider;

/// An error of the library, with the one of a store in it where that is the cause: a store that does not answer is asked again.
fn delta_error(error: DeltaTableError) -> DataFusionError {
    match error {
        DeltaTableError::ObjectStore { source } => DataFusionError::ObjectStore(Box::new(source)),
        DeltaTableError::Arrow { source } => DataFusionError::ArrowError(Box::new(source), None),
        DeltaTableError::Parquet { source } => DataFusionError::ParquetError(Box::new(source)),
        other => DataFusionError::Execution(format!("Delta Lake: {other}")),
    }
}
