//! Decided writes: their files are published, once, whatever happens meanwhile.
//!
//! The list of files is in the state store before the first of them is published, and leaves it after the last: a scheduler that
//! dies in between publishes the rest when it starts again ([`Commits::roll_forward`]). From the moment at which the list is stored the
//! write is decided: what can't be published then is tried again until it can be, and the client is told not to run the write again.
//!
//! A write is noted before it stages anything, so that what it left behind is removed after a crash.
//!
//! Of two writes that meet, one of which replaces what the other wrote, the second is decided after the first is done; where the first
//! is late, the second is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::runtime_env::RuntimeEnv;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use volley_proto::{Failure, JobId};
use volley_sql::catalog::ClusterCatalog;
use volley_sql::delta::commit as commit_delta;
use volley_sql::diagnostics::failure_of;
use volley_sql::fail_point;
use volley_sql::write::{CommitError, StagedFile, WriteMode, WriteSpec, abort, begin, commit, rows_of};

use crate::store::{StateStore, StoreError, Version, blocking};

const COMMITS: &str = "writes/";
/// Writes that began and are not over: what they staged is removed after a crash.
const BEGUN: &str = "begun/";
/// How long the first try at publishing again waits, and the last ones.
const AGAIN_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is to be published.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CommitList {
    pub(crate) spec: WriteSpec,
    pub(crate) files: Vec<StagedFile>,
}

/// A write that is decided, and not yet done with.
#[derive(Debug)]
struct Decided {
    id: JobId,
    key: String,
    version: Version,
    list: CommitList,
}

/// Where a write goes whose files are being published.
#[derive(Debug)]
struct Claim {
    url: String,
    replaces: bool,
    /// Whether it could not be published at once.
    late: bool,
}

impl Claim {
    fn new(spec: &WriteSpec) -> Self {
        Self { url: spec.url.clone(), replaces: spec.single_file() || spec.mode == WriteMode::Overwrite, late: false }
    }

    /// Whether the order of the two matters.
    fn meets(&self, other: &Self) -> bool {
        (self.replaces || other.replaces) && (is_within(&self.url, &other.url) || is_within(&other.url, &self.url))
    }
}

/// Whether `url` is `place`, a file or a directory, or below it.
fn is_within(url: &str, place: &str) -> bool {
    let place = place.trim_end_matches('/');
    url.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Why a write is not published.
#[derive(Debug)]
pub(crate) enum NotPublished {
    /// It is as if it had never been.
    Refused(Failure),
    /// It is decided, or may be, and must not be run again: what to tell the client.
    Later(String),
}

/// The commits of a scheduler.
#[derive(Debug)]
pub(crate) struct Commits {
    store: Arc<dyn StateStore>,
    runtime: Arc<RuntimeEnv>,
    catalog: Arc<ClusterCatalog>,
    stop: CancellationToken,
    /// The writes that are being published, by the key of their list.
    claims: watch::Sender<BTreeMap<String, Claim>>,
}

impl Commits {
    /// Publishes what an earlier scheduler had decided, in its order, and goes on with what can't be published now. What it had begun and
    /// not decided is removed.
    pub(crate) async fn roll_forward(
        store: Arc<dyn StateStore>,
        runtime: Arc<RuntimeEnv>,
        catalog: Arc<ClusterCatalog>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        let mut found = blocking(&store, |store| store.list(COMMITS)).await?;
        let begun = blocking(&store, |store| store.list(BEGUN)).await?;
        found.sort_by_key(|(_, found)| found.version);
        let commits = Arc::new(Self { store, runtime, catalog, stop, claims: watch::Sender::default() });
        for (key, note) in begun {
            let is_decided = found.iter().any(|(decided, _)| decided.strip_prefix(COMMITS) == key.strip_prefix(BEGUN));
            if !is_decided {
                commits.clean(key, &note.value).await?;
            }
        }
        for (key, found) in found {
            let list: CommitList =
                serde_json::from_slice(&found.value).map_err(|error| StoreError::Value { key: key.clone(), why: error.to_string() })?;
            let id = list.spec.id.parse().map_err(|_| StoreError::Value { key: key.clone(), why: "its write is not a job's".into() })?;
            let decided = Decided { id, key, version: found.version, list };
            let url = decided.list.spec.url.clone();
            commits.claims.send_modify(|claims| drop(claims.insert(decided.key.clone(), Claim::new(&decided.list.spec))));
            match commits.settle(decided).await {
                Ok(()) => tracing::info!(url, "a commit was completed after a restart"),
                Err(CommitError::Refused(failure)) => tracing::error!(url, %failure, "a commit was given up after a restart"),
                Err(CommitError::Failed(error)) => tracing::error!(url, %error, "a commit could not be completed after a restart"),
            }
        }
        Ok(commits)
    }

    /// Begins a write: makes its staging place. An error where it meets a write that is late; `false`, and nothing has begun, where there is
    /// nothing to do.
    /// The table is looked up in `own`, the catalog of a session, where it is given.
    pub(crate) async fn begin(&self, id: JobId, spec: &WriteSpec, own: Option<&ClusterCatalog>) -> Result<bool, Failure> {
        if let Some(table) = &spec.table
            && !own.unwrap_or(&self.catalog).admits(table)?
        {
            return Ok(false);
        }
        check_late(&self.claims.borrow(), &Claim::new(spec))?;
        let note = serde_json::to_vec(spec).map_err(|error| Failure::internal(error.to_string()))?;
        let key = format!("{BEGUN}{id}");
        let noted = blocking(&self.store, move |store| store.compare_and_swap(&key, None, Some(&note))).await;
        noted.map_err(|error| Failure::resources(format!("the write can't be noted down: {error}")))?;
        if let Err(error) = begin(spec, &self.runtime).await {
            self.end(id).await;
            return Err(failure_of(&error));
        }
        Ok(true)
    }

    /// Removes what a write staged: nothing of it is published.
    pub(crate) async fn abort(&self, id: JobId, spec: &WriteSpec) {
        match abort(spec, &self.runtime).await {
            Ok(()) => self.end(id).await,
            // The note stays, so that it is tried again by the next scheduler.
            Err(error) => tracing::warn!(%id, %error, "what a failed write had staged was not removed"),
        }
    }

    /// Lets go of the note that a write has begun.
    async fn end(&self, id: JobId) {
        let key = format!("{BEGUN}{id}");
        if let Err(error) = blocking(&self.store, move |store| remove(store, &key)).await {
            tracing::warn!(%id, %error, "the note of a write that is over was not removed");
        }
    }

    /// Removes what a write had staged that an earlier scheduler did not decide.
    async fn clean(&self, key: String, note: &[u8]) -> Result<(), StoreError> {
        let spec: WriteSpec =
            serde_json::from_slice(note).map_err(|error| StoreError::Value { key: key.clone(), why: error.to_string() })?;
        match abort(&spec, &self.runtime).await {
            Ok(()) => tracing::info!(url = spec.url, "what a write had staged before a restart was removed"),
            Err(error) => {
                tracing::error!(url = spec.url, %error, "what a write had staged before a restart could not be removed");
                return Ok(());
            }
        }
        blocking(&self.store, move |store| remove(store, &key)).await
    }

    /// Waits for the writes that this one meets, and claims its place.
    async fn claim(&self, key: &str, spec: &WriteSpec) -> Result<(), Failure> {
        let mut changes = self.claims.subscribe();
        loop {
            let mut claimed = Ok(false);
            self.claims.send_if_modified(|claims| {
                let claim = Claim::new(spec);
                claimed = check_late(claims, &claim).map(|()| !claims.values().any(|other| claim.meets(other)));
                let is_free = matches!(claimed, Ok(true));
                if is_free {
                    claims.insert(key.to_owned(), claim);
                }
                is_free
            });
            if claimed? {
                return Ok(());
            }
            // The sender is a field of this: it is there.
            let _ = changes.changed().await;
        }
    }

    fn release(&self, key: &str) {
        self.claims.send_modify(|claims| drop(claims.remove(key)));
    }

    fn mark_late(&self, key: &str) {
        self.claims.send_modify(|claims| {
            if let Some(claim) = claims.get_mut(key) {
                claim.late = true;
            }
        });
    }

    /// Decides a write and publishes its files.
    pub(crate) async fn publish(self: &Arc<Self>, id: JobId, list: CommitList) -> Result<(), NotPublished> {
        let key = format!("{COMMITS}{id}");
        if let Err(failure) = self.claim(&key, &list.spec).await {
            return Err(self.refuse(id, &key, &list.spec, failure).await);
        }
        let value = match serde_json::to_vec(&list) {
            Ok(value) => value,
            Err(error) => return Err(self.refuse(id, &key, &list.spec, Failure::internal(error.to_string())).await),
        };
        let stored = key.clone();
        let version = match blocking(&self.store, move |store| store.compare_and_swap(&stored, None, Some(&value))).await {
            Ok(version) => version,
            Err(error) => self.version_despite(id, &key, &list.spec, error).await?,
        };
        fail_point("list-journaled");
        let settled = self.settle(Decided { id, key, version, list }).await;
        settled.map_err(|error| match error {
            CommitError::Refused(failure) => NotPublished::Refused(failure),
            CommitError::Failed(error) => NotPublished::Later(format!(
                "job {id}: the write is decided, but its files can't be published yet: {}. This is tried again until it succeeds, \
                 as long as this cluster's state is kept: do not run the statement again, that would write its rows twice",
                failure_of(&error)
            )),
        })
    }

    /// Makes the files part of a session's own table: the rows written. Nothing is decided beforehand, since the table ends with the process.
    pub(crate) async fn publish_own(
        &self,
        id: JobId,
        spec: &WriteSpec,
        files: &[StagedFile],
        own: &ClusterCatalog,
    ) -> Result<u64, Failure> {
        let table = spec.table.as_ref().ok_or_else(|| Failure::internal("the write goes to no table"))?;
        match own.commit_once(spec, table, files).await {
            Ok(()) => {
                self.end(id).await;
                Ok(rows_of(spec, files))
            }
            Err(error) => {
                self.abort(id, spec).await;
                Err(match error {
                    CommitError::Refused(failure) => failure,
                    CommitError::Failed(error) => failure_of(&error),
                })
            }
        }
    }

    /// An error of the store does not say whether the list is in it, so it is looked up: the version that it has.
    async fn version_despite(&self, id: JobId, key: &str, spec: &WriteSpec, error: StoreError) -> Result<Version, NotPublished> {
        let stored = key.to_owned();
        match blocking(&self.store, move |store| store.get(&stored)).await {
            Ok(Some(found)) => {
                tracing::warn!(%id, %error, "a commit was written down with an error");
                Ok(found.version)
            }
            Ok(None) => {
                let failure = Failure::resources(format!("the commit can't be written down: {error}"));
                Err(self.refuse(id, key, spec, failure).await)
            }
            Err(unknown) => {
                self.mark_late(key);
                Err(NotPublished::Later(format!(
                    "job {id}: whether the write is decided is not known ({error}; {unknown}): look whether its rows are at '{}' after \
                     the scheduler's state can be read again and it was started anew, before you run the statement again",
                    spec.url
                )))
            }
        }
    }

    async fn refuse(&self, id: JobId, key: &str, spec: &WriteSpec, failure: Failure) -> NotPublished {
        self.abort(id, spec).await;
        self.release(key);
        NotPublished::Refused(failure)
    }

    /// Puts the files where they belong.
    async fn put_in_place(&self, list: &CommitList) -> Result<(), CommitError> {
        let CommitList { spec, files } = list;
        match (&spec.table, &spec.delta) {
            (Some(table), _) => self.catalog.commit(spec, table, files).await,
            (None, Some(delta)) => commit_delta(spec, delta, files, &self.runtime).await,
            (None, None) => commit(spec, files, &self.runtime).await.map(drop).map_err(CommitError::Failed),
        }
    }

    /// Publishes a decided write now, or else in the background, as often as it takes.
    async fn settle(self: &Arc<Self>, decided: Decided) -> Result<(), CommitError> {
        let published = self.put_in_place(&decided.list).await;
        let is_over = match &published {
            Ok(()) => true,
            Err(CommitError::Refused(_)) => {
                self.abort(decided.id, &decided.list.spec).await;
                true
            }
            Err(CommitError::Failed(_)) => false,
        };
        fail_point("cleaned");
        // Publishing an overwrite once more would remove what was written since: the list has to go first.
        if is_over && self.forget(&decided).await {
            return published;
        }
        self.mark_late(&decided.key);
        let (this, stop) = (Arc::clone(self), self.stop.clone());
        drop(tokio::spawn(async move { stop.run_until_cancelled(this.settle_later(decided, is_over)).await }));
        published
    }

    async fn settle_later(&self, decided: Decided, mut is_over: bool) {
        let (first, longest) = AGAIN_AFTER;
        let url = &decided.list.spec.url;
        let mut pause = first;
        loop {
            tokio::time::sleep(pause).await;
            if !is_over {
                match self.put_in_place(&decided.list).await {
                    Ok(()) => is_over = true,
                    Err(CommitError::Refused(failure)) => {
                        tracing::error!(key = decided.key, url, %failure, "a commit was given up");
                        self.abort(decided.id, &decided.list.spec).await;
                        is_over = true;
                    }
                    Err(CommitError::Failed(error)) => tracing::error!(key = decided.key, url, %error, "a commit can't be completed yet"),
                }
            }
            if is_over && self.forget(&decided).await {
                return tracing::info!(key = decided.key, url, "a commit was completed late");
            }
            pause = (pause * 2).min(longest);
        }
    }

    /// Lets go of the list of a write that is published; false where it is still there.
    async fn forget(&self, decided: &Decided) -> bool {
        let (key, version) = (decided.key.clone(), decided.version);
        if let Err(error) = blocking(&self.store, move |store| store.compare_and_swap(&key, Some(version), None)).await {
            let key = decided.key.clone();
            // As above: an error may come after the deed.
            if !matches!(blocking(&self.store, move |store| store.get(&key)).await, Ok(None)) {
                tracing::warn!(key = decided.key, %error, "the list of a finished commit was not removed");
                return false;
            }
        }
        self.end(decided.id).await;
        self.release(&decided.key);
        true
    }
}

/// Takes a key away, if it is there.
fn remove(store: &dyn StateStore, key: &str) -> Result<(), StoreError> {
    match store.get(key)? {
        Some(found) => store.compare_and_swap(key, Some(found.version), None).map(drop),
        None => Ok(()),
    }
}

fn check_late(claims: &BTreeMap<String, Claim>, claim: &Claim) -> Result<(), Failure> {
    match claims.values().find(|other| other.late && claim.meets(other)) {
        Some(other) => Err(Failure::query(format!(
            "an earlier write to '{}' is decided but not published yet, and one of the two would replace the other: wait until its files \
             are there",
            other.url
        ))),
        None => Ok(()),
    }
}
