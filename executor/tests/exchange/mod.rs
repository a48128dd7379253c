//! The exchange from outside: what it promises to tasks, to other executors and to whoever reads a spill file.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that can't go on has failed")]

mod flight;
mod spill_format;
mod store;
mod support;
mod types;
