//! Client sessions: options and names of one connection, found again by a key that the client sends.
//!
//! The key is the cookie `volley_session`, else a bearer token. A client that sends neither shares one session with all the
//! others like it, in which nothing can be changed; its answers carry a cookie, so that it has a key from then on if it keeps cookies.

use std::collections::HashMap;
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
use volley_sql::options::VolleyOptions;

const COOKIE: &str = "volley_session";

/// One session.
pub(crate) struct Session {
    /// Its name, which is no secret.
    pub(crate) id: SessionId,
    /// Whose it is.
    pub(crate) principal: String,
    /// Its options and tables.
    pub(crate) context: SessionContext,
    /// Whether its client can be told from others, so that it may change things.
    pub(crate) keyed: bool,
    used: Mutex<Instant>,
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

/// How a client is known.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SessionKey {
    /// By the cookie.
    Cookie(String),
    /// By a bearer token.
    Bearer(String),
}

impl SessionKey {
    /// The key that a request carries.
    pub(crate) fn of(metadata: &MetadataMap) -> Option<Self> {
        let cookies = metadata.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|header| header.split(';')).filter_map(|pair| pair.trim().split_once('='));
        if let Some((_, id)) = pairs.find(|(name, _)| *name == COOKIE)
            && !id.is_empty()
        {
            return Some(Self::Cookie(id.trim_matches('"').to_owned()));
        }
        let authorization = metadata.get("authorization")?.to_str().ok()?;
        let (scheme, token) = authorization.split_once(' ')?;
        (scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty()).then(|| Self::Bearer(token.trim().to_owned()))
    }
}

/// All sessions.
#[derive(Debug)]
pub(crate) struct Sessions {
    template: SessionState,
    catalog: Arc<ClusterCatalog>,
    keyless: Arc<Session>,
    keyed: Mutex<HashMap<SessionKey, Arc<Session>>>,
    expiry: Duration,
}

impl Sessions {
    /// Sessions that start as copies of `template` and end when unused for `expiry`.
    pub(crate) fn new(template: SessionState, catalog: Arc<ClusterCatalog>, expiry: Duration) -> Self {
        let keyless = Arc::new(session(&template, &catalog, "anonymous".into(), false));
        Self { template, catalog, keyless, keyed: Mutex::default(), expiry }
    }

    /// The session of a request.
    pub(crate) fn of(&self, metadata: &MetadataMap) -> Arc<Session> {
        match SessionKey::of(metadata) {
            Some(key) => self.get_or_begin(key, "anonymous"),
            None => Arc::clone(&self.keyless),
        }
    }

    /// Begins a session for a client that authenticated; returns its bearer token.
    pub(crate) fn begin(&self, principal: &str) -> String {
        let token = Uuid::new_v4().simple().to_string();
        self.get_or_begin(SessionKey::Bearer(token.clone()), principal);
        token
    }

    /// Ends the session of a request; false where it has none of its own.
    pub(crate) fn close(&self, metadata: &MetadataMap) -> bool {
        SessionKey::of(metadata).is_some_and(|key| self.keyed.lock().remove(&key).is_some())
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
    pub(crate) fn expire(&self) -> Duration {
        let mut keyed = self.keyed.lock();
        let mut oldest = Duration::ZERO;
        keyed.retain(|_, session| {
            let idle = session.used.lock().elapsed();
            let stays = idle < self.expiry;
            if stays {
                oldest = oldest.max(idle);
            }
            stays
        });
        (self.expiry - oldest).max(Duration::from_millis(10))
    }

    fn get_or_begin(&self, key: SessionKey, principal: &str) -> Arc<Session> {
        let mut keyed = self.keyed.lock();
        let session = keyed.entry(key).or_insert_with(|| Arc::new(session(&self.template, &self.catalog, principal.to_owned(), true)));
        *session.used.lock() = Instant::now();
        Arc::clone(session)
    }
}

/// The `set-cookie` header for a request that came without a key.
pub(crate) fn new_cookie(metadata: &MetadataMap) -> Option<String> {
    SessionKey::of(metadata).is_none().then(|| format!("{COOKIE}={}", Uuid::new_v4().simple()))
}

fn session(template: &SessionState, catalog: &Arc<ClusterCatalog>, principal: String, keyed: bool) -> Session {
    let id = Uuid::new_v4().simple().to_string();
    let state = SessionStateBuilder::new_from_existing(template.clone())
        .with_session_id(id.clone())
        // Not shared: a session has catalogs of its own beside the cluster's.
        .with_catalog_list(Arc::new(SessionCatalogs::of_session(Arc::clone(catalog), &id)))
        .build();
    let context = SessionContext::new_with_state(state);
    Session { id: SessionId::new(id), principal, context, keyed, used: Mutex::new(Instant::now()) }
}

#[cfg(test)]
mod tests {
    use volley_sql::session::SessionBuilder;

    use super::*;

    fn sessions(expiry: Duration) -> Sessions {
        let template = SessionBuilder::new().build_state().unwrap();
        let catalog = ClusterCatalog::in_memory(Arc::clone(template.runtime_env()));
        Sessions::new(template, catalog, expiry)
    }

    fn headers(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in pairs {
            metadata.append(*name, value.parse().unwrap());
        }
        metadata
    }

    #[test]
    fn a_cookie_comes_before_a_token() {
        let metadata = headers(&[("cookie", "a=b; volley_session=one"), ("authorization", "Bearer two")]);
        assert_eq!(SessionKey::of(&metadata), Some(SessionKey::Cookie("one".into())));
        assert_eq!(SessionKey::of(&headers(&[("authorization", "bearer two")])), Some(SessionKey::Bearer("two".into())));
        assert_eq!(SessionKey::of(&headers(&[("authorization", "Basic YTpi"), ("cookie", "a=b")])), None);
    }

    #[test]
    fn a_key_finds_its_session_again_and_no_other() {
        let sessions = sessions(Duration::from_secs(60));
        let one = headers(&[("cookie", "volley_session=one")]);
        let two = headers(&[("cookie", "volley_session=two")]);
        assert_eq!(sessions.of(&one).id, sessions.of(&one).id);
        assert_ne!(sessions.of(&one).id, sessions.of(&two).id);
        assert!(sessions.of(&one).keyed);
        let before = sessions.of(&one).id.clone();
        assert!(sessions.close(&one));
        assert_ne!(sessions.of(&one).id, before);
    }

    #[test]
    fn clients_without_a_key_share_a_session_and_get_a_cookie() {
        let sessions = sessions(Duration::from_secs(60));
        let none = headers(&[]);
        assert!(!sessions.of(&none).keyed);
        assert!(!sessions.close(&none));
        let first = new_cookie(&none).unwrap();
        assert!(first.starts_with("volley_session="));
        assert_ne!(new_cookie(&none), Some(first));
        assert_eq!(new_cookie(&headers(&[("cookie", "volley_session=one")])), None);
    }

    #[test]
    fn an_idle_session_ends() {
        let sessions = sessions(Duration::ZERO);
        let token = sessions.begin("ada");
        let metadata = headers(&[("authorization", &format!("Bearer {token}"))]);
        let before = sessions.of(&metadata);
        assert_eq!(before.principal, "ada");
        sessions.expire();
        assert_ne!(sessions.of(&metadata).id, before.id);
    }
}
