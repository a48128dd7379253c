//! One immutable piece of an output partition.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use parking_lot::Mutex;

use super::ledger::Ledger;
use crate::exchange::spill::{ChunkId, ChunkPlace, SpillFile};

/// A chunk: some rows of one output partition, in memory, on disk, or both.
#[derive(Debug)]
pub(in crate::exchange) struct Chunk {
    id: ChunkId,
    rows: u64,
    bytes: usize,
    ledger: Arc<Ledger>,
    body: Mutex<Body>,
}

#[derive(Debug)]
struct Body {
    batch: Option<RecordBatch>,
    disk: Option<(Arc<SpillFile>, ChunkPlace)>,
}

/// Where a reader finds a chunk's rows.
#[derive(Debug, Clone)]
pub(in crate::exchange) enum Content {
    /// Here.
    Memory(RecordBatch),
    /// In the spill file.
    Disk(Arc<SpillFile>, ChunkPlace),
}

impl Chunk {
    /// A chunk in memory, whose bytes the ledger has admitted.
    pub(super) fn resident(id: ChunkId, batch: RecordBatch, bytes: usize, ledger: Arc<Ledger>) -> Self {
        let rows = batch.num_rows() as u64;
        Self { id, rows, bytes, ledger, body: Mutex::new(Body { batch: Some(batch), disk: None }) }
    }

    /// A chunk on disk.
    pub(super) fn spilled(file: Arc<SpillFile>, place: ChunkPlace, bytes: usize, ledger: Arc<Ledger>) -> Self {
        let body = Mutex::new(Body { batch: None, disk: Some((file, place)) });
        Self { id: place.id, rows: place.rows, bytes, ledger, body }
    }

    pub(super) fn id(&self) -> ChunkId {
        self.id
    }

    /// The partition that it is a part of.
    pub(in crate::exchange) fn partition(&self) -> u32 {
        self.id.partition
    }

    /// Its rows' number.
    pub(in crate::exchange) fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes that it takes in memory.
    pub(in crate::exchange) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where its rows are now.
    pub(in crate::exchange) fn content(&self) -> Content {
        let body = self.body.lock();
        match (&body.batch, &body.disk) {
            (Some(batch), _) => Content::Memory(batch.clone()),
            (None, Some((file, place))) => Content::Disk(Arc::clone(file), *place),
            (None, None) => unreachable!("a chunk leaves memory only when it is on disk"),
        }
    }

    /// Whether its rows are on disk only.
    pub(in crate::exchange) fn is_spilled(&self) -> bool {
        self.body.lock().batch.is_none()
    }

    /// Its rows, if they are in memory alone.
    pub(super) fn dirty_batch(&self) -> Option<RecordBatch> {
        let body = self.body.lock();
        if body.disk.is_some() { None } else { body.batch.clone() }
    }

    /// Notes that it is on disk as well.
    pub(super) fn set_disk(self: &Arc<Self>, file: Arc<SpillFile>, place: ChunkPlace) {
        self.body.lock().disk = Some((file, place));
        self.ledger.cleaned(self, self.bytes);
    }

    /// Drops the rows from memory if they are on disk; returns the bytes given back.
    pub(super) fn drop_from_memory(&self) -> usize {
        let mut body = self.body.lock();
        if body.disk.is_none() {
            return 0;
        }
        let batch = body.batch.take();
        drop(body);
        if batch.is_none() {
            return 0;
        }
        self.ledger.give_back_clean(self.bytes);
        self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let body = self.body.get_mut();
        match (&body.batch, &body.disk) {
            (Some(_), Some(_)) => self.ledger.give_back_clean(self.bytes),
            (Some(_), None) => self.ledger.give_back(self.bytes),
            (None, _) => {}
        }
    }
}
