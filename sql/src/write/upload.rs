//! Files on object stores: multipart uploads that are completed when the write is committed, so that no reader sees a file before.
//!
//! ```text
//! executor:   note "<staging>/<name>.upload" ─> upload ─> the note with the upload's id ─> parts ─> StagedFile with the ids of its parts
//! scheduler:  commit: complete the uploads of committed attempts, abort those of other notes
//! ```
//!
//! The note comes first, so that an upload whose attempt was killed is found and aborted. It gets the id as soon as there is one, because not
//! every store can be asked for the unfinished uploads of a path; of one that can't, an attempt that is killed between the two leaves an upload
//! without parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use object_store::multipart::PartId;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio_util::task::AbortOnDropHandle;

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

/// A file that is being uploaded.
pub(super) struct Upload {
    sending: AbortOnDropHandle<Result<(StagedUpload, u64)>>,
    buffered: Arc<AtomicUsize>,
}

impl Upload {
    /// Begins an upload to `path`, with a note at `note`; what is written to the other end of the pipe becomes the file.
    pub(super) async fn begin(
        store: &Arc<dyn ObjectStore>,
        uploads: &Arc<dyn UploadStore>,
        path: Path,
        note: Path,
    ) -> Result<(Self, DuplexStream)> {
        put_note(store, &note, Note { path: path.to_string(), id: None }).await?;
        let id = uploads.create_multipart(&path).await?;
        if let Err(error) = put_note(store, &note, Note { path: path.to_string(), id: Some(id.clone()) }).await {
            // Without its id not every store would find it again.
            let _ = uploads.abort_multipart(&path, &id).await;
            return Err(error);
        }
        let (writer, reader) = tokio::io::duplex(PIPE_BYTES);
        let buffered = Arc::new(AtomicUsize::new(0));
        let sending = tokio::spawn(send(Arc::clone(uploads), path, id, reader, Arc::clone(&buffered)));
        Ok((Self { sending: AbortOnDropHandle::new(sending), buffered }, writer))
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

async fn put_note(store: &Arc<dyn ObjectStore>, at: &Path, note: Note) -> Result<()> {
    let text = serde_json::to_vec(&note).map_err(|error| DataFusionError::External(Box::new(error)))?;
    store.put(at, PutPayload::from(text)).await?;
    Ok(())
}

/// Sends what comes out of the pipe, part by part.
async fn send(
    uploads: Arc<dyn UploadStore>,
    path: Path,
    id: String,
    mut pipe: DuplexStream,
    buffered: Arc<AtomicUsize>,
) -> Result<(StagedUpload, u64)> {
    let (mut parts, mut total) = (vec![], 0);
    loop {
        let mut part = Vec::new();
        while part.len() < PART_BYTES {
            let missing = (PART_BYTES - part.len()) as u64;
            let read = (&mut pipe).take(missing.min(PIPE_BYTES as u64)).read_to_end(&mut part).await?;
            buffered.store(part.capacity(), Ordering::Relaxed);
            if read == 0 {
                break;
            }
        }
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
        match uploads.abort_multipart(&path, &id).await {
            // Of an upload that is over the store knows nothing any more.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    store.delete(note).await.map_err(DataFusionError::from)
}
