//! The log of a table, and its newest version.

use std::sync::Arc;

use datafusion::datasource::listing::ListingTableUrl;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::runtime_env::RuntimeEnv;
use deltalake_core::DeltaTable;
use deltalake_core::kernel::Version;
use deltalake_core::logstore::{LogStoreRef, StorageConfig, default_logstore};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use tokio::sync::Mutex;
use url::Url;

use super::delta_error;
use super::provider::{DeltaProvider, EntryState};

/// A table's place and its log.
#[derive(Debug)]
pub(crate) struct DeltaLog {
    url: ListingTableUrl,
    store: LogStoreRef,
    /// The version that is read; `None` for the newest.
    version: Option<Version>,
    /// What was read last.
    last: Mutex<Option<Arc<DeltaProvider>>>,
}

impl DeltaLog {
    /// The log at the directory `url`, which may have none yet.
    pub(crate) fn new(url: &str, version: Option<Version>, runtime: &RuntimeEnv) -> Result<Arc<Self>> {
        let url = ListingTableUrl::parse(delta_url(url))?;
        let root = runtime.object_store(&url)?;
        let location = Url::parse(url.as_str()).map_err(|error| DataFusionError::External(Box::new(error)))?;
        let table = Arc::new(PrefixStore::new(Arc::clone(&root), url.prefix().clone()));
        let store = default_logstore(table, root, &location, &StorageConfig::default());
        Ok(Arc::new(Self { url, store, version, last: Mutex::default() }))
    }

    /// URL of the table's directory, ending in `/`.
    pub(crate) fn url(&self) -> &ListingTableUrl {
        &self.url
    }

    /// Whether it is always read at the same version.
    pub(crate) fn is_fixed(&self) -> bool {
        self.version.is_some()
    }

    /// The library's access to the log.
    pub(super) fn store(&self) -> &LogStoreRef {
        &self.store
    }

    /// Whether there is a table.
    pub(crate) async fn exists(&self) -> Result<bool> {
        DeltaTable::new(Arc::clone(&self.store)).verify_deltatable_existence().await.map_err(delta_error)
    }

    /// Reads a version of the table, or the newest.
    pub(super) async fn load(&self, version: Option<Version>) -> Result<DeltaTable> {
        let mut table = DeltaTable::new(Arc::clone(&self.store));
        if !table.verify_deltatable_existence().await.map_err(delta_error)? {
            return Err(DataFusionError::Plan(format!("no Delta Lake table at '{}': it has no _delta_log", self.url)));
        }
        match version {
            Some(version) => table.load_version(version).await.map_err(|error| {
                let why = delta_error(error);
                DataFusionError::Plan(format!("the Delta Lake table at '{}' can't be read at version {version}: {why}", self.url))
            })?,
            None => table.load().await.map_err(delta_error)?,
        }
        Ok(table)
    }

    /// The newest version, read on from one that is known; `None` where the log has to be read anew: it is another than it was.
    async fn newer(self: &Arc<Self>, known: &Arc<DeltaProvider>) -> Result<Option<Arc<DeltaProvider>>> {
        let state = self.entry_state(known.table()).await?;
        if state.is_none() || state != known.entry() {
            return Ok(None);
        }
        let mut table = known.table().clone();
        if table.update_state().await.is_err() {
            return Ok(None);
        }
        if table.version() == known.version() {
            return Ok(Some(Arc::clone(known)));
        }
        let entry = self.entry_state(&table).await?;
        Ok(Some(Arc::new(DeltaProvider::new(Arc::clone(self), table, entry)?)))
    }

    /// The state of the log's entry of a table's version; `None` where it is not there any more, because a checkpoint replaced it.
    async fn entry_state(&self, table: &DeltaTable) -> Result<Option<EntryState>> {
        let Some(version) = table.version() else {
            return Ok(None);
        };
        match self.store.object_store(None).head(&Path::from(format!("_delta_log/{version:020}.json"))).await {
            Ok(entry) => Ok(Some((entry.last_modified, entry.size))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The table as a statement that begins now sees it. Only what is new in the log is read.
    pub(crate) async fn current(self: &Arc<Self>) -> Result<Arc<DeltaProvider>> {
        let mut last = self.last.lock().await;
        if let Some(known) = last.as_ref() {
            if self.version.is_some() {
                return Ok(Arc::clone(known));
            }
            if let Some(newer) = self.newer(known).await? {
                *last = Some(Arc::clone(&newer));
                return Ok(newer);
            }
        }
        let table = self.load(self.version).await?;
        let entry = self.entry_state(&table).await?;
        let provider = DeltaProvider::new(Arc::clone(self), table, entry)?;
        let provider = Arc::new(provider);
        *last = Some(Arc::clone(&provider));
        Ok(provider)
    }
}

/// The URL of a table's directory ends in `/`.
pub(crate) fn delta_url(location: &str) -> String {
    format!("{}/", location.trim_end_matches('/'))
}
