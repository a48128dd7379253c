//! Nothing of an upload is left, however its attempt ends.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::PutResult;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use parking_lot::Mutex as Lock;
use tokio::sync::Semaphore;

use super::*;
use crate::write::unfinished::Unfinished;

/// Knows which uploads are open, and makes them only while its gate is open.
struct Uploads {
    store: Arc<InMemory>,
    open: Lock<BTreeSet<String>>,
    asked: Semaphore,
    gate: Semaphore,
    /// Whether the answer is lost on its way.
    is_lost: AtomicBool,
}

#[async_trait]
impl MultipartStore for Uploads {
    async fn create_multipart(&self, path: &Path) -> object_store::Result<MultipartId> {
        self.asked.add_permits(1);
        let _open = self.gate.acquire().await;
        let id = self.store.create_multipart(path).await?;
        self.open.lock().insert(id.clone());
        match self.is_lost.load(Ordering::Relaxed) {
            true => Err(object_store::Error::Generic { store: "test", source: "no answer".into() }),
            false => Ok(id),
        }
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, number: usize, data: PutPayload) -> object_store::Result<PartId> {
        self.store.put_part(path, id, number, data).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> object_store::Result<PutResult> {
        self.open.lock().remove(id);
        self.store.complete_multipart(path, id, parts).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> object_store::Result<()> {
        self.open.lock().remove(id);
        self.store.abort_multipart(path, id).await
    }
}

#[async_trait]
impl UploadStore for Uploads {
    async fn unfinished(&self, _: &Path) -> Result<Vec<String>> {
        // As of a store that can't be asked, but where it matters.
        Ok(if self.is_lost.load(Ordering::Relaxed) { self.open.lock().iter().cloned().collect() } else { vec![] })
    }
}

impl Uploads {
    fn new(gate: usize) -> Arc<Self> {
        let (asked, gate) = (Semaphore::new(0), Semaphore::new(gate));
        Arc::new(Self { store: Arc::default(), open: Lock::default(), asked, gate, is_lost: AtomicBool::new(false) })
    }

    fn upload(self: &Arc<Self>) -> NotedUpload {
        NotedUpload {
            store: Arc::clone(&self.store) as _,
            uploads: Arc::clone(self) as _,
            path: Path::from("table/file.parquet"),
            note: Path::from("table/.staging/file.parquet.upload"),
            live: Path::from("table/.staging/.live"),
            is_own: true,
            creation: Creation::NotAsked,
            sending: Arc::default(),
        }
    }

    async fn put_marker(&self) {
        self.store.put(&self.marker(), PutPayload::from_static(b"x")).await.unwrap();
    }

    fn marker(&self) -> Path {
        Path::from("table/.staging/.live")
    }

    /// Objects but for the marker, and open uploads.
    async fn left(&self) -> Vec<String> {
        let objects: Vec<_> = self.store.list(None).try_collect().await.unwrap();
        let objects = objects.into_iter().map(|object| object.location).filter(|path| *path != self.marker());
        objects.map(String::from).chain(self.open.lock().iter().cloned()).collect()
    }

    async fn wait_until_nothing_is_left(&self) {
        let gone = async {
            while !self.left().await.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), gone).await.expect("nothing left");
    }
}

#[tokio::test]
async fn an_upload_is_there_until_its_attempt_ends_badly() {
    let uploads = Uploads::new(1);
    uploads.put_marker().await;
    let mut unfinished = Unfinished::default();
    unfinished.begin(uploads.upload()).await.unwrap();
    assert_eq!(uploads.left().await.len(), 2, "an upload and its note");
    drop(unfinished);
    uploads.wait_until_nothing_is_left().await;

    let mut unfinished = Unfinished::default();
    unfinished.begin(uploads.upload()).await.unwrap();
    unfinished.discard().await;
    assert_eq!(uploads.left().await, Vec::<String>::new());

    let mut unfinished = Unfinished::default();
    let Begun { id, .. } = unfinished.begin(uploads.upload()).await.unwrap();
    unfinished.keep();
    tokio::task::yield_now().await;
    assert_eq!(uploads.left().await, ["table/.staging/file.parquet.upload", id.as_str()]);
}

#[tokio::test]
async fn an_upload_of_which_the_store_did_not_tell_is_found() {
    let uploads = Uploads::new(1);
    uploads.put_marker().await;
    uploads.is_lost.store(true, Ordering::Relaxed);
    let mut unfinished = Unfinished::default();
    assert!(unfinished.begin(uploads.upload()).await.is_err());
    unfinished.discard().await;
    assert_eq!(uploads.left().await, Vec::<String>::new());

    // Of a file that other attempts write too the note is left to whoever ends the write.
    let mut unfinished = Unfinished::default();
    assert!(unfinished.begin(NotedUpload { is_own: false, ..uploads.upload() }).await.is_err());
    unfinished.discard().await;
    let note = Path::from("table/.staging/file.parquet.upload");
    assert!(uploads.left().await.contains(&note.to_string()));
    abort_noted(uploads.store.as_ref(), uploads.as_ref(), &note, &[]).await.unwrap();
    assert_eq!(uploads.left().await, Vec::<String>::new());
}

#[tokio::test]
async fn an_upload_is_aborted_when_its_last_part_was_sent() {
    let uploads = Uploads::new(1);
    uploads.put_marker().await;
    let mut unfinished = Unfinished::default();
    let begun = unfinished.begin(uploads.upload()).await.unwrap();
    let sending = begun.sending;
    drop(unfinished);
    tokio::task::yield_now().await;
    assert_eq!(uploads.left().await.len(), 2, "a part is on its way");
    drop(sending);
    uploads.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn an_attempt_that_is_dropped_while_it_asks_for_an_upload_leaves_none() {
    let uploads = Uploads::new(0);
    uploads.put_marker().await;
    let mut unfinished = Unfinished::default();
    tokio::select! {
        begun = unfinished.begin(uploads.upload()) => panic!("the gate is shut: {}", begun.is_ok()),
        asked = uploads.asked.acquire() => asked.unwrap().forget(),
    }
    drop(unfinished);
    uploads.gate.add_permits(1);
    // The request is on its way: the upload will be there.
    uploads.wait_until_nothing_is_left().await;
}

#[tokio::test]
async fn an_upload_that_begins_after_its_write_was_over_leaves_nothing() {
    let uploads = Uploads::new(0);
    uploads.put_marker().await;
    let mut unfinished = Unfinished::default();
    let late = async {
        uploads.asked.acquire().await.unwrap().forget();
        // As the end of a write does: the marker, and then the notes. This one has no id yet, so there is nothing to abort.
        uploads.store.delete(&uploads.marker()).await.unwrap();
        let note = Path::from("table/.staging/file.parquet.upload");
        abort_noted(uploads.store.as_ref(), uploads.as_ref(), &note, &[]).await.unwrap();
        uploads.gate.add_permits(1);
    };
    let (begun, ()) = tokio::join!(unfinished.begin(uploads.upload()), late);
    assert!(begun.err().unwrap().to_string().contains("the write ended before this attempt"));
    uploads.wait_until_nothing_is_left().await;
}
