//! The crate's integration tests, in one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod diagnostics;
mod generated;
mod managed;
mod options;
mod planner;
mod sizes;
mod statements;
mod support;
mod tables;
mod writes;
