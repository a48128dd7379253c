//! Values of keys. etcd takes requests of 1.5 MB: what is larger is kept in pieces, which are there before the key is written and go when
//! it is written again.
//!
//! ```text
//! format:u8 kind:u8 term:u64be write:u64be  then  the value  or  the number of its pieces:u32be
//! ```
//!
//! Term and number of the write tell a writer whose answer was lost whether it was its own write that changed a key.

use std::collections::HashSet;

use bytes::Bytes;
use volley_proto::Term;
use volley_proto::wire::etcd::KeyValue;

use super::calls::Etcd;
use super::operations::{delete, delete_range, end_of, put};
use crate::store::{StoreError, Version, Versioned};

/// Version of the format.
const FORMAT: u8 = 1;
const WHOLE: u8 = 0;
const IN_PIECES: u8 = 1;
const HEADER: usize = 2 + 8 + 8;
/// Bytes of a piece, and of a value that is whole.
pub(super) const PIECE_BYTES: usize = 512 << 10;

/// A write, which no other one is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Write {
    pub(super) term: Term,
    pub(super) number: u64,
}

impl Write {
    /// Its name; that of a later write is greater.
    pub(super) fn name(self) -> String {
        format!("{:016x}-{:016x}", self.term.0, self.number)
    }

    fn place(self, etcd: &Etcd) -> Vec<u8> {
        etcd.key(&format!("pieces/{}/", self.name()))
    }
}

/// A value as it is found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Whole { write: Write, value: Bytes },
    Pieces { write: Write, pieces: u32 },
}

impl Found {
    pub(super) fn decode(key: &str, bytes: &[u8]) -> Result<Self, StoreError> {
        let wrong = |why: String| StoreError::Value { key: key.to_owned(), why };
        match bytes.first() {
            Some(&FORMAT) => {}
            found => return Err(wrong(format!("its format is {found:?}, this build reads {FORMAT}"))),
        }
        let number = |from: usize| bytes.get(from..from + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let (Some(term), Some(number), Some(rest)) = (number(2), number(10), bytes.get(HEADER..)) else {
            return Err(wrong("it is too short".into()));
        };
        let write = Write { term: Term(term), number };
        match bytes.get(1) {
            Some(&WHOLE) => Ok(Self::Whole { write, value: Bytes::copy_from_slice(rest) }),
            Some(&IN_PIECES) => match rest.try_into().map(u32::from_be_bytes) {
                Ok(pieces) => Ok(Self::Pieces { write, pieces }),
                Err(_) => Err(wrong("it does not tell how many pieces it has".into())),
            },
            kind => Err(wrong(format!("its kind is {kind:?}"))),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let (kind, write) = match self {
            Self::Whole { write, .. } => (WHOLE, write),
            Self::Pieces { write, .. } => (IN_PIECES, write),
        };
        let mut bytes = vec![FORMAT, kind];
        bytes.extend_from_slice(&write.term.0.to_be_bytes());
        bytes.extend_from_slice(&write.number.to_be_bytes());
        match self {
            Self::Whole { value, .. } => bytes.extend_from_slice(value),
            Self::Pieces { pieces, .. } => bytes.extend_from_slice(&pieces.to_be_bytes()),
        }
        bytes
    }

    pub(super) fn write(&self) -> Write {
        match self {
            Self::Whole { write, .. } | Self::Pieces { write, .. } => *write,
        }
    }
}

/// What a key is to hold for `value`, whose pieces are there when this returns.
pub(super) fn stage(etcd: &Etcd, write: Write, value: &[u8]) -> Result<Vec<u8>, StoreError> {
    if value.len() <= PIECE_BYTES {
        return Ok(Found::Whole { write, value: Bytes::copy_from_slice(value) }.encode());
    }
    let mut pieces = 0;
    for piece in value.chunks(PIECE_BYTES) {
        let key = [write.place(etcd), format!("{pieces:08x}").into_bytes()].concat();
        etcd.fenced("write", vec![put(key, piece)])?;
        pieces += 1;
    }
    Ok(Found::Pieces { write, pieces }.encode())
}

/// Removes the pieces of a value that nobody refers to.
pub(super) fn remove_pieces(etcd: &Etcd, write: Write) -> Result<(), StoreError> {
    let place = write.place(etcd);
    etcd.fenced("remove", vec![delete_range(place.as_slice(), end_of(&place))]).map(drop)
}

/// A key's value.
pub(super) fn read(etcd: &Etcd, key: &str) -> Result<Option<Versioned>, StoreError> {
    let place = etcd.key(&format!("keys/{key}"));
    loop {
        let Some(found) = etcd.one(&place)? else { return Ok(None) };
        if let Some(value) = whole(etcd, key, &found)? {
            return Ok(Some(value));
        }
    }
}

/// The value that a key refers to; `None` where it was replaced while it was read.
fn whole(etcd: &Etcd, key: &str, found: &KeyValue) -> Result<Option<Versioned>, StoreError> {
    let version = Version(found.mod_revision as u64);
    let (write, pieces) = match Found::decode(key, &found.value)? {
        Found::Whole { value, .. } => return Ok(Some(Versioned { version, value })),
        Found::Pieces { write, pieces } => (write, pieces),
    };
    let place = write.place(etcd);
    let parts = etcd.range(place.clone(), &end_of(&place), false)?;
    if parts.len() as u32 == pieces {
        let value = parts.iter().flat_map(|part| part.value.iter().copied()).collect();
        return Ok(Some(Versioned { version, value }));
    }
    match etcd.one(&found.key)? {
        Some(now) if now.mod_revision == found.mod_revision => {
            Err(StoreError::Value { key: key.to_owned(), why: format!("{} of its {pieces} pieces are there", parts.len()) })
        }
        _ => Ok(None),
    }
}

/// All keys that begin with `prefix`, with their values.
pub(super) fn list(etcd: &Etcd, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
    let all = etcd.key("keys/");
    let from = [all.as_slice(), prefix.as_bytes()].concat();
    let mut listed = vec![];
    for found in etcd.range(from.clone(), &end_of(&from), false)? {
        let key = name(&all, &found)?;
        let value = match whole(etcd, &key, &found)? {
            Some(value) => Some(value),
            None => read(etcd, &key)?,
        };
        listed.extend(value.map(|value| (key, value)));
    }
    Ok(listed)
}

fn name(all: &[u8], found: &KeyValue) -> Result<String, StoreError> {
    let name = found.key.strip_prefix(all).and_then(|name| std::str::from_utf8(name).ok());
    let wrong = || StoreError::Value { key: String::from_utf8_lossy(&found.key).into_owned(), why: "its name is not text".into() };
    name.map(str::to_owned).ok_or_else(wrong)
}

/// Removes pieces that no key refers to: a leader that lost its lead in between left them.
pub(super) fn remove_unused(etcd: &Etcd) -> Result<(), StoreError> {
    let (keys, pieces) = (etcd.key("keys/"), etcd.key("pieces/"));
    let places = etcd.range(pieces.clone(), &end_of(&pieces), true)?;
    if places.is_empty() {
        return Ok(());
    }
    let mut used = HashSet::new();
    for found in etcd.range(keys.clone(), &end_of(&keys), false)? {
        if let Found::Pieces { write, .. } = Found::decode(&name(&keys, &found)?, &found.value)? {
            used.insert(write.place(etcd));
        }
    }
    for place in places {
        let is_used = place.key.rsplitn(2, |byte| *byte == b'/').nth(1).is_some_and(|of| used.contains(&[of, b"/"].concat()));
        if !is_used {
            etcd.fenced("remove", vec![delete(&place.key[..])])?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let write = Write { term: Term(7), number: 3 };
        for found in [Found::Whole { write, value: Bytes::from_static(b"v") }, Found::Pieces { write, pieces: 9 }] {
            assert_eq!(Found::decode("k", &found.encode()).unwrap(), found);
        }
        assert!(Found::decode("k", &[]).is_err());
        assert!(Found::decode("k", &[FORMAT, WHOLE, 0]).is_err());
        assert!(Found::decode("k", &[9; 40]).unwrap_err().to_string().contains("its format is Some(9), this build reads 1"));
    }
}
