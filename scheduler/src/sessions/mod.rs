//! Client sessions: options and names of one connection, found again by a key that the client sends.
//!
//! The key is the cookie `volley_session`, else a bearer token. A client that sends neither shares one session with all the
//! others like it, in which nothing can be changed; its answers carry a cookie, so that it has a key from then on if it keeps cookies.
//! Where there is a file of users a request without a token is refused ([`access`]), and the cookie of one user is worth nothing to another.
//!
//! What a session was changed to is in the state store when the client is told, so that it is there after a restart ([`stored`]).

mod access;
mod key;
mod stored;
mod users;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::prelude::SessionContext;
use parking_lot::Mutex;
use tonic::metadata::MetadataMap;
use uuid::Uuid;
use volley_proto::SessionId;
use volley_sql::catalog::{ClusterCatalog, SessionCatalogs};
use volley_sql::options::{self, VolleyOptions};
use volley_sql::statement::restore_options;

pub(crate) use self::key::{SessionKey, bearer, new_cookie};
use self::stored::{SessionStore, StoredSession, holder_of, name_of};
pub(crate) use self::users::Users;
pub use self::users::UsersError;
use crate::store::{StateStore, StoreError};

/// Who did not say a name.
const ANONYMOUS: &str = "anonymous";

/// One session.
pub(crate) struct Session {
    /// Its name, which is no secret.
    pub(crate) id: SessionId,
    /// Names its client in what it is given to keep: the same after a restart, where `id` is another.
    pub(crate) holder: SessionId,
    /// Whose it is.
    pub(crate) principal: String,
    /// Its options and tables.
    pub(crate) context: SessionContext,
    /// Whether its client can be told from others, so that it may change things.
    pub(crate) keyed: bool,
    used: Mutex<Instant>,
    /// Under which name it is kept, and what is kept of it: one writes at a time.
    kept: Option<(String, tokio::sync::Mutex<StoredSession>)>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("principal", &self.principal)
            .field("keyed", &self.keyed)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Its own options at this moment.
    pub(crate) fn options(&self) -> VolleyOptions {
        // Reading through the reference: a clone of the whole state copies every function's name.
        VolleyOptions::of(self.context.state_ref().read().config_options())
    }

    /// Its options and tables at this moment.
    pub(crate) fn state(&self) -> SessionState {
        self.context.state()
    }
}

/// All sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    template: SessionState,
    /// The options of a new session.
    defaults: Vec<(String, Option<String>)>,
    catalog: Arc<ClusterCatalog>,
    /// Who may connect; `None` for everybody.
    users: Option<Users>,
    keyless: Arc<Session>,
    keyed: Mutex<HashMap<SessionKey, Arc<Session>>>,
    store: SessionStore,
    expiry: Duration,
    started: Instant,
}

impl Sessions {
    /// Sessions that start as copies of `template` and end when unused for `expiry`, and those that are in `store`.
    pub(crate) async fn open(
        template: SessionState,
        catalog: Arc<ClusterCatalog>,
        store: Arc<dyn StateStore>,
        users: Option<Users>,
        expiry: Duration,
    ) -> Result<Self, StoreError> {
        let store = SessionStore::open(store).await?;
        let defaults = options::entries(template.config_options());
        let keyless =
            Session { keyed: false, ..session(&template, &catalog, ANONYMOUS.into(), SessionId::new(ANONYMOUS), BTreeSet::new()) };
        let (keyless, keyed, started) = (Arc::new(keyless), Mutex::default(), Instant::now());
        Ok(Self { template, defaults, catalog, users, keyless, keyed, store, expiry, started })
    }

    /// The session of a request.
    pub(crate) fn of(&self, metadata: &MetadataMap) -> Arc<Session> {
        let principal = self.principal(metadata).ok().flatten();
        match SessionKey::of(metadata) {
            Some(key) => self.get_or_begin(key.of_principal(principal.as_deref()), principal.as_deref().unwrap_or(ANONYMOUS)),
            None => Arc::clone(&self.keyless),
        }
    }

    /// Begins a session for a client that authenticated; returns its bearer token.
    pub(crate) async fn begin(&self, principal: &str) -> String {
        let token = Uuid::new_v4().simple().to_string();
        let session = self.get_or_begin(SessionKey::Bearer(token.clone()), principal);
        self.keep(&session).await;
        token
    }

    /// Makes what was changed in a session outlast this scheduler.
    pub(crate) async fn keep(&self, session: &Session) {
        let Some((name, kept)) = &session.kept else { return };
        let mut kept = kept.lock().await;
        let now = self.to_keep(session);
        if *kept == now {
            return;
        }
        match self.store.put(name, &now).await {
            Ok(()) => *kept = now,
            Err(error) => tracing::warn!(session = %session.id, %error, "a session's options would not outlast a restart"),
        }
    }

    fn to_keep(&self, session: &Session) -> StoredSession {
        let state = session.state();
        let settings = options::entries(state.config_options()).into_iter().zip(&self.defaults);
        let settings = settings.filter_map(|(now, new)| if now == *new { None } else { Some((now.0, now.1?)) });
        let temporary = SessionCatalogs::temporary_names(&state);
        StoredSession { principal: session.principal.clone(), settings: settings.collect(), temporary }
    }

    /// Ends the session of a request; false where it has none of its own.
    pub(crate) async fn close(&self, metadata: &MetadataMap) -> bool {
        let principal = self.principal(metadata).ok().flatten();
        let Some(key) = SessionKey::of(metadata).map(|key| key.of_principal(principal.as_deref())) else { return false };
        let name = name_of(&key);
        let is_known = self.keyed.lock().remove(&key).is_some() | self.store.claim(&name).is_some();
        self.store.remove(vec![name]).await;
        is_known
    }

    /// Whether a session has its own tables in this directory.
    pub(crate) fn has_location(&self, location: &str) -> bool {
        let holds = |session: &Arc<Session>| {
            let temporary = SessionCatalogs::temporary_of(&session.context.state_ref().read());
            temporary.is_some_and(|catalog| catalog.warehouse() == Some(location))
        };
        self.keyed.lock().values().any(holds)
    }

    /// Ends the sessions that were not used for long; returns when to look again.
    pub(crate) async fn expire(&self) -> Duration {
        let (mut oldest, mut ended) = (Duration::ZERO, vec![]);
        self.keyed.lock().retain(|key, session| {
            let idle = session.used.lock().elapsed();
            let stays = idle < self.expiry;
            if stays {
                oldest = oldest.max(idle);
            } else {
                ended.push(name_of(key));
            }
            stays
        });
        if self.started.elapsed() >= self.expiry {
            ended.extend(self.store.give_up());
        }
        self.store.remove(ended).await;
        (self.expiry.saturating_sub(oldest)).max(Duration::from_millis(10))
    }

    fn get_or_begin(&self, key: SessionKey, principal: &str) -> Arc<Session> {
        let mut keyed = self.keyed.lock();
        let session = match keyed.get(&key) {
            Some(session) => Arc::clone(session),
            None => {
                let session = Arc::new(self.new_session(&key, principal));
                keyed.insert(key, Arc::clone(&session));
                session
            }
        };
        *session.used.lock() = Instant::now();
        session
    }

    /// A session of a client that was not here yet, or that an earlier scheduler knew.
    fn new_session(&self, key: &SessionKey, principal: &str) -> Session {
        let name = name_of(key);
        let known = self.store.claim(&name);
        let kept = known.unwrap_or_else(|| StoredSession::of_new(ANONYMOUS));
        let principal = if kept.principal == ANONYMOUS { principal.to_owned() } else { kept.principal.clone() };
        let holder = holder_of(&principal, &name);
        let mut session = session(&self.template, &self.catalog, principal, holder, kept.temporary.clone());
        if let Err(error) = restore_options(&session.context, &kept.settings) {
            tracing::warn!(session = %session.id, %error, "options of a session are not as they were before the restart");
        }
        session.kept = Some((name, tokio::sync::Mutex::new(kept)));
        session
    }
}

fn session(
    template: &SessionState,
    catalog: &Arc<ClusterCatalog>,
    principal: String,
    holder: SessionId,
    lost: BTreeSet<(String, String)>,
) -> Session {
    let id = Uuid::new_v4().simple().to_string();
    let state = SessionStateBuilder::new_from_existing(template.clone())
        .with_session_id(id.clone())
        // Not shared: a session has catalogs of its own beside the cluster's.
        .with_catalog_list(Arc::new(SessionCatalogs::of_session(Arc::clone(catalog), &id, lost)))
        .build();
    let context = SessionContext::new_with_state(state);
    Session { id: SessionId::new(id), holder, principal, context, keyed: true, used: Mutex::new(Instant::now()), kept: None }
}

#[cfg(test)]
mod tests {
    use volley_sql::session::SessionBuilder;
    use volley_sql::statement::Immediate;

    use super::key::headers;
    use super::*;
    use crate::store::MemoryStore;

    async fn sessions(expiry: Duration) -> Sessions {
        sessions_in(Arc::new(MemoryStore::new()), expiry).await
    }

    async fn sessions_in(store: Arc<dyn StateStore>, expiry: Duration) -> Sessions {
        let template = SessionBuilder::new().build_state().unwrap();
        let catalog = ClusterCatalog::in_memory(Arc::clone(template.runtime_env()));
        Sessions::open(template, catalog, store, None, expiry).await.unwrap()
    }

    #[tokio::test]
    async fn a_key_finds_its_session_again_and_no_other() {
        let sessions = sessions(Duration::from_secs(60)).await;
        let one = headers(&[("cookie", "volley_session=one")]);
        let two = headers(&[("cookie", "volley_session=two")]);
        assert_eq!(sessions.of(&one).id, sessions.of(&one).id);
        assert_ne!(sessions.of(&one).id, sessions.of(&two).id);
        assert!(sessions.of(&one).keyed);
        let before = sessions.of(&one).id.clone();
        assert!(sessions.close(&one).await);
        assert_ne!(sessions.of(&one).id, before);
    }

    #[tokio::test]
    async fn clients_without_a_key_share_a_session_and_get_a_cookie() {
        let sessions = sessions(Duration::from_secs(60)).await;
        let none = headers(&[]);
        assert!(!sessions.of(&none).keyed);
        assert!(!sessions.close(&none).await);
        let first = new_cookie(&none).unwrap();
        assert!(first.starts_with("volley_session="));
        assert_ne!(new_cookie(&none), Some(first));
        assert_eq!(new_cookie(&headers(&[("cookie", "volley_session=one")])), None);
    }

    #[tokio::test]
    async fn an_idle_session_ends() {
        let sessions = sessions(Duration::ZERO).await;
        let token = sessions.begin("ada").await;
        let metadata = headers(&[("authorization", &format!("Bearer {token}"))]);
        let before = sessions.of(&metadata);
        assert_eq!(before.principal, "ada");
        sessions.expire().await;
        assert_ne!(sessions.of(&metadata).id, before.id);
    }

    async fn set(sessions: &Sessions, metadata: &MetadataMap, key: &str, value: &str) {
        let session = sessions.of(metadata);
        Immediate::Set { key: key.into(), value: value.into() }.run(&session.context).await.unwrap();
        sessions.keep(&session).await;
    }

    #[tokio::test]
    async fn options_and_names_outlast_a_restart() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let hour = Duration::from_secs(3600);
        let before = sessions_in(Arc::clone(&store), hour).await;
        let cookie = headers(&[("cookie", "volley_session=one")]);
        let bearer = headers(&[("authorization", &format!("Bearer {}", before.begin("ada").await))]);
        set(&before, &cookie, "volley.queue", "nightly").await;
        set(&before, &cookie, "volley.weight", "3").await;
        set(&before, &cookie, "volley.weight", "1").await;
        let keys: Vec<_> = store.list("").unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().all(|key| !key.contains("one")), "a key is as good as a password: {keys:?}");

        let after = sessions_in(Arc::clone(&store), hour).await;
        assert_eq!(after.of(&cookie).options().queue, "nightly");
        assert_eq!(after.of(&cookie).options().weight, 1);
        assert_eq!(after.of(&bearer).principal, "ada");
        assert_eq!(after.of(&bearer).options().queue, VolleyOptions::default().queue);

        // What ended is gone for good.
        assert!(after.close(&cookie).await);
        let last = sessions_in(Arc::clone(&store), Duration::ZERO).await;
        assert_eq!(last.of(&cookie).options().queue, VolleyOptions::default().queue);
        last.expire().await;
        assert_eq!(store.list("").unwrap(), []);
    }
}
