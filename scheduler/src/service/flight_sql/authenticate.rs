//! Handshake: who a client is. Where there is a file of users a name is worth its password; else every name is believed, and a client without
//! one is "anonymous".

use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::service::FlightSql;
use crate::sessions::bearer;

type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;

/// Who asks for a token.
const ANONYMOUS: &str = "anonymous";

/// A name, and what is to prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Login {
    user: String,
    password: String,
}

impl FlightSql {
    /// Answers with a bearer token, in a header and in the body: clients look in one or the other.
    pub(super) async fn authenticate(&self, request: Request<Streaming<HandshakeRequest>>) -> Result<Response<HandshakeStream>, Status> {
        let known = bearer(request.metadata()).map(str::to_owned);
        if known.is_some() {
            self.sessions.admit(request.metadata())?;
        }
        let basic = basic_login(request.metadata())?;
        let mut messages = request.into_inner();
        let (protocol, payload) = match messages.message().await? {
            Some(message) => (message.protocol_version, message.payload),
            None => (0, bytes::Bytes::new()),
        };
        let token = match known {
            Some(token) => token,
            None => self.sessions.begin(&self.principal_of(basic.or_else(|| payload_login(&payload))).await?).await,
        };
        let answer = HandshakeResponse { protocol_version: protocol, payload: token.clone().into() };
        let mut response = Response::new(stream::iter([Ok(answer)]).boxed());
        let header = format!("Bearer {token}").parse().map_err(|_| Status::internal("the token is no header"))?;
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    /// Who logs in.
    async fn principal_of(&self, login: Option<Login>) -> Result<String, Status> {
        let Some(users) = self.sessions.users() else {
            return Ok(login.map(|login| login.user).filter(|user| !user.is_empty()).unwrap_or_else(|| ANONYMOUS.into()));
        };
        let Some(Login { user, password }) = login else {
            return Err(Status::unauthenticated("the handshake has neither a name with its password nor a bearer token"));
        };
        if users.has_password(&user, &password).await {
            return Ok(user);
        }
        tracing::warn!(user, "a handshake was refused");
        Err(Status::unauthenticated("the name or the password is wrong"))
    }
}

/// What a `Basic` header says, if there is one.
fn basic_login(metadata: &MetadataMap) -> Result<Option<Login>, Status> {
    let Some(header) = metadata.get("authorization").and_then(|header| header.to_str().ok()) else { return Ok(None) };
    let Some((scheme, encoded)) = header.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let wrong = || Status::unauthenticated("the authorization header is not 'Basic' with user:password in base64");
    let decoded = decode_base64(encoded.trim()).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let (user, password) = decoded.split_once(':').ok_or_else(wrong)?;
    Ok(Some(Login { user: user.into(), password: password.into() }))
}

/// What Flight's own `BasicAuth` message says.
fn payload_login(payload: &bytes::Bytes) -> Option<Login> {
    let auth = BasicAuth::decode(payload.clone()).ok().filter(|auth| !auth.username.is_empty())?;
    Some(Login { user: auth.username, password: auth.password })
}

/// Standard base64, padded or not: some clients leave the padding out.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() * 3 / 4), 0_u32, 0_u32);
    for character in text.bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_padding() {
        for (encoded, text) in
            [("", ""), ("YQ==", "a"), ("YQ", "a"), ("YWRhOnM=", "ada:s"), ("YWRhOnM", "ada:s"), ("YWRhOnNlYw==", "ada:sec")]
        {
            assert_eq!(decode_base64(encoded).as_deref(), Some(text.as_bytes()), "{encoded}");
        }
        assert_eq!(decode_base64("a b"), None);
    }

    #[test]
    fn a_basic_header_has_a_name_and_a_password() {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", "Basic YWRhOnM".parse().unwrap());
        assert_eq!(basic_login(&metadata).unwrap(), Some(Login { user: "ada".into(), password: "s".into() }));
        metadata.insert("authorization", "Basic !".parse().unwrap());
        assert_eq!(basic_login(&metadata).unwrap_err().code(), tonic::Code::Unauthenticated);
        metadata.insert("authorization", "Bearer x".parse().unwrap());
        assert_eq!(basic_login(&metadata).unwrap(), None);
    }
}
