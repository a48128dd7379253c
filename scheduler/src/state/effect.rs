//! Everything that the machine can ask of the world.
//!
//! Effects of one step are carried out in their order. A failure to carry one out comes back as an event, or need not
//! come back at all: what is lost with a stream is put right when the executor registers again.

use std::sync::Arc;

use volley_proto::{AttemptId, Failure, InputLocations, JobId, PartitionStats, StageId};

use super::event::ExecutorLife;

/// One attempt to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// The attempt.
    pub attempt: AttemptId,
    /// Where.
    pub executor: ExecutorLife,
    /// `host:port` of that executor's Flight server, for those who read what is not sealed yet.
    pub address: Arc<str>,
    /// Slots that it holds there.
    pub slots: u32,
    /// Version of the stage's plan.
    pub plan_version: u32,
    /// Where its inputs are, in the order of the stage's inputs. The lists of locations are shared between all launches
    /// that read the same ones.
    pub inputs: Vec<InputLocations>,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// All rows are there.
    Succeeded,
    /// It can't be done; the failure is for the user.
    Failed(Failure),
    /// Someone stopped it.
    Cancelled {
        /// Why, for the user.
        reason: String,
    },
}

/// Why a job waits before it is planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueReason {
    /// As many jobs as the settings allow are at work.
    TooManyJobs,
    /// No executor is there.
    NoExecutor,
}

/// Why an executor counts as lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossReason {
    /// Its stream broke and it did not come back in time.
    StreamBroken,
    /// Its heartbeats stopped.
    Silent,
    /// It came back in another life.
    Restarted,
    /// It left by its own will.
    Left,
}

/// One thing to be done.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// The job waits; said once, when it is submitted.
    JobQueued {
        /// The job.
        job: JobId,
        /// Why, at this moment.
        reason: QueueReason,
    },
    /// Plan the job; the answer is `JobPlanned` or `PlanFailed`.
    Plan {
        /// The job.
        job: JobId,
    },
    /// The job's plan was taken and its tasks get slots from now on.
    JobRunning {
        /// The job.
        job: JobId,
    },
    /// Start an attempt; the answers are reports, or `LaunchFailed`.
    Launch(Launch),
    /// Stop an attempt and discard what it has written, also if it is sealed by now. The executor answers with any final
    /// report (`Cancelled`, `Failed` or `Sealed`): its slots are taken until then.
    CancelTask {
        /// The attempt.
        attempt: AttemptId,
        /// Where it runs.
        executor: ExecutorLife,
    },
    /// A stage is sealed and the planner may change what comes after it; the answer is `Replanned`.
    Replan {
        /// The job.
        job: JobId,
        /// The stage.
        stage: StageId,
        /// Rows and bytes of each partition of its output.
        sizes: Arc<[PartitionStats]>,
        /// False where a stage that is not deterministic was run again in part: then sizes are those of the first runs,
        /// good for an estimate but not for "this is empty".
        exact: bool,
        /// Version of the list of stages that an answer is made from.
        plan_version: u32,
    },
    /// The list of stages in `Replanned` was taken: launches use it from here on. Where this effect does not follow a
    /// `Replanned` with a list, that list was refused and the old one stands.
    PlanReplaced {
        /// The job.
        job: JobId,
        /// The stage that had been asked about.
        stage: StageId,
        /// Version of all stages that differ from the list before.
        plan_version: u32,
    },
    /// All rows of a root task are there and may be shown to the client.
    RootTaskSealed {
        /// The attempt to read.
        attempt: AttemptId,
        /// Who holds it.
        executor: ExecutorLife,
        /// `host:port` of its Flight server.
        address: Arc<str>,
    },
    /// A root attempt is given up: no (further) row of it may be shown. If some have been, the shell answers with
    /// `ResultFetchFailed { partly_shown: true }`; if all have been, its `ResultDelivered` is on the way.
    RootTaskRetracted {
        /// The attempt.
        attempt: AttemptId,
    },
    /// The job has ended; said once. Its root outputs stay readable until `ForgetJob`.
    JobFinished {
        /// The job.
        job: JobId,
        /// How.
        outcome: JobOutcome,
    },
    /// Nobody reads this stage's output any more.
    ReleaseOutputs {
        /// The job.
        job: JobId,
        /// The stage.
        stage: StageId,
        /// Who holds parts of it.
        executors: Vec<ExecutorLife>,
    },
    /// Stop and delete all that belongs to the job.
    ForgetJob {
        /// The job.
        job: JobId,
        /// Who may have something of it.
        executors: Vec<ExecutorLife>,
    },
    /// The registration is accepted: answer with the term. Comes before any command to this life.
    Welcome {
        /// Who.
        executor: ExecutorLife,
        /// The stream that it joined with.
        stream: u64,
    },
    /// Its stream broke or it has been silent for long: nothing new goes there for now.
    ExecutorSuspected {
        /// Who.
        executor: ExecutorLife,
    },
    /// Too many tasks failed there: nothing new goes there for so many milliseconds.
    ExecutorDenied {
        /// Who.
        executor: ExecutorLife,
        /// For how long.
        for_ms: u64,
    },
    /// It is gone with all that it held: close its stream, and tell the others that reading from it is in vain.
    ExecutorLost {
        /// Who.
        executor: ExecutorLife,
        /// Why.
        reason: LossReason,
    },
    /// Somebody speaks who counts as lost or is unknown: tell it to register again (a live process does so with its
    /// inventory), or that another life has its name (then it should end).
    Fence {
        /// Who.
        executor: ExecutorLife,
        /// Whether another life of the same executor is there.
        superseded: bool,
    },
    /// A draining executor runs nothing and holds nothing that anybody needs.
    MayLeave {
        /// Who.
        executor: ExecutorLife,
    },
}
