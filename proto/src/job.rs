//! Whose work a job is, and how it is followed across processes.

use crate::ids::SessionId;

/// Whose work a job is: what weighted-fair placement and limits are decided by.
#[derive(Debug, Clone, PartialEq)]
pub struct JobOwner {
    /// Who asked; "anonymous" where nothing authenticates.
    pub principal: String,
    /// The queue that the job waits in.
    pub queue: String,
    /// The job's share against other jobs: 2 gets twice the slots of 1. At least 1.
    pub weight: u32,
    /// Milliseconds after submission at which the job is failed; `None` for no limit.
    pub timeout_ms: Option<u64>,
    /// Bytes of memory that the job may use on an executor; `None` for all of it.
    pub memory_bytes: Option<u64>,
    /// The session that submitted it.
    pub session: SessionId,
    /// Of which of its tasks a second attempt may run beside a slow one.
    pub speculation: Speculation,
}

/// Of which tasks a second attempt may run beside a slow one; the first to end counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speculation {
    /// Of none.
    Never,
    /// Of those of all stages but the root, whose rows are shown while they are made.
    #[default]
    BelowRoot,
    /// Of all.
    Always,
}

impl JobOwner {
    /// An anonymous owner of weight 1 in queue "default".
    pub fn anonymous(session: SessionId) -> Self {
        Self {
            principal: "anonymous".into(),
            queue: "default".into(),
            weight: 1,
            timeout_ms: None,
            memory_bytes: None,
            session,
            speculation: Speculation::default(),
        }
    }
}

/// A W3C trace context (<https://www.w3.org/TR/trace-context/>), carried verbatim; empty where there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TraceContext {
    /// The `traceparent` header.
    pub traceparent: String,
    /// The `tracestate` header.
    pub tracestate: String,
}

impl TraceContext {
    /// The trace's id, as logs name it: the second part of `00-<trace>-<parent>-<flags>`. Nothing where there is no trace.
    pub fn trace_id(&self) -> Option<&str> {
        self.traceparent.split('-').nth(1).filter(|id| id.len() == 32)
    }
}
