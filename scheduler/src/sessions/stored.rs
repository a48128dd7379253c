//! What of a session outlives its scheduler: whose it is, its options, and which tables were its own.
//!
//! It is under a key that is made of the client's key by a hash, so that who can read the state can't take over sessions by that alone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use volley_proto::SessionId;

use super::SessionKey;
use crate::store::{StateStore, StoreError, blocking};

const PREFIX: &str = "sessions/";

/// What is kept of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredSession {
    pub(super) principal: String,
    /// Options that differ from those of a new session.
    pub(super) settings: Vec<(String, String)>,
    /// Schema and name of its temporary tables, whose rows end with the scheduler.
    pub(super) temporary: BTreeSet<(String, String)>,
}

impl StoredSession {
    /// A session in which nothing was changed, of which nothing is kept.
    pub(super) fn of_new(principal: &str) -> Self {
        Self { principal: principal.to_owned(), settings: vec![], temporary: BTreeSet::new() }
    }
}

/// Sessions in the state store.
#[derive(Debug)]
pub(super) struct SessionStore {
    store: Arc<dyn StateStore>,
    /// Those of an earlier scheduler whose clients did not come back yet.
    unclaimed: Mutex<HashMap<String, StoredSession>>,
}

/// Characters of a session's name that its holder's name has.
const HOLDER_LENGTH: usize = 32;

/// The name of a client whose session is kept under `name`: whose it is, and something that tells it from others of theirs.
pub(super) fn holder_of(principal: &str, name: &str) -> SessionId {
    let digest = name.strip_prefix(PREFIX).unwrap_or(name);
    SessionId::new(format!("{principal}/{}", digest.get(..HOLDER_LENGTH).unwrap_or(digest)))
}

/// Whose a client of this name is.
pub(super) fn principal_of(holder: &SessionId) -> &str {
    let holder = holder.as_str();
    holder.rsplit_once('/').map_or(holder, |(principal, _)| principal)
}

/// The name under which a client's session is kept.
pub(super) fn name_of(key: &SessionKey) -> String {
    let (kind, secret) = match key {
        SessionKey::Cookie(cookie) => ("cookie", cookie),
        SessionKey::Bearer(token) => ("bearer", token),
    };
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(secret).finalize();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{hex}")
}

impl SessionStore {
    /// Reads what earlier schedulers kept.
    pub(super) async fn open(store: Arc<dyn StateStore>) -> Result<Self, StoreError> {
        let found = blocking(&store, |store| store.list(PREFIX)).await?;
        let mut unclaimed = HashMap::new();
        for (name, found) in found {
            match serde_json::from_slice(&found.value) {
                Ok(session) => drop(unclaimed.insert(name, session)),
                // Its client begins anew, which is better than that nobody can.
                Err(error) => tracing::warn!(name, %error, "a session can't be read"),
            }
        }
        Ok(Self { store, unclaimed: Mutex::new(unclaimed) })
    }

    /// What an earlier scheduler kept of a client that is here again.
    pub(super) fn claim(&self, name: &str) -> Option<StoredSession> {
        self.unclaimed.lock().remove(name)
    }

    /// Whether an earlier scheduler kept a session whose client is not here again yet.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.unclaimed.lock().contains_key(name)
    }

    /// Keeps a session as it is now.
    pub(super) async fn put(&self, name: &str, session: &StoredSession) -> Result<(), StoreError> {
        let wrong = |error: serde_json::Error| StoreError::Value { key: name.to_owned(), why: error.to_string() };
        let (name, value) = (name.to_owned(), serde_json::to_vec(session).map_err(wrong)?);
        blocking(&self.store, move |store| write(store, &name, Some(&value))).await
    }

    /// Lets go of sessions that ended.
    pub(super) async fn remove(&self, names: Vec<String>) {
        for name in names {
            let key = name.clone();
            if let Err(error) = blocking(&self.store, move |store| write(store, &key, None)).await {
                tracing::warn!(name, %error, "a session that ended was not removed from the state");
            }
        }
    }

    /// Gives up on clients that did not come back; their sessions.
    pub(super) fn give_up(&self) -> Vec<String> {
        self.unclaimed.lock().drain().map(|(name, _)| name).collect()
    }
}

fn write(store: &dyn StateStore, key: &str, value: Option<&[u8]>) -> Result<(), StoreError> {
    loop {
        let found = store.get(key)?;
        if found.is_none() && value.is_none() {
            return Ok(());
        }
        match store.compare_and_swap(key, found.map(|found| found.version), value) {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}
