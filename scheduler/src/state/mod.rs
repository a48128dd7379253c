//! The scheduling machine: what happened in, what is to be done out.
//!
//! ```text
//!   Event ──▶ Cluster::step(now, event) ──▶ Vec<Effect>          next_deadline() says when the next Tick is due
//! ```
//!
//! It is a plain value with one owner, the driver. It uses `std` and `volley_proto` alone: no clock (time comes with each
//! event), no async, no plan (it sees a stage's shape, never its plan), no I/O and no chance, so that the same events
//! have the same effects, in a simulation and when a journal is read back. Transitions are total and infallible. Logs and
//! metrics are made from events and effects by the shell.
//!
//! # Jobs, stages, tasks, executors
//!
//! ```text
//!   job:       Queued ──▶ Planning ──▶ Running ──▶ Delivered ──▶ (forgotten)                      see `lifecycle`
//!   stage:     Waiting ──▶ Running ──▶ Sealed ──▶ Released, and back to Running when an output is lost and wanted
//!   executor:  Live ⇄ Silent ──▶ Lost,  Live ⇄ Broken ──▶ Lost                                    see `membership`
//!
//!   task:                launch                    sealed                     lost or freed
//!              Waiting ─────────▶ Running ────────────────────▶ Sealed ────────────────────▶ Gone
//!                 ▲                  │ failed, lost, stopped       │ what it read               │
//!                 ├──────────────────┘                             │ was replaced               │ wanted again
//!                 └────────────────────────────────────────────────┴────────────────────────────┘
//! ```
//!
//! At most one attempt of a task counts; beside one that is slow a second may run (`rivals`). A step takes its event in, lets every job settle that it touched (`recovery`
//! decides what has to run again, `replan` what the planner is asked), admits queued jobs, and hands out free slots
//! (`placement`), until nothing follows from anything any more.
//!
//! # Invariants
//!
//! Each is a function of [`invariants`], checked after every step in tests:
//!
//! * slots in use are within capacity, and are the sum over attempts;
//! * a task runs if and only if an executor that is not lost lists its attempt, and so it is with its rival;
//! * an attempt is launched only when each sealed input has a live sealed output of every producer task, and each
//!   streaming input one that runs or is sealed;
//! * a streaming reader holds slots only beside producers that run or have ended well, so it never holds what its
//!   producer waits for;
//! * all readers of a task that count have read the same attempt of it, or its stage is deterministic;
//! * a report taken twice changes no more than taken once;
//! * a finished job launches nothing, and its end is announced once;
//! * no effect names an executor that is lost;
//! * attempts are bounded, and a fetch failure is charged to the producer, not to the consumer;
//! * bookkeeping is linear in tasks, partitions and executors, never producers times consumers;
//! * with one live executor every job ends in bounded virtual time (the simulation shows it).

mod cluster;
mod contest;
mod denial;
pub mod effect;
pub mod event;
mod executors;
pub mod invariants;
mod job;
mod lifecycle;
mod membership;
mod pace;
mod placement;
mod recovery;
mod replan;
mod reports;
mod restore;
mod rivals;
pub mod settings;
mod stage;
pub mod status;
mod task;

pub use cluster::Cluster;
pub use effect::{Effect, JobOutcome, Launch, LossReason, QueueReason};
pub use event::{Event, ExecutorHello, ExecutorLife, Replanning, Timestamp};
pub use settings::{OutputRetention, Settings};
pub use status::{ExecutorState, ExecutorSummary, JobState, JobSummary, StageState, StageSummary, TaskState, TaskSummary};
pub use task::NUMBERS;
