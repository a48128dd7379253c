//! What a task reads its inputs from.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::stream::{BoxStream, SelectAll, try_unfold};
use futures::{StreamExt, TryStreamExt};
use tokio::sync::Semaphore;
use volley_proto::shuffle::TaskAttempt;
use volley_proto::{AttemptId, AttemptLocation, Failure, InputLocations, PartitionId, TaskId};
use volley_sql::exchange::{ExchangeSource, Share};

use super::Exchange;
use super::encoding::WireSchema;
use super::flight::{Producer, RemoteReader, load_chunk};
use super::store::{self, ChunkChecksum, CursorStep, PartitionCursor, PartitionEnd, PartitionStore};

/// What an attempt read, while it reads.
#[derive(Debug, Default)]
pub struct ReadCounters {
    local_bytes: AtomicU64,
    flight_bytes: AtomicU64,
}

impl ReadCounters {
    /// Bytes from outputs in the same process.
    pub fn local_bytes(&self) -> u64 {
        self.local_bytes.load(Ordering::Relaxed)
    }

    /// Bytes over Flight, as framed, before decoding.
    pub fn flight_bytes(&self) -> u64 {
        self.flight_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn add_flight(&self, bytes: usize) {
        self.flight_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn add_local(&self, bytes: usize) {
        self.local_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Spilled chunks that one stream reads back at a time: what waits for its task is bounded, however many producers there are.
const CHUNKS_READ_BACK: usize = 4;

/// Reads the inputs of one attempt: from stores of this process by `Arc`, from others over Flight.
#[derive(Debug)]
pub struct AttemptSource {
    exchange: Arc<Exchange>,
    attempt: AttemptId,
    inputs: Vec<InputLocations>,
    counters: Arc<ReadCounters>,
}

type Batches = BoxStream<'static, Result<RecordBatch, Failure>>;

impl AttemptSource {
    pub(super) fn new(exchange: Arc<Exchange>, attempt: AttemptId, inputs: &[InputLocations], counters: Arc<ReadCounters>) -> Self {
        Self { exchange, attempt, inputs: inputs.to_vec(), counters }
    }

    /// One stream for each local partition and for each remote executor, starting at another producer in each task, so that
    /// the tasks of a stage don't all ask the same executor first.
    fn streams(&self, input: &InputLocations, partitions: &[PartitionId], share: Share, wire: &WireSchema) -> SelectAll<Batches> {
        let mut streams = SelectAll::new();
        let mut remote: Vec<(Producer, Vec<TaskAttempt>)> = Vec::new();
        let start = self.attempt.task.index as usize % input.attempts.len().max(1);
        let (before, after) = input.attempts.split_at(start);
        let read_back = Arc::new(Semaphore::new(CHUNKS_READ_BACK));
        for location in after.iter().chain(before).filter(|location| share.has(location.task)) {
            if let Some(store) = self.local_store(location) {
                let attempt = TaskId::new(self.attempt.task.job, input.producer, location.task).attempt(location.attempt);
                streams.extend(partitions.iter().map(|partition| self.local(&store, attempt, *partition, &read_back)));
                continue;
            }
            let producer = self.producer(input, location);
            let attempt = TaskAttempt { task: location.task, attempt: location.attempt };
            match remote.iter_mut().find(|(known, _)| *known == producer) {
                Some((_, attempts)) => attempts.push(attempt),
                None => remote.push((producer, vec![attempt])),
            }
        }
        for (producer, attempts) in remote {
            let (exchange, counters) = (Arc::clone(&self.exchange), Arc::clone(&self.counters));
            let reader = RemoteReader::new(exchange, producer, &attempts, partitions, wire.clone(), counters);
            let next = |mut reader: RemoteReader| async move { Ok(reader.next().await?.map(|batch| (batch, reader))) };
            streams.push(try_unfold(reader, next).boxed());
        }
        streams
    }

    fn local_store(&self, location: &AttemptLocation) -> Option<Arc<PartitionStore>> {
        if !self.exchange.config.hand_over {
            return None;
        }
        store::find(&location.executor, location.incarnation)
    }

    fn local(&self, store: &Arc<PartitionStore>, attempt: AttemptId, partition: PartitionId, read_back: &Arc<Semaphore>) -> Batches {
        let patience = self.exchange.config.subscribe_timeout;
        let reader = LocalReader {
            cursor: PartitionCursor::new(Arc::clone(store), attempt, partition, patience),
            store: Arc::clone(store),
            attempt,
            counters: Arc::clone(&self.counters),
            read_back: Arc::clone(read_back),
            rows: 0,
            chunks: 0,
            checksum: ChunkChecksum::default(),
        };
        let next = |mut reader: LocalReader| async move { Ok(reader.next().await?.map(|batch| (batch, reader))) };
        try_unfold(reader, next).boxed()
    }

    fn producer(&self, input: &InputLocations, location: &AttemptLocation) -> Producer {
        Producer {
            job: self.attempt.task.job,
            stage: input.producer,
            executor: location.executor.clone(),
            incarnation: location.incarnation,
            address: Arc::clone(&location.address),
        }
    }
}

impl ExchangeSource for AttemptSource {
    fn read_share(&self, input: usize, partitions: &[PartitionId], share: Share, schema: SchemaRef) -> Result<SendableRecordBatchStream> {
        let Some(locations) = self.inputs.get(input) else {
            let message = format!("{} reads input {input}, but it has {} inputs", self.attempt, self.inputs.len());
            return Err(external(Failure::internal(message)));
        };
        let wire = WireSchema::try_new(&schema)?;
        let named = Arc::clone(&schema);
        let batches = self.streams(locations, partitions, share, &wire).map_err(external).map(move |batch| name(batch?, &named));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// One partition of one attempt in a store of this process.
#[derive(Debug)]
struct LocalReader {
    store: Arc<PartitionStore>,
    attempt: AttemptId,
    cursor: PartitionCursor,
    counters: Arc<ReadCounters>,
    read_back: Arc<Semaphore>,
    rows: u64,
    chunks: u64,
    checksum: ChunkChecksum,
}

impl LocalReader {
    async fn next(&mut self) -> Result<Option<RecordBatch>, Failure> {
        match poll_fn(|context| self.cursor.poll_next(context)).await? {
            CursorStep::Chunk(chunk) => {
                let Some(output) = self.cursor.output() else { return Err(Failure::internal("a chunk without an output")) };
                // Held until the rows are handed on. The semaphore is never closed.
                let _turn = match chunk.is_spilled() {
                    true => self.read_back.acquire().await.ok(),
                    false => None,
                };
                let batch = load_chunk(&chunk, output.wire_of(chunk.partition()), self.store.hooks()).await;
                let batch = batch.map_err(|failure| self.gone(failure.message))?;
                self.counters.add_local(chunk.bytes());
                self.rows += batch.num_rows() as u64;
                self.chunks += 1;
                self.checksum.add(batch.num_rows() as u64);
                Ok(Some(batch))
            }
            CursorStep::End(promised) => {
                let seen = PartitionEnd { rows: self.rows, chunks: self.chunks, checksum: self.checksum.value() };
                if seen == promised {
                    return Ok(None);
                }
                Err(self.gone(format!("{} has {} rows instead of {}", self.attempt, seen.rows, promised.rows)))
            }
        }
    }

    fn gone(&self, message: String) -> Failure {
        Failure::rerun(self.attempt, self.store.executor().clone(), message)
    }
}

/// The batch under the schema that the plan expects: names and metadata may differ from the producer's.
fn name(batch: RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if Arc::ptr_eq(batch.schema_ref(), schema) || batch.schema_ref() == schema {
        return Ok(batch);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), batch.columns().to_vec(), &options)?)
}

fn external(failure: Failure) -> DataFusionError {
    DataFusionError::External(Box::new(failure))
}
