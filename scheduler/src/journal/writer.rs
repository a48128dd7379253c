//! The thread that writes.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use prost::Message;
use volley_proto::JobId;
use volley_proto::wire::journal::v1 as wire;

use super::{Note, Then, What};
use crate::store::{StateStore, StoreError, Sync};

/// How long records are gathered that are written and synced together. Nobody waits for them, and a job that is over by then leaves none.
pub(crate) const GATHERING: Duration = Duration::from_millis(50);

/// How soon what could not be written is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Bytes of records that no job needs, from which on the others are written anew so that these can go.
const DEAD_BYTES: u64 = 32 << 20;

/// What is written, and what of it is needed.
pub(super) struct Writer {
    store: Arc<dyn StateStore>,
    /// The place of the first record of each job at work.
    at_work: BTreeMap<JobId, u64>,
    /// Bytes of the records of each job at work.
    bytes: HashMap<JobId, u64>,
    /// Bytes of records after the first one that is needed, of jobs that are over.
    dead: u64,
    /// More of them than this are too many.
    most_dead: u64,
    /// Records that are to be written.
    unwritten: VecDeque<Record>,
    /// The place behind the last record, where it may not be on disk yet.
    unsynced: Option<u64>,
    /// What waits for these.
    then: Vec<Then>,
}

/// A record on its way.
struct Record {
    job: JobId,
    ended: bool,
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new(store: Arc<dyn StateStore>, at_work: BTreeMap<JobId, u64>) -> Self {
        Self {
            store,
            at_work,
            bytes: HashMap::new(),
            dead: 0,
            most_dead: DEAD_BYTES,
            unwritten: VecDeque::new(),
            unsynced: None,
            then: vec![],
        }
    }

    /// Waits for a note, gathers what follows it, and writes, until nobody is left to say anything.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Note>) {
        loop {
            let first = match self.is_behind() {
                false => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                true => queue.recv_timeout(AGAIN_AFTER),
            };
            if matches!(first, Err(RecvTimeoutError::Disconnected)) {
                break;
            }
            // Woken by each note, this thread would take as much time as the shortest jobs themselves.
            thread::sleep(GATHERING);
            self.take(first.into_iter().chain(queue.try_iter()).collect());
        }
        if self.is_behind() {
            self.take(vec![]);
        }
    }

    /// Whether something is to be written, or waits for that, that could not be so far.
    fn is_behind(&self) -> bool {
        self.unsynced.is_some() || !self.unwritten.is_empty() || !self.then.is_empty()
    }

    /// Writes, and does what waits for it.
    fn take(&mut self, notes: Vec<Note>) {
        let (then, notes): (Vec<_>, Vec<_>) = notes.into_iter().partition(|note| matches!(note.what, What::Then(_)));
        self.then.extend(then.into_iter().filter_map(|note| if let What::Then(then) = note.what { Some(then) } else { None }));
        for note in with_last_plans(without_whole_jobs(notes)) {
            let (job, ended) = (note.job, note.has_ended());
            if let Some(record) = note.into_record(self.store.term()) {
                self.unwritten.push_back(Record { job, ended, bytes: wire::JobRecord::from(record).encode_to_vec() });
            }
        }
        if self.store.deposed().is_cancelled() {
            // Another scheduler decides what may go.
            (self.unsynced, self.unwritten, self.then) = (None, VecDeque::new(), vec![]);
            return;
        }
        match self.write() {
            Ok(()) => std::mem::take(&mut self.then).into_iter().for_each(|Then(then)| then()),
            // What may be done only when it is written is not done.
            Err(error) => tracing::error!(%error, "the journal is not written: this is tried again, and outputs are kept until then"),
        }
    }

    /// Writes records, syncs once, and lets go of what no job at work needs.
    fn write(&mut self) -> Result<(), StoreError> {
        while let Some(Record { job, ended, bytes }) = self.unwritten.pop_front() {
            // What is over by now, and never was here, is nobody's.
            if ended && !self.at_work.contains_key(&job) {
                continue;
            }
            let place = match self.store.append(&bytes, Sync::Later) {
                Ok(place) => place,
                Err(error) => {
                    self.unwritten.push_front(Record { job, ended, bytes });
                    return Err(error);
                }
            };
            self.unsynced = Some(place + 1);
            if ended {
                self.at_work.remove(&job);
                let written = self.bytes.remove(&job).unwrap_or(0) + bytes.len() as u64;
                tracing::debug!(%job, written, "the journal has the job's end");
                self.dead += written;
            } else {
                self.at_work.entry(job).or_insert(place);
                *self.bytes.entry(job).or_default() += bytes.len() as u64;
            }
        }
        let Some(next) = self.unsynced else { return Ok(()) };
        self.store.flush()?;
        self.unsynced = None;
        if let Err(error) = self.let_go(next) {
            tracing::error!(%error, "the journal was not trimmed");
        }
        Ok(())
    }

    /// Lets go of records before the first one that is needed; where a long job holds on to many of others, it is written anew.
    fn let_go(&mut self, next: u64) -> Result<(), StoreError> {
        let needed = self.at_work.values().min().copied();
        if needed.is_none() {
            self.dead = 0;
        } else if self.dead > self.most_dead.max(self.bytes.values().sum()) {
            return self.write_anew();
        }
        self.store.trim(needed.unwrap_or(next))
    }

    /// Writes the records of the jobs at work again, behind all others, which can go then. A crash in between leaves some twice, which are
    /// read as once.
    fn write_anew(&mut self) -> Result<(), StoreError> {
        let Some(first) = self.at_work.values().min().copied() else { return Ok(()) };
        let mut moved = BTreeMap::new();
        for (_, bytes) in self.store.load(first)? {
            let job = wire::JobRecord::decode(bytes.clone()).map(|record| JobId(record.job));
            if let Ok(job) = job
                && self.at_work.contains_key(&job)
            {
                let place = self.store.append(&bytes, Sync::Later)?;
                moved.entry(job).or_insert(place);
            }
        }
        self.store.flush()?;
        self.at_work = moved;
        self.dead = 0;
        match self.at_work.values().min() {
            Some(needed) => self.store.trim(*needed),
            None => Ok(()),
        }
    }
}

/// What is left without the jobs that began and ended within `notes`: nobody will ask for them.
fn without_whole_jobs(mut notes: Vec<Note>) -> Vec<Note> {
    let began: BTreeSet<JobId> = notes.iter().filter(|note| matches!(note.what, What::Submitted(_))).map(|note| note.job).collect();
    let ended = notes.iter().filter(|note| note.has_ended()).map(|note| note.job);
    let whole: BTreeSet<JobId> = ended.filter(|job| began.contains(job)).collect();
    notes.retain(|note| !whole.contains(&note.job));
    notes
}

/// What is left where a job's plan was replaced within `notes`: its last plan, in the place of the first one. What was sealed in between is
/// of stages that both have.
fn with_last_plans(notes: Vec<Note>) -> Vec<Note> {
    let mut places: HashMap<JobId, usize> = HashMap::new();
    let mut left: Vec<Note> = Vec::with_capacity(notes.len());
    for note in notes {
        let earlier = if matches!(note.what, What::Planned(..)) { places.insert(note.job, left.len()) } else { None };
        match earlier {
            Some(place) => {
                places.insert(note.job, place);
                left[place] = note;
            }
            None => left.push(note),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use volley_proto::journal::{JobEvent, JobOutcome};
    use volley_proto::{JobOwner, SessionId, TraceContext};

    use super::*;
    use crate::jobs::{Job, NewJob};
    use crate::journal::{Journal, unfinished};
    use crate::store::{FileStore, MemoryStore};

    fn note(job: u64, what: What) -> Note {
        Note { job: JobId(job), at_ms: 1, what }
    }

    fn submitted(job: u64, statement: &str) -> Note {
        let owner = JobOwner::anonymous(SessionId::new("s1"));
        let new = NewJob { statement: statement.into(), owner, trace: TraceContext::default(), eager: false, lasting: true };
        note(job, What::Submitted(Arc::new(Job::new(JobId(job), new, 1))))
    }

    fn planned(job: u64) -> Note {
        let event = JobEvent::Planned { stages: vec![], build: "b".into(), schema: Default::default(), work: vec![] };
        note(job, What::Recorded(event))
    }

    fn ended(job: u64) -> Note {
        note(job, What::Recorded(JobEvent::Ended(JobOutcome::Finished { rows: 1 })))
    }

    fn jobs(store: &dyn StateStore) -> Vec<u64> {
        let records = store.load(0).unwrap();
        records.iter().map(|(_, bytes)| wire::JobRecord::decode(bytes.clone()).unwrap().job).collect()
    }

    #[test]
    fn a_job_that_was_over_at_once_leaves_nothing() {
        let notes = vec![submitted(1, ""), planned(1), submitted(2, ""), ended(3), ended(1), planned(2)];
        let left: Vec<u64> = without_whole_jobs(notes).iter().map(|note| note.job.0).collect();
        assert_eq!(left, [2, 3, 2]);
    }

    #[test]
    fn what_is_said_last_is_written_before_the_end() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::default());
        let journal = Journal::start(Arc::clone(&store), BTreeMap::new()).unwrap();
        for Note { job, what, .. } in [submitted(1, ""), submitted(2, ""), ended(2), ended(3)] {
            journal.put(job, what);
        }
        drop(journal);
        assert_eq!(jobs(store.as_ref()), [1]);
    }

    #[test]
    fn a_long_job_does_not_keep_what_others_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn StateStore> = Arc::new(FileStore::open(folder.path()).unwrap());
        let mut writer = Writer::new(Arc::clone(&store), BTreeMap::new());
        writer.most_dead = 10_000;
        writer.take(vec![submitted(1, "the long one"), planned(1)]);
        let statement = "x".repeat(1000);
        for job in 2..200 {
            writer.take(vec![submitted(job, &statement)]);
            writer.take(vec![ended(job)]);
        }
        let first = writer.at_work[&JobId(1)];
        assert!(first > 300, "it was written anew: {first}");
        let needed: u64 = store.load(first).unwrap().iter().map(|(_, bytes)| bytes.len() as u64).sum();
        assert!(needed < 20_000, "{needed} bytes are kept");
        let found = unfinished(store.as_ref()).unwrap();
        let found: Vec<_> = found.into_iter().map(|job| (job.id.0, job.statement)).collect();
        assert_eq!(found, [(1, "the long one".to_owned())]);
    }

    /// A store whose disk is full for a while.
    #[derive(Debug, Default)]
    struct FullForNow {
        store: MemoryStore,
        is_full: std::sync::atomic::AtomicBool,
    }

    impl StateStore for FullForNow {
        fn term(&self) -> volley_proto::Term {
            self.store.term()
        }
        fn append(&self, record: &[u8], sync: Sync) -> Result<u64, StoreError> {
            if self.is_full.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(StoreError::Interrupted { why: "full".into() });
            }
            self.store.append(record, sync)
        }
        fn flush(&self) -> Result<(), StoreError> {
            self.store.flush()
        }
        fn load(&self, from: u64) -> Result<Vec<(u64, bytes::Bytes)>, StoreError> {
            self.store.load(from)
        }
        fn trim(&self, before: u64) -> Result<(), StoreError> {
            self.store.trim(before)
        }
        fn get(&self, key: &str) -> Result<Option<crate::store::Versioned>, StoreError> {
            self.store.get(key)
        }
        fn list(&self, prefix: &str) -> Result<Vec<(String, crate::store::Versioned)>, StoreError> {
            self.store.list(prefix)
        }
        fn compare_and_swap(
            &self,
            key: &str,
            expected: Option<crate::store::Version>,
            value: Option<&[u8]>,
        ) -> Result<crate::store::Version, StoreError> {
            self.store.compare_and_swap(key, expected, value)
        }
    }

    #[test]
    fn what_waits_for_the_disk_is_not_done_before() {
        let store = Arc::new(FullForNow::default());
        let (done, seen) = mpsc::channel();
        let mut writer = Writer::new(Arc::<FullForNow>::clone(&store), BTreeMap::new());
        writer.take(vec![submitted(1, "")]);
        store.is_full.store(true, std::sync::atomic::Ordering::Relaxed);
        writer.take(vec![planned(1), note(1, What::Then(Then(Box::new(move || done.send(()).unwrap()))))]);
        assert!(writer.is_behind() && seen.try_recv().is_err());
        assert_eq!(jobs(store.as_ref()).len(), 1);
        store.is_full.store(false, std::sync::atomic::Ordering::Relaxed);
        writer.take(vec![]);
        assert!(!writer.is_behind() && seen.try_recv().is_ok());
        assert_eq!(jobs(store.as_ref()).len(), 2);
    }
}
