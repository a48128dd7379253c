//! State in a directory of the local file system: what `--state-dir` names.
//!
//! ```text
//! DIR/lock               held while a scheduler runs, so that two never share a directory
//! DIR/keys/NAME.key      one file for each key, replaced by rename (`keys.rs`)
//! DIR/journal/PLACE.log  segments, each named after the place of its first record (`segment.rs`)
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parking_lot::Mutex;
use volley_proto::Term;

use super::keys::{KeyFiles, check_key, sync_folder};
use super::segment::{self, Segment};
use super::{StateStore, StoreError, Sync, Version, Versioned};

/// A segment is closed and the next begun when it has this many bytes.
const SEGMENT_BYTES: u64 = 16 << 20;
const TERM_KEY: &str = "volley-term";
const SEGMENT_SUFFIX: &str = ".log";
/// Versions are the term and a count within it, so that none is used twice.
const WRITES_PER_TERM_BITS: u32 = 40;

/// A [`StateStore`] in a directory.
#[derive(Debug)]
pub struct FileStore {
    term: Term,
    keys: Mutex<Keys>,
    journal: Mutex<Journal>,
    /// Holds the lock until the store is dropped.
    _lock: File,
}

#[derive(Debug)]
struct Keys {
    files: KeyFiles,
    last: Version,
}

#[derive(Debug)]
struct Journal {
    folder: PathBuf,
    /// Places of the first records of all segments, oldest first; the last is the open one.
    segments: Vec<u64>,
    open: Segment,
    next: u64,
}

impl FileStore {
    /// Opens the state in `folder`, made if it is not there, and begins a new term.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io("create", folder))?;
        let lock = lock(folder)?;
        let files = KeyFiles::open(folder.join("keys"))?;
        let term = next_term(&files)?;
        let journal = Journal::open(folder.join("journal"))?;
        sync_folder(folder)?;
        let last = Version(term.0 << WRITES_PER_TERM_BITS);
        Ok(Self { term, keys: Mutex::new(Keys { files, last }), journal: Mutex::new(journal), _lock: lock })
    }
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(StoreError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StoreError::io("lock", &path)(error)),
    }
}

fn next_term(files: &KeyFiles) -> Result<Term, StoreError> {
    let last = match files.read(TERM_KEY)? {
        None => 0,
        Some(found) => found
            .value
            .as_ref()
            .try_into()
            .map(u64::from_le_bytes)
            .map_err(|_| StoreError::Value { key: TERM_KEY.to_owned(), why: "it is not 8 bytes long".into() })?,
    };
    let term = last + 1;
    files.write(TERM_KEY, Version(term), &term.to_le_bytes())?;
    Ok(Term(term))
}

impl Journal {
    fn open(folder: PathBuf) -> Result<Self, StoreError> {
        fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        let mut segments = segments(&folder)?;
        let Some(first) = segments.last().copied() else {
            let open = Segment::create(&segment_path(&folder, 0))?;
            sync_folder(&folder)?;
            return Ok(Self { folder, segments: vec![0], open, next: 0 });
        };
        segments.sort_unstable();
        let path = segment_path(&folder, first);
        let contents = segment::read(&path, true)?;
        let open = Segment::open(&path, contents.good_bytes)?;
        Ok(Self { folder, segments, open, next: first + contents.records.len() as u64 })
    }

    fn append(&mut self, record: &[u8], sync: Sync) -> Result<u64, StoreError> {
        if self.open.bytes() >= SEGMENT_BYTES {
            self.open.sync()?;
            self.open = Segment::create(&segment_path(&self.folder, self.next))?;
            self.segments.push(self.next);
            sync_folder(&self.folder)?;
        }
        self.open.append(record)?;
        if sync == Sync::Now {
            self.open.sync()?;
        }
        let place = self.next;
        self.next += 1;
        Ok(place)
    }

    fn load(&self, from: u64) -> Result<Vec<(u64, Bytes)>, StoreError> {
        let mut records = Vec::new();
        for (index, first) in self.segments.iter().enumerate() {
            let end = self.segments.get(index + 1).copied().unwrap_or(self.next);
            if end <= from {
                continue;
            }
            let path = segment_path(&self.folder, *first);
            let contents = segment::read(&path, index + 1 == self.segments.len())?;
            if first + contents.records.len() as u64 != end {
                return Err(StoreError::Corrupt { path, offset: contents.good_bytes, what: "records are missing at its end" });
            }
            records.extend((*first..).zip(contents.records).filter(|(place, _)| *place >= from));
        }
        Ok(records)
    }

    fn trim(&mut self, before: u64) -> Result<(), StoreError> {
        while self.segments.get(1).is_some_and(|second| *second <= before) {
            let path = segment_path(&self.folder, self.segments[0]);
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            self.segments.remove(0);
        }
        Ok(())
    }
}

fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}{SEGMENT_SUFFIX}"))
}

fn segments(folder: &Path) -> Result<Vec<u64>, StoreError> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io("list", folder))? {
        let path = entry.map_err(StoreError::io("list", folder))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(SEGMENT_SUFFIX));
        let first = name.and_then(|name| name.parse().ok());
        let strange = || io::Error::new(io::ErrorKind::InvalidData, "it is not a segment of the journal");
        firsts.push(first.ok_or_else(strange).map_err(StoreError::io("understand", &path))?);
    }
    firsts.sort_unstable();
    Ok(firsts)
}

impl StateStore for FileStore {
    fn term(&self) -> Term {
        self.term
    }

    fn append(&self, record: &[u8], sync: Sync) -> Result<u64, StoreError> {
        self.journal.lock().append(record, sync)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.journal.lock().open.sync()
    }

    fn load(&self, from: u64) -> Result<Vec<(u64, Bytes)>, StoreError> {
        self.journal.lock().load(from)
    }

    fn trim(&self, before: u64) -> Result<(), StoreError> {
        self.journal.lock().trim(before)
    }

    fn get(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        check_key(key)?;
        self.keys.lock().files.read(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Versioned)>, StoreError> {
        let keys = self.keys.lock();
        let mut found = Vec::new();
        for key in keys.files.keys()? {
            if key.starts_with(prefix)
                && key != TERM_KEY
                && let Some(value) = keys.files.read(&key)?
            {
                found.push((key, value));
            }
        }
        found.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        Ok(found)
    }

    fn compare_and_swap(&self, key: &str, expected: Option<Version>, value: Option<&[u8]>) -> Result<Version, StoreError> {
        check_key(key)?;
        let mut keys = self.keys.lock();
        let found = keys.files.read(key)?.map(|found| found.version);
        if found != expected || key == TERM_KEY {
            return Err(StoreError::Conflict { key: key.to_owned() });
        }
        let version = Version(keys.last.0 + 1);
        match value {
            Some(value) => keys.files.write(key, version, value)?,
            None if found.is_some() => keys.files.remove(key)?,
            None => {}
        }
        keys.last = version;
        Ok(version)
    }
}
