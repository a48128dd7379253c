//! Failures, typed by what is to be done about them.

use std::fmt;

use crate::ids::{AttemptId, ExecutorId};

/// What is to be done about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remedy {
    /// Try the task again elsewhere: I/O failed or a peer was lost.
    Retry,
    /// An input is gone: run its producer again, then this task. Charged to the producer, not to this task.
    Rerun {
        /// The attempt whose output could not be read.
        producer: AttemptId,
        /// The executor that should have held it.
        executor: ExecutorId,
    },
    /// Out of memory or disk: again, alone on an executor.
    Resources,
    /// The user's fault: fail the job now, a retry would fail too.
    Query,
    /// The user asked for it.
    Cancelled,
    /// A bug or a panic: once more elsewhere, then fail.
    Internal,
}

/// Why something did not work, in words for the user and with the remedy for the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is to be done about it.
    pub remedy: Remedy,
    /// What went wrong: a lower-case fragment without a full stop that names what and where.
    pub message: String,
}

impl Failure {
    /// A failure that another try elsewhere may mend.
    pub fn retry(message: impl Into<String>) -> Self {
        Self { remedy: Remedy::Retry, message: message.into() }
    }

    /// The output of `producer` on `executor` can't be read.
    pub fn rerun(producer: AttemptId, executor: ExecutorId, message: impl Into<String>) -> Self {
        Self { remedy: Remedy::Rerun { producer, executor }, message: message.into() }
    }

    /// Out of memory or disk.
    pub fn resources(message: impl Into<String>) -> Self {
        Self { remedy: Remedy::Resources, message: message.into() }
    }

    /// The statement itself is wrong.
    pub fn query(message: impl Into<String>) -> Self {
        Self { remedy: Remedy::Query, message: message.into() }
    }

    /// The user asked to stop.
    pub fn cancelled(message: impl Into<String>) -> Self {
        Self { remedy: Remedy::Cancelled, message: message.into() }
    }

    /// A bug.
    pub fn internal(message: impl Into<String>) -> Self {
        Self { remedy: Remedy::Internal, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
