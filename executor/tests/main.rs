//! The executor's integration tests: one binary, one module for each part.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it is wrong")]

mod compute;
mod config;
mod control;
mod exchange;
mod failures;
mod memory;
mod panics;
mod support;
mod tasks;
