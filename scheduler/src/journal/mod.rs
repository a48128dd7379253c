//! Job events as records of the state store, off the hot path: one thread writes, and what no job at work needs is let go.
//!
//! A record says what a restarted scheduler has to know of a job that a client may ask for again ([`read`]). Jobs never wait for it:
//! records are gathered and synced together, and short jobs cost nothing.

mod read;
mod writer;

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use volley_proto::journal::{JobEvent, JobOutcome as JournalOutcome, JobRecord};
use volley_proto::{AttemptId, Failure, JobId, PartitionStats, TaskOutcome, Term};

use crate::jobs::{Job, JobBook, Phase, PlannedJob};
use crate::state::{Cluster, Effect, Event, ExecutorLife, JobOutcome};
use crate::store::StateStore;

pub(crate) use read::{SealedTask, StoredPlan, Unfinished, unfinished};
pub(crate) use writer::GATHERING;

/// Where job events go. Ends with its last handle.
#[derive(Debug)]
pub(crate) struct Journal {
    notes: Option<mpsc::Sender<Note>>,
    writer: Option<thread::JoinHandle<()>>,
}

/// An event on its way to the writer.
#[derive(Debug)]
struct Note {
    job: JobId,
    at_ms: u64,
    what: What,
}

/// What happened. Made a record by the writer: of a job that is over by then, there is nothing to make.
#[derive(Debug)]
enum What {
    Submitted(Arc<Job>),
    Planned(Arc<PlannedJob>, u32),
    Recorded(JobEvent),
    /// Something to do when all that was said before is on disk.
    Then(Then),
}

/// What waits for the disk.
struct Then(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Then")
    }
}

/// An executor's word that an output is complete.
#[derive(Debug)]
pub(crate) struct Sealing {
    attempt: AttemptId,
    executor: ExecutorLife,
    outputs: Vec<PartitionStats>,
}

impl Journal {
    /// A journal in `store`, in which the first record of each job that is at work has this place.
    pub(crate) fn start(store: Arc<dyn StateStore>, at_work: BTreeMap<JobId, u64>) -> std::io::Result<Self> {
        let (notes, queue) = mpsc::channel();
        let writer = thread::Builder::new().name("volley-journal".into());
        let writer = writer.spawn(move || writer::Writer::new(store, at_work).run(&queue))?;
        Ok(Self { notes: Some(notes), writer: Some(writer) })
    }

    /// A journal that keeps nothing: state that ends with the process needs none.
    pub(crate) fn none() -> Self {
        Self { notes: None, writer: None }
    }

    /// Takes note of an event.
    pub(crate) fn event(&self, event: &Event, jobs: &JobBook) {
        if self.notes.is_none() {
            return;
        }
        let lasting = |id: JobId| jobs.get(id).filter(|job| job.new.lasting);
        match event {
            Event::JobSubmitted { job: id, .. } => {
                if let Some(job) = lasting(*id) {
                    self.put(*id, What::Submitted(job));
                }
            }
            Event::JobPlanned { job: id, .. } => self.planned(*id, jobs),
            _ => {}
        }
    }

    /// Takes note of a job's plan, the first one or one that took its place.
    pub(crate) fn planned(&self, id: JobId, jobs: &JobBook) {
        if self.notes.is_some()
            && let Some(job) = jobs.get(id).filter(|job| job.new.lasting)
            && let Some(planned) = job.plan()
        {
            self.put(id, What::Planned(planned, job.new.owner.weight));
        }
    }

    /// What a report says of a complete output, if it is to be noted.
    pub(crate) fn sealing(&self, event: &Event, jobs: &JobBook) -> Option<Sealing> {
        let Event::TaskReported(report) = event else { return None };
        let TaskOutcome::Sealed { outputs, .. } = &report.outcome else { return None };
        let is_noted = self.notes.is_some() && jobs.get(report.attempt.task.job).is_some_and(|job| job.new.lasting);
        is_noted.then(|| {
            let executor = ExecutorLife::new(report.executor.clone(), report.incarnation);
            Sealing { attempt: report.attempt, executor, outputs: outputs.clone() }
        })
    }

    /// Takes note of a complete output, if it is the one that counts now that the machine knows of it.
    pub(crate) fn sealed(&self, sealing: Sealing, cluster: &Cluster) {
        let Sealing { attempt, executor, outputs } = sealing;
        if let Some(address) = cluster.holder(attempt, &executor) {
            let ExecutorLife { id: executor, incarnation } = executor;
            let sealed = JobEvent::TaskSealed { attempt, executor, incarnation, address: address.to_string(), outputs };
            self.put(attempt.task.job, What::Recorded(sealed));
        }
    }

    /// Takes note of an effect. A job has ended for the journal when its client needs it no more: rows that were sent may be lost
    /// on their way, and are asked for again.
    pub(crate) fn effect(&self, effect: &Effect, jobs: &JobBook) {
        let (Effect::JobFinished { job, .. } | Effect::ForgetJob { job, .. }) = effect else { return };
        if self.notes.is_none() {
            return;
        }
        let Some(known) = jobs.get(*job).filter(|job| job.new.lasting) else { return };
        let ended = match effect {
            Effect::JobFinished { outcome: JobOutcome::Failed(failure), .. } => JournalOutcome::Failed(failure.clone()),
            Effect::JobFinished { outcome: JobOutcome::Cancelled { reason }, .. } => {
                JournalOutcome::Failed(Failure::cancelled(reason.clone()))
            }
            Effect::ForgetJob { .. } if known.phase() == Phase::Ended(JobOutcome::Succeeded) => {
                JournalOutcome::Finished { rows: known.rows() }
            }
            _ => return,
        };
        self.put(*job, What::Recorded(JobEvent::Ended(ended)));
    }

    /// Does something that can't be undone when all that was said so far is on disk; at once for a job that is not kept.
    pub(crate) fn when_written(&self, job: JobId, jobs: &JobBook, then: impl FnOnce() + Send + 'static) {
        if self.notes.is_some() && jobs.get(job).is_some_and(|job| job.new.lasting) {
            self.put(job, What::Then(Then(Box::new(then))));
        } else {
            then();
        }
    }

    /// A job of an earlier scheduler can't be resumed.
    pub(crate) fn give_up(&self, job: JobId, failure: Failure) {
        self.put(job, What::Recorded(JobEvent::Ended(JournalOutcome::Failed(failure))));
    }

    fn put(&self, job: JobId, what: What) {
        if let Some(notes) = &self.notes {
            let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
            // The writer ends early only when it panicked, which it has reported; jobs go on without a journal.
            let _ = notes.send(Note { job, at_ms, what });
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.notes = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer panicked");
        }
    }
}

impl Note {
    fn has_ended(&self) -> bool {
        matches!(self.what, What::Recorded(JobEvent::Ended(_)))
    }

    /// The record; `None` of what has none, and of a plan that can't be one.
    fn into_record(self, term: Term) -> Option<JobRecord> {
        let Self { job, at_ms, what } = self;
        let event = match what {
            What::Recorded(event) => event,
            What::Then(_) => return None,
            What::Submitted(submitted) => {
                let new = submitted.new.clone();
                let (settings, eager) = (Vec::new(), new.eager);
                JobEvent::Submitted { owner: new.owner, statement: new.statement, settings, trace: new.trace, eager, term }
            }
            What::Planned(planned, weight) => match planned.to_event(job, weight) {
                Ok(event) => event,
                Err(error) => {
                    tracing::error!(%job, %error, "a plan was not journaled: a restart of the scheduler would lose the job");
                    return None;
                }
            },
        };
        Some(JobRecord { job, at_ms, event })
    }
}
