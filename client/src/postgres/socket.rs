//! Messages to and from a client's socket, by pgwire's codec.
//!
//! Bytes are taken from the socket as they come, also while a statement runs, so that a client that leaves is noticed at once. What it
//! sends ahead waits in a pipe of bounded size.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;
use pgwire::messages::{DecodeContext, PgWireBackendMessage, PgWireFrontendMessage, ProtocolVersion, SslNegotiationMetaMessage};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, ReadHalf, SimplexStream};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio_util::codec::{Decoder, Encoder, Framed};
use tokio_util::sync::CancellationToken;

/// What a client may send ahead of being read.
const AHEAD_BYTES: usize = 64 << 10;
/// How much is gathered before it is sent.
const GATHERED_BYTES: usize = 64 << 10;
/// The longest message that is taken: a statement of the greatest length that a scheduler can be told to take, and parameters.
const MOST_MESSAGE_BYTES: usize = 64 << 20;
/// The longest message before a client is known.
const MOST_STARTUP_BYTES: usize = 10_000;

/// A client's socket as messages.
pub(super) type Socket = Framed<Pipe, Codec>;

/// The messages of a socket, and what tells that its client went away.
pub(super) fn messages(stream: TcpStream) -> (Socket, CancellationToken) {
    let (mut from_client, to_client) = stream.into_split();
    let (reader, mut writer) = tokio::io::simplex(AHEAD_BYTES);
    let gone = CancellationToken::new();
    let left = gone.clone().drop_guard();
    tokio::spawn(async move {
        let _left = left;
        // Either way there is nothing more to come.
        let _ = tokio::io::copy(&mut from_client, &mut writer).await;
        let _ = writer.shutdown().await;
    });
    let mut socket = Framed::new(Pipe { reader, to_client }, Codec::new());
    socket.set_backpressure_boundary(GATHERED_BYTES);
    (socket, gone)
}

/// Reads what was taken from the socket, writes to the socket.
#[derive(Debug)]
pub(super) struct Pipe {
    reader: ReadHalf<SimplexStream>,
    to_client: OwnedWriteHalf,
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.to_client).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to_client).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.to_client).poll_shutdown(cx)
    }
}

/// Where a conversation is: messages before and after its start have different frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Startup,
    Started,
}

/// Bytes to messages and back.
#[derive(Debug)]
pub(super) struct Codec {
    phase: Phase,
}

impl Codec {
    fn new() -> Self {
        Self { phase: Phase::Startup }
    }

    /// From here on messages have a type.
    pub(super) fn started(&mut self) {
        self.phase = Phase::Started;
    }
}

impl Decoder for Codec {
    type Item = PgWireFrontendMessage;
    type Error = io::Error;

    fn decode(&mut self, source: &mut BytesMut) -> io::Result<Option<PgWireFrontendMessage>> {
        let (before, most) = match self.phase {
            Phase::Startup => (0, MOST_STARTUP_BYTES),
            Phase::Started => (1, MOST_MESSAGE_BYTES),
        };
        let Some(length) = source.get(before..before + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes) else {
            return Ok(None);
        };
        let length = length as usize;
        // A startup message has a code behind its length.
        if length > most || length < if before == 0 { 8 } else { 4 } {
            return Err(malformed(format!("a message of {length} bytes")));
        }
        if source.len() < before + length {
            return Ok(None);
        }
        // The decoder gets one message and no more, and is not believed to survive a message that lies about its inside.
        let mut frame = source.split_to(before + length);
        let decoded = catch_unwind(AssertUnwindSafe(|| decode(&mut frame, self.phase)));
        decoded.map_err(|_| malformed("a message that is cut short"))?.map(Some)
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> io::Result<Option<PgWireFrontendMessage>> {
        // Half a message at the end is as good as none.
        self.decode(source)
    }
}

fn decode(frame: &mut BytesMut, phase: Phase) -> io::Result<PgWireFrontendMessage> {
    let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
    context.awaiting_frontend_ssl = phase == Phase::Startup;
    context.awaiting_frontend_startup = phase == Phase::Startup;
    let mut message = PgWireFrontendMessage::decode(frame, &context);
    if let Ok(Some(PgWireFrontendMessage::SslNegotiation(SslNegotiationMetaMessage::None))) = message {
        context.awaiting_frontend_ssl = false;
        message = PgWireFrontendMessage::decode(frame, &context);
    }
    message.map_err(|error| malformed(error.to_string()))?.ok_or_else(|| malformed("a message that is cut short"))
}

fn malformed(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

impl Encoder<PgWireBackendMessage> for Codec {
    type Error = io::Error;

    fn encode(&mut self, message: PgWireBackendMessage, target: &mut BytesMut) -> io::Result<()> {
        message.encode(target).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(phase: Phase, bytes: &[u8]) -> io::Result<Option<PgWireFrontendMessage>> {
        Codec { phase }.decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn whole_messages_are_decoded_and_parts_are_waited_for() {
        let query = b"Q\0\0\0\x0dSELECT 1\0";
        assert!(matches!(decoded(Phase::Started, query).unwrap(), Some(PgWireFrontendMessage::Query(query)) if query.query == "SELECT 1"));
        for length in 0..query.len() {
            assert!(decoded(Phase::Started, &query[..length]).unwrap().is_none(), "{length}");
        }
        let ssl = [0, 0, 0, 8, 4, 210, 22, 47];
        assert!(matches!(decoded(Phase::Startup, &ssl).unwrap(), Some(PgWireFrontendMessage::SslNegotiation(_))));
    }

    #[test]
    fn bad_bytes_are_an_error_and_nothing_worse() {
        for (phase, bytes) in [
            (Phase::Startup, b"GET / HTTP/1.1\r\n\r\n".as_slice()),
            (Phase::Startup, &[0x16, 3, 1, 2, 0, 1, 0, 1]),
            (Phase::Startup, &[0, 0, 0, 8, 0, 9, 0, 0]),
            (Phase::Started, b"Q\xff\xff\xff\xffx"),
            (Phase::Started, b"Q\0\0\0\0x"),
            (Phase::Started, b"?\0\0\0\x04"),
            // A Bind that says it has more parameters than it has.
            (Phase::Started, b"B\0\0\0\x0a\0\0\x7f\xff\0\x01"),
        ] {
            assert!(decoded(phase, bytes).is_err(), "{bytes:?}");
        }
    }
}
