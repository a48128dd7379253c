//! Rows that a join further up has no use for are dropped where they are read.
//!
//! The engine's joins know, once their build side is there, which keys can have a match, and say so to the scans below their probe side (dynamic
//! filters). Scans leave out files, row groups and pages by it, and no rows: where keys are spread over the whole table nothing is left out, and
//! every row goes through the joins, exchanges and aggregations below the join that then drops it. [`RuntimeFilterExec`] stands above such a
//! scan and looks at each row, as long as that pays ([`trial`]).

mod exec;
mod simplify;
mod trial;

pub(crate) use exec::{RuntimeFilter, RuntimeFilterExec, Step};
