//! The one entry through which the executor uses the exchange.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use datafusion::arrow::datatypes::SchemaRef;
use parking_lot::RwLock;
use volley_proto::{
    AttemptId, ExecutorId, Failure, Incarnation, InlineFrame, InputLocations, JobId, PartitionStats, StageId, Term, TicketKey,
};
use volley_sql::exchange::{ExchangeSink, ExchangeSource};

use super::flight::{ExchangeFlightService, PeerPool, inline_rows};
use super::hooks::ExchangeHooks;
use super::sink::AttemptSink;
use super::source::{AttemptSource, ReadCounters};
use super::store::{INLINE_BYTES, PartitionStore, StoreConfig, StoreUsage};
use crate::net;

/// How the exchange of one executor is set up.
#[derive(Debug, Clone)]
pub struct ExchangeConfig {
    /// This executor.
    pub executor: ExecutorId,
    /// This life of it.
    pub incarnation: Incarnation,
    /// Where spill files go: a directory of this executor's own. What an earlier life left there is removed.
    pub work_dir: PathBuf,
    /// Bytes of chunks that may stay in memory.
    pub budget_bytes: usize,
    /// Bytes in memory only above which chunks are written behind.
    pub low_water_bytes: usize,
    /// Bytes that may be under way from other executors to all readers of this one, as a target: it is shared out as readers
    /// come, each of which gets enough to go on.
    pub credit_bytes: usize,
    /// How long a reader waits for an output that its holder doesn't know (yet).
    pub subscribe_timeout: Duration,
    /// Whether readers in the same process take chunks by `Arc`; tests switch it off to force Flight.
    pub hand_over: bool,
}

impl ExchangeConfig {
    /// The usual settings for an executor that may use `memory_bytes` in all: a quarter of it for chunks, half of that before
    /// they are written behind, and a thirty-second part for what is under way.
    pub fn new(executor: ExecutorId, incarnation: Incarnation, work_dir: PathBuf, memory_bytes: usize) -> Self {
        Self {
            executor,
            incarnation,
            work_dir,
            budget_bytes: memory_bytes / 4,
            low_water_bytes: memory_bytes / 8,
            credit_bytes: memory_bytes / 32,
            subscribe_timeout: Duration::from_secs(10),
            hand_over: true,
        }
    }
}

/// What tickets are signed with, and under whose command: known once a scheduler has welcomed the executor.
#[derive(Debug, Clone)]
pub(super) struct Access {
    pub(super) term: Term,
    pub(super) key: TicketKey,
}

/// Where outputs of this executor's attempts are kept and inputs are read.
#[derive(Debug)]
pub struct Exchange {
    pub(super) config: ExchangeConfig,
    pub(super) store: Arc<PartitionStore>,
    pub(super) peers: PeerPool,
    access: RwLock<Option<Access>>,
}

impl Exchange {
    /// An exchange with an empty store; other exchanges of this process find it by executor and incarnation.
    pub fn new(config: ExchangeConfig, hooks: ExchangeHooks) -> Result<Arc<Self>, Failure> {
        let store = StoreConfig {
            executor: config.executor.clone(),
            incarnation: config.incarnation,
            work_dir: config.work_dir.clone(),
            budget_bytes: config.budget_bytes,
            low_water_bytes: config.low_water_bytes,
        };
        let store = PartitionStore::open(store, hooks)?;
        Ok(Arc::new(Self { config, store, peers: PeerPool::default(), access: RwLock::new(None) }))
    }

    /// Sets what tickets are signed and checked with, and the term in which they are valid. Until then, and for a wrong
    /// key or an older term, this executor serves nobody over Flight and can't read from others.
    pub fn set_access(&self, term: Term, key: TicketKey) {
        *self.access.write() = Some(Access { term, key });
    }

    /// Opens the output of `attempt`. Its rows have `schema`.
    pub fn sink(&self, attempt: AttemptId, partitions: u32, schema: SchemaRef) -> Result<Arc<dyn ExchangeSink>, Failure> {
        self.telling_sink(attempt, partitions, &schema, None)
    }

    /// Opens the output of `attempt`, whose last partition tells what the rows of the others have for keys: `summary` is its schema.
    pub fn telling_sink(
        &self,
        attempt: AttemptId,
        partitions: u32,
        schema: &SchemaRef,
        summary: Option<&SchemaRef>,
    ) -> Result<Arc<dyn ExchangeSink>, Failure> {
        Ok(Arc::new(AttemptSink::new(self.store.create(attempt, partitions, schema, summary)?)))
    }

    /// Readers for the inputs of `attempt`, and what they count.
    pub fn source(self: &Arc<Self>, attempt: AttemptId, inputs: &[InputLocations]) -> (Arc<dyn ExchangeSource>, Arc<ReadCounters>) {
        let counters = Arc::new(ReadCounters::default());
        (Arc::new(AttemptSource::new(Arc::clone(self), attempt, inputs, Arc::clone(&counters))), counters)
    }

    /// Ends the output of `attempt`: what was written so far is all of it, and immutable from now on.
    ///
    /// The last small batches are merged, which is CPU work: call it on a compute thread. After an error, `discard` it.
    pub fn seal(&self, attempt: AttemptId) -> Result<Vec<PartitionStats>, Failure> {
        self.store.seal(attempt)
    }

    /// All rows of a sealed output, encoded to travel within a report; `None` where they are many, or no longer all in memory.
    ///
    /// Encoding is CPU work: call it on a compute thread.
    pub async fn inline_rows(&self, attempt: AttemptId, outputs: &[PartitionStats]) -> Result<Option<Vec<InlineFrame>>, Failure> {
        let bytes: u64 = outputs.iter().map(|output| output.bytes).sum();
        if bytes > INLINE_BYTES as u64 {
            return Ok(None);
        }
        inline_rows(self, attempt, outputs.len() as u32).await
    }

    /// Waits until `attempt`, whose output was opened, has written more than travels within a report.
    pub async fn outgrown(&self, attempt: AttemptId) {
        match self.store.held_output(attempt) {
            Ok(output) => output.outgrown().await,
            // It was thrown away: it will not grow.
            Err(_) => std::future::pending().await,
        }
    }

    /// Rows that `attempt` wrote so far.
    pub fn rows_written(&self, attempt: AttemptId) -> u64 {
        self.store.rows_written(attempt)
    }

    /// Bytes that the output of `attempt` wrote to disk.
    pub fn spilled_bytes(&self, attempt: AttemptId) -> u64 {
        self.store.spilled_bytes(attempt)
    }

    /// Throws away the output of an attempt that failed or was cancelled; its readers get `reason`.
    pub fn discard(&self, attempt: AttemptId, reason: Failure) {
        self.store.discard(attempt, reason);
    }

    /// Frees the outputs of a stage: its consumers have committed.
    pub fn release(&self, job: JobId, stage: StageId) {
        self.store.release(job, stage);
    }

    /// Frees everything of a job.
    pub fn forget(&self, job: JobId) {
        self.store.forget(job);
    }

    /// Takes outputs of a job again that was forgotten, because a scheduler goes on with it.
    pub fn resume(&self, job: JobId) {
        self.store.resume(job);
    }

    /// Sealed outputs that are held.
    pub fn held(&self) -> Vec<AttemptId> {
        self.store.held()
    }

    /// Drops about `bytes` of chunks that are on disk already; returns what was given back to the memory.
    ///
    /// May be called from inside an allocation: it touches no file and holds no lock that is held while memory is asked for.
    pub fn reclaim(&self, bytes: usize) -> usize {
        self.store.reclaim(bytes)
    }

    /// What is held, where.
    pub fn usage(&self) -> StoreUsage {
        self.store.usage()
    }

    /// The Flight service that serves outputs.
    pub fn flight_service(self: &Arc<Self>) -> FlightServiceServer<ExchangeFlightService> {
        net::unlimited_messages(FlightServiceServer::new(ExchangeFlightService::new(Arc::clone(self))))
    }

    pub(super) fn access(&self) -> Option<Access> {
        self.access.read().clone()
    }
}
