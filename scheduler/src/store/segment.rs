//! One file of the journal.
//!
//! ```text
//! "VJNL" format:u8 | record | record | ...
//! record = length:u32le  crc32(length):u32le  crc32(payload):u32le  payload
//! ```
//!
//! A crash may tear the end of the last segment: a bad spot with no whole record behind it is cut off. A bad spot with a whole
//! record behind it, or in an older segment, is damage and reported.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::StoreError;

const MAGIC: &[u8; 4] = b"VJNL";
/// Version of the segment format.
pub(super) const FORMAT: u8 = 1;
const FILE_HEADER: usize = 5;
const RECORD_HEADER: usize = 12;

/// A segment that is open for appending.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Set when an append failed half-way and could not be undone: nothing may follow a torn record.
    broken: bool,
}

/// What reading a segment found.
pub(super) struct Contents {
    /// The whole records, in order.
    pub(super) records: Vec<Bytes>,
    /// Bytes of the file up to the end of the last whole record.
    pub(super) good_bytes: u64,
}

impl Segment {
    /// Makes a new, empty segment.
    pub(super) fn create(path: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).open(path).map_err(StoreError::io("create", path))?;
        file.write_all(&[MAGIC.as_slice(), &[FORMAT]].concat()).map_err(StoreError::io("write", path))?;
        file.sync_all().map_err(StoreError::io("sync", path))?;
        Ok(Self { file, path: path.to_owned(), bytes: FILE_HEADER as u64, broken: false })
    }

    /// Opens a segment to append to it; whatever a crash left behind its last whole record is cut off.
    pub(super) fn open(path: &Path, good_bytes: u64) -> Result<Self, StoreError> {
        if good_bytes < FILE_HEADER as u64 {
            return Self::create(path);
        }
        let mut file = OpenOptions::new().write(true).open(path).map_err(StoreError::io("open", path))?;
        file.set_len(good_bytes).map_err(StoreError::io("truncate", path))?;
        file.seek(SeekFrom::End(0)).map_err(StoreError::io("seek in", path))?;
        Ok(Self { file, path: path.to_owned(), bytes: good_bytes, broken: false })
    }

    /// Bytes in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a record.
    pub(super) fn append(&mut self, payload: &[u8]) -> Result<(), StoreError> {
        let length = u32::try_from(payload.len())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a journal record has at most 4 GiB"))
            .map_err(StoreError::io("append to", &self.path))?;
        if self.broken {
            return Err(StoreError::io("append to", &self.path)(io::Error::other("an earlier write failed half-way")));
        }
        let mut record = Vec::with_capacity(RECORD_HEADER + payload.len());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&crc32fast::hash(&length.to_le_bytes()).to_le_bytes());
        record.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        record.extend_from_slice(payload);
        if let Err(error) = self.file.write_all(&record) {
            let undone = self.file.set_len(self.bytes).and_then(|()| self.file.seek(SeekFrom::End(0)));
            self.broken = undone.is_err();
            return Err(StoreError::io("append to", &self.path)(error));
        }
        self.bytes += record.len() as u64;
        Ok(())
    }

    /// Makes what was appended durable.
    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::io("sync", &self.path))
    }
}

/// Reads a segment; `last` is the one that a crash may have torn.
pub(super) fn read(path: &Path, last: bool) -> Result<Contents, StoreError> {
    let mut data = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut data)).map_err(StoreError::io("read", path))?;
    let corrupt = |offset: usize, what| StoreError::Corrupt { path: path.to_owned(), offset: offset as u64, what };
    if data.len() < FILE_HEADER {
        let torn = last && MAGIC.starts_with(&data[..data.len().min(MAGIC.len())]);
        return if torn { Ok(Contents { records: Vec::new(), good_bytes: 0 }) } else { Err(corrupt(0, "it is too short")) };
    }
    if &data[..MAGIC.len()] != MAGIC {
        return Err(corrupt(0, "it is not a journal of Volley"));
    }
    if data[MAGIC.len()] != FORMAT {
        return Err(StoreError::Format { path: path.to_owned(), found: data[MAGIC.len()], expected: FORMAT });
    }
    let data = Bytes::from(data);
    let mut records = Vec::new();
    let mut at = FILE_HEADER;
    while let Some(payload) = record_at(&data, at) {
        at += RECORD_HEADER + payload.len();
        records.push(payload);
    }
    if at < data.len() {
        if !last {
            return Err(corrupt(at, "a record is broken off in a segment that was complete"));
        }
        if (at + 1..data.len()).any(|later| record_at(&data, later).is_some()) {
            return Err(corrupt(at, "a record does not match its checksum, though whole records follow"));
        }
    }
    Ok(Contents { records, good_bytes: at as u64 })
}

/// The whole record that begins at `at`, if one does. An empty payload counts only where records are expected to begin.
fn record_at(data: &Bytes, at: usize) -> Option<Bytes> {
    let header = data.get(at..at + RECORD_HEADER)?;
    let word = |index: usize| -> Option<u32> { Some(u32::from_le_bytes(header.get(index..index + 4)?.try_into().ok()?)) };
    let length = word(0)?;
    if crc32fast::hash(&length.to_le_bytes()) != word(4)? {
        return None;
    }
    let from = at + RECORD_HEADER;
    let payload = data.get(from..from.checked_add(length as usize)?)?;
    (crc32fast::hash(payload) == word(8)?).then(|| data.slice_ref(payload))
}
