//! Records of the state store: what a scheduler tells its later self.
//!
//! Written records outlive builds: [`JobRecord`] and [`TableEntry`] carry a format version on the wire, and a reader
//! refuses one that is newer than its own instead of guessing.

use bytes::Bytes;

use crate::failure::Failure;
use crate::ids::{AttemptId, ExecutorId, Incarnation, JobId, Term};
use crate::job::{JobOwner, TraceContext};
use crate::stage::StageShape;
use crate::task::{PartitionStats, StagePlan};

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
        /// Whether rows are shown while they are produced.
        eager: bool,
        /// The term of the scheduler that it was submitted to.
        term: Term,
    },
    /// It was planned, or planned again: the shapes of all stages as they are now, and how to run them.
    Planned {
        /// By id.
        stages: Vec<StageShape>,
        /// The build that made the plan: no other can be trusted to read it.
        build: String,
        /// The schema of the result, as an Arrow IPC message.
        schema: Bytes,
        /// By stage.
        work: Vec<StageWork>,
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

/// How to run a stage, and what reports show of it.
#[derive(Debug, Clone, PartialEq)]
pub struct StageWork {
    /// Its plan.
    pub plan: StagePlan,
    /// What each task's leaves read.
    pub bindings: Vec<Bytes>,
    /// Partitions of all tasks together.
    pub partitions: u32,
    /// How its rows are spread, for people.
    pub output: String,
    /// Its operators in pre-order, for people.
    pub operators: Vec<OperatorLine>,
}

/// An operator of a plan, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorLine {
    /// Distance from the stage's root operator.
    pub depth: u32,
    /// Its name.
    pub name: String,
    /// Its line in a plan.
    pub detail: String,
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
