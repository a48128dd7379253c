//! One memory budget for everything an executor holds: operators, the partition store and buffers of the network.
//!
//! ```text
//!  operator ──MemoryReservation──> AttemptPool ─┐ (names consumers, knows the attempt's peak, keeps the job's cap)
//!  operator ──MemoryReservation──> AttemptPool ─┤
//!  partition store ─────────────────────────────┴──> MemoryBudget ──when short──> Reclaim (drop chunks already on disk)
//! ```
//!
//! Invariants: a grant is greedy, so that few operators may use nearly all of it, but the last eighth is for those that hold
//! little, since who holds nothing has nothing to spill; before a grant is refused, the store is asked to
//! give back what is already on disk; only then is the operator refused, which makes it spill; only an operator that can't
//! spill fails its task, with an error that names the largest consumers.

mod attempt;
mod budget;
mod hooks;
mod limit;
mod runtime;

pub use attempt::AttemptPool;
pub use budget::{MemoryBudget, Reclaim};
pub use limit::memory_limit;
pub use runtime::{RuntimeOptions, runtime_env};
