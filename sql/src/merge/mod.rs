//! What `MERGE` needs beyond joins: every row of the target comes out of its join with the source once.
//!
//! ```text
//! target ─ RowId ─┐
//!                 join ─ OneMatch ─ what the clauses make of each row ─ write
//! source ─────────┘
//! ```
//!
//! A join gives a row of the target as often as rows of the source match it. All of these come out of one task: the forms of joins that
//! tasks share rows of the target in are not distributed (`planner/joins.rs`). So the set of the rows that a task has seen is enough.

mod exec;
mod node;
mod row_id;

pub(crate) use exec::{FurtherMatches, OneMatchExec};
pub(crate) use node::{OneMatch, OneMatchPlanner};
pub(crate) use row_id::RowId;
