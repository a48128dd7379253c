//! Which requests are admitted, and as whom.
//!
//! Without a file of users everybody is, under any name. With one, a request has to carry a bearer token: one of the file's, or one that a
//! handshake gave for a password. The latter is the key of a session that the handshake began, so that it ends as sessions do: unused for
//! long, by CloseSession, or with its user's line in the file. Where the session is kept beyond a restart, so is the token.

use std::time::Instant;

use tonic::Status;
use tonic::metadata::MetadataMap;
use volley_proto::SessionId;

use super::stored::{name_of, principal_of};
use super::{ANONYMOUS, SessionKey, Sessions, Users, bearer};

impl Sessions {
    /// Who may connect; `None` for everybody.
    pub(crate) fn users(&self) -> Option<&Users> {
        self.users.as_ref()
    }

    /// Refuses a request that does not say who it is from, where that is asked for.
    pub(crate) fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        self.principal(metadata).map(drop)
    }

    /// Who a request is from; `None` where everybody is admitted.
    pub(super) fn principal(&self, metadata: &MetadataMap) -> Result<Option<String>, Status> {
        let Some(users) = &self.users else { return Ok(None) };
        let Some(token) = bearer(metadata) else {
            return Err(Status::unauthenticated(
                "this scheduler knows its users: get a bearer token by a handshake with name and password, or send one",
            ));
        };
        if let Some(name) = users.of_token(token) {
            return Ok(Some(name.to_owned()));
        }
        match self.of_handshake(token).filter(|name| users.has_name(name)) {
            Some(name) => Ok(Some(name)),
            None => Err(Status::unauthenticated("the bearer token is not known, or has expired: authenticate again")),
        }
    }

    /// Whose token this is, if a handshake gave it. It is used with that.
    fn of_handshake(&self, token: &str) -> Option<String> {
        let key = SessionKey::Bearer(token.to_owned());
        if let Some(session) = self.keyed.lock().get(&key) {
            *session.used.lock() = Instant::now();
            return Some(session.principal.clone());
        }
        let is_kept = self.store.knows(&name_of(&key));
        is_kept.then(|| self.get_or_begin(key, ANONYMOUS).principal.clone())
    }

    /// Whether the sender of a request may have what was given to `holder`: anything that is signed, or where users are known what is theirs.
    pub(crate) fn may_have(&self, holder: &SessionId, metadata: &MetadataMap) -> bool {
        match self.principal(metadata) {
            Ok(None) => true,
            Ok(Some(principal)) => principal == principal_of(holder),
            Err(_) => false,
        }
    }

    /// Whether what was given to `holder` to keep is of the session of a request. What was given to clients without a session is everybody's.
    pub(crate) fn holds(&self, holder: &SessionId, metadata: &MetadataMap) -> bool {
        *holder == self.keyless.holder || *holder == self.of(metadata).holder
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tonic::Code;
    use volley_sql::catalog::ClusterCatalog;
    use volley_sql::session::SessionBuilder;

    use super::super::key::headers;
    use super::*;
    use crate::store::{MemoryStore, StateStore};

    async fn sessions(store: &Arc<dyn StateStore>, users: &str) -> Sessions {
        let template = SessionBuilder::new().build_state().unwrap();
        let catalog = ClusterCatalog::in_memory(Arc::clone(template.runtime_env()));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("users");
        std::fs::write(&file, users).unwrap();
        let users = Users::read(&file).unwrap();
        Sessions::open(template, catalog, Arc::clone(store), Some(users), Duration::from_secs(60)).await.unwrap()
    }

    fn line(name: &str) -> String {
        format!("{name}:{}\n", bcrypt::hash("secret", 4).unwrap())
    }

    fn token(token: &str, cookie: Option<&str>) -> MetadataMap {
        let authorization = format!("Bearer {token}");
        let cookie = cookie.map(|cookie| format!("volley_session={cookie}"));
        let mut pairs = vec![("authorization", authorization.as_str())];
        pairs.extend(cookie.as_deref().map(|cookie| ("cookie", cookie)));
        headers(&pairs)
    }

    #[tokio::test]
    async fn only_tokens_that_were_given_are_admitted() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let sessions = sessions(&store, &line("ada")).await;
        for refused in [headers(&[]), headers(&[("cookie", "volley_session=one")]), token("forged", None), token("forged", Some("one"))] {
            assert_eq!(sessions.admit(&refused).unwrap_err().code(), Code::Unauthenticated);
        }
        let ada = token(&sessions.begin("ada").await, None);
        sessions.admit(&ada).unwrap();
        assert_eq!(sessions.of(&ada).principal, "ada");
        assert!(sessions.close(&ada).await);
        assert_eq!(sessions.admit(&ada).unwrap_err().code(), Code::Unauthenticated, "a session that was closed has no token");
    }

    #[tokio::test]
    async fn a_token_outlasts_a_restart_but_not_its_user() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let before = sessions(&store, &(line("ada") + &line("bob"))).await;
        let (ada, bob) = (before.begin("ada").await, before.begin("bob").await);
        let after = sessions(&store, &line("ada")).await;
        after.admit(&token(&ada, Some("one"))).unwrap();
        after.admit(&token(&ada, None)).unwrap();
        assert_eq!(after.of(&token(&ada, Some("one"))).principal, "ada");
        assert_eq!(after.admit(&token(&bob, None)).unwrap_err().code(), Code::Unauthenticated);
    }

    #[tokio::test]
    async fn a_cookie_is_worth_nothing_to_another_user() {
        let store: Arc<dyn StateStore> = Arc::new(MemoryStore::new());
        let sessions = sessions(&store, &(line("ada") + &line("bob"))).await;
        let (ada, bob) = (sessions.begin("ada").await, sessions.begin("bob").await);
        let (ada, bob) = (token(&ada, Some("one")), token(&bob, Some("one")));
        assert_ne!(sessions.of(&ada).id, sessions.of(&bob).id);
        let holder = sessions.of(&ada).holder.clone();
        assert!(sessions.may_have(&holder, &ada) && sessions.holds(&holder, &ada));
        assert!(!sessions.may_have(&holder, &bob) && !sessions.holds(&holder, &bob));
    }
}
