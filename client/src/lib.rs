//! Volley's client: DataFusion's `DataFrame` over a cluster, the `volley` command line and the embedded cluster.
//!
//! Nothing here decides how a query runs: statements and plans are sent to a scheduler, rows come back.
//!
//! * [`Context`]: a cluster, embedded or elsewhere, as a DataFusion session
//! * [`FlightClient`]: the connection below it
//! * [`EmbeddedCluster`]: scheduler and executors inside this process (feature `cluster`)
//! * [`Gateway`]: PostgreSQL's wire protocol in front of a scheduler (feature `postgres`)
//! * [`cli`]: the `volley` program

pub mod cli;
mod context;
mod dial;
#[cfg(feature = "cluster")]
mod embedded;
mod error;
mod flight;
#[cfg(feature = "postgres")]
mod postgres;
mod report;
mod rows;

pub use context::Context;
#[cfg(feature = "cluster")]
pub use embedded::{EmbeddedCluster, EmbeddedOptions};
pub use error::{ClientError, Result};
pub use flight::{Execution, FlightClient, RowStream};
#[cfg(feature = "postgres")]
pub use postgres::Gateway;
pub use report::{ExecutorSummary, JobSummary, OperatorSummary, StageSummary};
