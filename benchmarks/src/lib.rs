//! Benchmarks: data, queries, right answers, measurements and comparisons. Every number is printed with machine, scale and command.
//!
//! * [`suite`]: tables and query texts of TPC-H, TPC-DS and one wide table
//! * [`verify`]: when two answers are the same; used by the tests of other crates as well
//! * [`generate`](mod@generate): the tables as Parquet files
//! * [`run`](mod@run): queries on a cluster, measured and checked
//! * [`compare`]: two result files, or two engines in alternating pairs
//! * [`latency`](mod@latency), [`floor`]: small statements, and what they cost with no engine behind
//! * [`baseline`]: plain DataFusion, the yardstick

pub mod baseline;
pub mod cli;
pub mod compare;
pub mod data;
pub mod engine;
mod error;
pub mod floor;
pub mod generate;
pub mod latency;
pub mod machine;
mod report;
pub mod results;
pub mod run;
pub mod suite;
pub mod usage;
pub mod verify;
mod wide;

pub use error::{BenchError, Result};
