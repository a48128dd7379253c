//! The state of an embedded cluster: gone with its process.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use volley_proto::Term;

use super::keys::check_key;
use super::{StateStore, StoreError, Sync, Version, Versioned};

/// A [`StateStore`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    journal: VecDeque<Bytes>,
    /// Place of the journal's first record.
    first: u64,
    keys: BTreeMap<String, Versioned>,
    writes: u64,
}

impl MemoryStore {
    /// An empty store, in term 1.
    pub fn new() -> Self {
        Self::default()
    }
}

impl StateStore for MemoryStore {
    fn term(&self) -> Term {
        Term(1)
    }

    fn append(&self, record: &[u8], _: Sync) -> Result<u64, StoreError> {
        let mut inner = self.inner.lock();
        inner.journal.push_back(Bytes::copy_from_slice(record));
        Ok(inner.first + inner.journal.len() as u64 - 1)
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn load(&self, from: u64) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let inner = self.inner.lock();
        let places = inner.first..;
        Ok(places.zip(inner.journal.iter().cloned()).filter(|(place, _)| *place >= from).collect())
    }

    fn trim(&self, before: u64) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        while inner.first < before && inner.journal.pop_front().is_some() {
            inner.first += 1;
        }
        Ok(())
    }

    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        check_key(key)?;
        Ok(self.inner.lock().keys.get(key).cloned())
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
        let inner = self.inner.lock();
        let from = inner.keys.range(prefix.to_owned()..);
        Ok(from.take_while(|(key, _)| key.starts_with(prefix)).map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn compare_and_swap(&self, key: &str, expected: Option<Version>, value: Option<&[u8]>) -> Result<Version, StoreError> {
        check_key(key)?;
        let mut inner = self.inner.lock();
        if inner.keys.get(key).map(|found| found.version) != expected {
            return Err(StoreError::Conflict { key: key.to_owned() });
        }
        inner.writes += 1;
        let version = Version(inner.writes);
        match value {
            Some(value) => inner.keys.insert(key.to_owned(), Versioned { version, value: Bytes::copy_from_slice(value) }),
            None => inner.keys.remove(key),
        };
        Ok(version)
    }
}
