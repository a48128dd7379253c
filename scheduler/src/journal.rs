//! Job events as records of the state store, off the hot path: one thread writes, and what no job at work needs is let go.
//!
//! A record says what a restarted scheduler has to know of a job. Short jobs never wait for it: records are synced together.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use volley_proto::journal::{JobEvent, JobOutcome as JournalOutcome, JobRecord};
use volley_proto::wire::journal::v1 as wire;
use volley_proto::{Failure, JobId, TaskOutcome};

use crate::jobs::JobBook;
use crate::state::{Effect, Event, JobOutcome};
use crate::store::{StateStore, Sync};

/// Where job events go. Ends with its last handle.
#[derive(Debug)]
pub(crate) struct Journal {
    records: Option<mpsc::Sender<JobRecord>>,
    writer: Option<thread::JoinHandle<()>>,
}

impl Journal {
    /// A journal in `store`.
    pub(crate) fn start(store: Arc<dyn StateStore>) -> std::io::Result<Self> {
        let (records, queue) = mpsc::channel();
        let writer = thread::Builder::new().name("volley-journal".into()).spawn(move || write(store.as_ref(), &queue))?;
        Ok(Self { records: Some(records), writer: Some(writer) })
    }

    /// A journal that keeps nothing: state that ends with the process needs none.
    pub(crate) fn none() -> Self {
        Self { records: None, writer: None }
    }

    /// Takes note of an event.
    pub(crate) fn event(&self, event: &Event, jobs: &JobBook) {
        let record = match event {
            _ if self.records.is_none() => return,
            Event::JobSubmitted { job, owner } => {
                let new = jobs.get(*job).map(|job| job.new.clone());
                let (statement, trace) = new.map(|new| (new.statement, new.trace)).unwrap_or_default();
                (*job, JobEvent::Submitted { owner: owner.clone(), statement, settings: Vec::new(), trace })
            }
            Event::JobPlanned { job, stages, .. } => (*job, JobEvent::Planned { stages: stages.clone() }),
            Event::TaskReported(report) => {
                let TaskOutcome::Sealed { outputs, .. } = &report.outcome else { return };
                let sealed = JobEvent::TaskSealed {
                    attempt: report.attempt,
                    executor: report.executor.clone(),
                    incarnation: report.incarnation,
                    // The address is the executor's to say: it registers again after a restart.
                    address: String::new(),
                    outputs: outputs.clone(),
                };
                (report.attempt.task.job, sealed)
            }
            _ => return,
        };
        self.put(record.0, record.1);
    }

    /// Takes note of an effect.
    pub(crate) fn effect(&self, effect: &Effect, jobs: &JobBook) {
        if let Effect::JobFinished { job, outcome } = effect {
            let ended = match outcome {
                JobOutcome::Succeeded => JournalOutcome::Finished { rows: jobs.get(*job).map_or(0, |job| job.rows()) },
                JobOutcome::Failed(failure) => JournalOutcome::Failed(failure.clone()),
                JobOutcome::Cancelled { reason } => JournalOutcome::Failed(Failure::cancelled(reason.clone())),
            };
            self.put(*job, JobEvent::Ended(ended));
        }
    }

    fn put(&self, job: JobId, event: JobEvent) {
        if let Some(records) = &self.records {
            let at_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
            // The writer ends early only when it panicked, which it has reported; jobs go on without a journal.
            let _ = records.send(JobRecord { job, at_ms, event });
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.records = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer panicked");
        }
    }
}

/// Writes what is queued, then syncs once, then waits.
fn write(store: &dyn StateStore, queue: &mpsc::Receiver<JobRecord>) {
    // The first record of each job at work.
    let mut active: BTreeMap<JobId, u64> = BTreeMap::new();
    while let Ok(first) = queue.recv() {
        let mut next = 0;
        for record in std::iter::once(first).chain(queue.try_iter()) {
            let (job, ended) = (record.job, matches!(record.event, JobEvent::Ended(_)));
            match store.append(&wire::JobRecord::from(record).encode_to_vec(), Sync::Later) {
                Ok(place) => {
                    next = place + 1;
                    if ended {
                        active.remove(&job);
                    } else {
                        active.entry(job).or_insert(place);
                    }
                }
                Err(error) => tracing::error!(%job, %error, "a job event was not journaled"),
            }
        }
        let needed = active.values().min().copied().unwrap_or(next);
        if let Err(error) = store.flush().and_then(|()| store.trim(needed)) {
            tracing::error!(%error, "the journal was not synced");
        }
    }
}
