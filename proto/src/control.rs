//! The conversation of the scheduler and an executor, over the stream that the executor dials.
//!
//! Both sides fence: an executor's message names the life in which it speaks, a scheduler's the term in which it
//! commands and the life that it means. Either drops what is stale.

use std::fmt;

use crate::failure::Failure;
use crate::ids::{AttemptId, ExecutorId, Incarnation, JobId, StageId, Term};
use crate::task::{StagePlan, TaskReport, TaskSpec};

/// What an executor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorMessage {
    /// The life in which it says it.
    pub incarnation: Incarnation,
    /// What it says.
    pub notice: Notice,
}

/// The contents of an [`ExecutorMessage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Who it is; the first message of a stream.
    Register(Registration),
    /// It lives.
    Heartbeat(Heartbeat),
    /// How an attempt stands.
    Report(TaskReport),
    /// A task was not started; its slots are free.
    LaunchRefused {
        /// The attempt.
        attempt: AttemptId,
        /// Why, and what to do about it.
        failure: Failure,
    },
    /// A client has been sent all rows of an attempt, by a ticket for a part of a result.
    ResultSent {
        /// The attempt.
        attempt: AttemptId,
        /// How many they are.
        rows: u64,
    },
    /// It takes no new tasks, and leaves when nothing that it holds is needed.
    Draining,
    /// It goes now; its last message.
    Leaving,
}

/// Who dials, what it has, and what it runs and holds from an earlier connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The executor.
    pub executor: ExecutorId,
    /// What it was built from: a scheduler refuses an executor of another build.
    pub build_id: String,
    /// Tasks' partitions that it computes at a time.
    pub slots: u32,
    /// Bytes that its tasks and outputs may take.
    pub memory_bytes: u64,
    /// `host:port` of its Flight server, as other executors reach it.
    pub address: String,
    /// Attempts that run.
    pub running: Vec<AttemptId>,
    /// Attempts whose sealed outputs it holds.
    pub held: Vec<AttemptId>,
}

/// What an executor uses at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heartbeat {
    /// Bytes of memory reserved by operators and the partition store.
    pub memory_used_bytes: u64,
    /// The partition store's share of them.
    pub store_bytes: u64,
    /// Bytes of outputs on disk.
    pub spilled_bytes: u64,
    /// Slots held by tasks.
    pub busy_slots: u32,
    /// Nanoseconds of CPU that the process has used since its start; 0 where the system does not say.
    pub cpu_ns: u64,
    /// Most bytes of resident memory that the process has had since its start; 0 where the system does not say.
    pub peak_resident_bytes: u64,
}

/// What the scheduler says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchedulerMessage {
    /// The term in which it commands.
    pub term: Term,
    /// The life of the executor that is meant.
    pub incarnation: Incarnation,
    /// What is to be done.
    pub command: Command,
}

/// The contents of a [`SchedulerMessage`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// The registration is accepted; the first answer on a stream.
    Welcome(Welcome),
    /// The registration is not accepted; the last message of the stream.
    Refused {
        /// Why.
        reason: String,
        /// Whether dialling again later may succeed.
        retry: bool,
    },
    /// Keep this stage's plan: tasks of it follow.
    Plan(StagePlan),
    /// Start this attempt.
    Launch(TaskSpec),
    /// Stop this attempt and report it as cancelled.
    Cancel {
        /// The attempt.
        attempt: AttemptId,
    },
    /// All consumers have committed: free the outputs of a stage.
    ReleaseOutputs {
        /// The job.
        job: JobId,
        /// The producer stage.
        stage: StageId,
    },
    /// The job has ended: stop and free everything of it.
    ForgetJob {
        /// The job.
        job: JobId,
    },
    /// Leave without loss.
    Drain,
}

/// What an accepted executor needs to know.
#[derive(Clone, PartialEq, Eq)]
pub struct Welcome {
    /// Milliseconds between its heartbeats.
    pub heartbeat_interval_ms: u64,
    /// Milliseconds for which it keeps tasks and outputs when its stream is broken.
    pub orphan_timeout_ms: u64,
    /// The key of the cluster's exchange tickets; see [`TicketKey`](crate::ticket::TicketKey).
    pub ticket_key: crate::ticket::TicketKey,
}

impl fmt::Debug for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Welcome")
            .field("heartbeat_interval_ms", &self.heartbeat_interval_ms)
            .field("orphan_timeout_ms", &self.orphan_timeout_ms)
            .finish_non_exhaustive()
    }
}
