//! What a client carries and the scheduler signs: statement tickets and prepared handles.
//!
//! Both are complete in themselves, so that they outlive the scheduler that made them. Reports on jobs and executors
//! have no optional fields and are used as they are on the wire: [`wire::client::v1`](crate::wire::client::v1).

use bytes::Bytes;

use crate::ids::{JobId, SessionId, Term};
use crate::shuffle::ExchangeTicket;

/// The result of one job, or a part of it: a Flight SQL statement handle, and the ticket of its endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultTicket {
    /// The term in which it was made.
    pub term: Term,
    /// The job.
    pub job: JobId,
    /// The session that submitted it.
    pub session: SessionId,
    /// Which part of the result; `None` for all of it.
    pub part: Option<ResultPart>,
}

/// The rows of one root task: the scheduler gives them, and so does the executor that holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResultPart {
    /// The task's index.
    pub task: u32,
    /// What the executor that holds them is asked for; `None` where they came with the task's report.
    pub exchange: Option<ExchangeTicket>,
}

/// A prepared statement, with the parameters bound so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedHandle {
    /// The term in which it was made.
    pub term: Term,
    /// The session that it belongs to.
    pub session: SessionId,
    /// What was prepared.
    pub statement: Statement,
    /// Bound parameters as one Arrow IPC stream; empty where nothing is bound.
    pub parameters: Bytes,
}

/// What a client can ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// SQL text.
    Sql(String),
    /// A logical plan, as DataFusion's protobuf encodes it.
    Plan(StatementPlan),
    /// A serialized Substrait plan.
    Substrait(Bytes),
}

/// A logical plan with what of the client's context it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatementPlan {
    /// The encoded plan.
    pub plan: Bytes,
    /// Options that differ from the session's: name and value, as `SET` takes them.
    pub settings: Vec<(String, String)>,
}
