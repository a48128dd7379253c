//! The journal: a key for each record, or several for a large one. What is appended without a sync waits here for the next one.
//!
//! ```text
//! PREFIX/journal/PLACE/N   more:u8 bytes     (`more` is 1 in all but the last piece)
//! ```

use bytes::{Bytes, BytesMut};

use super::calls::Etcd;
use super::operations::{delete_range, end_of, put};
use super::values::PIECE_BYTES;
use crate::store::StoreError;

/// Operations of one request: etcd takes 128.
const BATCH_OPERATIONS: usize = 100;
/// Bytes of one request: etcd takes 1.5 MB.
const BATCH_BYTES: usize = 1 << 20;

/// The end of the journal.
#[derive(Debug)]
pub(super) struct Log {
    /// The place of the next record.
    next: u64,
    /// Keys and values that are not written yet.
    waiting: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Log {
    /// Finds the end.
    pub(super) fn open(etcd: &Etcd) -> Result<Self, StoreError> {
        let journal = etcd.key("journal/");
        let trimmed = etcd.number(&etcd.key("trimmed"))?.unwrap_or(0);
        let last = etcd.range(place(etcd, trimmed), &end_of(&journal), true)?;
        let last = last.last().map(|found| place_of(&journal, &found.key)).transpose()?;
        Ok(Self { next: last.map_or(trimmed, |last| last + 1).max(trimmed), waiting: vec![] })
    }

    /// Appends a record, which waits.
    pub(super) fn append(&mut self, etcd: &Etcd, record: &[u8]) -> u64 {
        let number = self.next;
        self.next += 1;
        let pieces = record.len().div_ceil(PIECE_BYTES).max(1);
        for piece in 0..pieces {
            let part = record.chunks(PIECE_BYTES).nth(piece).unwrap_or_default();
            let key = [place(etcd, number), format!("{piece:08x}").into_bytes()].concat();
            self.waiting.push((key, [&[u8::from(piece + 1 < pieces)], part].concat()));
        }
        number
    }

    /// Writes what waits, in order. What can't be written goes on waiting.
    pub(super) fn flush(&mut self, etcd: &Etcd) -> Result<(), StoreError> {
        while !self.waiting.is_empty() {
            let mut bytes = 0;
            let fits = self.waiting.iter().take(BATCH_OPERATIONS).take_while(|(_, value)| {
                bytes += value.len();
                bytes <= BATCH_BYTES
            });
            let batch = fits.count().max(1);
            let puts = self.waiting[..batch].iter().map(|(key, value)| put(key.as_slice(), value.as_slice()));
            etcd.fenced("write the journal", puts.collect())?;
            self.waiting.drain(..batch);
        }
        Ok(())
    }
}

/// The records from place `from` on. One that was not written to its end is none.
pub(super) fn load(etcd: &Etcd, from: u64) -> Result<Vec<(u64, Bytes)>, StoreError> {
    let journal = etcd.key("journal/");
    // What is before it was written late, by a try that etcd got to when another one was done and its record let go.
    let from = from.max(etcd.number(&etcd.key("trimmed"))?.unwrap_or(0));
    let (mut records, mut begun) = (vec![], None::<(u64, BytesMut)>);
    for found in etcd.range(place(etcd, from), &end_of(&journal), false)? {
        let number = place_of(&journal, &found.key)?;
        let Some((more, part)) = found.value.split_first() else { continue };
        let mut record = match begun.take() {
            Some((of, record)) if of == number => record,
            _ if is_first(&found.key) => BytesMut::new(),
            // Behind the end of a record that was written in the place of a longer one.
            _ => continue,
        };
        record.extend_from_slice(part);
        match more {
            0 => records.push((number, record.freeze())),
            _ => begun = Some((number, record)),
        }
    }
    Ok(records)
}

/// Lets go of the records before a place.
pub(super) fn trim(etcd: &Etcd, before: u64) -> Result<(), StoreError> {
    let records = delete_range(place(etcd, 0), place(etcd, before));
    etcd.fenced("trim the journal", vec![records, put(etcd.key("trimmed"), before.to_string())]).map(drop)
}

/// What the keys of a record begin with.
fn place(etcd: &Etcd, number: u64) -> Vec<u8> {
    etcd.key(&format!("journal/{number:016x}/"))
}

fn is_first(key: &[u8]) -> bool {
    key.ends_with(b"/00000000")
}

fn place_of(journal: &[u8], key: &[u8]) -> Result<u64, StoreError> {
    let name = key.strip_prefix(journal).and_then(|rest| rest.get(..16)).and_then(|digits| std::str::from_utf8(digits).ok());
    let place = name.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    place.ok_or_else(|| StoreError::Value { key: String::from_utf8_lossy(key).into_owned(), why: "it is no place in the journal".into() })
}
