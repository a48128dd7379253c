//! Decided writes: their files are published, once, whatever happens meanwhile.
//!
//! The list of files is in the state store before the first of them is published, and leaves it after the last: a scheduler that
//! dies in between publishes the rest when it starts again ([`Commits::roll_forward`]). From the moment at which the list is stored the
//! write is decided: what can't be published then is tried again until it can be, and the client is told not to run the write again.
//!
//! Of two writes that meet, one of which replaces what the other wrote, the second is decided after the first is done; where the first
//! is late, the second is refused.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use datafusion::error::DataFusionError;
use datafusion::execution::runtime_env::RuntimeEnv;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use volley_proto::{Failure, JobId};
use volley_sql::diagnostics::failure_of;
use volley_sql::write::{StagedFile, WriteMode, WriteSpec, abort, commit};

use crate::store::{StateStore, StoreError, Version, blocking};

const COMMITS: &str = "writes/";
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
    stop: CancellationToken,
    /// The writes that are being published, by the key of their list.
    claims: watch::Sender<BTreeMap<String, Claim>>,
}

impl Commits {
    /// Publishes what an earlier scheduler had decided, in its order, and goes on with what can't be published now.
    pub(crate) async fn roll_forward(
        store: Arc<dyn StateStore>,
        runtime: Arc<RuntimeEnv>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, StoreError> {
        let mut found = blocking(&store, |store| store.list(COMMITS)).await?;
        found.sort_by_key(|(_, found)| found.version);
        let commits = Arc::new(Self { store, runtime, stop, claims: watch::Sender::default() });
        for (key, found) in found {
            let list: CommitList =
                serde_json::from_slice(&found.value).map_err(|error| StoreError::Value { key: key.clone(), why: error.to_string() })?;
            let decided = Decided { key, version: found.version, list };
            let url = decided.list.spec.url.clone();
            commits.claims.send_modify(|claims| drop(claims.insert(decided.key.clone(), Claim::new(&decided.list.spec))));
            match commits.settle(decided).await {
                Ok(()) => tracing::info!(url, "a commit was completed after a restart"),
                Err(error) => tracing::error!(url, %error, "a commit could not be completed after a restart"),
            }
        }
        Ok(commits)
    }

    /// Refuses a write that meets one that is late.
    pub(crate) fn check(&self, spec: &WriteSpec) -> Result<(), Failure> {
        check_late(&self.claims.borrow(), &Claim::new(spec))
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
        self.settle(Decided { key, version, list }).await.map_err(|error| {
            let why = failure_of(&error);
            NotPublished::Later(format!(
                "job {id}: the write is decided, but its files can't be published yet: {why}. This is tried again until it succeeds, \
                 as long as this cluster's state is kept: do not run the statement again, that would write its rows twice"
            ))
        })
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
        if let Err(error) = abort(spec, &self.runtime).await {
            tracing::warn!(%id, %error, "what a failed write had staged was not removed");
        }
        self.release(key);
        NotPublished::Refused(failure)
    }

    /// Publishes a decided write now, or else in the background, as often as it takes.
    async fn settle(self: &Arc<Self>, decided: Decided) -> Result<(), DataFusionError> {
        let published = commit(&decided.list.spec, &decided.list.files, &self.runtime).await;
        // Publishing an overwrite once more would remove what was written since: the list has to go first.
        if published.is_ok() && self.forget(&decided).await {
            return Ok(());
        }
        self.mark_late(&decided.key);
        let (this, stop) = (Arc::clone(self), self.stop.clone());
        let is_published = published.is_ok();
        drop(tokio::spawn(async move { stop.run_until_cancelled(this.settle_later(decided, is_published)).await }));
        published.map(drop)
    }

    async fn settle_later(&self, decided: Decided, mut is_published: bool) {
        let (first, longest) = AGAIN_AFTER;
        let url = &decided.list.spec.url;
        let mut pause = first;
        loop {
            tokio::time::sleep(pause).await;
            if !is_published {
                match commit(&decided.list.spec, &decided.list.files, &self.runtime).await {
                    Ok(_) => is_published = true,
                    Err(error) => tracing::error!(key = decided.key, url, %error, "a commit can't be completed yet"),
                }
            }
            if is_published && self.forget(&decided).await {
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
        self.release(&decided.key);
        true
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
