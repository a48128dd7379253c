//! The client from outside: the `volley` program, and programs over `Context`.

#![cfg(feature = "cluster")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod cli;
mod cluster;
mod context;
mod extension;
mod input;
#[cfg(feature = "postgres")]
mod postgres;
mod processes;
mod sqllogic;
mod tables;
