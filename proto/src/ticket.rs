//! Signed, self-contained tickets: what a holder hands out and later gets back from somebody it need not trust.
//!
//! ```text
//! ┌───────┬─────────┬──────┬────────────────────┬─────────────────────────────────────────────┐
//! │ magic │ version │ kind │ payload (protobuf) │ first 16 bytes of HMAC-SHA256 of all before │
//! │ 1     │ 1       │ 1    │ any length         │ 16                                          │
//! └───────┴─────────┴──────┴────────────────────┴─────────────────────────────────────────────┘
//! ```
//!
//! A ticket is signed and not encrypted. The signature is checked, in constant time, before the payload is looked at.
//! The magic byte starts no protobuf message, so that a ticket is never taken for one of Flight SQL's commands.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

use crate::client::{PreparedHandle, ResultTicket};
use crate::convert::ConvertError;
use crate::shuffle::ExchangeTicket;
use crate::wire;

/// Format version of the tickets that this build signs, and the only one that it opens.
pub const TICKET_VERSION: u8 = 1;

const MAGIC: u8 = b'V';
const HEADER_LEN: usize = 3;
const SIGNATURE_LEN: usize = 16;

/// What a ticket is for. A ticket of one kind is never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TicketKind {
    /// One exchange on one executor: an [`ExchangeTicket`].
    Exchange = 1,
    /// The result of a job: a [`ResultTicket`].
    Result = 2,
    /// A prepared statement: a [`PreparedHandle`].
    Prepared = 3,
}

impl fmt::Display for TicketKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exchange => "an exchange ticket",
            Self::Result => "a result ticket",
            Self::Prepared => "a prepared statement handle",
        })
    }
}

/// Why bytes are not the ticket that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// They are something else, or were cut.
    #[error("not a ticket of this system")]
    NotATicket,
    /// Another build made them.
    #[error("the ticket has format version {found}, but this build reads version {expected}")]
    OtherVersion {
        /// The ticket's version.
        found: u8,
        /// The version that would be right.
        expected: u8,
    },
    /// They were changed, or signed with another key.
    #[error("the signature of the ticket is wrong: it was changed, or made by another cluster")]
    BadSignature,
    /// A genuine ticket, for something else.
    #[error("the ticket is of kind {found}, but {expected} is needed here")]
    WrongKind {
        /// The ticket's kind, as its byte.
        found: u8,
        /// The kind that would be right.
        expected: TicketKind,
    },
    /// A genuine ticket whose payload can't be read.
    #[error("the content of the ticket can't be read: {0}")]
    Malformed(String),
}

impl From<ConvertError> for TicketError {
    fn from(error: ConvertError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// A domain type that travels as a ticket.
pub trait Ticket: Clone + TryFrom<Self::Wire, Error = ConvertError> {
    /// What it is for.
    const KIND: TicketKind;
    /// Its payload.
    type Wire: Message + Default + From<Self>;
}

impl Ticket for ExchangeTicket {
    const KIND: TicketKind = TicketKind::Exchange;
    type Wire = wire::shuffle::v1::ExchangeTicket;
}

impl Ticket for ResultTicket {
    const KIND: TicketKind = TicketKind::Result;
    type Wire = wire::client::v1::ResultTicket;
}

impl Ticket for PreparedHandle {
    const KIND: TicketKind = TicketKind::Prepared;
    type Wire = wire::client::v1::PreparedHandle;
}

/// The secret that tickets are signed with. Nothing prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketKey([u8; TicketKey::LEN]);

impl TicketKey {
    /// Bytes in a key.
    pub const LEN: usize = 32;

    /// The key of these bytes, which a caller draws from the system's random source or has kept.
    pub fn from_bytes(secret: [u8; Self::LEN]) -> Self {
        Self(secret)
    }

    /// The secret itself, to keep it in the state store or to send it to an executor; for nothing else.
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Signs a ticket.
    pub fn sign_ticket<T: Ticket>(&self, ticket: &T) -> Bytes {
        self.sign(T::KIND, &T::Wire::from(ticket.clone()))
    }

    /// Opens a ticket that somebody handed in.
    pub fn open_ticket<T: Ticket>(&self, bytes: &[u8]) -> Result<T, TicketError> {
        Ok(T::try_from(self.open::<T::Wire>(T::KIND, bytes)?)?)
    }

    /// Signs any message as a ticket of `kind`.
    pub fn sign(&self, kind: TicketKind, payload: &impl Message) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEADER_LEN + payload.encoded_len() + SIGNATURE_LEN);
        bytes.put_slice(&[MAGIC, TICKET_VERSION, kind as u8]);
        bytes.put_slice(&payload.encode_to_vec());
        let signature = self.mac(&bytes).finalize().into_bytes();
        bytes.extend(signature.iter().take(SIGNATURE_LEN));
        bytes.freeze()
    }

    /// Opens a ticket of `kind` that holds a message.
    pub fn open<M: Message + Default>(&self, kind: TicketKind, bytes: &[u8]) -> Result<M, TicketError> {
        let (&magic, rest) = bytes.split_first().ok_or(TicketError::NotATicket)?;
        let (&version, rest) = rest.split_first().ok_or(TicketError::NotATicket)?;
        if magic != MAGIC {
            return Err(TicketError::NotATicket);
        }
        if version != TICKET_VERSION {
            return Err(TicketError::OtherVersion { found: version, expected: TICKET_VERSION });
        }
        let (signed, signature) = bytes.split_last_chunk::<SIGNATURE_LEN>().ok_or(TicketError::NotATicket)?;
        let (&found, payload) =
            rest.len().checked_sub(SIGNATURE_LEN).and_then(|len| rest.get(..len)?.split_first()).ok_or(TicketError::NotATicket)?;
        self.mac(signed).verify_truncated_left(signature).map_err(|_| TicketError::BadSignature)?;
        if found != kind as u8 {
            return Err(TicketError::WrongKind { found, expected: kind });
        }
        M::decode(payload).map_err(|error| TicketError::Malformed(error.to_string()))
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(signed);
        mac
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(..)")
    }
}
