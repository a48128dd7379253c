//! Where the scheduler keeps what must outlive it: the catalog of tables, reserved job ids, the term, the journal of events.
//!
//! A [`StateStore`] is two things: a journal to append to, and a set of keys that are replaced by compare-and-swap.
//! Versions are never used twice in a store's life, also not for a key that was deleted and made again, so a
//! compare-and-swap with a stale version always fails. One conformance suite ([`conformance`]) holds for every implementation.
//!
//! Calls block (a file is synced): from async code they are made on the blocking pool, see [`blocking`].

pub mod conformance;
mod error;
mod etcd;
mod file;
mod job_ids;
mod keys;
mod memory;
mod segment;
mod tables;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use volley_proto::Term;

pub use error::StoreError;
pub use etcd::{EtcdLocation, EtcdStore, LocationError};
pub use file::FileStore;
pub use job_ids::JobIds;
pub use memory::MemoryStore;
pub use tables::StoredTables;

/// Which write of a key a value stems from; grows with every write to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// A key's value and the write that it stems from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// To be given back to [`StateStore::compare_and_swap`].
    pub version: Version,
    /// The value.
    pub value: Bytes,
}

/// Whether an appended record has to be on disk when the call returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// It has.
    Now,
    /// It may be lost in a crash until the next [`StateStore::flush`]; order is kept.
    Later,
}

/// Durable state of a scheduler.
pub trait StateStore: fmt::Debug + Send + std::marker::Sync {
    /// This start's term: larger than that of every earlier start on the same state.
    fn term(&self) -> Term;

    /// Appends a record to the journal; returns its place, which counts from 0 and never repeats.
    fn append(&self, record: &[u8], sync: Sync) -> Result<u64, StoreError>;

    /// Makes every record that was appended so far durable.
    fn flush(&self) -> Result<(), StoreError>;

    /// The journal's records from place `from` on, oldest first, each with its place.
    fn load(&self, from: u64) -> Result<Vec<(u64, Bytes)>, StoreError>;

    /// Lets go of records before place `before`; some of them may stay.
    fn trim(&self, before: u64) -> Result<(), StoreError>;

    /// A key's value, if it has one.
    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError>;

    /// All keys that begin with `prefix`, in order, with their values.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError>;

    /// Replaces a key's value (`None`: deletes it) if its version is still `expected` (`None`: it has no value), durably.
    /// Returns the new version. A key that changed meanwhile is [`StoreError::Conflict`] and nothing is written.
    fn compare_and_swap(&self, key: &str, expected: Option<Version>, value: Option<&[u8]>) -> Result<Version, StoreError>;

    /// Cancelled when another scheduler may have taken over: from then on nothing can be read or written.
    fn deposed(&self) -> CancellationToken {
        CancellationToken::new()
    }

    /// Ends this scheduler's use of it, so that another one need not wait to take over.
    fn close(&self) {}
}

/// Runs a blocking call of a store on the blocking pool.
pub async fn blocking<T, F>(store: &Arc<dyn StateStore>, call: F) -> Result<T, StoreError>
where
    T: Send + 'static,
    F: FnOnce(&dyn StateStore) -> Result<T, StoreError> + Send + 'static,
{
    let store = Arc::clone(store);
    match tokio::task::spawn_blocking(move || call(store.as_ref())).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Interrupted { why: error.to_string() }),
    }
}
