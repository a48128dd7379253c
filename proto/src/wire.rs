//! The wire messages, generated from `proto/*.proto` at build time: one module for each conversation.
//!
//! Only [`convert`](crate::convert) looks into their optional fields; everything else uses the domain types, or messages
//! that have none ([`client`]'s reports). A message with a secret has a `Debug` that leaves it out.

use std::fmt;

/// What several conversations share.
pub mod types {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("volley.types.v1");
    }
}

/// Scheduler and executor: the control stream.
pub mod control {
    /// Version 1.
    #[expect(unused_qualifications, clippy::allow_attributes, reason = "as tonic generates it")]
    pub mod v1 {
        tonic::include_proto!("volley.control.v1");
    }
}

/// Executor and executor: exchanges over Flight.
pub mod shuffle {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("volley.shuffle.v1");
    }
}

/// Scheduler and etcd: state that several schedulers share.
#[expect(unused_qualifications, clippy::allow_attributes, reason = "as tonic generates it")]
pub mod etcd {
    tonic::include_proto!("etcdserverpb");

    impl std::fmt::Debug for AuthenticateRequest {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.debug_struct("AuthenticateRequest").field("name", &self.name).finish_non_exhaustive()
        }
    }
}

/// Client and scheduler: tickets, plans and reports beside Flight SQL.
pub mod client {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("volley.client.v1");
    }
}

/// Scheduler and its later self: records of the state store.
pub mod journal {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("volley.journal.v1");
    }
}

/// Arrow Flight's own session messages, for which arrow-flight has no types.
pub mod flight {
    tonic::include_proto!("arrow.flight.protocol");

    /// Flight SQL's messages of which arrow-flight lacks fields.
    pub mod sql {
        tonic::include_proto!("arrow.flight.protocol.sql");
    }
}

/// The type URL under which [`StatementPlan`](client::v1::StatementPlan) travels in the `Any` of a `GetFlightInfo`.
pub const STATEMENT_PLAN_TYPE_URL: &str = "type.googleapis.com/volley.client.v1.StatementPlan";

/// Names of the Flight actions that are ours, with the bodies that they take and give.
pub mod action {
    /// [`JobRequest`](super::client::v1::JobRequest) to [`JobReport`](super::client::v1::JobReport).
    pub const JOB_REPORT: &str = "volley.job_report";
    /// [`JobsRequest`](super::client::v1::JobsRequest) to [`JobList`](super::client::v1::JobList).
    pub const JOBS: &str = "volley.jobs";
    /// [`ExecutorsRequest`](super::client::v1::ExecutorsRequest) to [`ExecutorList`](super::client::v1::ExecutorList).
    pub const EXECUTORS: &str = "volley.executors";
    /// [`JobRequest`](super::client::v1::JobRequest) to [`CancelResult`](super::client::v1::CancelResult).
    pub const CANCEL: &str = "volley.cancel";
    /// [`SetSessionOptionsRequest`](super::flight::SetSessionOptionsRequest) to its result; named by Arrow Flight.
    pub const SET_SESSION_OPTIONS: &str = "SetSessionOptions";
    /// [`GetSessionOptionsRequest`](super::flight::GetSessionOptionsRequest) to its result; named by Arrow Flight.
    pub const GET_SESSION_OPTIONS: &str = "GetSessionOptions";
    /// [`CloseSessionRequest`](super::flight::CloseSessionRequest) to its result; named by Arrow Flight.
    pub const CLOSE_SESSION: &str = "CloseSession";
}

impl fmt::Debug for control::v1::Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Welcome")
            .field("heartbeat_interval_ms", &self.heartbeat_interval_ms)
            .field("orphan_timeout_ms", &self.orphan_timeout_ms)
            .finish_non_exhaustive()
    }
}
