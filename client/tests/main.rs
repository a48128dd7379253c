//! The client from outside: the `volley` program, and programs over `Context`.

#![cfg(feature = "cluster")]
#![expect(clippy::unwrap_used, reason = "tests")]

mod cli;
mod context;
