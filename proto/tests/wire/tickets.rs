//! Tickets: only what this key signed, for this use, unchanged, is opened.

use volley_proto::client::{PreparedHandle, ResultTicket, Statement};
use volley_proto::shuffle::ExchangeTicket;
use volley_proto::ticket::TICKET_VERSION;
use volley_proto::wire::shuffle::v1 as shuffle;
use volley_proto::{TicketError, TicketKey, TicketKind};

use crate::values;

fn key() -> TicketKey {
    TicketKey::from_bytes(*b"thirty-two bytes that are secret")
}

#[test]
fn a_ticket_is_opened_as_it_was_signed() {
    let (exchange, result) = (values::exchange_ticket(), values::result_ticket());
    let prepared = values::prepared(Statement::Sql("SELECT $1".into()));
    assert_eq!(key().open_ticket(&key().sign_ticket(&exchange)), Ok(exchange));
    assert_eq!(key().open_ticket(&key().sign_ticket(&result)), Ok(result));
    assert_eq!(key().open_ticket(&key().sign_ticket(&prepared)), Ok(prepared));
}

/// The layout and the signature, byte by byte: checked with another implementation of HMAC-SHA256.
#[test]
fn a_ticket_has_its_golden_bytes() {
    let ticket = key().sign_ticket(&values::result_ticket());
    let mut expected = vec![b'V', 1, 2, 0x08, 3, 0x10, 7, 0x1a, 3, b's', b'-', b'1'];
    expected.extend(GOLDEN_SIGNATURE);
    assert_eq!(ticket, expected);
}

const GOLDEN_SIGNATURE: [u8; 16] = [0xc8, 0x62, 0x98, 0x19, 0x37, 0x1e, 0xd4, 0xe3, 0x06, 0x2d, 0x78, 0x7c, 0x7e, 0xde, 0x96, 0xaa];

#[test]
fn any_changed_bit_is_refused() {
    let ticket = key().sign_ticket(&values::exchange_ticket());
    for bit in 0..ticket.len() * 8 {
        let mut changed = ticket.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = key().open_ticket::<ExchangeTicket>(&changed).expect_err("a changed ticket is refused");
        match bit / 8 {
            0 => assert_eq!(error, TicketError::NotATicket),
            1 => assert_eq!(error, TicketError::OtherVersion { found: changed[1], expected: TICKET_VERSION }),
            _ => assert_eq!(error, TicketError::BadSignature),
        }
    }
}

#[test]
fn a_cut_or_longer_ticket_is_refused() {
    let ticket = key().sign_ticket(&values::result_ticket());
    for len in 0..ticket.len() {
        let error = key().open_ticket::<ResultTicket>(&ticket[..len]).expect_err("a cut ticket is refused");
        let expected = if len < 19 { TicketError::NotATicket } else { TicketError::BadSignature };
        assert_eq!(error, expected, "{len} bytes");
    }
    let longer = [&ticket[..], &[0]].concat();
    assert_eq!(key().open_ticket::<ResultTicket>(&longer), Err(TicketError::BadSignature));
}

#[test]
fn another_clusters_ticket_is_refused() {
    let other = TicketKey::from_bytes([1; TicketKey::LEN]);
    let ticket = other.sign_ticket(&values::exchange_ticket());
    assert_eq!(key().open_ticket::<ExchangeTicket>(&ticket), Err(TicketError::BadSignature));
}

#[test]
fn a_ticket_for_something_else_is_refused() {
    let ticket = key().sign_ticket(&values::result_ticket());
    let error = key().open_ticket::<PreparedHandle>(&ticket).expect_err("a result ticket is no handle");
    assert_eq!(error, TicketError::WrongKind { found: TicketKind::Result as u8, expected: TicketKind::Prepared });
    assert_eq!(error.to_string(), "the ticket is of kind 2, but a prepared statement handle is needed here");
}

#[test]
fn a_signed_payload_that_is_none_is_malformed() {
    let ticket = key().sign(TicketKind::Exchange, &shuffle::ExchangeTicket::default());
    let error = key().open_ticket::<ExchangeTicket>(&ticket).expect_err("it names nothing");
    assert_eq!(error, TicketError::Malformed("ExchangeTicket.compression has the unknown value 0".into()));
}

#[test]
fn what_is_no_ticket_says_so() {
    // The start of a Flight SQL command, which is an Any.
    let any = b"\x0a\x38type.googleapis.com/arrow.flight.protocol.sql.CommandGetTables";
    for bytes in [&b""[..], b"V", b"V\x01", b"V\x01\x02", any] {
        assert_eq!(key().open_ticket::<ResultTicket>(bytes), Err(TicketError::NotATicket));
    }
}
