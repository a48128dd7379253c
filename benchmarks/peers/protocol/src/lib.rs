//! What the Rust peers of `volley-bench compare ... peer=PROGRAM` have in common.
//!
//! A peer is another engine behind a protocol of lines. It is started with `--data DIR --suite S --threads N`, says in its first line
//! what it is, and answers each question on its standard input by one line. It ends when its input does, and its child processes end with
//! it, however it ends.

mod args;
mod child;
mod error;
mod message;
mod serve;
mod tables;

pub use args::PeerArgs;
pub use child::{Child, end_with_parent, role, role_arguments, say};
pub use error::{PeerError, Result, exit};
pub use message::{Hello, Question, Reply};
pub use serve::{Engine, serve, serve_stdio};
pub use tables::{Table, find_tables};
