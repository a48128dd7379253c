//! The places of a write: where its files are staged and where they go.

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use object_store::ObjectStore;
use object_store::path::{Path, PathPart};
use url::Url;

use super::spec::WriteSpec;
use super::staged::StagedFile;
use super::upload::NOTE;
use crate::stores::{UploadStore, upload_store};

/// What names of staging places begin with; a leading dot hides them from most tools.
const STAGING_PREFIX: &str = ".volley-staging-";

/// The staging place of a write to `url`: in the directory that is written to, or beside it where it does not exist yet, so that it
/// can appear whole. Both are on the same file system, so publishing is a rename.
pub fn staging_url(url: &str, id: &str) -> String {
    let directory = url.trim_end_matches('/');
    let exists = url.ends_with('/') && local_path(url).is_none_or(|path| path.is_dir());
    let within = match directory.rsplit_once('/') {
        Some((parent, _)) if !exists && !parent.ends_with("//") => parent,
        _ => directory,
    };
    format!("{within}/{STAGING_PREFIX}{id}/")
}

/// The path of a `file:` URL.
pub(super) fn local_path(url: &str) -> Option<PathBuf> {
    let url = Url::parse(url).ok()?;
    if url.scheme() == "file" { url.to_file_path().ok() } else { None }
}

/// A write's places, opened.
pub(super) struct Destination {
    /// The store that both are in.
    pub(super) store: Arc<dyn ObjectStore>,
    /// Where files are staged.
    pub(super) staging: Path,
    /// The directory that files go to.
    pub(super) directory: Path,
    /// Both on the local file system, where they are there.
    pub(super) local: Option<LocalPlaces>,
    /// The same store, where it takes uploads that are completed later.
    pub(super) uploads: Option<Arc<dyn UploadStore>>,
    /// Whether files stay in the staging place, where a table names them.
    stays: bool,
}

/// A write's places as local directories.
pub(super) struct LocalPlaces {
    pub(super) staging: PathBuf,
    pub(super) directory: PathBuf,
}

impl Destination {
    pub(super) fn open(spec: &WriteSpec, runtime: &RuntimeEnv) -> Result<Self> {
        let staging = ListingTableUrl::parse(&spec.staging)?;
        let directory_url = directory_url(&spec.url)?;
        let directory = ListingTableUrl::parse(&directory_url)?;
        let local = match (local_path(&spec.staging), local_path(&directory_url)) {
            (Some(staging), Some(directory)) => Some(LocalPlaces { staging, directory }),
            _ => None,
        };
        let store = runtime.object_store(&directory)?;
        let uploads = upload_store(directory.object_store().as_ref())?;
        let (staging, directory) = (staging.prefix().clone(), directory.prefix().clone());
        Ok(Self { store, staging, directory, local, uploads, stays: spec.table.is_some() })
    }

    /// Where a file ends up.
    pub(super) fn place(&self, file: &StagedFile) -> Path {
        if self.stays { self.staged(&file.staged) } else { self.published(&file.path) }
    }

    /// The note of a file's upload.
    pub(super) fn note(&self, file: &StagedFile) -> Path {
        self.staged(&format!("{}{NOTE}", file.staged))
    }

    /// Where a staged file is in the store.
    pub(super) fn staged(&self, name: &str) -> Path {
        joined(&self.staging, name)
    }

    /// Where a published file is in the store.
    pub(super) fn published(&self, path: &str) -> Path {
        joined(&self.directory, path)
    }
}

/// The directory of a target: itself, or that of a single file.
fn directory_url(url: &str) -> Result<String> {
    if url.ends_with('/') {
        return Ok(url.to_owned());
    }
    match url.rsplit_once('/') {
        Some((parent, _)) => Ok(format!("{parent}/")),
        None => Err(DataFusionError::Plan(format!("'{url}' is not a URL that can be written to"))),
    }
}

/// A part of a path whose escapes were made before.
fn as_it_is(part: &str) -> PathPart<'_> {
    PathPart::parse(part).unwrap_or_else(|_| PathPart::from(part))
}

/// A path below another.
pub(super) fn joined(base: &Path, relative: &str) -> Path {
    let mut path = base.clone();
    for part in relative.split('/').filter(|part| !part.is_empty()) {
        path = Path::from_iter(path.parts().chain(std::iter::once(as_it_is(part))));
    }
    path
}
