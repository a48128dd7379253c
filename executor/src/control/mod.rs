//! The conversation with the scheduler: one long-lived stream, which the executor dials and in which both push.
//!
//! ```text
//!        ┌──────────── backoff <── broken ───────────┐
//!        v                                           │
//!  dial ─┴─> register (what runs, what is held) ──> welcome ──> commands / reports, heartbeats
//!                        │
//!                        └──> refused: another build, say ──> the executor ends with the scheduler's words
//! ```
//!
//! Invariants: a command of an older term, or for another life of this executor, is dropped; the end of an attempt is kept
//! until its job is forgotten and said again on every new stream, so that no broken stream loses one (a scheduler takes
//! repeated reports as one); without a stream tasks go on and outputs are kept for the grace that the scheduler set, and are
//! then stopped and freed.

mod backoff;
mod commands;
mod dial;
mod outbox;
mod stream;

pub(crate) use dial::{Control, ControlParts};
pub(crate) use outbox::Outbox;
