//! Outputs over Arrow Flight.
//!
//! ```text
//! RemoteReader ─ subscribe, credit ─> PeerStream ══ DoExchange ══> Feeder ─ cursor ─> PartitionStore
//!   (one for each reader and peer)    (one for each exchange and peer)   frames <─ encoded on compute threads
//! scheduler, foreign reader ════════════════ DoGet ══════════════> result ─ cursor ─> PartitionStore
//! ```
//!
//! A reader subscribes to partitions of attempts and grants bytes for each partition; the feeder sends while there is
//! credit, so what is under way is bounded by the reader and nothing ever waits in the transport for another partition's
//! reader. Frames carry 256 KiB to 1 MiB where chunks are that large. What was spilled is sent as it stands in the file.
//!
//! A stream that breaks is opened again, and what was delivered before is skipped by counting rows: outputs never change.
//! Each attempt's partition ends with the rows, chunks and checksum that the reader must have seen on that stream.

mod feeder;
mod frames;
mod peer;
mod reader;
mod result;
mod service;
#[cfg(test)]
mod tests;

pub use service::ExchangeFlightService;

pub(super) use frames::load_chunk;
pub(super) use peer::PeerPool;
pub(super) use reader::{Producer, RemoteReader};
pub(super) use result::inline_rows;
