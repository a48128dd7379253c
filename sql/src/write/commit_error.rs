//! Why a commit did not end.

use datafusion::error::DataFusionError;
use volley_proto::Failure;

/// Why the files of a write are not in their table.
#[derive(Debug)]
pub enum CommitError {
    /// They never will be: the table is another one by now, or none.
    Refused(Failure),
    /// They may be when it is tried again.
    Failed(DataFusionError),
}

impl From<DataFusionError> for CommitError {
    fn from(error: DataFusionError) -> Self {
        Self::Failed(error)
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        Self::Failed(DataFusionError::External(Box::new(failure)))
    }
}
