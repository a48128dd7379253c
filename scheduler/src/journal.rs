//! Job events as records of the state store, off the hot path: one thread writes, and what no job at work needs is let go.
//!
//! A record says what a restarted scheduler has to know of a job. Jobs never wait for it: records are gathered and synced together, and
//! short jobs cost nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// How long records are gathered that are written and synced together. Nobody waits for them, and a job that is over by then leaves none.
const GATHERING: Duration = Duration::from_millis(50);

/// Waits for a record, gathers what follows it, and writes.
fn write(store: &dyn StateStore, queue: &mpsc::Receiver<JobRecord>) {
    // The first record of each job at work.
    let mut active: BTreeMap<JobId, u64> = BTreeMap::new();
    while let Ok(first) = queue.recv() {
        // Woken by each record, this thread would take as much time as the shortest jobs themselves.
        thread::sleep(GATHERING);
        let records: Vec<_> = std::iter::once(first).chain(queue.try_iter()).collect();
        write_all(store, without_whole_jobs(records), &mut active);
    }
}

/// What is left without the jobs that began and ended within `records`: nobody will ask for them.
fn without_whole_jobs(mut records: Vec<JobRecord>) -> Vec<JobRecord> {
    let began: BTreeSet<JobId> =
        records.iter().filter(|record| matches!(record.event, JobEvent::Submitted { .. })).map(|it| it.job).collect();
    let ended = records.iter().filter(|record| matches!(record.event, JobEvent::Ended(_))).map(|it| it.job);
    let whole: BTreeSet<JobId> = ended.filter(|job| began.contains(job)).collect();
    records.retain(|record| !whole.contains(&record.job));
    records
}

/// Writes records, syncs once, and lets go of what no job at work needs.
fn write_all(store: &dyn StateStore, records: Vec<JobRecord>, active: &mut BTreeMap<JobId, u64>) {
    let mut next = None;
    for record in records {
        let (job, ended) = (record.job, matches!(record.event, JobEvent::Ended(_)));
        match store.append(&wire::JobRecord::from(record).encode_to_vec(), Sync::Later) {
            Ok(place) => {
                next = Some(place + 1);
                if ended {
                    active.remove(&job);
                } else {
                    active.entry(job).or_insert(place);
                }
            }
            Err(error) => tracing::error!(%job, %error, "a job event was not journaled"),
        }
    }
    let Some(next) = next else { return };
    let needed = active.values().min().copied().unwrap_or(next);
    if let Err(error) = store.flush().and_then(|()| store.trim(needed)) {
        tracing::error!(%error, "the journal was not synced");
    }
}

#[cfg(test)]
mod tests {
    use volley_proto::{JobOwner, SessionId, TraceContext};

    use super::*;

    fn record(job: u64, event: JobEvent) -> JobRecord {
        JobRecord { job: JobId(job), at_ms: 1, event }
    }

    fn submitted(job: u64) -> JobRecord {
        let owner = JobOwner::anonymous(SessionId::new("s1"));
        record(job, JobEvent::Submitted { owner, statement: String::new(), settings: Vec::new(), trace: TraceContext::default() })
    }

    fn planned(job: u64) -> JobRecord {
        record(job, JobEvent::Planned { stages: Vec::new() })
    }

    fn ended(job: u64) -> JobRecord {
        record(job, JobEvent::Ended(JournalOutcome::Finished { rows: 1 }))
    }

    #[test]
    fn a_job_that_was_over_at_once_leaves_nothing() {
        let records = vec![submitted(1), planned(1), submitted(2), ended(3), ended(1), planned(2)];
        assert_eq!(without_whole_jobs(records), [submitted(2), ended(3), planned(2)]);
    }

    #[test]
    fn what_is_said_last_is_written_before_the_end() {
        let store: Arc<dyn StateStore> = Arc::new(crate::store::MemoryStore::default());
        let journal = Journal::start(Arc::clone(&store)).unwrap();
        journal.put(JobId(1), submitted(1).event);
        journal.put(JobId(2), submitted(2).event);
        journal.put(JobId(2), ended(2).event);
        drop(journal);
        let records = store.load(0).unwrap();
        let jobs: Vec<_> = records.iter().map(|(_, bytes)| wire::JobRecord::decode(bytes.clone()).unwrap().job).collect();
        assert_eq!(jobs, [1]);
    }
}
