//! One spill file on disk: written by the store that owns it, read at any time.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, Bytes};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use volley_proto::AttemptId;

use super::error::SpillError;
use super::format::{self, Broken, ChunkId, ChunkPlace, FRAME_LEN, MAGIC, TRAILER_LEN};
use crate::exchange::encoding::{IpcMessage, WireSchema};

/// The spill file that one attempt's output owns. Dropping it removes the file.
#[derive(Debug)]
pub struct SpillFile {
    path: PathBuf,
    file: File,
    writer: Mutex<Writer>,
    removed: AtomicBool,
}

#[derive(Debug)]
struct Writer {
    end: u64,
    places: Vec<ChunkPlace>,
}

impl SpillFile {
    /// Where the output of `attempt` is spilled below `work_dir`.
    pub fn path_of(work_dir: &Path, attempt: AttemptId) -> PathBuf {
        let task = attempt.task;
        let stage = work_dir.join(task.job.to_string()).join(task.stage.to_string());
        stage.join(format!("t{}-a{}.spill", task.index, attempt.number))
    }

    /// Starts the file of `attempt`; `schema` is the IPC message of its rows' schema.
    pub(in crate::exchange) fn create(work_dir: &Path, attempt: AttemptId, schema: &IpcMessage) -> Result<Self, SpillError> {
        let path = Self::path_of(work_dir, attempt);
        let file = create_file(&path).map_err(|e| SpillError::from_io("create", &path, e))?;
        let preamble = format::encode_preamble(&attempt.to_string(), &schema.header);
        let writer = Writer { end: preamble.len() as u64, places: Vec::new() };
        let spill = Self { path, file, writer: Mutex::new(writer), removed: AtomicBool::new(false) };
        spill.write_at(&preamble, 0)?;
        Ok(spill)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes written.
    pub fn written(&self) -> u64 {
        self.writer.lock().end
    }

    /// Appends one encoded chunk.
    pub(in crate::exchange) fn append(&self, id: ChunkId, rows: u64, messages: &[IpcMessage]) -> Result<ChunkPlace, SpillError> {
        let parts = format::encode_chunk(id, rows, messages);
        let mut writer = self.writer.lock();
        let offset = writer.end;
        let mut end = offset;
        for part in &parts {
            self.write_at(part, end)?;
            end += part.len() as u64;
        }
        let place = ChunkPlace { id, rows, offset, length: end - offset };
        writer.end = end;
        writer.places.push(place);
        Ok(place)
    }

    /// Writes the index of what was appended so far, which makes the file readable without this process.
    pub fn finish(&self) -> Result<(), SpillError> {
        let mut writer = self.writer.lock();
        let footer = format::encode_footer(&writer.places, writer.end);
        self.write_at(&footer, writer.end)?;
        writer.end += footer.len() as u64;
        Ok(())
    }

    /// Reads one chunk back.
    pub(in crate::exchange) fn read(&self, place: ChunkPlace) -> Result<Vec<IpcMessage>, SpillError> {
        read_chunk(&self.file, &self.path, place)
    }

    /// Removes the file; chunks can still be read by those who hold this.
    pub fn remove(&self) {
        if self.removed.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a spill file could not be removed");
        }
        // The stage's and the job's directories go with their last file; removing one that is in use fails, and should.
        for directory in self.path.ancestors().skip(1).take(2) {
            if fs::remove_dir(directory).is_err() {
                break;
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<(), SpillError> {
        self.file.write_all_at(bytes, offset).map_err(|e| SpillError::from_io("write", &self.path, e))
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A spill file read with nothing else at hand.
#[derive(Debug)]
pub struct SpillReader {
    path: PathBuf,
    file: File,
    attempt: AttemptId,
    wire: WireSchema,
    places: Vec<ChunkPlace>,
}

impl SpillReader {
    /// Opens a finished file and reads its index.
    pub fn open(path: &Path) -> Result<Self, SpillError> {
        let malformed = |reason: String| SpillError::Malformed { path: path.to_owned(), reason };
        let broken = |error: Broken| malformed(describe(&error));
        let io = |e: io::Error| SpillError::from_io("read", path, e);
        let file = File::open(path).map_err(|e| SpillError::from_io("open", path, e))?;
        let length = file.metadata().map_err(io)?.len();
        let start_len = MAGIC.len() + 8;
        let minimum = (start_len + FRAME_LEN + TRAILER_LEN) as u64;
        if length < minimum {
            return Err(malformed(format!("it has {length} bytes, and a file with an index has at least {minimum}")));
        }

        let mut start = read_range(&file, 0, start_len as u64).map_err(io)?;
        if start.split_to(MAGIC.len()).as_ref() != MAGIC.as_slice() {
            return Err(malformed("it starts with foreign bytes".into()));
        }
        let (preamble, crc) = (start.get_u32_le(), start.get_u32_le());
        if u64::from(preamble) > length {
            return Err(malformed("its preamble is longer than the file".into()));
        }
        let payload = read_range(&file, start_len as u64, u64::from(preamble)).map_err(io)?;
        let (attempt, schema) = format::decode_preamble(&payload, crc).map_err(broken)?;
        let attempt = attempt.parse().map_err(|e| malformed(format!("its attempt: {e}")))?;
        let wire = WireSchema::try_from_message(&schema).map_err(|e| malformed(format!("its schema: {e}")))?;

        let trailer_at = length - TRAILER_LEN as u64;
        let trailer = read_range(&file, trailer_at, TRAILER_LEN as u64).map_err(io)?;
        let footer_at = format::decode_trailer(&trailer).map_err(broken)?;
        if footer_at > trailer_at {
            return Err(malformed("its index lies outside of it".into()));
        }
        let footer = read_range(&file, footer_at, trailer_at - footer_at).map_err(io)?;
        let places = format::decode_footer(footer).map_err(broken)?;
        Ok(Self { path: path.to_owned(), file, attempt, wire, places })
    }

    /// Who wrote it.
    pub fn attempt(&self) -> AttemptId {
        self.attempt
    }

    /// What its rows look like.
    pub fn schema(&self) -> &SchemaRef {
        self.wire.schema()
    }

    /// Its chunks, in the order in which they were appended.
    pub fn places(&self) -> &[ChunkPlace] {
        &self.places
    }

    /// Reads one chunk.
    pub fn read(&self, place: ChunkPlace) -> Result<RecordBatch, SpillError> {
        let messages = read_chunk(&self.file, &self.path, place)?;
        self.wire
            .decode_all(&messages)
            .map_err(|e| SpillError::Malformed { path: self.path.clone(), reason: format!("chunk {}: {e}", place.id) })
    }
}

fn create_file(path: &Path) -> io::Result<File> {
    let create = || {
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)
    };
    // Another attempt's end may remove a directory between its creation and its use.
    match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(),
        result => result,
    }
}

fn read_chunk(file: &File, path: &Path, place: ChunkPlace) -> Result<Vec<IpcMessage>, SpillError> {
    let record = read_range(file, place.offset, place.length).map_err(|e| SpillError::from_io("read", path, e))?;
    match format::decode_chunk(record) {
        Ok((id, rows, messages)) if id == place.id && rows == place.rows => Ok(messages),
        Ok((id, ..)) => {
            Err(SpillError::Malformed { path: path.to_owned(), reason: format!("chunk {id} stands where the index has {}", place.id) })
        }
        Err(Broken::Checksum { expected, found }) => {
            Err(SpillError::CorruptChunk { path: path.to_owned(), chunk: place.id, expected, found })
        }
        Err(broken) => Err(SpillError::Malformed { path: path.to_owned(), reason: format!("chunk {}: {}", place.id, describe(&broken)) }),
    }
}

fn read_range(file: &File, offset: u64, length: u64) -> io::Result<Bytes> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.into())
}

fn describe(broken: &Broken) -> String {
    match broken {
        Broken::Shape(reason) => (*reason).to_owned(),
        Broken::Checksum { expected, found } => format!("a checksum is {found:08x} instead of {expected:08x}"),
    }
}
