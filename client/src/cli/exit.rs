//! Exit codes: what scripts decide by.

use std::process::ExitCode;

use crate::error::ClientError;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All went well.
    Ok,
    /// A statement or job failed.
    Failed,
    /// The command line is wrong.
    Usage,
    /// There is no connection to the cluster, or it could not be started.
    NoConnection,
    /// Some statements failed, and those after them ran.
    Partial,
    /// Ctrl-C.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Ok => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::NoConnection => 3,
            Exit::Partial => 4,
            Exit::Interrupted => 130,
        })
    }
}

impl From<&ClientError> for Exit {
    fn from(error: &ClientError) -> Self {
        match error {
            ClientError::Connection { .. } | ClientError::Cluster(_) => Self::NoConnection,
            ClientError::Query { .. } | ClientError::Cancelled { .. } | ClientError::Protocol(_) | ClientError::Local(_) => Self::Failed,
        }
    }
}
