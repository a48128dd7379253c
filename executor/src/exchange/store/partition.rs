//! One partition of an output: chunks in order, then an end, and who waits for them.

use std::sync::Arc;
use std::task::Waker;

use datafusion::arrow::array::RecordBatch;
use parking_lot::Mutex;
use volley_proto::{Failure, PartitionStats};

use super::chunk::Chunk;

/// One partition of an output.
#[derive(Debug, Default)]
pub(super) struct Partition {
    /// Small batches that wait to be merged; its lock orders the writers.
    pub(super) writer: Mutex<Pending>,
    shared: Mutex<Shared>,
}

/// Small batches that wait to be merged into a chunk.
#[derive(Debug, Default)]
pub(super) struct Pending {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// Why no more rows are taken, once that is so.
    pub(super) closed: Option<Failure>,
}

#[derive(Debug, Default)]
struct Shared {
    chunks: Vec<Arc<Chunk>>,
    rows: u64,
    bytes: u64,
    checksum: ChunkChecksum,
    end: Option<Result<(), Failure>>,
    wakers: Vec<Waker>,
}

/// A checksum over the row counts of chunks in order: it tells lost, doubled and swapped chunks.
/// (What is in them is checked where it leaves memory: by the spill file's checksums and by TCP.)
#[derive(Debug, Clone, Default)]
pub(in crate::exchange) struct ChunkChecksum(crc32fast::Hasher);

impl ChunkChecksum {
    /// Adds the next chunk.
    pub(in crate::exchange) fn add(&mut self, rows: u64) {
        self.0.update(&rows.to_le_bytes());
    }

    /// The checksum so far.
    pub(in crate::exchange) fn value(&self) -> u64 {
        u64::from(self.0.clone().finalize())
    }
}

/// What a reader must have seen of one producer's partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::exchange) struct PartitionEnd {
    /// Rows.
    pub(in crate::exchange) rows: u64,
    /// Chunks.
    pub(in crate::exchange) chunks: u64,
    /// See [`ChunkChecksum`].
    pub(in crate::exchange) checksum: u64,
}

/// What there is at a place in a partition.
pub(super) enum Next {
    Chunk(Arc<Chunk>),
    End(PartitionEnd),
    Failed(Failure),
    /// Nothing yet; the waker is called when there is.
    Wait,
}

impl Partition {
    /// Adds a chunk at the end. The caller holds the writer's lock.
    pub(super) fn push(&self, chunk: Arc<Chunk>) {
        let mut shared = self.shared.lock();
        shared.rows += chunk.rows();
        shared.bytes += chunk.bytes() as u64;
        shared.checksum.add(chunk.rows());
        shared.chunks.push(chunk);
        let wakers = std::mem::take(&mut shared.wakers);
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// How many chunks there are.
    pub(super) fn len(&self) -> usize {
        self.shared.lock().chunks.len()
    }

    /// Ends the partition; a second end is ignored.
    pub(super) fn end(&self, end: Result<(), Failure>) {
        let mut shared = self.shared.lock();
        shared.end.get_or_insert(end);
        let wakers = std::mem::take(&mut shared.wakers);
        drop(shared);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Its size so far.
    pub(super) fn stats(&self) -> PartitionStats {
        let shared = self.shared.lock();
        PartitionStats { rows: shared.rows, bytes: shared.bytes }
    }

    /// What there is at place `index`.
    pub(super) fn next(&self, index: usize, waker: &Waker) -> Next {
        let mut shared = self.shared.lock();
        if let Some(chunk) = shared.chunks.get(index) {
            return Next::Chunk(Arc::clone(chunk));
        }
        match &shared.end {
            Some(Ok(())) => {
                Next::End(PartitionEnd { rows: shared.rows, chunks: shared.chunks.len() as u64, checksum: shared.checksum.value() })
            }
            Some(Err(failure)) => Next::Failed(failure.clone()),
            None => {
                if !shared.wakers.iter().any(|known| known.will_wake(waker)) {
                    shared.wakers.push(waker.clone());
                }
                Next::Wait
            }
        }
    }
}
