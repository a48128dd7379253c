//! The lines of the protocol, in JSON.

use serde::{Deserialize, Serialize};

/// What a peer says first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// What it is, with its settings.
    pub engine: String,
    /// The processes whose CPU time counts.
    pub pids: Vec<u32>,
}

/// What it is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// One statement.
    pub sql: String,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// All rows are there, so many.
    Rows(usize),
    /// Why they are not.
    Error(String),
}
