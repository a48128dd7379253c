//! One job, as services wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::watch;
use volley_proto::{AttemptId, Failure, JobId, JobOwner, TaskReport, TraceContext};

use super::adapt::Adapting;
use super::roots::{RootOutput, Roots};
use super::{PlannedJob, StageMeasure};
use crate::state::{ExecutorLife, JobOutcome, JobSummary, QueueReason};

/// What a submission says of a job.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    /// What was asked, for people.
    pub(crate) statement: String,
    /// Whose work it is.
    pub(crate) owner: JobOwner,
    /// The trace that it belongs to.
    pub(crate) trace: TraceContext,
    /// Whether rows are shown while they are produced, and not when their attempt is sealed.
    pub(crate) eager: bool,
    /// Whether its client has a ticket, with which it may ask for the result after a restart of the scheduler.
    pub(crate) lasting: bool,
}

/// A job. Cheap to share; whoever waits is woken by every change.
#[derive(Debug)]
pub(crate) struct Job {
    /// Its id.
    pub(crate) id: JobId,
    /// What was submitted.
    pub(crate) new: NewJob,
    /// Milliseconds since the Unix epoch at its submission.
    pub(crate) submitted_ms: u64,
    submitted: Instant,
    pub(super) inner: Mutex<Inner>,
    pub(super) changed: watch::Sender<()>,
}

/// Where a job is on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It waits to be planned.
    Queued(Option<QueueReason>),
    /// It is being planned.
    Planning,
    /// Its tasks run, or its rows wait for the client.
    Running,
    /// It has ended.
    Ended(JobOutcome),
}

/// How long a job took, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Timings {
    /// Before it was planned.
    pub(crate) queued_ns: u64,
    /// In planning.
    pub(crate) planning_ns: u64,
    /// From its submission to its end, or until now.
    pub(crate) elapsed_ns: u64,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) phase: Phase,
    planning: Option<Instant>,
    planned_at: Option<Instant>,
    ended: Option<Instant>,
    pub(super) planned: Option<Arc<PlannedJob>>,
    /// Whether its plan is in the journal, or does not belong there.
    pub(super) written: bool,
    pub(super) roots: Roots,
    /// By stage.
    measures: Vec<StageMeasure>,
    rows: BTreeMap<usize, u64>,
    pub(super) adapting: Adapting,
    /// What the machine counted of it, once it is over.
    counted: Option<JobSummary>,
}

impl Job {
    /// A job that was just submitted.
    pub(crate) fn new(id: JobId, new: NewJob, submitted_ms: u64) -> Self {
        let inner = Inner {
            phase: Phase::Queued(None),
            planning: None,
            planned_at: None,
            ended: None,
            planned: None,
            written: false,
            roots: Roots::default(),
            measures: Vec::new(),
            rows: BTreeMap::new(),
            adapting: Adapting::default(),
            counted: None,
        };
        Self { id, new, submitted_ms, submitted: Instant::now(), inner: Mutex::new(inner), changed: watch::Sender::new(()) }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.inner.lock());
        self.changed.send_replace(());
    }

    /// It waits.
    pub(crate) fn queued(&self, reason: QueueReason) {
        self.change(|inner| inner.phase = Phase::Queued(Some(reason)));
    }

    /// It is being planned.
    pub(crate) fn planning(&self) {
        self.change(|inner| {
            inner.phase = Phase::Planning;
            inner.planning = Some(Instant::now());
        });
    }

    /// It has a plan.
    pub(crate) fn set_planned(&self, planned: Arc<PlannedJob>) {
        self.change(|inner| {
            inner.planned_at = Some(Instant::now());
            inner.roots = Roots::new(planned.root().map_or(0, |root| root.shape.tasks as usize));
            inner.measures = vec![StageMeasure::default(); planned.stages.len()];
            inner.planned = Some(planned);
        });
    }

    /// A scheduler after this one would find its plan.
    pub(crate) fn written(&self) {
        self.change(|inner| inner.written = true);
    }

    /// Its plan was taken.
    pub(crate) fn running(&self) {
        self.change(|inner| inner.phase = Phase::Running);
    }

    /// A root attempt was launched. Of no interest where rows wait for the seal.
    pub(crate) fn root_started(&self, output: RootOutput) {
        if self.new.eager {
            self.inner.lock().roots.start(output);
        }
    }

    /// An attempt that runs has written rows: where it is one of the root, and rows are shown as they come, they may be read now.
    pub(crate) fn rows_come(&self, attempt: AttemptId, executor: &ExecutorLife) {
        let mut inner = self.inner.lock();
        let root = inner.planned.as_ref().and_then(|plan| plan.root()).is_some_and(|root| root.shape.id == attempt.task.stage);
        if root && inner.roots.rows_come(attempt, executor) {
            drop(inner);
            self.changed.send_replace(());
        }
    }

    /// The rows of a root task are there, or come. Said again of an attempt that could not be read, it can be now.
    pub(crate) fn root_readable(&self, output: RootOutput) {
        self.change(|inner| {
            inner.roots.announce(output);
        });
    }

    /// The rows of a root attempt must not be read any more.
    pub(crate) fn root_retracted(&self, attempt: AttemptId) {
        self.change(|inner| inner.roots.retract(attempt));
    }

    /// It ended.
    pub(crate) fn ended_with(&self, outcome: JobOutcome) {
        self.change(|inner| {
            inner.phase = Phase::Ended(outcome);
            inner.ended = Some(Instant::now());
        });
    }

    /// How long ago it was submitted, to this scheduler or an earlier one.
    pub(crate) fn age(&self) -> Duration {
        let submitted = UNIX_EPOCH + Duration::from_millis(self.submitted_ms);
        SystemTime::now().duration_since(submitted).unwrap_or_default()
    }

    /// Lets go of what only running tasks need; `counted` is what the machine counted of it.
    pub(crate) fn release(&self, counted: Option<JobSummary>) {
        let mut inner = self.inner.lock();
        inner.counted = counted;
        inner.adapting = Adapting::default();
        if let Some(planned) = inner.planned.take() {
            inner.planned = Some(Arc::new(planned.outline()));
        }
        inner.roots.release();
    }

    /// Takes note of a launch.
    pub(crate) fn launched(&self, attempt: AttemptId, slots: u32) {
        if let Some(measure) = self.inner.lock().measures.get_mut(attempt.task.stage.0 as usize) {
            measure.launched(attempt, slots);
        }
    }

    /// Takes note of what an attempt measured.
    pub(crate) fn measured(&self, report: &TaskReport) {
        if let volley_proto::TaskOutcome::Sealed { metrics, outputs, .. } = &report.outcome {
            let rows = outputs.iter().map(|output| output.rows).sum();
            let stage = report.attempt.task.stage.0 as usize;
            if let Some(measure) = self.inner.lock().measures.get_mut(stage) {
                measure.add(report.attempt, rows, metrics);
            }
        }
    }

    /// Takes note of the rows of a root task that went to the client, once or again.
    pub(crate) fn rows_sent(&self, task: usize, rows: u64) {
        self.inner.lock().rows.insert(task, rows);
    }

    /// Rows that went to the client.
    pub(crate) fn rows(&self) -> u64 {
        self.inner.lock().rows.values().sum()
    }

    /// Whether it has ended.
    pub(crate) fn is_ended(&self) -> bool {
        matches!(self.inner.lock().phase, Phase::Ended(_))
    }

    /// Where it is on its way.
    pub(crate) fn phase(&self) -> Phase {
        self.inner.lock().phase.clone()
    }

    /// Its plan, once there.
    pub(crate) fn plan(&self) -> Option<Arc<PlannedJob>> {
        self.inner.lock().planned.clone()
    }

    /// What the machine counted of it, once it is over.
    pub(crate) fn counted(&self) -> Option<JobSummary> {
        self.inner.lock().counted.clone()
    }

    /// What its stages measured so far.
    pub(crate) fn measures(&self) -> Vec<StageMeasure> {
        self.inner.lock().measures.clone()
    }

    /// Nanoseconds from its submission until a stage had sealed all of its output; 0 where it has not.
    pub(crate) fn ended_ns(&self, measure: &StageMeasure) -> u64 {
        measure.sealed_at().map_or(0, |sealed| sealed.saturating_duration_since(self.submitted).as_nanos() as u64)
    }

    /// How long it took.
    pub(crate) fn timings(&self) -> Timings {
        let inner = self.inner.lock();
        let now = inner.ended.unwrap_or_else(Instant::now);
        let nanos = |from: Instant, to: Instant| to.saturating_duration_since(from).as_nanos() as u64;
        let planning = inner.planning.unwrap_or(now);
        let planned = inner.planned_at.unwrap_or(now);
        Timings {
            queued_ns: nanos(self.submitted, planning),
            planning_ns: nanos(planning, planned),
            elapsed_ns: nanos(self.submitted, now),
        }
    }

    /// Why it ended without a result, if it did.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match self.phase() {
            Phase::Ended(outcome) if outcome != JobOutcome::Succeeded => Some(failure(&outcome)),
            _ => None,
        }
    }
}

/// The failure that an outcome without a result is for whoever waits for it.
pub(crate) fn failure(outcome: &JobOutcome) -> Failure {
    match outcome {
        JobOutcome::Succeeded => {
            Failure::retry("all rows of the result were sent once, and some of them are lost by now: run the statement again")
        }
        JobOutcome::Failed(failure) => failure.clone(),
        JobOutcome::Cancelled { reason } => Failure::cancelled(reason.clone()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use volley_proto::{ExecutorId, Incarnation, SessionId, StageId, TaskId};

    use super::*;

    /// A job that nobody asked for.
    pub(in crate::jobs) fn job(id: JobId) -> Job {
        let owner = JobOwner::anonymous(SessionId::new("s1"));
        let new = NewJob { statement: String::new(), owner, trace: TraceContext::default(), eager: false, lasting: false };
        Job::new(id, new, 0)
    }

    #[tokio::test]
    async fn an_output_that_is_announced_again_is_read_again() {
        let job = job(JobId(1));
        job.change(|inner| inner.roots = Roots::new(1));
        let output = RootOutput {
            attempt: TaskId::new(JobId(1), StageId(0), 0).attempt(0),
            executor: ExecutorLife { id: ExecutorId::new("e1"), incarnation: Incarnation(1) },
            address: "localhost:1".into(),
            announced: 0,
            sealed: true,
            inline: None,
        };
        job.root_readable(output.clone());
        let first = job.wait_root(0, None).await.unwrap();
        assert_eq!(first, output);
        assert!(futures::FutureExt::now_or_never(job.wait_root(0, Some(&first))).is_none(), "it could not be read");
        // Its executor was only away for a moment.
        job.root_readable(output.clone());
        let again = futures::FutureExt::now_or_never(job.wait_root(0, Some(&first))).expect("there is news").unwrap();
        assert_eq!(again.attempt, output.attempt);
    }
}
