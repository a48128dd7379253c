//! The scheduler's integration tests: one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod etcd;
mod flight_sql;
mod scripts;
mod simulation;
mod store;
mod text;
mod tidy;

/// The machine under test.
use volley_scheduler::state as machine;
