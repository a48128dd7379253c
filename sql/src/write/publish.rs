//! Begin, commit and abort of a write, by the scheduler.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path as LocalPath, PathBuf};

use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tokio::fs;

use super::destination::{Destination, LocalPlaces, joined, local_path};
use super::spec::{WriteMode, WriteSpec};
use super::staged::StagedFile;
use super::upload::{NOTE, abort_noted, complete};
use crate::fail_point;

/// A file in the staging place that says that the write is still on.
pub(super) const LIVE_MARKER: &str = ".live";

/// A file in the staging place that lists the directories that were made for it, outermost last: an aborted write removes them again.
const MADE_DIRECTORIES: &str = ".made";

/// Where the files of a directory that does not exist yet are gathered before it appears.
const PUBLISH_DIRECTORY: &str = "publish";

/// Objects that are published at a time.
const PUBLISHED_AT_ONCE: usize = 16;

/// How often it is tried to remove a directory in which somebody else makes files.
const REMOVALS: usize = 10;

/// What a commit published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Committed {
    /// Files.
    pub files: u64,
    /// Rows in them.
    pub rows: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Makes the staging place. Before any task of the write runs; again after a restart does no harm.
pub async fn begin(spec: &WriteSpec, runtime: &RuntimeEnv) -> Result<()> {
    let destination = Destination::open(spec, runtime)?;
    if let Some(local) = &destination.local {
        let place = &local.staging;
        let missing: Vec<_> = place.ancestors().skip(1).take_while(|ancestor| !ancestor.exists()).map(LocalPath::to_owned).collect();
        let made = async {
            fs::create_dir_all(place).await?;
            if !missing.is_empty() {
                let list: Vec<_> = missing.iter().map(|directory| directory.to_string_lossy()).collect();
                fs::write(place.join(MADE_DIRECTORIES), list.join("\n")).await?;
            }
            fs::write(place.join(LIVE_MARKER), spec.id.as_bytes()).await
        };
        if let Err(error) = made.await {
            // What went wrong is said below; whatever it was, there is nothing in these directories that anybody needs.
            let _ = fs::remove_dir_all(place).await;
            remove_empty(&missing).await;
            return Err(DataFusionError::Execution(format!("can't write to '{}': {error}", spec.url)));
        }
        return Ok(());
    }
    destination.store.put(&destination.staged(LIVE_MARKER), PutPayload::from(spec.id.clone().into_bytes())).await?;
    Ok(())
}

/// Removes directories, innermost first, as far as they are empty.
async fn remove_empty(directories: &[PathBuf]) {
    for directory in directories {
        if fs::remove_dir(directory).await.is_err() {
            break;
        }
    }
}

/// Publishes the files of committed attempts, one attempt for each task, and removes everything else that was staged.
///
/// The list must be durable before the first call. A second call with the same list, after a crash in mid commit or after its end, ends
/// in the same state.
pub async fn commit(spec: &WriteSpec, files: &[StagedFile], runtime: &RuntimeEnv) -> Result<Committed> {
    let destination = Destination::open(spec, runtime)?;
    if spec.single_file() && files.len() > 1 {
        let count = files.len();
        return Err(DataFusionError::Internal(format!("write {} staged {count} files for the one file '{}'", spec.id, spec.url)));
    }
    match &destination.local {
        Some(local) => publish_local(spec, files, local).await?,
        None => publish_remote(files, &destination).await?,
    }
    fail_point("all-published");
    if spec.mode == WriteMode::Overwrite && !spec.single_file() {
        remove_others(spec, files, &destination).await?;
    }
    remove_staging(&destination, files).await?;
    Ok(Committed {
        files: files.len() as u64,
        rows: files.iter().map(|file| file.rows).sum(),
        bytes: files.iter().map(|file| file.bytes).sum(),
    })
}

/// Removes everything that was staged; nothing was published. May be called again.
pub async fn abort(spec: &WriteSpec, runtime: &RuntimeEnv) -> Result<()> {
    let destination = Destination::open(spec, runtime)?;
    let made = match &destination.local {
        // Nothing to read means that nothing was made.
        Some(local) => fs::read_to_string(local.staging.join(MADE_DIRECTORIES)).await.unwrap_or_default(),
        None => String::new(),
    };
    remove_staging(&destination, &[]).await?;
    let made: Vec<_> = made.lines().map(PathBuf::from).collect();
    remove_empty(&made).await;
    Ok(())
}

/// Leaves the files of committed attempts in the staging place, and removes everything else from it: their table names them there. May be
/// called again.
pub(crate) async fn keep(spec: &WriteSpec, files: &[StagedFile], runtime: &RuntimeEnv) -> Result<()> {
    let destination = Destination::open(spec, runtime)?;
    if files.is_empty() {
        return remove_staging(&destination, &[]).await;
    }
    if let Some(local) = &destination.local {
        // The marker first: a late attempt that still writes then knows.
        for name in [LIVE_MARKER, MADE_DIRECTORIES] {
            match fs::remove_file(local.staging.join(name)).await {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
    }
    remove_staged(&destination, files, true).await
}

/// Completes the files of committed attempts, which stay in the staging place: uploads end, and the disk has the names of local ones. Before
/// a table names them; may be called again.
pub(crate) async fn complete_files(spec: &WriteSpec, files: &[StagedFile], runtime: &RuntimeEnv) -> Result<()> {
    let destination = Destination::open(spec, runtime)?;
    match &destination.local {
        Some(local) if !files.is_empty() => Ok(fs::File::open(&local.staging).await?.sync_all().await?),
        Some(_) => Ok(()),
        None => publish_remote(files, &destination).await,
    }
}

/// Aborts uploads and removes objects of the staging place, except for those of `files` where they are kept.
async fn remove_staged(destination: &Destination, files: &[StagedFile], is_kept: bool) -> Result<()> {
    let store = destination.store.as_ref();
    let kept: HashSet<_> = files.iter().filter(|_| is_kept).map(|file| destination.staged(&file.staged)).collect();
    let completed: Vec<_> = files.iter().filter_map(|file| file.upload.as_ref()).collect();
    // The marker before the list: what a late attempt begins after the list, it begins after the marker is gone, and then it knows.
    remove_object(store, &destination.staged(LIVE_MARKER)).await?;
    let staged: Vec<_> = store.list(Some(&destination.staging)).try_collect().await?;
    for object in staged.into_iter().filter(|object| !kept.contains(&object.location)) {
        match &destination.uploads {
            Some(uploads) if object.location.as_ref().ends_with(NOTE) => {
                abort_noted(store, uploads.as_ref(), &object.location, &completed).await?;
            }
            _ => remove_object(store, &object.location).await?,
        }
    }
    Ok(())
}

/// Removes files of the directory at `location`, or all of it where none are named. What is gone already is as good.
pub async fn remove_files(location: &str, files: &[String], runtime: &RuntimeEnv) -> Result<()> {
    let url = ListingTableUrl::parse(location)?;
    let store = runtime.object_store(&url)?;
    if files.is_empty() {
        if let Some(path) = local_path(location) {
            return match fs::remove_dir_all(path).await {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            };
        }
        let present: Vec<_> = store.list(Some(url.prefix())).try_collect().await?;
        for object in present {
            remove_object(store.as_ref(), &object.location).await?;
        }
        return Ok(());
    }
    for file in files {
        remove_object(store.as_ref(), &joined(url.prefix(), file)).await?;
        if let Some(parent) = local_path(location).and_then(|path| Some(path.join(file).parent()?.to_owned())) {
            // Stays as long as another file is in it.
            let _ = fs::remove_dir(parent).await;
        }
    }
    Ok(())
}

/// Fails where the marker at `live` is gone: the write was committed or aborted meanwhile.
pub(super) async fn require_live(store: &dyn ObjectStore, live: &Path) -> Result<()> {
    match store.head(live).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::NotFound { .. }) => {
            Err(DataFusionError::Execution("the write ended before this attempt of a task did".into()))
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn remove_object(store: &dyn ObjectStore, location: &Path) -> Result<()> {
    match store.delete(location).await {
        Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => Err(error.into()),
        _ => Ok(()),
    }
}

async fn publish_local(spec: &WriteSpec, files: &[StagedFile], local: &LocalPlaces) -> Result<()> {
    let beside = local.staging.parent() != Some(local.directory.as_path());
    if !spec.single_file() && beside && !fs::try_exists(&local.directory).await? {
        return publish_directory(files, local).await;
    }
    for file in files {
        move_file(&local.staging.join(&file.staged), &local.directory.join(&file.path)).await?;
        fail_point("one-published");
    }
    // A directory that a crashed commit gathered and did not rename, because somebody made the directory meanwhile.
    let gathered = local.staging.join(PUBLISH_DIRECTORY);
    for file in files {
        let from = gathered.join(&file.path);
        if fs::try_exists(&from).await? {
            move_file(&from, &local.directory.join(&file.path)).await?;
        }
    }
    Ok(())
}

/// Lets a new directory appear with all its files at once.
async fn publish_directory(files: &[StagedFile], local: &LocalPlaces) -> Result<()> {
    let gathered = local.staging.join(PUBLISH_DIRECTORY);
    fs::create_dir_all(&gathered).await?;
    for file in files {
        move_file(&local.staging.join(&file.staged), &gathered.join(&file.path)).await?;
        fail_point("one-published");
    }
    match fs::rename(&gathered, &local.directory).await {
        Ok(()) => Ok(()),
        // Somebody made it meanwhile: then file by file.
        Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
            for file in files {
                move_file(&gathered.join(&file.path), &local.directory.join(&file.path)).await?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Renames a file; one that is at its end already was moved by an earlier call.
async fn move_file(from: &LocalPath, to: &LocalPath) -> Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent).await?;
    }
    match fs::rename(from, to).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(DataFusionError::Execution(format!("can't publish '{}': {error}", to.display()))),
    }
}

async fn publish_remote(files: &[StagedFile], destination: &Destination) -> Result<()> {
    futures::stream::iter(files.iter().map(Ok)).try_for_each_concurrent(PUBLISHED_AT_ONCE, |file| publish_object(destination, file)).await
}

async fn publish_object(destination: &Destination, file: &StagedFile) -> Result<()> {
    let (from, to) = (destination.staged(&file.staged), destination.place(file));
    if let (Some(uploads), Some(upload)) = (&destination.uploads, &file.upload) {
        complete(destination.store.as_ref(), uploads.as_ref(), &to, upload, file.bytes).await?;
        fail_point("one-published");
        return Ok(());
    }
    if from == to {
        return Ok(());
    }
    match destination.store.rename(&from, &to).await {
        Ok(()) => Ok(()),
        Err(object_store::Error::NotFound { .. }) => {
            destination.store.head(&to).await?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Removes the files that an overwrite replaces.
async fn remove_others(spec: &WriteSpec, files: &[StagedFile], destination: &Destination) -> Result<()> {
    let kept: HashSet<_> = files.iter().map(|file| destination.published(&file.path)).collect();
    let extension = format!(".{}", spec.extension());
    let present: Vec<_> = destination.store.list(Some(&destination.directory)).try_collect().await?;
    for object in present {
        let hidden = object.location.prefix_matches(&destination.staging);
        if !hidden && !kept.contains(&object.location) && object.location.as_ref().ends_with(&extension) {
            destination.store.delete(&object.location).await?;
        }
    }
    Ok(())
}

/// Removes a directory, also where an attempt that has not heard yet that it does not count makes a file in it meanwhile.
async fn remove_directory(path: &LocalPath) -> Result<()> {
    for _ in 0..REMOVALS {
        match fs::remove_dir_all(path).await {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => return Ok(()),
        }
    }
    Ok(fs::remove_dir_all(path).await?)
}

async fn remove_staging(destination: &Destination, files: &[StagedFile]) -> Result<()> {
    if let Some(local) = &destination.local {
        // The marker first: a late attempt that still writes then knows.
        let _ = fs::remove_file(local.staging.join(LIVE_MARKER)).await;
        return remove_directory(&local.staging).await;
    }
    remove_staged(destination, files, false).await
}
