//! What an attempt begins goes with it unless it ends well: nobody looks for it later, where the write was over before.
//!
//! On an object store every step of a beginning is a request that may have been answered when the attempt is dropped. So a task of its own
//! makes it, to its end, and removes it when it hears that nobody wants it.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use object_store::ObjectStore;
use object_store::path::Path;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::publish::remove_object;

/// Something on an object store that an attempt begins.
pub(super) trait Staged: Send + 'static {
    /// What the attempt needs to go on with it.
    type Begun: Send;

    /// Makes it. What an error leaves of it, `remove` removes.
    fn begin(&mut self) -> impl Future<Output = Result<Self::Begun>> + Send;

    /// Removes it. What is gone already is as good.
    fn remove(&self) -> impl Future<Output = Result<()>> + Send;

    /// Its place, for the log.
    fn place(&self) -> &str;
}

/// An object that is there when it was written to its end.
pub(super) struct StagedObject {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) path: Path,
}

impl Staged for StagedObject {
    type Begun = ();

    async fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    async fn remove(&self) -> Result<()> {
        remove_object(self.store.as_ref(), &self.path).await
    }

    fn place(&self) -> &str {
        self.path.as_ref()
    }
}

/// What is removed when this is dropped.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    files: Vec<PathBuf>,
    objects: Vec<Watched>,
}

/// Something on an object store, and the task that removes it.
#[derive(Debug)]
struct Watched {
    keep: oneshot::Sender<()>,
    ended: JoinHandle<()>,
}

impl Unfinished {
    /// A local file that is about to be made.
    pub(super) fn note(&mut self, file: PathBuf) {
        self.files.push(file);
    }

    /// Begins something on an object store.
    pub(super) async fn begin<S: Staged>(&mut self, staged: S) -> Result<S::Begun> {
        let (begun, is_begun) = oneshot::channel();
        let (keep, kept) = oneshot::channel();
        let ended = tokio::spawn(watch(staged, begun, kept));
        self.objects.push(Watched { keep, ended });
        is_begun.await.map_err(|_| DataFusionError::Execution("the process is ending".into()))?
    }

    /// The attempt has ended well: what it began stays.
    pub(super) fn keep(mut self) {
        self.files.clear();
        for object in std::mem::take(&mut self.objects) {
            // Nobody waits only where beginning it failed.
            let _ = object.keep.send(());
        }
    }

    /// Removes all of it, and waits until it is gone.
    pub(super) async fn discard(mut self) {
        for Watched { keep, ended } in std::mem::take(&mut self.objects) {
            drop(keep);
            if let Err(error) = ended.await {
                tracing::warn!(%error, "what an attempt began may not have been removed");
            }
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        for file in &self.files {
            // Its directory may be gone already.
            let _ = std::fs::remove_file(file);
        }
    }
}

async fn watch<S: Staged>(mut staged: S, begun: oneshot::Sender<Result<S::Begun>>, kept: oneshot::Receiver<()>) {
    let result = staged.begin().await;
    let is_begun = result.is_ok();
    let is_kept = begun.send(result).is_ok() && is_begun && kept.await.is_ok();
    if !is_kept && let Err(error) = staged.remove().await {
        tracing::warn!(place = staged.place(), %error, "what an attempt began was not removed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_go_unless_they_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        for (name, keeps) in [("kept", true), ("dropped", false)] {
            let path = folder.path().join(name);
            std::fs::write(&path, "x").unwrap();
            let mut unfinished = Unfinished::default();
            unfinished.note(path.clone());
            if keeps {
                unfinished.keep();
            } else {
                drop(unfinished);
            }
            assert_eq!(path.exists(), keeps, "{name}");
        }
    }
}
