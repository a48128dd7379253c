//! How a client is found again: by what it sends with each request.

use tonic::metadata::MetadataMap;
use uuid::Uuid;

const COOKIE: &str = "volley_session";

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
        bearer(metadata).map(|token| Self::Bearer(token.to_owned()))
    }

    /// The key among those of a user, where users are told apart: a cookie is worth nothing to another.
    pub(super) fn of_principal(self, principal: Option<&str>) -> Self {
        match (self, principal) {
            (Self::Cookie(cookie), Some(principal)) => Self::Cookie(format!("{principal}\n{cookie}")),
            (key, _) => key,
        }
    }
}

/// The bearer token that a request carries.
pub(crate) fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let authorization = metadata.get("authorization")?.to_str().ok()?;
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The `set-cookie` header for a request that came without a key.
pub(crate) fn new_cookie(metadata: &MetadataMap) -> Option<String> {
    SessionKey::of(metadata).is_none().then(|| format!("{COOKIE}={}", Uuid::new_v4().simple()))
}

/// Headers for tests.
#[cfg(test)]
pub(crate) fn headers(pairs: &[(&'static str, &str)]) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    for (name, value) in pairs {
        metadata.append(*name, value.parse().unwrap());
    }
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_comes_before_a_token() {
        let metadata = headers(&[("cookie", "a=b; volley_session=one"), ("authorization", "Bearer two")]);
        assert_eq!(SessionKey::of(&metadata), Some(SessionKey::Cookie("one".into())));
        assert_eq!(SessionKey::of(&headers(&[("authorization", "bearer two")])), Some(SessionKey::Bearer("two".into())));
        assert_eq!(SessionKey::of(&headers(&[("authorization", "Basic YTpi"), ("cookie", "a=b")])), None);
    }
}
