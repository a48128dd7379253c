//! What the store holds in memory, and what of it can go at once.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::chunk::Chunk;
use crate::exchange::hooks::StoreMemory;

/// What a store holds, where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreUsage {
    /// Bytes of chunks in memory.
    pub memory_bytes: usize,
    /// Bytes of those that are on disk as well.
    pub clean_bytes: usize,
    /// Bytes written to spill files since the store was made.
    pub spilled_bytes: u64,
}

/// Counts the chunks in memory.
#[derive(Debug)]
pub(super) struct Ledger {
    memory: Arc<dyn StoreMemory>,
    budget: usize,
    resident: AtomicUsize,
    clean: AtomicUsize,
    spilled: AtomicU64,
    /// Chunks that became clean, oldest first; some may be gone or reclaimed already.
    reclaimable: Mutex<VecDeque<Weak<Chunk>>>,
}

impl Ledger {
    pub(super) fn new(memory: Arc<dyn StoreMemory>, budget: usize) -> Self {
        Self {
            memory,
            budget,
            resident: AtomicUsize::new(0),
            clean: AtomicUsize::new(0),
            spilled: AtomicU64::new(0),
            reclaimable: Mutex::new(VecDeque::new()),
        }
    }

    /// Takes `bytes` for a chunk that is to stay in memory; false where it has to go to disk instead.
    pub(super) fn admit(&self, bytes: usize) -> bool {
        let before = self.resident.fetch_add(bytes, Ordering::Relaxed);
        let excess = (before + bytes).saturating_sub(self.budget);
        if (excess == 0 || self.reclaim(excess) >= excess) && self.memory.try_take(bytes) {
            return true;
        }
        self.resident.fetch_sub(bytes, Ordering::Relaxed);
        false
    }

    /// Takes `bytes` that exist already, such as batches that wait to be merged.
    pub(super) fn take(&self, bytes: usize) {
        self.resident.fetch_add(bytes, Ordering::Relaxed);
        self.memory.take(bytes);
    }

    /// Gives back `bytes` of dirty or waiting data.
    pub(super) fn give_back(&self, bytes: usize) {
        self.resident.fetch_sub(bytes, Ordering::Relaxed);
        self.memory.give_back(bytes);
    }

    /// Gives back a clean chunk's bytes.
    pub(super) fn give_back_clean(&self, bytes: usize) {
        self.clean.fetch_sub(bytes, Ordering::Relaxed);
        self.give_back(bytes);
    }

    /// Notes that a chunk in memory is on disk now.
    pub(super) fn cleaned(&self, chunk: &Arc<Chunk>, bytes: usize) {
        self.clean.fetch_add(bytes, Ordering::Relaxed);
        self.reclaimable.lock().push_back(Arc::downgrade(chunk));
    }

    /// Notes bytes written to disk.
    pub(super) fn wrote(&self, bytes: u64) {
        self.spilled.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Drops clean chunks from memory until `bytes` are given back, if there are that many.
    pub(super) fn reclaim(&self, bytes: usize) -> usize {
        let mut freed = 0;
        while freed < bytes {
            // The guard ends with the statement: a chunk is never touched under the queue's lock.
            let next = self.reclaimable.lock().pop_front();
            let Some(next) = next else { break };
            freed += next.upgrade().map_or(0, |chunk| chunk.drop_from_memory());
        }
        freed
    }

    /// Drops clean chunks until the store is within its budget.
    pub(super) fn reclaim_excess(&self) {
        let excess = self.resident.load(Ordering::Relaxed).saturating_sub(self.budget);
        if excess > 0 {
            self.reclaim(excess);
        }
    }

    /// Forgets chunks that are gone.
    pub(super) fn tidy(&self) {
        self.reclaimable.lock().retain(|chunk| chunk.strong_count() > 0);
    }

    /// Bytes in memory that are not on disk.
    pub(super) fn dirty(&self) -> usize {
        self.resident.load(Ordering::Relaxed).saturating_sub(self.clean.load(Ordering::Relaxed))
    }

    pub(super) fn usage(&self) -> StoreUsage {
        StoreUsage {
            memory_bytes: self.resident.load(Ordering::Relaxed),
            clean_bytes: self.clean.load(Ordering::Relaxed),
            spilled_bytes: self.spilled.load(Ordering::Relaxed),
        }
    }
}
