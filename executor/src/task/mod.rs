//! Running tasks: from a launch command to the report of its end.
//!
//! ```text
//! launch ──> TaskRunner: plan known? ──> supervise (I/O runtime) ──> root future (compute pool)
//!                                           │  cancel, progress          │ decode and bind the plan
//!                                           │                            ├─ one future for each partition, all at once
//!                                           │                            └─ seal the output, read the metrics
//!                                           └── when the scope is idle ──> report
//! ```
//!
//! Invariants: an attempt reports its end exactly once, and only when nothing of it is left in memory or on a thread; an
//! output is sealed only after every partition ended well; what failed is discarded before the report is made.

mod failure;
mod metrics;
mod run;
mod runner;
mod sessions;
mod source;

pub use failure::failure_of;
pub use metrics::operator_metrics;
pub use runner::{Reports, RunnerParts, TaskRunner};
