//! The files that hold one key each.
//!
//! ```text
//! "VKEY" format:u8 version:u64le crc32(value):u32le value
//! ```
//!
//! A key file is written beside its place, synced, and renamed over it, so that a reader sees the old value or the new one.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{StoreError, Version, Versioned};

const MAGIC: &[u8; 4] = b"VKEY";
/// Version of the key file format.
pub(super) const FORMAT: u8 = 1;
const HEADER: usize = 4 + 1 + 8 + 4;
const SUFFIX: &str = ".key";
const STAGED: &str = ".staged";
/// A file name has at most 255 bytes.
const LONGEST_NAME: usize = 240;

/// Refuses what can't be a key, in every implementation alike.
pub(super) fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || escape(key).len() > LONGEST_NAME { Err(StoreError::Key { key: key.to_owned() }) } else { Ok(()) }
}

/// A folder of key files.
#[derive(Debug)]
pub(super) struct KeyFiles {
    folder: PathBuf,
}

impl KeyFiles {
    /// Opens the folder, made if it is not there; removes what a crash left half-written.
    pub(super) fn open(folder: PathBuf) -> Result<Self, StoreError> {
        fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
        for entry in fs::read_dir(&folder).map_err(StoreError::io("list", &folder))? {
            let path = entry.map_err(StoreError::io("list", &folder))?.path();
            if path.to_string_lossy().ends_with(STAGED) {
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
            }
        }
        Ok(Self { folder })
    }

    /// A key's value, if it has one.
    pub(super) fn read(&self, key: &str) -> Result<Option<Versioned>, StoreError> {
        check_key(key)?;
        read_file(&self.path(key))
    }

    /// All keys, unordered.
    pub(super) fn keys(&self) -> Result<Vec<String>, StoreError> {
        let mut keys = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(StoreError::io("list", &self.folder))? {
            let name = entry.map_err(StoreError::io("list", &self.folder))?.file_name();
            if let Some(key) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).and_then(unescape) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Puts a value in place, durably.
    pub(super) fn write(&self, key: &str, version: Version, value: &[u8]) -> Result<(), StoreError> {
        check_key(key)?;
        let path = self.path(key);
        let staged = path.with_extension(STAGED.trim_start_matches('.'));
        let mut data = Vec::with_capacity(HEADER + value.len());
        data.extend_from_slice(MAGIC);
        data.push(FORMAT);
        data.extend_from_slice(&version.0.to_le_bytes());
        data.extend_from_slice(&crc32fast::hash(value).to_le_bytes());
        data.extend_from_slice(value);
        let mut file = File::create(&staged).map_err(StoreError::io("create", &staged))?;
        file.write_all(&data).map_err(StoreError::io("write", &staged))?;
        file.sync_all().map_err(StoreError::io("sync", &staged))?;
        fs::rename(&staged, &path).map_err(StoreError::io("replace", &path))?;
        self.sync_folder()
    }

    /// Takes a key away, durably.
    pub(super) fn remove(&self, key: &str) -> Result<(), StoreError> {
        let path = self.path(key);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => self.sync_folder(),
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(escape(key) + SUFFIX)
    }

    fn sync_folder(&self) -> Result<(), StoreError> {
        sync_folder(&self.folder)
    }
}

/// Makes renames and new files in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(StoreError::io("sync", folder))
}

fn read_file(path: &Path) -> Result<Option<Versioned>, StoreError> {
    let data = match fs::read(path) {
        Ok(data) => Bytes::from(data),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("read", path)(error)),
    };
    let corrupt = |what| StoreError::Corrupt { path: path.to_owned(), offset: 0, what };
    if data.len() < HEADER || &data[..4] != MAGIC {
        return Err(corrupt("it is not a key file of Volley"));
    }
    if data[4] != FORMAT {
        return Err(StoreError::Format { path: path.to_owned(), found: data[4], expected: FORMAT });
    }
    let version = data[5..13].try_into().map(u64::from_le_bytes).map_err(|_| corrupt("it is too short"))?;
    let crc = data[13..HEADER].try_into().map(u32::from_le_bytes).map_err(|_| corrupt("it is too short"))?;
    let value = data.slice(HEADER..);
    if crc32fast::hash(&value) != crc {
        return Err(corrupt("its value does not match its checksum"));
    }
    Ok(Some(Versioned { version: Version(version), value }))
}

/// A key as a file name: letters, digits, `-` and `_` stand for themselves, each other byte is `%` and two digits.
fn escape(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name
}

fn unescape(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
