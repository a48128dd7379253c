//! The output of one attempt.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;
use parking_lot::Mutex;
use tokio::sync::Notify;
use volley_proto::shuffle::Compression;
use volley_proto::{AttemptId, Failure, PartitionId, PartitionStats};

use super::chunk::Chunk;
use super::ledger::Ledger;
use super::outputs::StoreConfig;
use super::partition::{Next, Partition, Pending};
use crate::exchange::encoding::{IpcMessage, WireSchema, batch_bytes, compact};
use crate::exchange::spill::{ChunkId, ChunkPlace, SpillError, SpillFile};

/// Rows from which on a chunk is large enough.
const CHUNK_ROWS: usize = 8192;
/// Bytes from which on a chunk is large enough.
const CHUNK_BYTES: usize = 1 << 20;

/// Bytes of rows up to which a part of the result travels within its task's report.
pub(in crate::exchange) const INLINE_BYTES: usize = 64 << 10;

/// The output of one attempt: open for writing, then sealed or failed.
#[derive(Debug)]
pub(in crate::exchange) struct Output {
    attempt: AttemptId,
    wire: WireSchema,
    /// Of the last partition, where that tells what the rows of the others have for keys.
    summary: Option<WireSchema>,
    config: Arc<StoreConfig>,
    ledger: Arc<Ledger>,
    /// Tells the background writer that there may be work.
    wake_writer: Arc<Notify>,
    partitions: Box<[Partition]>,
    sealed: AtomicBool,
    rows: AtomicU64,
    bytes: AtomicUsize,
    /// Told once, when it has become too large to travel within a report.
    outgrown: Notify,
    spill: Mutex<Spill>,
    dirty_bytes: AtomicUsize,
    dirty: Mutex<VecDeque<Weak<Chunk>>>,
}

/// The spill file of an output.
#[derive(Debug)]
enum Spill {
    NotYet,
    File(Arc<SpillFile>),
    /// The output is gone: nothing may be written any more.
    Removed,
}

impl Output {
    pub(super) fn try_new(
        attempt: AttemptId,
        partitions: u32,
        schema: &SchemaRef,
        summary: Option<&SchemaRef>,
        config: Arc<StoreConfig>,
        ledger: Arc<Ledger>,
        wake_writer: Arc<Notify>,
    ) -> Result<Self, ArrowError> {
        Ok(Self {
            attempt,
            wire: WireSchema::try_new(schema)?,
            summary: summary.map(WireSchema::try_new).transpose()?,
            config,
            ledger,
            wake_writer,
            partitions: (0..partitions).map(|_| Partition::default()).collect(),
            sealed: AtomicBool::new(false),
            rows: AtomicU64::new(0),
            bytes: AtomicUsize::new(0),
            outgrown: Notify::new(),
            spill: Mutex::new(Spill::NotYet),
            dirty_bytes: AtomicUsize::new(0),
            dirty: Mutex::new(VecDeque::new()),
        })
    }

    /// How its rows are encoded.
    pub(in crate::exchange) fn wire(&self) -> &WireSchema {
        &self.wire
    }

    /// How the rows of one partition are encoded.
    pub(in crate::exchange) fn wire_of(&self, partition: u32) -> &WireSchema {
        match &self.summary {
            Some(summary) if partition as usize + 1 == self.partitions.len() => summary,
            _ => &self.wire,
        }
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    /// Rows written so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Waits until more was written than travels within a report.
    pub(in crate::exchange) async fn outgrown(&self) {
        // Made before the look, so that it hears what comes after it.
        let outgrown = self.outgrown.notified();
        if self.bytes.load(Ordering::Acquire) <= INLINE_BYTES {
            outgrown.await;
        }
    }

    /// Bytes in its spill file.
    pub(super) fn spilled_bytes(&self) -> u64 {
        self.file().map_or(0, |file| file.written())
    }

    /// Bytes in memory alone.
    pub(super) fn dirty_bytes(&self) -> usize {
        self.dirty_bytes.load(Ordering::Relaxed)
    }

    /// Appends a batch; small ones wait until there are enough for a chunk.
    pub(in crate::exchange) fn write(&self, partition: PartitionId, batch: RecordBatch) -> Result<(), Failure> {
        let rows = batch.num_rows();
        let place = self.partition(partition.0)?;
        if rows == 0 {
            return Ok(());
        }
        let batch = compact(batch).map_err(|e| self.internal("compacting a batch", &e))?;
        let bytes = batch_bytes(&batch);
        let mut pending = place.writer.lock();
        if let Some(reason) = &pending.closed {
            return Err(reason.clone());
        }
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
        let before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        if before <= INLINE_BYTES && before + bytes > INLINE_BYTES {
            self.outgrown.notify_waiters();
        }
        // What is about large enough goes in as it is: merging would copy it.
        if 2 * rows >= CHUNK_ROWS || 2 * bytes >= CHUNK_BYTES {
            self.flush(partition.0, &mut pending)?;
            return self.append(partition.0, batch, bytes);
        }
        self.ledger.take(bytes);
        pending.batches.push(batch);
        pending.rows += rows;
        pending.bytes += bytes;
        if pending.rows >= CHUNK_ROWS || pending.bytes >= CHUNK_BYTES { self.flush(partition.0, &mut pending) } else { Ok(()) }
    }

    /// Ends it: what was written so far is all of it.
    pub(super) fn seal(&self) -> Result<Vec<PartitionStats>, Failure> {
        for (index, partition) in (0..).zip(&self.partitions) {
            let mut pending = partition.writer.lock();
            pending.closed.get_or_insert_with(|| Failure::internal(format!("rows were written to {} after its end", self.attempt)));
            self.flush(index, &mut pending)?;
        }
        // The index makes a spilled output readable without this process. Later chunks renew it.
        if let Some(file) = self.file() {
            file.finish().map_err(|e| e.while_writing())?;
        }
        self.sealed.store(true, Ordering::Release);
        for partition in &self.partitions {
            partition.end(Ok(()));
        }
        Ok(self.partitions.iter().map(Partition::stats).collect())
    }

    /// Ends it without a result: readers get `reason`, and its file goes.
    pub(super) fn fail(&self, reason: &Failure) {
        for partition in &self.partitions {
            let mut pending = partition.writer.lock();
            pending.closed = Some(reason.clone());
            self.ledger.give_back(std::mem::take(&mut pending.bytes));
            pending.batches.clear();
            drop(pending);
            partition.end(Err(reason.clone()));
        }
        self.remove_file();
    }

    /// Removes its file; readers that hold chunks go on.
    pub(super) fn remove_file(&self) {
        let spill = std::mem::replace(&mut *self.spill.lock(), Spill::Removed);
        if let Spill::File(file) = spill {
            file.remove();
        }
    }

    /// What there is at place `index` of a partition.
    pub(super) fn next(&self, partition: u32, index: usize, waker: &std::task::Waker) -> Result<Next, Failure> {
        Ok(self.partition(partition)?.next(index, waker))
    }

    /// Takes up to about `bytes` of dirty chunks, oldest first.
    pub(super) fn take_dirty(&self, bytes: usize) -> Vec<Arc<Chunk>> {
        let mut taken = Vec::new();
        let mut sum = 0;
        while sum < bytes {
            let next = self.dirty.lock().pop_front();
            let Some(next) = next else { break };
            if let Some(chunk) = next.upgrade() {
                sum += chunk.bytes();
                taken.push(chunk);
            }
        }
        self.dirty_bytes.fetch_sub(sum, Ordering::Relaxed);
        taken
    }

    /// Gives chunks back that could not be written.
    pub(super) fn put_back_dirty(&self, chunks: &[Arc<Chunk>]) {
        self.dirty_bytes.fetch_add(chunks.iter().map(|chunk| chunk.bytes()).sum(), Ordering::Relaxed);
        self.dirty.lock().extend(chunks.iter().map(Arc::downgrade));
    }

    /// Encodes a batch of a partition for the spill file.
    pub(super) fn encode(&self, partition: u32, batch: &RecordBatch) -> Result<Vec<IpcMessage>, ArrowError> {
        self.wire_of(partition).encode(batch, Compression::Lz4)
    }

    /// Appends an encoded chunk to the spill file.
    pub(super) fn spill(&self, id: ChunkId, rows: u64, messages: &[IpcMessage]) -> Result<(Arc<SpillFile>, ChunkPlace), SpillError> {
        let file = self.spill_file()?;
        let place = file.append(id, rows, messages)?;
        self.ledger.wrote(place.length);
        Ok((file, place))
    }

    /// Renews the index of a sealed output's file.
    pub(super) fn finish_file(&self) -> Result<(), SpillError> {
        match self.file() {
            Some(file) if self.is_sealed() => file.finish(),
            _ => Ok(()),
        }
    }

    /// Merges what waits into one chunk. The caller holds the writer's lock.
    fn flush(&self, partition: u32, pending: &mut Pending) -> Result<(), Failure> {
        let batches = std::mem::take(&mut pending.batches);
        let waited = std::mem::take(&mut pending.bytes);
        pending.rows = 0;
        self.ledger.give_back(waited);
        let Some(first) = batches.first() else { return Ok(()) };
        let batch = if batches.len() == 1 {
            first.clone()
        } else {
            concat_batches(&first.schema(), &batches).map_err(|e| self.internal("merging small batches", &e))?
        };
        let bytes = batch_bytes(&batch);
        self.append(partition, batch, bytes)
    }

    /// Adds a chunk to memory, or to disk where there is no memory for it. The caller holds the writer's lock.
    fn append(&self, partition: u32, batch: RecordBatch, bytes: usize) -> Result<(), Failure> {
        let place = self.partition(partition)?;
        let id = ChunkId { partition, sequence: place.len() as u32 };
        if self.ledger.admit(bytes) {
            let chunk = Arc::new(Chunk::resident(id, batch, bytes, Arc::clone(&self.ledger)));
            self.dirty_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.dirty.lock().push_back(Arc::downgrade(&chunk));
            place.push(chunk);
            if self.ledger.dirty() > self.config.low_water_bytes {
                self.wake_writer.notify_one();
            }
            return Ok(());
        }
        let rows = batch.num_rows() as u64;
        let messages = self.encode(partition, &batch).map_err(|e| self.internal("encoding a chunk", &e))?;
        drop(batch);
        let (file, at) = self.spill(id, rows, &messages).map_err(|e| e.while_writing())?;
        place.push(Arc::new(Chunk::spilled(file, at, bytes, Arc::clone(&self.ledger))));
        Ok(())
    }

    fn file(&self) -> Option<Arc<SpillFile>> {
        match &*self.spill.lock() {
            Spill::File(file) => Some(Arc::clone(file)),
            Spill::NotYet | Spill::Removed => None,
        }
    }

    /// The spill file, made when it is first needed.
    fn spill_file(&self) -> Result<Arc<SpillFile>, SpillError> {
        let mut spill = self.spill.lock();
        match &*spill {
            Spill::File(file) => Ok(Arc::clone(file)),
            Spill::Removed => Err(SpillError::Freed { path: SpillFile::path_of(&self.config.work_dir, self.attempt) }),
            Spill::NotYet => {
                let file = Arc::new(SpillFile::create(&self.config.work_dir, self.attempt, &self.wire.message())?);
                *spill = Spill::File(Arc::clone(&file));
                Ok(file)
            }
        }
    }

    fn partition(&self, partition: u32) -> Result<&Partition, Failure> {
        self.partitions.get(partition as usize).ok_or_else(|| {
            Failure::internal(format!("{} has no partition {}: it has {}", self.attempt, PartitionId(partition), self.partitions.len()))
        })
    }

    fn internal(&self, what: &str, error: &ArrowError) -> Failure {
        Failure::internal(format!("{what} of {}: {error}", self.attempt))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        let waiting: usize = self.partitions.iter_mut().map(|partition| partition.writer.get_mut().bytes).sum();
        self.ledger.give_back(waiting);
    }
}
