//! Writes that happen exactly once whatever is retried.
//!
//! ```text
//! begin(spec)   scheduler   makes the staging place, which no reader looks at
//! StagedWriteExec  tasks    one sink for each partition of an attempt; a row for each staged file
//! commit(spec, files)       scheduler: publishes the files of committed attempts by rename, removes the staging place
//! abort(spec)               scheduler: removes the staging place
//! ```
//!
//! On object stores nothing is renamed: an attempt leaves uploads that are not completed ([`upload`]), and the commit completes them.
//!
//! Files of a managed table are not moved: they stay where they were staged, and the table's catalog entry names them
//! ([`crate::catalog::ClusterCatalog::commit`]).
//!
//! Files of a Delta Lake table are published like others, which nobody sees before an entry of its log names them.
//!
//! Invariants: an attempt's files carry a name of its own, so attempts never touch each other's; a file that no committed attempt
//! reported is never published; `commit` may be called again after a crash with the same files and ends in the same state.

mod blocks;
mod commit_error;
mod destination;
mod encode;
mod exec;
mod publish;
mod sink;
mod spec;
mod staged;
mod statistics;
mod unfinished;
mod upload;
mod views;

pub(crate) use encode::check_options;

pub use commit_error::CommitError;
pub use destination::staging_url;
pub use exec::StagedWriteExec;
pub(crate) use publish::{complete_files, keep};

pub use publish::{Committed, abort, begin, commit, remove_files};
pub use spec::{DeltaFile, DeltaOperation, DeltaWrite, RowChange, TableCreation, TableWrite, WriteFormat, WriteMode, WriteSpec};
pub use staged::{FileDetails, StagedFile, rows_of, staged_schema};
pub use upload::StagedUpload;
