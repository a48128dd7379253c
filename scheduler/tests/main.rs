//! The scheduler's integration tests: one binary.

mod simulation;
mod store;
mod text;

/// The machine under test.
use volley_scheduler::state as machine;
