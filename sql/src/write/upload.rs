//! Files on object stores: multipart uploads that are completed when the write is committed, so that no reader sees a file before.
//!
//! ```text
//! executor:   note "<staging>/<name>.upload" ─> upload ─> the note with the upload's id ─> parts ─> StagedFile with the ids of its parts
//! scheduler:  commit: complete the uploads of committed attempts, abort those of other notes
//! ```
//!
//! The note comes first, so that an upload whose attempt was killed is found and aborted. It gets the id as soon as there is one, because not
//! every store can be asked for the unfinished uploads of a path; of one that can't, an attempt that is killed between the two leaves an upload
//! without parts. An attempt that is not killed and does not end well, because it failed or is not wanted any more, removes both itself: the
//! write may be over already, and then nobody looks for notes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{MultipartId, ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::destination::Destination;
use super::publish::{LIVE_MARKER, remove_object, require_live};
use super::staged::StagedFile;
use super::unfinished::Staged;
use crate::stores::UploadStore;

/// Bytes of a part. Stores want 5 MiB or more, all of the same size, and at most 10,000 parts: files up to 160 GiB.
const PART_BYTES: usize = 16 << 20;

/// Bytes between the encoder and the part that is gathered.
const PIPE_BYTES: usize = 256 << 10;

/// What the names of notes end in.
pub(super) const NOTE: &str = ".upload";

/// An upload that has all its parts and is not completed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedUpload {
    /// The store's name for it.
    pub id: String,
    /// The store's names for its parts, in order.
    pub parts: Vec<String>,
}

/// What a note says.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    path: String,
    /// Of an upload that is begun.
    id: Option<String>,
}

/// An upload with its note.
pub(super) struct NotedUpload {
    store: Arc<dyn ObjectStore>,
    uploads: Arc<dyn UploadStore>,
    /// Where the file goes.
    path: Path,
    note: Path,
    /// What is there as long as the write is on.
    live: Path,
    /// Whether no other attempt, nor another write, has uploads to `path`.
    is_own: bool,
    creation: Creation,
    /// Held as long as parts are on their way: a store may keep a part that comes after the upload was aborted.
    sending: Arc<Mutex<()>>,
}

/// How far the making of an upload has come.
enum Creation {
    NotAsked,
    /// Whether there is one is not known before the answer.
    Asked,
    Made(String),
}

/// An upload that has begun.
pub(super) struct Begun {
    id: String,
    sending: OwnedMutexGuard<()>,
}

impl NotedUpload {
    pub(super) fn new(destination: &Destination, uploads: &Arc<dyn UploadStore>, file: &StagedFile) -> Self {
        Self {
            store: Arc::clone(&destination.store),
            uploads: Arc::clone(uploads),
            path: destination.place(file),
            note: destination.note(file),
            live: destination.staged(LIVE_MARKER),
            is_own: destination.place(file).as_ref().ends_with(&file.staged),
            creation: Creation::NotAsked,
            sending: Arc::default(),
        }
    }

    async fn put_note(&self) -> Result<()> {
        let id = if let Creation::Made(id) = &self.creation { Some(id.clone()) } else { None };
        let note = Note { path: self.path.to_string(), id };
        let text = serde_json::to_vec(&note).map_err(|error| DataFusionError::External(Box::new(error)))?;
        self.store.put(&self.note, PutPayload::from(text)).await?;
        Ok(())
    }
}

impl Staged for NotedUpload {
    type Begun = Begun;

    async fn begin(&mut self) -> Result<Begun> {
        self.put_note().await?;
        self.creation = Creation::Asked;
        let id = self.uploads.create_multipart(&self.path).await?;
        self.creation = Creation::Made(id.clone());
        self.put_note().await?;
        // Who ends the write takes the marker away before he looks for notes: he found this one, or the marker is gone now.
        require_live(self.store.as_ref(), &self.live).await?;
        Ok(Begun { id, sending: Arc::clone(&self.sending).lock_owned().await })
    }

    async fn remove(&self) -> Result<()> {
        let _sent = self.sending.lock().await;
        let ids = match &self.creation {
            Creation::NotAsked => vec![],
            Creation::Made(id) => vec![id.clone()],
            Creation::Asked if self.is_own => self.uploads.unfinished(&self.path).await?,
            // Which one it is can't be told. The note stays: whoever ends the write looks after it.
            Creation::Asked => return Ok(()),
        };
        for id in &ids {
            abort(self.uploads.as_ref(), &self.path, id).await?;
        }
        remove_object(self.store.as_ref(), &self.note).await
    }

    fn place(&self) -> &str {
        self.path.as_ref()
    }
}

/// A file that is being uploaded.
pub(super) struct Upload {
    sending: JoinHandle<Result<(StagedUpload, u64)>>,
    buffered: Arc<AtomicUsize>,
    /// Ends the sending behind the part that is on its way.
    _stop: DropGuard,
}

impl Upload {
    /// Sends what is written to the other end of the pipe, as the parts of an upload to `path`.
    pub(super) fn send(uploads: &Arc<dyn UploadStore>, path: Path, begun: Begun) -> (Self, DuplexStream) {
        let (writer, reader) = tokio::io::duplex(PIPE_BYTES);
        let (buffered, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let Begun { id, sending } = begun;
        let parts = send(Arc::clone(uploads), path, id, reader, Arc::clone(&buffered), stop.clone());
        let sending = tokio::spawn(async move {
            let _sending = sending;
            parts.await
        });
        (Self { sending, buffered, _stop: stop.drop_guard() }, writer)
    }

    /// Bytes of memory that it takes.
    pub(super) fn memory(&self) -> usize {
        PIPE_BYTES + self.buffered.load(Ordering::Relaxed)
    }

    /// The upload, when the other end of the pipe was shut down, and its bytes.
    pub(super) async fn finish(self) -> Result<(StagedUpload, u64)> {
        self.sending.await.map_err(|error| DataFusionError::Execution(format!("an upload was ended: {error}")))?
    }
}

/// Sends what comes out of the pipe, part by part.
async fn send(
    uploads: Arc<dyn UploadStore>,
    path: Path,
    id: String,
    mut pipe: DuplexStream,
    buffered: Arc<AtomicUsize>,
    stop: CancellationToken,
) -> Result<(StagedUpload, u64)> {
    let (mut parts, mut total) = (vec![], 0);
    loop {
        let part = stop.run_until_cancelled(next_part(&mut pipe, &buffered)).await;
        let Some(part) = part.transpose()?.filter(|_| !stop.is_cancelled()) else {
            return Err(DataFusionError::Execution("nobody wants the file any more".into()));
        };
        let is_last = part.len() < PART_BYTES;
        // An upload has a part, also of a file without bytes.
        if !part.is_empty() || parts.is_empty() {
            total += part.len() as u64;
            let sent = uploads.put_part(&path, &id, parts.len(), PutPayload::from(part)).await?;
            parts.push(sent.content_id);
        }
        if is_last {
            buffered.store(0, Ordering::Relaxed);
            return Ok((StagedUpload { id, parts }, total));
        }
    }
}

/// What comes out of the pipe until it is a part, or the pipe ends.
async fn next_part(pipe: &mut DuplexStream, buffered: &AtomicUsize) -> Result<Vec<u8>> {
    let mut part = Vec::new();
    while part.len() < PART_BYTES {
        let missing = (PART_BYTES - part.len()) as u64;
        let read = (&mut *pipe).take(missing.min(PIPE_BYTES as u64)).read_to_end(&mut part).await?;
        buffered.store(part.capacity(), Ordering::Relaxed);
        if read == 0 {
            break;
        }
    }
    Ok(part)
}

/// Makes an upload the file at `path`. A second call finds the file there.
pub(super) async fn complete(
    store: &dyn ObjectStore,
    uploads: &dyn UploadStore,
    path: &Path,
    upload: &StagedUpload,
    bytes: u64,
) -> Result<()> {
    let parts = upload.parts.iter().map(|part| PartId { content_id: part.clone() }).collect();
    let Err(error) = uploads.complete_multipart(path, &upload.id, parts).await else {
        return Ok(());
    };
    match store.head(path).await {
        Ok(found) if found.size == bytes => Ok(()),
        _ => Err(DataFusionError::Execution(format!("can't publish '{path}': {error}"))),
    }
}

/// Aborts the upload that a note names, unless it is one of `kept`, and removes the note.
pub(super) async fn abort_noted(store: &dyn ObjectStore, uploads: &dyn UploadStore, note: &Path, kept: &[&StagedUpload]) -> Result<()> {
    let text = match store.get(note).await {
        Ok(found) => found.bytes().await?,
        Err(object_store::Error::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let Note { path, id } = serde_json::from_slice(&text).map_err(|error| DataFusionError::External(Box::new(error)))?;
    let path = Path::parse(path).map_err(object_store::Error::from)?;
    let ids = match id {
        Some(id) => vec![id],
        None => uploads.unfinished(&path).await?,
    };
    for id in ids.into_iter().filter(|id| !kept.iter().any(|upload| upload.id == *id)) {
        abort(uploads, &path, &id).await?;
    }
    // Its attempt may remove it at the same time.
    remove_object(store, note).await
}

async fn abort(uploads: &dyn UploadStore, path: &Path, id: &MultipartId) -> Result<()> {
    match uploads.abort_multipart(path, id).await {
        // Of an upload that is over the store knows nothing any more.
        Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
