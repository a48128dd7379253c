//! The executor's integration tests: one binary, one module for each part.

mod compute;
mod config;
mod exchange;
mod failures;
mod memory;
