//! Files of managed tables that no new statement reads: removed when every job is over that may read them.
//!
//! What is discarded is noted in the state store first, so that nothing is forgotten by a restart. A job that was submitted before may read it,
//! and so may a statement that was being planned: both are waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::execution::runtime_env::RuntimeEnv;
use tokio_util::sync::CancellationToken;
use volley_proto::JobId;
use volley_sql::catalog::{ClusterCatalog, Discarded};
use volley_sql::write::remove_files;

use crate::jobs::JobBook;
use crate::sessions::Sessions;
use crate::store::{JobIds, StateStore, StoreError, StoredTables, blocking};

/// How often it is looked for what can be removed.
const EVERY: Duration = Duration::from_secs(10);

/// The collector of one scheduler.
#[derive(Debug)]
pub(crate) struct Garbage {
    pub(crate) store: Arc<dyn StateStore>,
    pub(crate) catalog: Arc<ClusterCatalog>,
    pub(crate) runtime: Arc<RuntimeEnv>,
    pub(crate) jobs: Arc<JobBook>,
    pub(crate) job_ids: Arc<JobIds>,
    pub(crate) sessions: Arc<Sessions>,
    /// How long a statement may be planned before it is a job.
    pub(crate) planning: Duration,
}

/// Since when something is known to be discarded, and which jobs may read it: those below the id.
#[derive(Debug, Clone, Copy)]
struct Known {
    since: Instant,
    below: Option<JobId>,
}

impl Garbage {
    /// Collects until told to stop.
    pub(crate) async fn collect(self, stop: CancellationToken) {
        let mut known = BTreeMap::new();
        while stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_some() {
            if let Err(error) = self.sweep(&mut known).await {
                tracing::warn!(%error, "files that nobody reads any more were not removed");
            }
        }
    }

    async fn sweep(&self, known: &mut BTreeMap<String, Known>) -> Result<(), StoreError> {
        let found = blocking(&self.store, |store| store.list(StoredTables::DISCARDED)).await?;
        known.retain(|key, _| found.iter().any(|(found, _)| found == key));
        for (key, note) in found {
            let seen = *known.entry(key.clone()).or_insert(Known { since: Instant::now(), below: None });
            if !self.is_free(known, &key, seen) {
                continue;
            }
            let discarded: Discarded =
                serde_json::from_slice(&note.value).map_err(|error| StoreError::Value { key: key.clone(), why: error.to_string() })?;
            let (location, is_whole) = (&discarded.location, discarded.files.is_empty());
            if is_whole && (self.catalog.has_location(location) || self.sessions.has_location(location)) {
                continue;
            }
            if let Err(error) = remove_files(location, &discarded.files, &self.runtime).await {
                tracing::warn!(location, %error, "files that nobody reads any more were not removed");
                continue;
            }
            blocking(&self.store, move |store| store.compare_and_swap(&key, Some(note.version), None)).await?;
        }
        Ok(())
    }

    /// Whether nobody can read it any more. When all are jobs that were statements at the time, those below the next id are waited for.
    fn is_free(&self, known: &mut BTreeMap<String, Known>, key: &str, seen: Known) -> bool {
        if seen.since.elapsed() < self.planning {
            return false;
        }
        let Some(below) = seen.below else {
            known.insert(key.to_owned(), Known { below: Some(self.job_ids.bound()), ..seen });
            return false;
        };
        self.jobs.oldest_at_work().is_none_or(|oldest| oldest >= below)
    }
}
