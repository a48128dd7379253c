//! What is asked of an executor, and what it answers.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::failure::Failure;
use crate::ids::{AttemptId, ExecutorId, Incarnation, JobId, StageId, Term};
use crate::job::TraceContext;

/// A stage's plan: encoded once, sent once to each executor that runs tasks of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagePlan {
    /// The job that the stage belongs to.
    pub job: JobId,
    /// The stage.
    pub stage: StageId,
    /// Grows when replanning replaces the stage, so that a stale plan is never bound to new tasks.
    pub version: u32,
    /// The plan, as `volley_sql`'s `PlanCodec` encodes it.
    pub plan: Bytes,
    /// Session options that differ from the defaults: name and value, as `SET` takes them.
    pub settings: Vec<(String, String)>,
    /// Partitions of the stage's output exchange.
    pub output_partitions: u32,
    /// Distance from the root stage (0 = root): the ready queue prefers stages near it, which drains memory.
    pub depth: u32,
    /// Whether the outputs are the job's result, read by the client and not by a stage.
    pub root: bool,
    /// The job's weight in the executor's ready queue.
    pub weight: u32,
    /// How to get into the object stores of the plan's files, beside those that the executor's environment tells.
    pub stores: Vec<StoreAccess>,
}

/// How to get into an object store. Its options are secrets, and no text of it shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreAccess {
    /// What URLs name it by.
    pub name: String,
    /// Options of the store: name and value.
    pub options: Vec<(String, String)>,
}

impl fmt::Debug for StoreAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreAccess").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Where one attempt's output is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptLocation {
    /// The task's index in its stage.
    pub task: u32,
    /// The attempt that is to be read; readers never mix attempts of one task.
    pub attempt: u32,
    /// Who holds it.
    pub executor: ExecutorId,
    /// Which life of that executor.
    pub incarnation: Incarnation,
    /// `host:port` of its Flight server.
    pub address: Arc<str>,
}

/// Where one input of a task is: every producer task's attempt to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputLocations {
    /// The producer stage.
    pub producer: StageId,
    /// One entry for each producer task, in the order of their indexes. Shared between the tasks of a stage.
    pub attempts: Arc<[AttemptLocation]>,
}

/// One attempt at a task: what differs from the other tasks of its stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSpec {
    /// The attempt.
    pub attempt: AttemptId,
    /// The scheduler's term: an executor refuses commands of an older one.
    pub term: Term,
    /// The incarnation of the executor that is meant.
    pub incarnation: Incarnation,
    /// Version of the stage plan that this task belongs to.
    pub plan_version: u32,
    /// What its leaves read, as `volley_sql`'s `TaskBindings` encodes it.
    pub bindings: Bytes,
    /// Where its exchange inputs are, in the order of the stage's inputs.
    pub inputs: Vec<InputLocations>,
    /// Slots that it holds on the executor.
    pub slots: u32,
    /// The trace that it belongs to.
    pub trace: TraceContext,
}

/// Exact size of one output partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PartitionStats {
    /// Rows.
    pub rows: u64,
    /// Bytes in memory, as Arrow counts them.
    pub bytes: u64,
}

/// What one operator of a task's plan measured, summed over the task's partitions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OperatorMetrics {
    /// Place in a pre-order walk of the stage plan, root first.
    pub index: u32,
    /// Name and value: `output_rows`, `elapsed_compute` (nanoseconds), `spilled_bytes` and others as DataFusion names them.
    pub values: Vec<(String, u64)>,
}

/// What a task measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TaskMetrics {
    /// Nanoseconds its polls took on compute threads.
    pub cpu_ns: u64,
    /// Nanoseconds from launch to end.
    pub elapsed_ns: u64,
    /// Bytes read from exchange inputs in the same process.
    pub exchange_local_bytes: u64,
    /// Bytes read from exchange inputs over Flight (as framed, before decoding).
    pub exchange_flight_bytes: u64,
    /// Bytes that its outputs spilled to disk.
    pub spilled_bytes: u64,
    /// Nanoseconds of its longest poll: for so long a cancelled task may still hold its slots.
    pub longest_poll_ns: u64,
    /// By operator, in pre-order.
    pub operators: Vec<OperatorMetrics>,
}

/// Rows that travel within a report: one Arrow IPC message, not compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFrame {
    /// The flatbuffer that describes the body.
    pub header: Bytes,
    /// The buffers.
    pub body: Bytes,
    /// Rows in it; 0 for a dictionary.
    pub rows: u64,
}

/// How an attempt stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskOutcome {
    /// It runs; rows written so far.
    Running {
        /// Rows written to the output so far.
        rows: u64,
    },
    /// Its output is complete and immutable.
    Sealed {
        /// One entry for each output partition.
        outputs: Vec<PartitionStats>,
        /// What it measured.
        metrics: Box<TaskMetrics>,
        /// All rows of the output, partition by partition, where it is a small part of the job's result.
        inline: Option<Vec<InlineFrame>>,
    },
    /// It failed; nothing of its output may be read.
    Failed(Failure),
    /// It stopped because it was told to; its slots are free.
    Cancelled,
}

impl TaskOutcome {
    /// Its kind, for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Running { .. } => "running",
            Self::Sealed { .. } => "sealed",
            Self::Failed(_) => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// An executor's word on an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskReport {
    /// The attempt.
    pub attempt: AttemptId,
    /// Who says so.
    pub executor: ExecutorId,
    /// In which life.
    pub incarnation: Incarnation,
    /// How it stands.
    pub outcome: TaskOutcome,
}
