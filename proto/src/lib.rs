//! The vocabulary that every part of Volley shares: ids, stage topology, tasks and their reports, failures by
//! remedy, tickets, and the wire messages of each conversation. Nothing here knows DataFusion, sockets or a clock.
//!
//! One word for one idea: a **session** holds options of one connection; a **job** is one submitted query; a
//! **stage** is a plan fragment between exchanges; a **partition** is one index of a stage's parallelism; a
//! **task** is some partitions of one stage run together on one executor; an **attempt** is the n-th try at a
//! task; an **exchange** is the logical edge between a producer and a consumer stage, named after its producer;
//! a **slot** is the right to use one compute thread.

pub mod client;
pub mod control;
pub mod convert;
pub mod failure;
pub mod ids;
pub mod job;
pub mod journal;
pub mod shuffle;
pub mod stage;
pub mod task;
pub mod ticket;
pub mod wire;

pub use convert::ConvertError;
pub use failure::{Failure, Remedy};
pub use ids::{AttemptId, ExecutorId, Incarnation, JobId, PartitionId, SessionId, StageId, TaskId, Term};
pub use job::{JobOwner, Speculation, TraceContext};
pub use stage::{Edge, InputRead, StageInput, StageShape};
pub use task::{
    AttemptLocation, InlineFrame, InputLocations, OperatorMetrics, PartitionStats, StagePlan, StoreAccess, TaskMetrics, TaskOutcome,
    TaskReport, TaskSpec,
};
pub use ticket::{Ticket, TicketError, TicketKey, TicketKind};
