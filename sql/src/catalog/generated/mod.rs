//! The built-in catalogs `tpch` and `tpcds`: benchmark tables of any scale, generated while they are scanned.
//!
//! A table of scale 10 is `tpch.sf10.lineitem`, one of scale 0.01 `tpcds.sf0_01.item`. A scan is a [`GeneratorExec`] whose
//! partitions hold [`GeneratorSplit`]s, part k of n of the table's rows. Invariant: all parts of one n, in order, give exactly the rows
//! of the whole table in its order, on any machine.

mod exec;
mod provider;
mod suite;
mod tpcds;
mod tpch;

pub use exec::{GeneratorExec, GeneratorSplit};
pub use provider::{GeneratedCatalog, GeneratedSchema, GeneratedTableProvider};
pub use suite::{GeneratedTable, Scale, Suite};
