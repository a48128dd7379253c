//! Why a peer can't go on.

use std::fmt::Display;
use std::process::ExitCode;

/// Why a peer can't go on. It is only ever shown, so it is words: what was tried, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct PeerError {
    what: String,
    why: String,
}

/// A result of a peer.
pub type Result<T, E = PeerError> = std::result::Result<T, E>;

impl PeerError {
    /// Something that went wrong by a peer's own judgement.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }

    /// For `map_err`: where an error came up.
    pub fn at<E: Display>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |error: E| Self { what, why: error.to_string() }
    }
}

/// How a peer's `main` ends; its reason goes to standard error, since standard output is the protocol's.
#[expect(clippy::print_stderr, reason = "the place where a peer speaks to its user")]
pub fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
