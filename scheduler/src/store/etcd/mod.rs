//! State in etcd: what `--state etcd://HOST:PORT,HOST:PORT/PREFIX` names. Of the schedulers with the same state one leads, the others stand by.
//!
//! ```text
//! PREFIX/leader               the leader's name; ends with its lease (`leader.rs`)
//! PREFIX/term                 the term, as text
//! PREFIX/write                the last write of a key
//! PREFIX/keys/NAME            one key each; a large value is in pieces (`values.rs`)
//! PREFIX/pieces/WRITE/N
//! PREFIX/journal/PLACE/N      records, in pieces where they are large (`log.rs`)
//! PREFIX/trimmed              the place that no record is before, as text
//! ```
//!
//! Every read and every write is a transaction that does nothing unless the leader is still this one, so a scheduler that was
//! stopped for a while and does not know yet that another one took over can neither write nor act upon what it reads.

mod calls;
mod client;
mod leader;
mod location;
mod log;
mod operations;
mod values;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use volley_proto::Term;

use self::calls::{Conditional, Etcd};
use self::leader::Leadership;
pub use self::location::{EtcdLocation, LocationError};
use self::log::Log;
use self::operations::{delete, put, was_made_at, was_written_at};
use self::values::{Found, Write};
use super::keys::check_key;
use super::{StateStore, StoreError, Sync, Version, Versioned};

/// A [`StateStore`] in etcd, of a scheduler that leads.
pub struct EtcdStore {
    etcd: Etcd,
    term: Term,
    /// Writes of keys in this term so far: each is known by its number. One is made at a time, so that a try that etcd gets to late finds
    /// that a later one is done.
    writes: Mutex<u64>,
    log: Mutex<Log>,
}

impl fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdStore").field("etcd", &self.etcd).field("term", &self.term).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// Waits until this scheduler, called `name`, leads, and begins a new term. While another one leads, `standing_by` is told its name
    /// once. A leader that is not heard of for `ttl` loses the lead.
    pub async fn open(location: &EtcdLocation, name: &str, ttl: Duration, standing_by: impl Fn(&str) + Send) -> Result<Self, StoreError> {
        let mut etcd = Etcd::new(location, ttl)?;
        etcd.leadership = Leadership::win(&etcd, name, ttl, standing_by).await?;
        let opened = tokio::task::spawn_blocking(move || Self::begin(etcd)).await;
        opened.map_err(|error| StoreError::Interrupted { why: error.to_string() })?
    }

    /// Begins a term.
    fn begin(etcd: Etcd) -> Result<Self, StoreError> {
        let key = etcd.key("term");
        let term = Term(etcd.number(&key)?.unwrap_or(0) + 1);
        etcd.fenced("begin a term", vec![put(key, term.0.to_string()), put(etcd.key("write"), Write { term, number: 0 }.name())])?;
        values::remove_unused(&etcd)?;
        let log = Log::open(&etcd)?;
        Ok(Self { etcd, term, writes: Mutex::new(0), log: Mutex::new(log) })
    }

    /// Removes what a value was kept in that is not any more. What stays behind is removed by the next leader.
    fn remove_old(&self, key: &str, previous: Option<&[u8]>) {
        if let Some(Ok(Found::Pieces { write, .. })) = previous.map(|previous| Found::decode(key, previous))
            && let Err(error) = values::remove_pieces(&self.etcd, write)
        {
            tracing::warn!(key, %error, "what a value was kept in before was not removed");
        }
    }
}

impl StateStore for EtcdStore {
    fn term(&self) -> Term {
        self.term
    }

    fn append(&self, record: &[u8], sync: Sync) -> Result<u64, StoreError> {
        let mut log = self.log.lock();
        let place = log.append(&self.etcd, record);
        if sync == Sync::Now {
            log.flush(&self.etcd)?;
        }
        Ok(place)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.log.lock().flush(&self.etcd)
    }

    fn load(&self, from: u64) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let mut log = self.log.lock();
        log.flush(&self.etcd)?;
        log::load(&self.etcd, from)
    }

    fn trim(&self, before: u64) -> Result<(), StoreError> {
        let mut log = self.log.lock();
        log.flush(&self.etcd)?;
        log::trim(&self.etcd, before)
    }

    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        check_key(key)?;
        values::read(&self.etcd, key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
        values::list(&self.etcd, prefix)
    }

    fn compare_and_swap(&self, key: &str, expected: Option<Version>, value: Option<&[u8]>) -> Result<Version, StoreError> {
        check_key(key)?;
        let mut writes = self.writes.lock();
        *writes += 1;
        let write = Write { term: self.term, number: *writes };
        let place = self.etcd.key(&format!("keys/{key}"));
        let is_expected = match expected {
            Some(Version(version)) => was_written_at(place.clone(), version as i64),
            None => was_made_at(place.clone(), 0),
        };
        let change = match value {
            Some(value) => put(place.clone(), values::stage(&self.etcd, write, value)?),
            None => delete(place.clone()),
        };
        match self.etcd.conditional("write", write, is_expected, change, place)? {
            Conditional::Done { version, previous } => {
                self.remove_old(key, previous.as_deref());
                Ok(Version(version))
            }
            Conditional::Refused(refused) => {
                let is_ours = match (&refused.found, value) {
                    (Some((_, found)), Some(_)) => Found::decode(key, found)?.write() == write,
                    (None, None) => refused.is_repeated,
                    _ => false,
                };
                // An answer was lost, and it was the first try that changed the key.
                if is_ours {
                    return Ok(Version(refused.found.map_or(refused.revision, |(version, _)| version)));
                }
                values::remove_pieces(&self.etcd, write)?;
                Err(StoreError::Conflict { key: key.to_owned() })
            }
        }
    }

    fn deposed(&self) -> CancellationToken {
        self.etcd.leadership.lost.clone()
    }

    fn close(&self) {
        if let Err(error) = self.flush() {
            tracing::error!(%error, "the journal's last records were not written");
        }
        self.etcd.resign();
    }
}
