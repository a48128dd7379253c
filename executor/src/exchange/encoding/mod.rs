//! Batches as IPC messages and back, for the wire and for spill files.
//!
//! Invariants: an encoded batch is self-contained (its dictionaries go with it), so that chunks can be sent, resent and
//! read back alone; nothing is encoded that no row refers to.

mod compact;
mod hydrate;
mod ipc;
mod size;

pub use hydrate::{hydrate_batch, hydrate_schema};
pub use ipc::{IpcMessage, WireSchema};

pub(super) use compact::compact;

pub(super) use size::batch_bytes;
