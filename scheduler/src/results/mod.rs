//! Results, from the moment a statement was accepted until its client has the rows.
//!
//! ```text
//! add ──> waiting ──read──> reading ──all rows──> closed
//!            │  ^              │        (after `linger`)
//!         expiry └──grace── dropped
//!            v
//!         closed
//! ```
//!
//! What was sent is not what was received: rows may wait in this process, in a socket or in a client that gets no core, and a
//! client that is cut off from them asks again. So a client's result is kept for a while after it was sent to its end.
//!
//! Closing frees what the result holds in the cluster, and cancels a job that is not complete. A result is read by one reader at a
//! time, always from row 0: a second reader takes it from the first. The parts of a result that is read in parts, here or from
//! executors, are read side by side; it closes when each was sent.

mod fetch;
mod keep;
mod parts;
mod stream;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::FlightData;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use parking_lot::Mutex;
use volley_proto::{JobId, Term, TicketKey};

use crate::config::Config;
use crate::driver::Inbox;
use crate::executors::Executors;
use crate::jobs::Job;
use crate::journal::GATHERING;
use crate::state::Event;

pub(crate) use fetch::FetchError;
pub(crate) use keep::Claim;
pub(crate) use parts::Located;
pub(crate) use stream::{ResultStream, frames};

use keep::Attention;

/// Where rows come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// From the root tasks of a job.
    Job(Arc<Job>),
    /// From here: answers that needed no job.
    Batches {
        /// Their schema.
        schema: SchemaRef,
        /// The rows.
        batches: Arc<[RecordBatch]>,
    },
}

/// One result.
#[derive(Debug)]
pub(crate) struct ResultEntry {
    /// Its name; a result that needed no job has a job's id all the same.
    pub(crate) id: JobId,
    /// Where its rows come from.
    pub(crate) source: Source,
    attention: Attention,
    /// The parts that were sent by themselves.
    sent: Mutex<BTreeSet<u32>>,
}

impl ResultEntry {
    fn new(id: JobId, source: Source, expiry: Duration) -> Self {
        Self { id, source, attention: Attention::new(expiry), sent: Mutex::default() }
    }

    /// Whether a scheduler that is started again would know of it.
    fn is_journaled(&self) -> bool {
        matches!(&self.source, Source::Job(job) if job.age() >= GATHERING)
    }
}

/// All results that are not closed, and what reading them takes.
#[derive(Debug)]
pub(crate) struct Results {
    /// The way to the machine.
    pub(crate) inbox: Inbox,
    /// The channels to executors.
    pub(crate) executors: Arc<Executors>,
    /// What exchange tickets are signed with.
    pub(crate) key: TicketKey,
    /// This scheduler's term.
    pub(crate) term: Term,
    /// How long a result waits for a reader.
    pub(crate) expiry: Duration,
    /// How long a result waits for a reader that went away to come back.
    pub(crate) grace: Duration,
    /// How long a client's result is kept after it was sent to its end.
    pub(crate) linger: Duration,
    entries: Mutex<HashMap<JobId, Arc<ResultEntry>>>,
}

impl Results {
    /// No results.
    pub(crate) fn new(inbox: Inbox, executors: Arc<Executors>, key: TicketKey, term: Term, config: &Config) -> Self {
        let (expiry, grace, linger) = (config.result_expiry, config.result_grace, config.result_linger);
        Self { inbox, executors, key, term, expiry, grace, linger, entries: Mutex::default() }
    }

    /// Adds a result; it closes by itself when nobody reads it.
    pub(crate) fn add(self: &Arc<Self>, id: JobId, source: Source) {
        let entry = Arc::new(ResultEntry::new(id, source, self.expiry));
        self.entries.lock().insert(id, Arc::clone(&entry));
        let results = Arc::clone(self);
        tokio::spawn(async move {
            entry.attention.unwanted().await;
            results.close_entry(&entry);
        });
    }

    /// A result that is not closed.
    pub(crate) fn get(&self, id: JobId) -> Option<Arc<ResultEntry>> {
        self.entries.lock().get(&id).cloned()
    }

    /// Somebody asked after a result: it goes on waiting.
    pub(crate) fn touch(&self, id: JobId) {
        if let Some(entry) = self.get(id) {
            entry.attention.touch(self.expiry);
        }
    }

    /// Lets go of a result.
    pub(crate) fn close(&self, id: JobId) {
        if let Some(entry) = self.get(id) {
            self.close_entry(&entry);
        }
    }

    /// Lets go of this result, and not of one that has its id by now.
    fn close_entry(&self, entry: &Arc<ResultEntry>) {
        let mut entries = self.entries.lock();
        if entries.get(&entry.id).is_some_and(|current| Arc::ptr_eq(current, entry)) {
            entries.remove(&entry.id);
            entry.attention.close();
            if let Source::Job(job) = &entry.source {
                self.inbox.send(Event::ResultClosed { job: job.id });
            }
        }
    }

    /// Reads a result from row 0, within this process: it is closed with its last row. Whoever read it before gets no more of it.
    pub(crate) fn read(self: &Arc<Self>, entry: &Arc<ResultEntry>) -> ResultStream {
        stream::start(Arc::clone(self), Arc::clone(entry), Duration::ZERO)
    }

    /// Reads a result from row 0 for a client, which may not receive all that is sent to it.
    pub(crate) fn read_for_client(self: &Arc<Self>, entry: &Arc<ResultEntry>) -> ResultStream {
        stream::start(Arc::clone(self), Arc::clone(entry), self.linger)
    }
}

/// A message of a result's stream.
pub(crate) type Frame = Result<FlightData, tonic::Status>;
