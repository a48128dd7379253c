//! Begin, commit and abort of a write, by the scheduler.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::{Path as LocalPath, PathBuf};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use tokio::fs;

use super::destination::{Destination, LocalPlaces};
use super::spec::{StagedFile, WriteMode, WriteSpec};

/// A file in the staging place that says that the write is still on.
pub(super) const LIVE_MARKER: &str = ".live";

/// A file in the staging place that lists the directories that were made for it, outermost last: an aborted write removes them again.
const MADE_DIRECTORIES: &str = ".made";

/// Where the files of a directory that does not exist yet are gathered before it appears.
const PUBLISH_DIRECTORY: &str = "publish";

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
    }
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
        None => {
            for file in files {
                publish_remote(&destination, file).await?;
            }
        }
    }
    if spec.mode == WriteMode::Overwrite && !spec.single_file() {
        remove_others(spec, files, &destination).await?;
    }
    remove_staging(&destination).await?;
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
    remove_staging(&destination).await?;
    let made: Vec<_> = made.lines().map(PathBuf::from).collect();
    remove_empty(&made).await;
    Ok(())
}

async fn publish_local(spec: &WriteSpec, files: &[StagedFile], local: &LocalPlaces) -> Result<()> {
    let beside = local.staging.parent() != Some(local.directory.as_path());
    if !spec.single_file() && beside && !fs::try_exists(&local.directory).await? {
        return publish_directory(files, local).await;
    }
    for file in files {
        move_file(&local.staging.join(&file.staged), &local.directory.join(&file.path)).await?;
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

async fn publish_remote(destination: &Destination, file: &StagedFile) -> Result<()> {
    let (from, to) = (destination.staged(&file.staged), destination.published(&file.path));
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

async fn remove_staging(destination: &Destination) -> Result<()> {
    if let Some(local) = &destination.local {
        // The marker first: a late attempt that still writes then knows.
        let _ = fs::remove_file(local.staging.join(LIVE_MARKER)).await;
        return match fs::remove_dir_all(&local.staging).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        };
    }
    let staged: Vec<_> = destination.store.list(Some(&destination.staging)).try_collect().await?;
    for object in staged {
        match destination.store.delete(&object.location).await {
            Err(error) if !matches!(error, object_store::Error::NotFound { .. }) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}
