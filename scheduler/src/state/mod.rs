//! The scheduling machine: events in, effects out. It uses `std` and `volley_proto` alone.

mod cluster;
pub mod effect;
pub mod event;
mod executors;
pub mod invariants;
mod job;
mod lifecycle;
mod membership;
mod placement;
mod recovery;
mod replan;
mod reports;
pub mod settings;
mod stage;
pub mod status;
mod task;

pub use cluster::Cluster;
pub use effect::{Effect, JobOutcome, Launch, LossReason, QueueReason};
pub use event::{Event, ExecutorHello, ExecutorLife, Replanning, Timestamp};
pub use settings::{OutputRetention, Settings};
pub use status::{ExecutorState, ExecutorSummary, JobState, JobSummary, StageState, StageSummary, TaskState, TaskSummary};
