//! What can go wrong for a client, by what the user can do about it.

use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use tonic::{Code, Status};

/// Why a client call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no connection to the scheduler, or it broke.
    #[error("can't reach the scheduler at {url}: {reason}")]
    Connection {
        /// Where the scheduler should be.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The scheduler refused the statement, or its job failed. The message is the scheduler's, place in the text included.
    #[error("{message}")]
    Query {
        /// The kind of failure, as gRPC names it.
        code: Code,
        /// What went wrong.
        message: String,
    },
    /// The statement was cancelled.
    #[error("{message}")]
    Cancelled {
        /// Who cancelled what.
        message: String,
    },
    /// What came from the scheduler can't be read.
    #[error("the scheduler's answer can't be read: {0}")]
    Protocol(String),
    /// The embedded cluster could not be started or stopped.
    #[error("{0}")]
    Cluster(String),
    /// Something on this side of the connection: a file, a plan, a conversion.
    #[error("{0}")]
    Local(String),
}

/// A result of a client call.
pub type Result<T, E = ClientError> = std::result::Result<T, E>;

impl ClientError {
    /// A failure of the scheduler at `url` as it comes over gRPC.
    ///
    /// A status that the scheduler sent has no source; one that the transport made has the broken connection as its source.
    pub(crate) fn from_status(url: &str, status: &Status) -> Self {
        let transport = std::error::Error::source(status).map(root_cause);
        match (status.code(), transport) {
            (_, Some(reason)) => Self::Connection { url: url.to_owned(), reason },
            (Code::Cancelled, None) => Self::Cancelled { message: status.message().to_owned() },
            (code, None) => Self::Query { code, message: status.message().to_owned() },
        }
    }

    /// Whether it is the connection that failed, and not what was asked over it.
    pub fn is_connection(&self) -> bool {
        matches!(self, Self::Connection { .. })
    }
}

/// The innermost cause says what happened; those around it say "transport error".
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

impl From<ArrowError> for ClientError {
    fn from(error: ArrowError) -> Self {
        Self::Local(error.to_string())
    }
}

impl From<DataFusionError> for ClientError {
    fn from(error: DataFusionError) -> Self {
        match error {
            // Our own errors travel through DataFusion's streams unchanged.
            DataFusionError::External(inner) => match inner.downcast::<Self>() {
                Ok(error) => *error,
                Err(other) => Self::Local(other.to_string()),
            },
            other => Self::Local(other.strip_backtrace()),
        }
    }
}

impl From<ClientError> for DataFusionError {
    fn from(error: ClientError) -> Self {
        Self::External(Box::new(error))
    }
}
