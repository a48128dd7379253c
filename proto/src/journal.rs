//! Records of the state store: what a scheduler tells its later self.
//!
//! Written records outlive builds: [`JobRecord`] and [`TableEntry`] carry a format version on the wire, and a reader
//! refuses one that is newer than its own instead of guessing.

use crate::failure::Failure;
use crate::ids::{AttemptId, ExecutorId, Incarnation, JobId};
use crate::job::{JobOwner, TraceContext};
use crate::stage::StageShape;
use crate::task::PartitionStats;

/// Format version of the records that this build writes; it reads those up to it.
pub const JOURNAL_VERSION: u32 = 1;

/// One thing that happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub struct JobRecord {
    /// The job.
    pub job: JobId,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    pub event: JobEvent,
}

/// What can happen to a job, as far as a restart needs it.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    /// It was submitted.
    Submitted {
        /// Whose work it is.
        owner: JobOwner,
        /// What was asked, for people.
        statement: String,
        /// Session options that differ from the defaults.
        settings: Vec<(String, String)>,
        /// The trace that it belongs to.
        trace: TraceContext,
    },
    /// It was planned, or planned again: the shapes of all stages as they are now.
    Planned {
        /// By id.
        stages: Vec<StageShape>,
    },
    /// A task's output is complete.
    TaskSealed {
        /// The attempt that sealed.
        attempt: AttemptId,
        /// Who holds its output.
        executor: ExecutorId,
        /// In which life.
        incarnation: Incarnation,
        /// `host:port` of the holder's Flight server.
        address: String,
        /// One entry for each output partition.
        outputs: Vec<PartitionStats>,
    },
    /// It ended.
    Ended(JobOutcome),
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// With this many rows.
    Finished {
        /// Rows of the result.
        rows: u64,
    },
    /// Without a result: it failed, or was cancelled.
    Failed(Failure),
}

/// One table of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// The catalog.
    pub catalog: String,
    /// The schema.
    pub schema: String,
    /// The table.
    pub name: String,
    /// The statement that makes it again.
    pub ddl: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
}
