//! What status pages, progress bars and logs can ask: read-only, computed when asked.

use std::sync::Arc;

use volley_proto::{AttemptId, JobId, JobOwner, StageId};

use super::cluster::Cluster;
use super::denial::Standing;
use super::effect::{JobOutcome, QueueReason};
use super::event::{ExecutorLife, Timestamp};
use super::executors::Presence;
use super::job::{Job, Progress};
use super::stage::Stage;
use super::task::{NOBODY, Phase};

/// How a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobState {
    /// It waits to be planned.
    Queued(QueueReason),
    /// The planner has it.
    Planning,
    /// Its tasks run or wait for slots.
    Running,
    /// All its rows are there and wait for the client.
    Sealed,
    /// It has ended.
    Finished(JobOutcome),
}

/// A job in one line.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSummary {
    /// The job.
    pub job: JobId,
    /// Whose work it is.
    pub owner: JobOwner,
    /// How it stands.
    pub state: JobState,
    /// What it waits for, in words for the user; empty where it does not wait.
    pub waiting_for: String,
    /// When it was submitted.
    pub submitted: Timestamp,
    /// When it ended.
    pub finished: Option<Timestamp>,
    /// Tasks of all stages.
    pub tasks: u32,
    /// Tasks whose output is complete.
    pub tasks_sealed: u32,
    /// Tasks that run.
    pub tasks_running: u32,
    /// Attempts launched, all tasks together.
    pub attempts: u64,
    /// Of these: attempts at tasks that had been sealed before and whose output was lost.
    pub reruns: u64,
    /// Slots in use.
    pub slots_in_use: u32,
    /// Its stages, in the order of their ids.
    pub stages: Vec<StageSummary>,
}

/// How a stage stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageState {
    /// Its inputs are not ready.
    Waiting,
    /// Its tasks can be launched, or run.
    Running,
    /// All its tasks are sealed.
    Sealed,
    /// All its tasks have been sealed and nobody needs them any more.
    Released,
}

/// A stage in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageSummary {
    /// The stage.
    pub stage: StageId,
    /// How it stands.
    pub state: StageState,
    /// Version of its plan.
    pub plan_version: u32,
    /// Number of tasks.
    pub tasks: u32,
    /// Tasks that run.
    pub running: u32,
    /// Tasks whose output is complete.
    pub sealed: u32,
    /// Attempts launched.
    pub attempts: u64,
    /// Attempts at tasks that had been sealed before.
    pub reruns: u64,
    /// Second attempts beside slow ones.
    pub rivals: u64,
    /// Attempts that failed, whatever the remedy.
    pub failures: u64,
    /// Rows of its sealed outputs.
    pub rows: u64,
    /// Bytes of its sealed outputs.
    pub bytes: u64,
}

/// How a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// For inputs, or for a slot.
    Waiting,
    /// An attempt runs.
    Running,
    /// Its output is there.
    Sealed,
    /// Its output was there, and is not needed any more.
    Released,
}

/// A task in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSummary {
    /// Its place in the stage.
    pub index: u32,
    /// How it stands.
    pub state: TaskState,
    /// The number of the attempt that counts, or counted last.
    pub attempt: u32,
    /// Where the last attempt was launched.
    pub executor: Option<ExecutorLife>,
    /// Rows written by the last attempt, as far as known.
    pub rows: u64,
    /// When the last attempt was launched.
    pub launched: Timestamp,
}

/// How an executor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorState {
    /// It takes tasks.
    Live,
    /// Its stream broke or it is silent.
    Suspect,
    /// It is leaving.
    Draining,
    /// It gets nothing new, because too many tasks failed there.
    Denied,
    /// It gets one task at a time until one succeeds.
    Probation,
}

impl ExecutorState {
    /// Whether tasks go there.
    pub fn takes_tasks(self) -> bool {
        matches!(self, Self::Live | Self::Probation)
    }
}

/// An executor in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecutorSummary {
    /// Who.
    pub life: ExecutorLife,
    /// How it stands.
    pub state: ExecutorState,
    /// `host:port` of its Flight server.
    pub address: Arc<str>,
    /// Build id.
    pub build: Arc<str>,
    /// Compute threads.
    pub slots: u32,
    /// Slots in use.
    pub slots_in_use: u32,
    /// Bytes that its tasks and its store may use.
    pub memory_bytes: u64,
    /// Attempts in it that have not ended.
    pub attempts: u32,
    /// Outputs that it holds and that are still needed.
    pub outputs_held: u32,
    /// When it was last heard of.
    pub last_heard: Timestamp,
}

impl Cluster {
    /// The last finished jobs, oldest first, then all others, oldest first.
    pub fn jobs(&self) -> Vec<JobSummary> {
        let open = self.jobs.values().filter(|job| job.progress != Progress::Delivered);
        self.finished.iter().cloned().chain(open.map(|job| self.summary(job))).collect()
    }

    /// One job; also a finished one, for a while.
    pub fn job(&self, id: JobId) -> Option<JobSummary> {
        let open = self.jobs.get(&id).filter(|job| job.progress != Progress::Delivered);
        open.map(|job| self.summary(job)).or_else(|| self.finished.iter().find(|summary| summary.job == id).cloned())
    }

    /// The address of the executor that holds the output of an attempt, if that is the one that counts: what an executor says of an attempt
    /// may be old.
    pub fn holder(&self, attempt: AttemptId, executor: &ExecutorLife) -> Option<Arc<str>> {
        let stage = self.jobs.get(&attempt.task.job)?.stages.get(attempt.task.stage.0 as usize)?;
        let task = stage.tasks.get(attempt.task.index as usize)?;
        let holder = self.executors.find(executor).filter(|holder| *holder == task.executor)?;
        let counts = task.phase == Phase::Sealed && task.attempt == attempt.number;
        counts.then(|| self.executors.get(holder).address.clone())
    }

    /// The tasks of a stage of a job that is not finished.
    pub fn tasks(&self, job: JobId, stage: StageId) -> Vec<TaskSummary> {
        let Some(stage) = self.jobs.get(&job).and_then(|job| job.stages.get(stage.0 as usize)) else { return Vec::new() };
        let summary = |(index, task): (u32, &super::task::Task)| TaskSummary {
            index,
            state: match task.phase {
                Phase::Waiting => TaskState::Waiting,
                Phase::Running => TaskState::Running,
                Phase::Sealed => TaskState::Sealed,
                Phase::Gone => TaskState::Released,
            },
            attempt: task.attempt,
            executor: (task.executor != NOBODY).then(|| self.executors.get(task.executor).life.clone()),
            rows: task.rows,
            launched: task.launched,
        };
        (0..).zip(&stage.tasks).map(summary).collect()
    }

    /// Executors that are not lost, in the order in which they came.
    pub fn executors(&self) -> Vec<ExecutorSummary> {
        let present = self.executors.iter().filter(|(_, executor)| executor.presence != Presence::Lost);
        present
            .map(|(_, executor)| ExecutorSummary {
                life: executor.life.clone(),
                state: match executor.presence {
                    _ if executor.draining => ExecutorState::Draining,
                    Presence::Live => match executor.trust.standing {
                        Standing::Trusted => ExecutorState::Live,
                        Standing::Denied(_) => ExecutorState::Denied,
                        Standing::Probation => ExecutorState::Probation,
                    },
                    _ => ExecutorState::Suspect,
                },
                address: executor.address.clone(),
                build: executor.build.clone(),
                slots: executor.slots,
                slots_in_use: executor.used,
                memory_bytes: executor.memory_bytes,
                attempts: executor.active.len() as u32,
                outputs_held: executor.held,
                last_heard: executor.last_heard,
            })
            .collect()
    }

    fn summary(&self, job: &Job) -> JobSummary {
        let state = match &job.progress {
            Progress::Queued => JobState::Queued(self.queue_reason()),
            Progress::Planning => JobState::Planning,
            Progress::Running if job.is_sealed() => JobState::Sealed,
            Progress::Running | Progress::Delivered => JobState::Running,
        };
        let waiting_for = self.waiting_for(job, &state);
        summarize(job, state, waiting_for, None)
    }

    /// What a job waits for, in words.
    fn waiting_for(&self, job: &Job, state: &JobState) -> String {
        let no_executor = || {
            let ends = self.patience_ends(job.submitted)?;
            let seconds = ends.micros_since(self.now).div_ceil(1_000_000);
            Some(format!("an executor: none has joined the cluster; the job fails in {seconds} s if none comes"))
        };
        match state {
            JobState::Finished(_) => String::new(),
            _ if self.deserted_since.is_some() => no_executor().unwrap_or_default(),
            JobState::Queued(_) => {
                let before = self.queue.iter().take_while(|id| **id != job.id).count();
                format!("its turn: {} at work, {before} before it", self.working.len())
            }
            JobState::Planning => "the planner".into(),
            JobState::Sealed => "the client to read the result".into(),
            JobState::Running if job.slots_in_use > 0 => String::new(),
            JobState::Running if job.stages.iter().any(|stage| stage.question == super::stage::Question::Asked) => "the planner".into(),
            JobState::Running if job.runnable.is_empty() => String::new(),
            JobState::Running if self.executors.placeable() == 0 => "an executor: none can take tasks at the moment".into(),
            JobState::Running => "free slots".into(),
        }
    }
}

/// The last word on a job.
pub(super) fn finished(job: &Job, outcome: JobOutcome, now: Timestamp) -> JobSummary {
    summarize(job, JobState::Finished(outcome), String::new(), Some(now))
}

fn summarize(job: &Job, state: JobState, waiting_for: String, finished: Option<Timestamp>) -> JobSummary {
    let stages: Vec<StageSummary> = job.stages.iter().map(stage_summary).collect();
    JobSummary {
        job: job.id,
        owner: job.owner.clone(),
        state,
        waiting_for,
        submitted: job.submitted,
        finished,
        tasks: stages.iter().map(|stage| stage.tasks).sum(),
        tasks_sealed: stages.iter().map(|stage| stage.sealed).sum(),
        tasks_running: stages.iter().map(|stage| stage.running).sum(),
        attempts: stages.iter().map(|stage| stage.attempts).sum(),
        reruns: stages.iter().map(|stage| stage.reruns).sum(),
        slots_in_use: job.slots_in_use,
        stages,
    }
}

fn stage_summary(stage: &Stage) -> StageSummary {
    let committed = stage.is_committed();
    StageSummary {
        stage: stage.shape.id,
        state: match stage {
            _ if committed && stage.gone > 0 => StageState::Released,
            _ if committed => StageState::Sealed,
            _ if stage.is_started() => StageState::Running,
            _ => StageState::Waiting,
        },
        plan_version: stage.version,
        tasks: stage.shape.tasks,
        running: stage.running,
        sealed: stage.sealed + stage.gone,
        attempts: stage.attempts,
        reruns: stage.reruns,
        rivals: stage.rivals,
        failures: stage.failures,
        rows: stage.sizes.iter().map(|size| size.rows).sum(),
        bytes: stage.sizes.iter().map(|size| size.bytes).sum(),
    }
}
