//! Everything that can happen to the cluster, as the machine is told of it.
//!
//! The list is closed: what is not here does not influence a decision. Events are facts; they come late, twice or out
//! of order across executors, and the machine absorbs that. In one respect the shell owes order: events of one
//! executor's stream come in the order of the stream, and [`Event::Tick`] comes after everything else that waits.

use std::fmt;
use std::sync::Arc;

use volley_proto::{AttemptId, ExecutorId, Failure, Incarnation, JobId, JobOwner, PartitionStats, StageId, StageShape, TaskReport};

/// A moment, in microseconds since some start that stays the same while the machine lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment so many milliseconds after the start.
    pub fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1000))
    }

    /// The moment so many milliseconds later.
    pub fn after_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis.saturating_mul(1000)))
    }

    /// Microseconds since `earlier`; 0 where that is later.
    pub fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One life of an executor: what a command is addressed to and what a report comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExecutorLife {
    /// Which executor.
    pub id: ExecutorId,
    /// In which life.
    pub incarnation: Incarnation,
}

impl ExecutorLife {
    /// The life `incarnation` of `id`.
    pub fn new(id: ExecutorId, incarnation: Incarnation) -> Self {
        Self { id, incarnation }
    }
}

impl fmt::Display for ExecutorLife {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.incarnation)
    }
}

/// What an executor says of itself when its stream opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorHello {
    /// Who it is, in which life.
    pub life: ExecutorLife,
    /// The shell's number of the stream: grows with each stream that it accepts, whoever opened it.
    pub stream: u64,
    /// Compute threads, at least 1.
    pub slots: u32,
    /// Bytes that its tasks and its partition store may use.
    pub memory_bytes: u64,
    /// `host:port` of its Flight server.
    pub address: Arc<str>,
    /// Build id, for status pages (the shell refuses builds that don't fit before the machine hears of them).
    pub build: Arc<str>,
    /// Attempts that run in it.
    pub running: Vec<AttemptId>,
    /// Attempts whose sealed outputs it holds. After each registration it repeats its `Sealed` report of every one of
    /// them, because the first may have been lost with the stream before.
    pub held: Vec<AttemptId>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Time passed: deadlines are looked at here and nowhere else. The driver sends it at `next_deadline()`, after it has
    /// emptied its inbox, so that a heartbeat already received is never overlooked.
    Tick,

    /// A stream opened and its executor registered, for the first time or again.
    ExecutorJoined(ExecutorHello),
    /// A sign of life.
    Heartbeat {
        /// Whose.
        executor: ExecutorLife,
    },
    /// A stream ended without a farewell.
    StreamBroken {
        /// Whose.
        executor: ExecutorLife,
        /// The number that it joined with: a newer stream makes the end of an older one harmless.
        stream: u64,
    },
    /// It wants to leave: nothing new goes there, and [`super::Effect::MayLeave`] says when nobody needs it any more.
    ExecutorDraining {
        /// Who.
        executor: ExecutorLife,
    },
    /// It left, with all that it held.
    ExecutorLeft {
        /// Who.
        executor: ExecutorLife,
    },

    /// A client asks for something.
    JobSubmitted {
        /// The job's id: never used before.
        job: JobId,
        /// Whose work it is.
        owner: JobOwner,
    },
    /// The answer to [`super::Effect::Plan`].
    JobPlanned {
        /// The job.
        job: JobId,
        /// Its stages, ids dense from 0, producers before consumers, the root last.
        stages: Vec<StageShape>,
        /// Whether the planner wants to see exact sizes before consumers start.
        replanning: Replanning,
    },
    /// The other answer to [`super::Effect::Plan`].
    PlanFailed {
        /// The job.
        job: JobId,
        /// Why; the remedy is not looked at, planning is not repeated.
        failure: Failure,
    },
    /// The answer to [`super::Effect::Replan`].
    Replanned {
        /// The job.
        job: JobId,
        /// The stage that was asked about.
        stage: StageId,
        /// The job's whole new list of stages, or `None` to leave it as it is. Stages that have been launched keep id and
        /// shape; a stage that is no longer wanted stays in the list with 0 tasks and no inputs. A list that breaks these
        /// rules is not taken: see [`super::Effect::PlanReplaced`].
        stages: Option<Vec<StageShape>>,
        /// Stages whose tasks read something else than before, also where their shapes are the same.
        changed: Vec<StageId>,
        /// Version of the list that this one was made from. Where another one is in use meanwhile, it is asked again.
        plan_version: u32,
    },
    /// The user, a dropped connection or an operator stops a job.
    JobCancelled {
        /// The job.
        job: JobId,
        /// Why, for the user.
        reason: String,
    },

    /// An executor's word on an attempt.
    TaskReported(TaskReport),
    /// A [`super::Effect::Launch`] could not be carried out. Taken as a failure of the attempt.
    LaunchFailed {
        /// The attempt.
        attempt: AttemptId,
        /// Where it should have started.
        executor: ExecutorLife,
        /// Why.
        failure: Failure,
    },

    /// All rows of a root attempt have been shown to the client.
    ResultDelivered {
        /// The attempt.
        attempt: AttemptId,
    },
    /// A root attempt's output could not be read to its end.
    ResultFetchFailed {
        /// The attempt.
        attempt: AttemptId,
        /// Who should have held it.
        executor: ExecutorLife,
        /// Whether rows of it have been shown: these can't be taken back, so the job fails; else the task runs again.
        partly_shown: bool,
    },
    /// The client has everything, or is gone: whatever the job holds may be freed. A job that is not complete by then is
    /// cancelled.
    ResultClosed {
        /// The job.
        job: JobId,
    },

    /// Schedulers before this one may have launched attempts at the job's tasks that no journal tells of. Their numbers, which are below
    /// this one, are not given again: rows of them may have been shown. Comes after `JobPlanned` and before `Restored`.
    NumbersGiven {
        /// The job.
        job: JobId,
        /// The first number that was not.
        below: u32,
    },
    /// A journal says that an attempt was sealed, in a life of the scheduler that is over. Comes after its job's
    /// `JobPlanned` and before `Restored`.
    OutputRestored {
        /// The attempt.
        attempt: AttemptId,
        /// Who holds its output, if it still lives.
        executor: ExecutorLife,
        /// `host:port` of its Flight server.
        address: Arc<str>,
        /// One entry for each output partition.
        outputs: Vec<PartitionStats>,
    },
    /// The events so far came from a journal (`JobSubmitted`, `JobPlanned`, `OutputRestored`), and their effects were not
    /// carried out. Executors are still out there with what they ran and held, and get `lost_after_restart_ms` to come
    /// back. Open questions to the planner are asked again.
    Restored,
}

/// Whether a planner wants [`super::Effect::Replan`] when stages are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replanning {
    /// No: consumers start the moment their inputs are ready.
    Off,
    /// Yes: stages not yet launched that read a sealed stage wait for the planner's answer.
    OnSealed,
}
