//! Handshake: who a client is. Nobody has to prove anything yet, so every name is believed, and a client without one is "anonymous".

use arrow_flight::{BasicAuth, HandshakeRequest, HandshakeResponse};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::service::FlightSql;
use crate::sessions::SessionKey;

type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;

/// Who asks for a token.
const ANONYMOUS: &str = "anonymous";

impl FlightSql {
    /// Answers with a bearer token, in a header and in the body: clients look in one or the other.
    pub(super) async fn authenticate(&self, request: Request<Streaming<HandshakeRequest>>) -> Result<Response<HandshakeStream>, Status> {
        let known = match SessionKey::of(request.metadata()) {
            Some(SessionKey::Bearer(token)) => Some(token),
            _ => None,
        };
        let basic = basic_user(request.metadata())?;
        let mut messages = request.into_inner();
        let (protocol, payload) = match messages.message().await? {
            Some(message) => (message.protocol_version, message.payload),
            None => (0, bytes::Bytes::new()),
        };
        let token = match known {
            Some(token) => token,
            None => self.sessions.begin(&basic.or_else(|| payload_user(&payload)).unwrap_or_else(|| ANONYMOUS.into())).await,
        };
        let answer = HandshakeResponse { protocol_version: protocol, payload: token.clone().into() };
        let mut response = Response::new(stream::iter([Ok(answer)]).boxed());
        let header = format!("Bearer {token}").parse().map_err(|_| Status::internal("the token is no header"))?;
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }
}

/// The user of a `Basic` header, if there is one.
fn basic_user(metadata: &MetadataMap) -> Result<Option<String>, Status> {
    let Some(header) = metadata.get("authorization").and_then(|header| header.to_str().ok()) else { return Ok(None) };
    let Some((scheme, encoded)) = header.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("basic") {
        return Ok(None);
    }
    let wrong = || Status::unauthenticated("the authorization header is not 'Basic' with user:password in base64");
    let decoded = decode_base64(encoded.trim()).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let (user, _password) = decoded.split_once(':').ok_or_else(wrong)?;
    Ok((!user.is_empty()).then(|| user.to_owned()))
}

/// The user of Flight's own `BasicAuth` message.
fn payload_user(payload: &bytes::Bytes) -> Option<String> {
    BasicAuth::decode(payload.clone()).ok().map(|auth| auth.username).filter(|user| !user.is_empty())
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
    fn the_user_of_a_basic_header_is_believed() {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", "Basic YWRhOnM".parse().unwrap());
        assert_eq!(basic_user(&metadata).unwrap().as_deref(), Some("ada"));
        metadata.insert("authorization", "Basic !".parse().unwrap());
        assert_eq!(basic_user(&metadata).unwrap_err().code(), tonic::Code::Unauthenticated);
        metadata.insert("authorization", "Bearer x".parse().unwrap());
        assert_eq!(basic_user(&metadata).unwrap(), None);
    }
}
